//! Thin products of the panel: of the returns as they are where that is exact, centred where not.
//!
//! What centring and the premium row would have changed has rank one in the means and is put in
//! afterwards. Contiguous rows are read in place, in their own precision; others are widened block by
//! block, to the same bits: neither type nor memory layout of a panel changes a result.

use std::ops::Range;

use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2, Axis, Ix2, s};

use super::images::Images;
use super::rows::Rows;
use super::{BLOCK_CELLS, Stream, block_width, empty, width_of};
use crate::interrupt::{check, each_with};
use crate::vector::{add_scaled, contiguous, dot};
use crate::{AnyView, Real};

/// Numbers in a block that is read in place: rows that go on for longer come faster from memory.
const WALK_CELLS: usize = 1 << 18;

/// Most parts of a walk, each of which adds up by itself: fixed, so that bits do not depend on the
/// threads.
const WALKERS: usize = 8;

/// A thin matrix, row by row.
struct Thin {
    lanes: usize,
    cells: Vec<f64>,
}

impl Thin {
    fn from(a: ArrayView2<'_, f64>) -> Self {
        Self {
            lanes: a.ncols(),
            cells: a.iter().copied().collect(),
        }
    }

    fn row(&self, index: usize) -> &[f64] {
        &self.cells[index * self.lanes..][..self.lanes]
    }

    fn to_array(&self) -> Array2<f64> {
        let rows = self.cells.len() / self.lanes.max(1);
        Array2::from_shape_fn((rows, self.lanes), |(i, j)| self.cells[i * self.lanes + j])
    }

    /// Sum of the rows, each times its weight.
    fn weighted_sum<'w>(&self, weights: impl IntoIterator<Item = &'w f64>) -> Vec<f64> {
        let mut sum = vec![0.0; self.lanes];
        for (weight, row) in weights.into_iter().zip(self.cells.chunks_exact(self.lanes)) {
            add_scaled(&mut sum, *weight, row);
        }
        sum
    }
}

