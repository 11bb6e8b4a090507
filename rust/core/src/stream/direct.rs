//! Thin products of the panel: of the returns as they are where that is exact, centred where not.
//!
//! What centring and the premium row would have changed has rank one in the means and is put in
//! afterwards. Rows of doubles are read in place; others are widened block by block, to the same
//! bits: neither type nor memory layout of a panel changes a result.

use std::ops::Range;

use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView2, Axis, s};

use super::thin::{PAD, columns_times, rows_times};
use super::{MAX_PARTS, Stream, block_width, empty, widen};
use crate::vector::{add_scaled, dot};
use crate::{AnyView, Real};

/// A thin matrix with rows of `pad` numbers.
struct Thin {
    pad: usize,
    cells: Vec<f64>,
}

impl Thin {
    fn zeros(rows: usize, pad: usize) -> Self {
        Self {
            pad,
            cells: vec![0.0; rows * pad],
        }
    }

    fn from(a: ArrayView2<'_, f64>) -> Self {
        let mut out = Self::zeros(a.nrows(), a.ncols().next_multiple_of(PAD));
        for (row, line) in a
            .rows()
            .into_iter()
            .zip(out.cells.chunks_exact_mut(out.pad))
        {
            line.iter_mut().zip(row).for_each(|(o, &v)| *o = v);
        }
        out
    }

    fn row(&self, index: usize) -> &[f64] {
        &self.cells[index * self.pad..][..self.pad]
    }

    fn row_mut(&mut self, index: usize) -> &mut [f64] {
        &mut self.cells[index * self.pad..][..self.pad]
    }

    fn add(&mut self, other: &Self) {
        add_scaled(&mut self.cells, 1.0, &other.cells);
    }

    fn columns(&self, count: usize) -> Array2<f64> {
        let rows = self.cells.len() / self.pad.max(1);
        Array2::from_shape_fn((rows, count), |(i, j)| self.cells[i * self.pad + j])
    }

    /// Sum of the rows, each times its weight.
    fn weighted_sum<'w>(&self, weights: impl IntoIterator<Item = &'w f64>) -> Vec<f64> {
        let mut sum = vec![0.0; self.pad];
        for (weight, row) in weights.into_iter().zip(self.cells.chunks_exact(self.pad)) {
            add_scaled(&mut sum, *weight, row);
        }
        sum
    }
}

