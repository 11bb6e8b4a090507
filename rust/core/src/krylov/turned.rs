//! A block of vectors in the layout of the thin products, which are fast where a general one packs.

use std::slice::ChunksExact;

use ndarray::{Array2, ArrayView2, Axis};

use crate::stream::thin::{columns_times, rows_times};
use crate::vector::contiguous;

/// A thin matrix whose columns lie one after the other.
pub(super) struct Turned {
    cells: Vec<f64>,
    height: usize,
}

impl Turned {
    pub(super) fn of(a: ArrayView2<'_, f64>) -> Self {
        let height = a.nrows();
        let mut cells = vec![0.0; a.ncols() * height];
        for (line, column) in cells.chunks_exact_mut(height).zip(a.columns()) {
            line.iter_mut().zip(column).for_each(|(cell, &v)| *cell = v);
        }
        Self { cells, height }
    }

    pub(super) fn columns(&self) -> ChunksExact<'_, f64> {
        self.cells.chunks_exact(self.height)
    }

    /// Products with known columns, shape (known, columns).
    pub(super) fn weights(&self, known: &[&[f64]]) -> Array2<f64> {
        let lanes = self.columns().len();
        let mut out = vec![0.0; known.len() * lanes];
        rows_times(known, &self.cells, lanes, &mut out);
        Array2::from_shape_fn((known.len(), lanes), |(i, j)| out[i * lanes + j])
    }

    /// Take known orthonormal columns out; returns their weights.
    pub(super) fn project_out(&mut self, known: &[&[f64]]) -> Array2<f64> {
        let weights = self.weights(known);
        let minus: Vec<f64> = weights.iter().map(|weight| -weight).collect();
        columns_times(known, &minus, weights.ncols(), &mut self.cells);
        weights
    }
}

/// Contiguous columns.
pub(super) fn slices(a: ArrayView2<'_, f64>) -> Vec<&[f64]> {
    let columns = (0..a.ncols()).map(|j| a.index_axis_move(Axis(1), j));
    columns
        .map(|column| contiguous(column.to_slice()))
        .collect()
}