impl<R: Real> Stream<'_, R> {
    /// Gram matrix of the lesser side times a block, in one walk over the panel; the product with the
    /// panel itself, which comes on the way, goes into `images`.
    pub(crate) fn gram_times(&self, q: ArrayView2<'_, f64>, images: &mut Images) -> Array2<f64> {
        let thin = Thin::from(q);
        let (found, across) = if self.is_wide() {
            self.wide_gram_times(&thin)
        } else {
            self.tall_gram_times(&thin)
        };
        images.push(across);
        found.to_array()
    }

    /// Whether returns are multiplied as they are.
    fn is_direct(&self) -> bool {
        self.exact && self.scale.is_none()
    }

    /// The panel itself, where its rows may be read in place.
    fn in_place(&self) -> Option<AnyView<'_, Ix2>> {
        let lies_together = |row: ArrayView1<'_, R>| row.to_slice().is_some();
        let is_readable = self.is_direct() && self.returns.rows().into_iter().all(lies_together);
        is_readable.then(|| R::any(self.returns.view()))
    }

    /// Returns as they are, by row: in place, or widened into the buffer.
    fn raw<'s>(
        &self,
        in_place: Option<&'s AnyView<'_, Ix2>>,
        rows: Range<usize>,
        columns: Range<usize>,
        buffer: &'s mut Array2<f64>,
    ) -> Rows<'s> {
        match in_place {
            Some(view) => Rows::of(view, rows, columns),
            None => Rows::widened(self.returns.slice(s![rows, columns]), buffer),
        }
    }

    /// Rows and columns centred, filled and scaled in the buffer.
    fn packed<'s>(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        buffer: &'s mut Array2<f64>,
    ) -> Rows<'s> {
        Rows::whole(self.read(rows, columns, buffer).view())
    }

    fn wide_gram_times(&self, u: &Thin) -> (Thin, Vec<Vec<f64>>) {
        let (direct, in_place) = (self.is_direct(), self.in_place());
        let shift = self.column_shift(u);
        let (dates, all, lanes) = (self.returns.nrows(), self.n_rows(), u.lanes);
        let mean = contiguous(self.mean.as_slice());
        let parts = self.parts(self.n_columns(), |ranges, buffer| {
            let rows = if direct { dates } else { all };
            let mut part = Part::new(rows * lanes, lanes);
            for range in ranges {
                check();
                let mut z = vec![0.0; lanes * range.len()];
                let rows = if direct {
                    self.raw(in_place.as_ref(), 0..dates, range.clone(), buffer)
                } else {
                    self.packed(0..all, range.clone(), buffer)
                };
                rows.columns_times(&u.cells, lanes, &mut z);
                if direct {
                    let mean = &mean[range.clone()];
                    for (lane, column) in z.chunks_exact_mut(range.len()).enumerate() {
                        add_scaled(column, shift[lane], mean);
                        part.along[lane] += dot(column, mean);
                    }
                }
                rows.rows_times(&z, lanes, &mut part.sum);
                part.across.push(z);
            }
            part
        });
        let (sum, along, across) = Part::total(parts, lanes);
        let mut found = Thin { lanes, cells: sum };
        found.cells.resize(all * lanes, 0.0);
        for (date, row) in found.cells.chunks_exact_mut(lanes).enumerate() {
            let weight = if date < dates { -1.0 } else { self.premium };
            add_scaled(row, if direct { weight } else { 0.0 }, &along);
        }
        (found, across)
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
            .for_each_init(
                empty,
                each_with(
                    |buffer: &mut Array2<f64>,
                     (index, mut part): (usize, ArrayViewMut2<'_, f64>)| {
                        let range = index * block..index * block + part.nrows();
                        let width = range.len();
                        let rows = self.raw(in_place.as_ref(), 0..dates, range.clone(), buffer);
                        let mut image = vec![0.0; thin.lanes * width];
                        rows.columns_times(&thin.cells, thin.lanes, &mut image);
                        let mean = self.mean.slice(s![range]);
                        for ((column, mut row), m) in
                            part.rows_mut().into_iter().enumerate().zip(mean)
                        {
                            for (lane, cell) in row.iter_mut().enumerate() {
                                *cell = image[lane * width + column] + m * shift[lane];
                            }
                        }
                    },
                ),
            );
        Some(out)
    }

    /// What the means add to `X'u` for centring and for the premium row, per unit of mean.
    fn column_shift(&self, u: &Thin) -> Vec<f64> {
        let dates = self.returns.nrows();
        let mut shift = vec![0.0; u.lanes];
        for row in u.cells.chunks_exact(u.lanes).take(dates) {
            add_scaled(&mut shift, -1.0, row);
        }
        if self.premium > 0.0 {
            add_scaled(&mut shift, self.premium, u.row(dates));
        }
        shift
    }

    fn tall_gram_times(&self, v: &Thin) -> (Thin, Vec<Vec<f64>>) {
        let (direct, in_place) = (self.is_direct(), self.in_place());
        let along = v.weighted_sum(self.mean);
        let (width, lanes) = (self.n_columns(), v.lanes);
        let turned_v = turned(&v.cells, lanes, width);
        let long = if direct {
            self.returns.nrows()
        } else {
            self.n_rows()
        };
        let parts = self.parts(long, |ranges, buffer| {
            let mut part = Part::new(width * lanes, lanes);
            for range in ranges {
                check();
                let height = range.len();
                let rows = if direct {
                    self.raw(in_place.as_ref(), range, 0..width, buffer)
                } else {
                    self.packed(range, 0..width, buffer)
                };
                let mut z = vec![0.0; height * lanes];
                rows.rows_times(&turned_v, lanes, &mut z);
                for row in z.chunks_exact_mut(lanes) {
                    add_scaled(row, if direct { -1.0 } else { 0.0 }, &along);
                    // The sum of z, which centring needs.
                    add_scaled(&mut part.along, 1.0, row);
                }
                // Transposed.
                rows.columns_times(&z, lanes, &mut part.sum);
                part.across.push(turned(&z, lanes, height));
            }
            part
        });
        let (sum, total, mut across) = Part::total(parts, lanes);
        if direct && self.premium > 0.0 {
            // The premium row is not among the returns, but it has an image, too.
            across.push(along.iter().map(|sum| self.premium * sum).collect());
        }
        let mut out = Thin {
            lanes,
            cells: turned(&sum, width, lanes),
        };
        if direct {
            let mut shift: Vec<f64> = total.iter().map(|sum| -sum).collect();
            add_scaled(&mut shift, self.premium * self.premium, &along);
            for (m, row) in self.mean.iter().zip(out.cells.chunks_exact_mut(lanes)) {
                add_scaled(row, *m, &shift);
            }
        }
        (out, across)
    }

    /// What parts of the longer side contribute, in a fixed order; a part is a few blocks.
    fn parts(
        &self,
        long: usize,
        of: impl Fn(Vec<Range<usize>>, &mut Array2<f64>) -> Part + Sync,
    ) -> Vec<Part> {
        let cells = if self.is_direct() {
            WALK_CELLS
        } else {
            BLOCK_CELLS
        };
        let block = width_of(cells, self.sides().0);
        let n_blocks = long.div_ceil(block);
        let per_part = n_blocks.div_ceil(WALKERS).max(1);
        let range = |index: usize| index * block..long.min((index + 1) * block);
        (0..n_blocks.div_ceil(per_part))
            .into_par_iter()
            .map_init(
                empty,
                each_with(|buffer: &mut Array2<f64>, part: usize| {
                    let blocks = part * per_part..n_blocks.min((part + 1) * per_part);
                    of(blocks.map(range).collect(), buffer)
                }),
            )
            .collect()
    }
}

/// What a few blocks of the longer side contribute to a product with the Gram matrix.
struct Part {
    /// To the product itself.
    sum: Vec<f64>,
    /// To what centring needs.
    along: Vec<f64>,
    /// Product of the panel and the block, by block of the longer side: `lanes` rows each.
    across: Vec<Vec<f64>>,
}

impl Part {
    fn new(cells: usize, lanes: usize) -> Self {
        Self {
            sum: vec![0.0; cells],
            along: vec![0.0; lanes],
            across: Vec::new(),
        }
    }

    /// Sums over all parts, and the blocks of all.
    fn total(parts: Vec<Self>, lanes: usize) -> (Vec<f64>, Vec<f64>, Vec<Vec<f64>>) {
        let cells = parts.first().map_or(0, |part| part.sum.len());
        let mut total = Self::new(cells, lanes);
        for part in parts {
            add_scaled(&mut total.sum, 1.0, &part.sum);
            add_scaled(&mut total.along, 1.0, &part.along);
            total.across.extend(part.across);
        }
        (total.sum, total.along, total.across)
    }
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