impl<R: Real> Stream<'_, R> {
    /// Gram matrix of the lesser side times a block, in one walk over the panel.
    pub(crate) fn gram_times(&self, q: ArrayView2<'_, f64>) -> Array2<f64> {
        let thin = Thin::from(q);
        let found = if self.is_wide() {
            self.wide_gram_times(&thin)
        } else {
            self.tall_gram_times(&thin)
        };
        found.columns(q.ncols())
    }

    /// Whether returns are multiplied as they are.
    fn is_direct(&self) -> bool {
        self.exact && self.scale.is_none()
    }

    /// The panel itself, where its rows may be read in place.
    fn in_place(&self) -> Option<ArrayView2<'_, f64>> {
        match R::any(self.returns.view()) {
            AnyView::F64(view) if self.is_direct() => view
                .rows()
                .into_iter()
                .all(|row| row.to_slice().is_some())
                .then_some(view),
            _ => None,
        }
    }

    /// Returns as they are, by row: in place, or widened into the buffer.
    fn raw<'s>(
        &self,
        in_place: Option<ArrayView2<'s, f64>>,
        rows: Range<usize>,
        columns: Range<usize>,
        buffer: &'s mut Array2<f64>,
    ) -> Vec<&'s [f64]> {
        if let Some(view) = in_place {
            return slices(view, rows, columns);
        }
        if buffer.dim() != (rows.len(), columns.len()) {
            *buffer = Array2::zeros((rows.len(), columns.len()));
        }
        for (row, mut line) in rows.zip(buffer.rows_mut()) {
            if let Some(line) = line.as_slice_mut() {
                widen(self.returns.slice(s![row, columns.clone()]), line);
            }
        }
        slices(buffer.view(), 0..buffer.nrows(), 0..buffer.ncols())
    }

    fn wide_gram_times(&self, u: &Thin) -> Thin {
        let (direct, in_place) = (self.is_direct(), self.in_place());
        let shift = self.column_shift(u);
        let (dates, all, pad) = (self.returns.nrows(), self.n_rows(), u.pad);
        // Behind the image the sum of z along the means, which centring needs.
        let mut found = self.sum_parts(self.n_columns(), all + 1, pad, |range, buffer, sum| {
            let width = range.len();
            let mut z = vec![0.0; pad * width];
            if !direct {
                let packed = self.read(0..all, range, buffer);
                let rows = slices(packed.view(), 0..all, 0..width);
                columns_times(&rows, &u.cells, pad, &mut z);
                rows_times(&rows, &z, pad, &mut sum.cells);
                return;
            }
            let rows = self.raw(in_place, 0..dates, range.clone(), buffer);
            columns_times(&rows, &u.cells, pad, &mut z);
            let mean = &self.mean.as_slice().unwrap_or_default()[range];
            for (lane, column) in z.chunks_exact_mut(width).enumerate() {
                add_scaled(column, shift[lane], mean);
                sum.row_mut(all)[lane] += dot(column, mean);
            }
            rows_times(&rows, &z, pad, &mut sum.cells);
        });
        let along = found.row(all).to_vec();
        found.cells.truncate(all * pad);
        for (date, row) in found.cells.chunks_exact_mut(pad).enumerate() {
            let weight = if date < dates { -1.0 } else { self.premium };
            add_scaled(row, if direct { weight } else { 0.0 }, &along);
        }
        found
    }

    /// Block' U for every block of the longer side of a panel with more columns than rows.
    pub(crate) fn wide_across(&self, u: ArrayView2<'_, f64>) -> Option<Array2<f64>> {
        if !self.is_direct() || !self.is_wide() {
            return None;
        }
        let (in_place, dates) = (self.in_place(), self.returns.nrows());
        let (thin, k) = (Thin::from(u), u.ncols());
        let shift = self.column_shift(&thin);
        let mut out = Array2::zeros((self.n_columns(), k));
        let block = block_width(dates);
        out.axis_chunks_iter_mut(Axis(0), block)
            .into_par_iter()
            .enumerate()
            .for_each_init(empty, |buffer, (index, mut part)| {
                let range = index * block..index * block + part.nrows();
                let width = range.len();
                let rows = self.raw(in_place, 0..dates, range.clone(), buffer);
                let mut image = vec![0.0; thin.pad * width];
                columns_times(&rows, &thin.cells, thin.pad, &mut image);
                let mean = self.mean.slice(s![range]);
                for ((column, mut row), m) in part.rows_mut().into_iter().enumerate().zip(mean) {
                    for (lane, cell) in row.iter_mut().enumerate() {
                        *cell = image[lane * width + column] + m * shift[lane];
                    }
                }
            });
        Some(out)
    }

    /// What the means add to `X'u` for centring and for the premium row, per unit of mean.
    fn column_shift(&self, u: &Thin) -> Vec<f64> {
        let dates = self.returns.nrows();
        let mut shift = vec![0.0; u.pad];
        for row in u.cells.chunks_exact(u.pad).take(dates) {
            add_scaled(&mut shift, -1.0, row);
        }
        if self.premium > 0.0 {
            add_scaled(&mut shift, self.premium, u.row(dates));
        }
        shift
    }

    fn tall_gram_times(&self, v: &Thin) -> Thin {
        let (direct, in_place) = (self.is_direct(), self.in_place());
        let along = v.weighted_sum(self.mean);
        let width = self.n_columns();
        let across = turned(&v.cells, v.pad, width);
        let long = if direct {
            self.returns.nrows()
        } else {
            self.n_rows()
        };
        let found = self.sum_parts(long, width + 1, v.pad, |range, buffer, sum| {
            let mut z = Thin::zeros(range.len(), v.pad);
            let rows: Vec<&[f64]> = if direct {
                self.raw(in_place, range, 0..width, buffer)
            } else {
                let packed = self.read(range, 0..width, buffer);
                slices(packed.view(), 0..packed.nrows(), 0..width)
            };
            rows_times(&rows, &across, v.pad, &mut z.cells);
            if direct {
                for row in z.cells.chunks_exact_mut(v.pad) {
                    row.iter_mut().zip(&along).for_each(|(z, m)| *z -= m);
                }
            }
            // Transposed; behind it the sum of z, which centring needs.
            let (image, total) = sum.cells.split_at_mut(width * v.pad);
            columns_times(&rows, &z.cells, v.pad, image);
            for row in z.cells.chunks_exact(v.pad) {
                total.iter_mut().zip(row).for_each(|(sum, z)| *sum += z);
            }
        });
        let mut out = Thin {
            pad: v.pad,
            cells: turned(&found.cells[..width * v.pad], width, v.pad),
        };
        if direct {
            let mut shift: Vec<f64> = found.row(width).iter().map(|sum| -sum).collect();
            add_scaled(&mut shift, self.premium * self.premium, &along);
            for (m, row) in self.mean.iter().zip(out.cells.chunks_exact_mut(v.pad)) {
                add_scaled(row, *m, &shift);
            }
        }
        out
    }

    /// Add up what blocks of the longer side contribute, in a fixed order.
    fn sum_parts(
        &self,
        long: usize,
        rows: usize,
        pad: usize,
        add: impl Fn(Range<usize>, &mut Array2<f64>, &mut Thin) + Sync,
    ) -> Thin {
        let block = block_width(self.sides().0);
        let n_blocks = long.div_ceil(block);
        let per_part = n_blocks.div_ceil(MAX_PARTS).max(1);
        let parts: Vec<Thin> = (0..n_blocks.div_ceil(per_part))
            .into_par_iter()
            .map_init(empty, |buffer, part| {
                let mut sum = Thin::zeros(rows, pad);
                for index in part * per_part..n_blocks.min((part + 1) * per_part) {
                    let range = index * block..long.min((index + 1) * block);
                    add(range, buffer, &mut sum);
                }
                sum
            })
            .collect();
        let mut total = Thin::zeros(rows, pad);
        parts.iter().for_each(|part| total.add(part));
        total
    }
}

/// Pieces of contiguous rows.
pub(super) fn slices(
    a: ArrayView2<'_, f64>,
    rows: Range<usize>,
    columns: Range<usize>,
) -> Vec<&[f64]> {
    rows.map(|row| {
        let row = a.index_axis_move(Axis(0), row).to_slice();
        row.map_or(&[][..], |row| &row[columns.clone()])
    })
    .collect()
}

/// From rows of `width` numbers to `width` rows of `height`.
fn turned(rows: &[f64], width: usize, height: usize) -> Vec<f64> {
    let mut out = vec![0.0; rows.len()];
    for (i, row) in rows.chunks_exact(width.max(1)).enumerate() {
        for (j, &v) in row.iter().enumerate() {
            out[j * height + i] = v;
        }
    }
    out
}
