//! A panel that is centred, filled and scaled while it is read, never copied whole.
//!
//! Every product below walks the panel in blocks that fit the second-level cache. A block holds
//! `(r_ti - mean_i) * scale_i`, with 0 where the return is missing, and below the last date the
//! premium row `premium * mean_i * scale_i` when there is one: with
//! `premium = sqrt(T rho)` the Gram matrix of the columns is
//! `X'(I - 11'/T)X + rho T mean mean'`, the moment matrix of risk-premium PCA up to a factor.
//!
//! Blocks are the unit of parallel work and are added up in their order: the number of threads does
//! not change a bit.

use std::ops::Range;

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, s};
use pulp::Arch;

use crate::interrupt::{check, each, each_with};
use crate::vector::{contiguous, dot};
use crate::{Real, linalg};

mod columns;
mod direct;
mod images;
mod rows;
pub(crate) mod thin;

pub(crate) use columns::{Columns, is_moderate, small_means};
pub(crate) use images::Images;

/// Numbers in a block: a megabyte and a quarter, of which most stays in the second-level cache.
const BLOCK_CELLS: usize = 5 << 15;
/// No block holds more, unless its shorter side alone does.
pub(crate) const LARGEST_BLOCK: usize = 1 << 18;
/// Most partial sums that are kept apart; fixed, so that bits do not depend on the threads.
pub(crate) const MAX_PARTS: usize = 32;
/// Side of the tiles in which a Gram matrix is computed.
const TILE: usize = 128;
/// Smaller tiles are multiplied in another way, with other last bits.
const LEAST: usize = 64;
/// Columns multiplied at a time while a Gram matrix is computed.
pub(crate) const DEPTH: usize = 256;

/// The centred panel as a matrix of `n_rows() x N`, to be multiplied but not held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream<'a, R> {
    pub(crate) returns: ArrayView2<'a, R>,
    pub(crate) mean: &'a Array1<f64>,
    pub(crate) scale: Option<&'a Array1<f64>>,
    pub(crate) premium: f64,
    /// Whether the means may be taken out after a product: all is observed, no mean dwarfs the rest.
    pub(crate) exact: bool,
}

impl<'a, R: Real> Stream<'a, R> {
    /// Centred returns as they are, without scale or premium row.
    pub(crate) fn plain(returns: ArrayView2<'a, R>, mean: &'a Array1<f64>) -> Self {
        Self {
            returns,
            mean,
            scale: None,
            premium: 0.0,
            exact: false,
        }
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.returns.nrows() + usize::from(self.premium > 0.0)
    }

    pub(crate) fn n_columns(&self) -> usize {
        self.returns.ncols()
    }

    /// Whether there are fewer rows than columns, so that Gram matrices are over rows (the dual).
    pub(crate) fn is_wide(&self) -> bool {
        self.n_rows() < self.n_columns()
    }

    /// The lesser of the two sides, and the other.
    pub(crate) fn sides(&self) -> (usize, usize) {
        let (rows, columns) = (self.n_rows(), self.n_columns());
        (rows.min(columns), rows.max(columns))
    }

    /// `X V`, shape `(n_rows, k)`.
    pub(crate) fn times(&self, v: ArrayView2<'_, f64>) -> Array2<f64> {
        if self.is_wide() {
            self.along(v)
        } else {
            self.across(v)
        }
    }

    /// `X'U`, shape `(N, k)`.
    pub(crate) fn transpose_times(&self, u: ArrayView2<'_, f64>) -> Array2<f64> {
        match self.wide_across(u) {
            Some(found) => found,
            None if self.is_wide() => self.across(u),
            None => self.along(u),
        }
    }

    /// Block' U for every block of the longer side.
    fn across(&self, u: ArrayView2<'_, f64>) -> Array2<f64> {
        let (short, long) = self.sides();
        let width = block_width(short);
        let mut out = Array2::zeros((long, u.ncols()));
        out.axis_chunks_iter_mut(Axis(0), width)
            .into_par_iter()
            .enumerate()
            .for_each_init(
                empty,
                each_with(
                    |buffer: &mut Array2<f64>,
                     (index, mut part): (usize, ArrayViewMut2<'_, f64>)| {
                        let range = index * width..index * width + part.nrows();
                        let block = self.block(range, buffer);
                        linalg::add_product(part.view_mut(), 1.0, block.t(), u);
                    },
                ),
            );
        out
    }

    /// Sum over the blocks of the longer side of block times V's rows.
    fn along(&self, v: ArrayView2<'_, f64>) -> Array2<f64> {
        self.fold(v.ncols(), |range, block, sum| {
            linalg::add_product(sum.view_mut(), 1.0, block, v.slice(s![range, ..]));
        })
    }

