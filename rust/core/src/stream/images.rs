//! What walks over a panel leave of the products with the panel itself.
//!
//! A product with the Gram matrix `XX'` multiplies by `X'` on the way. Kept, these products give the
//! image of any combination of the vectors that were multiplied, and save a walk.

use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView1, ArrayView2, s};

use super::thin::columns_times;
use crate::interrupt::each;

/// Products of a panel with blocks of vectors.
pub(crate) struct Images {
    /// By block of vectors and block of the panel's longer side: a row for every vector.
    steps: Vec<Vec<Vec<f64>>>,
    /// Vectors in a block of them.
    lanes: usize,
    most: usize,
    complete: bool,
}

impl Images {
    /// Keeps the images of `most` blocks of `lanes` vectors; of more, none.
    pub(crate) fn new(lanes: usize, most: usize) -> Self {
        Self {
            steps: Vec::new(),
            lanes,
            most,
            complete: true,
        }
    }

    pub(super) fn push(&mut self, across: Vec<Vec<f64>>) {
        self.complete &= self.steps.len() < self.most;
        if self.complete {
            self.steps.push(across);
        } else {
            self.steps.clear();
        }
    }

    /// Image of all vectors times `weights` (vectors, k), shape (longer side, k), if all were kept.
    pub(crate) fn combined(&self, weights: ArrayView2<'_, f64>) -> Option<Array2<f64>> {
        let first = self.steps.first()?;
        let k = weights.ncols();
        let u: Vec<f64> = weights.iter().copied().collect();
        // Blocks differ in width: the last of the dates, and a premium row.
        let images: Vec<Vec<f64>> = (0..first.len())
            .into_par_iter()
            .map(each(|index: usize| {
                let width = first[index].len() / self.lanes;
                let blocks = self.steps.iter().map(|step| &step[index]);
                let rows: Vec<&[f64]> = blocks.flat_map(|b| b.chunks_exact(width)).collect();
                let mut image = vec![0.0; k * width];
                columns_times(&rows, &u, k, &mut image);
                image
            }))
            .collect();
        let long = first.iter().map(|block| block.len() / self.lanes).sum();
        let mut out = Array2::zeros((k, long));
        let mut start = 0;
        for image in &images {
            let width = image.len() / k;
            for (mut row, found) in out.rows_mut().into_iter().zip(image.chunks_exact(width)) {
                row.slice_mut(s![start..start + width])
                    .assign(&ArrayView1::from(found));
            }
            start += width;
        }
        Some(out.reversed_axes())
    }
}