    /// Add up what every block contributes, in a fixed order.
    fn fold(
        &self,
        columns: usize,
        add: impl Fn(Range<usize>, ArrayView2<'_, f64>, &mut Array2<f64>) + Sync,
    ) -> Array2<f64> {
        let (short, long) = self.sides();
        let width = block_width(short);
        let n_blocks = long.div_ceil(width);
        let per_part = n_blocks.div_ceil(MAX_PARTS);
        let parts: Vec<Array2<f64>> = (0..n_blocks.div_ceil(per_part))
            .into_par_iter()
            .map_init(
                empty,
                each_with(|buffer: &mut Array2<f64>, part: usize| {
                    let mut sum = Array2::zeros((short, columns));
                    for index in part * per_part..n_blocks.min((part + 1) * per_part) {
                        check();
                        let range = index * width..long.min((index + 1) * width);
                        let block = self.block(range.clone(), buffer);
                        add(range, block, &mut sum);
                    }
                    sum
                }),
            )
            .collect();
        let mut total = Array2::zeros((short, columns));
        parts.iter().for_each(|part| total += part);
        total
    }

    /// Entries of a range of the longer side, shape `(shorter side, range)`.
    fn block<'s>(&self, range: Range<usize>, buffer: &'s mut Array2<f64>) -> ArrayView2<'s, f64> {
        if self.is_wide() {
            self.read(0..self.n_rows(), range, buffer).view()
        } else {
            self.read(range, 0..self.n_columns(), buffer).t()
        }
    }

    fn read<'s>(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        buffer: &'s mut Array2<f64>,
    ) -> &'s Array2<f64> {
        if buffer.dim() != (rows.len(), columns.len()) {
            *buffer = Array2::zeros((rows.len(), columns.len()));
        }
        self.pack(rows, columns, buffer);
        buffer
    }

    /// Write rows and columns of the matrix into a buffer of their shape.
    fn pack(&self, rows: Range<usize>, columns: Range<usize>, out: &mut Array2<f64>) {
        let mean = self.mean.slice(s![columns.clone()]);
        let scale = self.scale.map(|all| all.slice(s![columns.clone()]));
        let last = self.returns.nrows();
        for (row, line) in rows.zip(out.rows_mut()) {
            let line = contiguous(line.into_slice());
            if row < last {
                widen(self.returns.slice(s![row, columns.clone()]), line);
                centre(line, contiguous(mean.as_slice()));
            } else {
                line.iter_mut()
                    .zip(mean)
                    .for_each(|(o, m)| *o = self.premium * m);
            }
            if let Some(scale) = scale {
                line.iter_mut().zip(scale).for_each(|(o, s)| *o *= s);
            }
        }
    }

    /// Root of the sum of squares of the means that are taken out.
    pub(crate) fn level(&self) -> f64 {
        let scaled = |i: usize| self.mean[i] * self.scale.map_or(1.0, |scale| scale[i]);
        let squares: f64 = (0..self.n_columns()).map(|i| scaled(i).powi(2)).sum();
        (self.returns.nrows() as f64 * squares).sqrt()
    }

    /// The whole matrix, for decompositions that need it.
    pub(crate) fn dense(&self) -> Array2<f64> {
        let (n_rows, n_columns) = (self.n_rows(), self.n_columns());
        let mut out = Array2::zeros((n_rows, n_columns));
        self.pack(0..n_rows, 0..n_columns, &mut out);
        out
    }

    /// Gram matrix of the lesser side, full and symmetric.
    pub(crate) fn gram(&self) -> Array2<f64> {
        if self.is_wide() {
            self.gram_of_rows()
        } else {
            self.gram_of_columns()
        }
    }

    /// Gram matrix of the rows, full and symmetric.
    pub(crate) fn gram_of_rows(&self) -> Array2<f64> {
        self.gram_in(Tiles::new(self.n_rows()))
    }

    /// The same, every entry with the bits that it has in a matrix of more rows.
    pub(crate) fn gram_of_rows_to_come(&self) -> Array2<f64> {
        self.gram_in(Tiles::padded(self.n_rows()))
    }

    fn gram_in(&self, mut tiles: Tiles) -> Array2<f64> {
        let mut buffer = empty();
        for start in (0..self.n_columns()).step_by(DEPTH) {
            check();
            let columns = start..self.n_columns().min(start + DEPTH);
            if buffer.dim() != (tiles.n_rows, columns.len()) {
                buffer = Array2::zeros((tiles.n_rows, columns.len()));
            }
            self.pack(0..self.n_rows(), columns, &mut buffer);
            tiles.add(buffer.view());
        }
        tiles.assemble()
    }

    /// `X v`, every entry from its row alone.
    pub(crate) fn rows_times(&self, v: &[f64]) -> Array1<f64> {
        let entries: Vec<f64> = (0..self.n_rows())
            .into_par_iter()
            .map_init(
                empty,
                each_with(|buffer: &mut Array2<f64>, row: usize| {
                    let row = self.read(row..row + 1, 0..self.n_columns(), buffer);
                    dot(contiguous(row.as_slice()), v)
                }),
            )
            .collect();
        entries.into()
    }

    /// Gram matrix of the columns, full and symmetric, shape `(N, N)`.
    pub(crate) fn gram_of_columns(&self) -> Array2<f64> {
        let mut tiles = Tiles::new(self.n_columns());
        let mut buffer = empty();
        for start in (0..self.n_rows()).step_by(DEPTH) {
            check();
            let rows = start..self.n_rows().min(start + DEPTH);
            tiles.add(self.read(rows, 0..self.n_columns(), &mut buffer).t());
        }
        tiles.assemble()
    }
}

fn widen<R: Real>(row: ndarray::ArrayView1<'_, R>, out: &mut [f64]) {
    match row.as_slice() {
        Some(values) => out.iter_mut().zip(values).for_each(|(o, &v)| *o = v.into()),
        None => out.iter_mut().zip(row).for_each(|(o, &v)| *o = v.into()),
    }
}

fn centre(line: &mut [f64], mean: &[f64]) {
    Arch::new().dispatch(|| {
        for (v, m) in line.iter_mut().zip(mean) {
            let deviation = *v - m;
            *v = if deviation.is_finite() {
                deviation
            } else {
                0.0
            };
        }
    });
}

fn empty() -> Array2<f64> {
    Array2::zeros((0, 0))
}

/// Width of a block of the longer side, given the shorter.
fn block_width(short: usize) -> usize {
    width_of(BLOCK_CELLS, short)
}

/// Width of a block of about so many numbers.
fn width_of(cells: usize, short: usize) -> usize {
    (cells / short.max(1)).clamp(16, 512).next_multiple_of(32)
}

/// The lower triangle of a Gram matrix in square tiles, so that threads can share the work.
struct Tiles {
    side: usize,
    /// Rows that are multiplied, those beyond the side all zero.
    n_rows: usize,
    tiles: Vec<(usize, usize, Array2<f64>)>,
}

impl Tiles {
    fn new(side: usize) -> Self {
        Self::of(side, side)
    }

    /// With a last tile as large as it takes for the others' way of multiplying.
    fn padded(side: usize) -> Self {
        let last = side % TILE;
        let missing = if last > 0 {
            LEAST.saturating_sub(last)
        } else {
            0
        };
        Self::of(side, side + missing)
    }

    fn of(side: usize, n_rows: usize) -> Self {
        let extent = |tile: usize| TILE.min(n_rows - tile * TILE);
        let n_tiles = side.div_ceil(TILE);
        let tiles = (0..n_tiles)
            .flat_map(|i| (0..=i).map(move |j| (i, j)))
            .map(|(i, j)| (i, j, Array2::zeros((extent(i), extent(j)))))
            .collect();
        Self {
            side,
            n_rows,
            tiles,
        }
    }

    /// Add `B B'`.
    fn add(&mut self, block: ArrayView2<'_, f64>) {
        let end = self.n_rows;
        let band = |tile: usize| block.slice_move(s![tile * TILE..end.min((tile + 1) * TILE), ..]);
        let add = |(i, j, tile): &mut (usize, usize, Array2<f64>)| {
            linalg::add_product(tile.view_mut(), 1.0, band(*i), band(*j).reversed_axes());
        };
        self.tiles.par_iter_mut().for_each(each(add));
    }

    fn assemble(self) -> Array2<f64> {
        let mut out = Array2::zeros((self.side, self.side));
        let extent = |tile: usize| TILE.min(self.side - tile * TILE);
        for (i, j, tile) in self.tiles {
            check();
            let tile = tile.slice(s![..extent(i), ..extent(j)]);
            let rows = i * TILE..i * TILE + tile.nrows();
            let columns = j * TILE..j * TILE + tile.ncols();
            out.slice_mut(s![columns.clone(), rows.clone()])
                .assign(&tile.t());
            out.slice_mut(s![rows, columns]).assign(&tile);
        }
        out
    }
}
