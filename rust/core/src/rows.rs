//! Padded row-major matrices and the one product that the estimators on moments live on.

use std::ops::Range;

use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};
use rayon::slice::ParallelSliceMut;

use crate::dispatch::{InstructionSet, Kernel, dispatch};
use crate::interrupt::{check, each};
use crate::vector::contiguous;

/// Doubles in the widest vector; rows are padded with zeros to a multiple of it.
const LANES: usize = 8;
/// Inner indices taken at a time, so that a block of rows stays in the second-level cache.
const INNER: usize = 64;
/// Rows of the result that a tile holds in registers.
const TILE: usize = 6;
/// Columns of the result in one task: a multiple of every tile width.
const TASK_COLUMNS: usize = 256;
/// Rows of the result in one task, where the columns do not give enough tasks.
const TASK_ROWS: usize = 8 * TILE;
/// Below this number of multiplications a second thread costs more than it helps.
const WORTH_A_THREAD: usize = 1 << 19;
/// Below this number of results a look at the interrupt costs more than it saves.
const WORTH_A_CHECK: usize = 1 << 12;

/// Row-major matrix whose rows are padded with zeros to whole vectors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rows {
    /// In standard layout, shape `(n_rows, n_cols rounded up)`.
    values: Array2<f64>,
    n_cols: usize,
}

impl Rows {
    pub(crate) fn zeros(n_rows: usize, n_cols: usize) -> Self {
        Self {
            values: Array2::zeros((n_rows, n_cols.next_multiple_of(LANES))),
            n_cols,
        }
    }

    pub(crate) fn from_fn(
        n_rows: usize,
        n_cols: usize,
        value: impl Fn(usize, usize) -> f64,
    ) -> Self {
        let mut out = Self::zeros(n_rows, n_cols);
        for i in 0..n_rows {
            for (j, cell) in out.row_mut(i).iter_mut().enumerate() {
                *cell = value(i, j);
            }
        }
        out
    }

    pub(crate) fn from_view(values: ArrayView2<'_, f64>) -> Self {
        Self::from_fn(values.nrows(), values.ncols(), |i, j| values[[i, j]])
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.values.nrows()
    }

    pub(crate) fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// Distance between rows.
    pub(crate) fn stride(&self) -> usize {
        self.values.ncols()
    }

    pub(crate) fn flat(&self) -> &[f64] {
        contiguous(self.values.as_slice())
    }

    pub(crate) fn flat_mut(&mut self) -> &mut [f64] {
        contiguous(self.values.as_slice_mut())
    }

    pub(crate) fn row(&self, i: usize) -> &[f64] {
        let (stride, n_cols) = (self.stride(), self.n_cols);
        &self.flat()[i * stride..][..n_cols]
    }

    pub(crate) fn row_mut(&mut self, i: usize) -> &mut [f64] {
        let (stride, n_cols) = (self.stride(), self.n_cols);
        &mut self.flat_mut()[i * stride..][..n_cols]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[f64]> {
        (0..self.n_rows()).map(|i| self.row(i))
    }

    /// `n` rows at a time, with their padding, in parallel.
    pub(crate) fn blocks_mut(
        &mut self,
        n: usize,
    ) -> impl IndexedParallelIterator<Item = &mut [f64]> {
        let block = (n * self.stride()).max(1);
        self.flat_mut().par_chunks_mut(block)
    }

    /// Without the padding.
    pub(crate) fn view(&self) -> ArrayView2<'_, f64> {
        self.values.slice(s![.., ..self.n_cols])
    }

    pub(crate) fn transposed(&self) -> Self {
        Self::from_view(self.view().t())
    }

    /// As the left factor `A'` of a [`product`], with `A` these rows.
    pub(crate) fn down(&self) -> Left<'_> {
        Left {
            values: self.flat(),
            step: self.stride(),
            skip: 1,
            n_out: self.n_cols,
        }
    }

    /// The same, with `A` these rows from `first` on.
    pub(crate) fn down_from(&self, first: usize) -> Left<'_> {
        Left {
            values: &self.flat()[first * self.stride()..],
            ..self.down()
        }
    }

    /// As the left factor `A` of a [`product`], with `A` these rows.
    pub(crate) fn across(&self) -> Left<'_> {
        Left {
            values: self.flat(),
            step: 1,
            skip: self.stride(),
            n_out: self.n_rows(),
        }
    }
}

/// Left factor of a product: its entry `(i, t)` lies at `t step + i skip`; one of the two is 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) values: &'a [f64],
    /// Distance between inner indices.
    pub(crate) step: usize,
    /// Distance between rows of the result.
    pub(crate) skip: usize,
    /// Rows of the result.
    pub(crate) n_out: usize,
}

/// `Y X`, summed over the rows of `X` in a fixed order.
pub(crate) fn product(y: Left<'_>, x: &Rows) -> Rows {
    let mut out = Rows::zeros(y.n_out, x.n_cols);
    add_product(y, x, &mut out);
    out
}

/// `out += Y X`. Blocks of columns, or of rows where the columns are few, run in parallel.
pub(crate) fn add_product(y: Left<'_>, x: &Rows, out: &mut Rows) {
    let by_rows = x.n_cols <= TASK_COLUMNS;
    let (axis, block) = if by_rows {
        (Axis(0), TASK_ROWS)
    } else {
        (Axis(1), TASK_COLUMNS)
    };
    let work = y.n_out * x.n_rows() * x.n_cols;
    if work < WORTH_A_THREAD {
        add_product_here(y, x, out);
        return;
    }
    out.values
        .axis_chunks_iter_mut(axis, block)
        .into_par_iter()
        .enumerate()
        .for_each(each(|(index, out)| {
            let first = index * block;
            let (row, column) = if by_rows { (first, 0) } else { (0, first) };
            dispatch(Product {
                y,
                x: x.flat(),
                x_stride: x.stride(),
                row,
                column,
                out,
            });
        }));
}

/// `out += Y X` on the calling thread; the same bits as [`add_product`].
pub(crate) fn add_product_here(y: Left<'_>, x: &Rows, out: &mut Rows) {
    let (x, x_stride, out) = (x.flat(), x.stride(), out.values.view_mut());
    dispatch(Product {
        y,
        x,
        x_stride,
        row: 0,
        column: 0,
        out,
    });
}

struct Product<'a> {
    y: Left<'a>,
    x: &'a [f64],
    x_stride: usize,
    /// Where in the whole result `out` starts.
    row: usize,
    column: usize,
    out: ArrayViewMut2<'a, f64>,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: InstructionSet>(mut self) {
        let (n_inner, width) = (self.x.len() / self.x_stride.max(1), self.out.ncols());
        let large = width * self.out.nrows() >= WORTH_A_CHECK;
        for first in (0..n_inner).step_by(INNER) {
            if large {
                check();
            }
            let inner = first..(first + INNER).min(n_inner);
            let mut column = 0;
            while column < width {
                let vectors = (width - column) / I::LANES;
                column += I::LANES
                    * match (I::MANY_REGISTERS, vectors) {
                        (true, 4..) => self.strip::<I, 4>(&inner, column),
                        (_, 2..) => self.strip::<I, 2>(&inner, column),
                        _ => self.strip::<I, 1>(&inner, column),
                    };
            }
        }
    }
}

impl Product<'_> {
    /// `V` vectors of columns of every row of the result.
    #[inline(always)]
    fn strip<I: InstructionSet, const V: usize>(
        &mut self,
        inner: &Range<usize>,
        column: usize,
    ) -> usize {
        let n_out = self.out.nrows();
        for row in (0..n_out).step_by(TILE) {
            match n_out - row {
                1 => self.tile::<I, V, 1>(inner, column, row),
                2 => self.tile::<I, V, 2>(inner, column, row),
                3 => self.tile::<I, V, 3>(inner, column, row),
                4 => self.tile::<I, V, 4>(inner, column, row),
                5 => self.tile::<I, V, 5>(inner, column, row),
                _ => self.tile::<I, V, TILE>(inner, column, row),
            }
        }
        V
    }

    #[inline(always)]
    fn tile<I: InstructionSet, const V: usize, const Q: usize>(
        &mut self,
        inner: &Range<usize>,
        column: usize,
        row: usize,
    ) {
        let n = inner.len();
        let from = inner.start * self.x_stride + self.column + column;
        let x = self.x[from..].chunks(self.x_stride);
        let Left {
            values, step, skip, ..
        } = self.y;
        let y = &values[inner.start * step + (self.row + row) * skip..];
        // Slices of known length: no bounds are checked in the inner loops.
        let sums = if step == 1 {
            let rows: [&[f64]; Q] = std::array::from_fn(|q| &y[q * skip..][..n]);
            sums::<I, V, Q>(x, (0..n).map(|t| std::array::from_fn(|q| rows[q][t])))
        } else {
            let rows = y.chunks(step).take(n);
            sums::<I, V, Q>(x, rows.map(|row| *contiguous(row.first_chunk::<Q>())))
        };
        for (q, sums) in sums.iter().enumerate() {
            let mut out = self.out.row_mut(row + q);
            let out = contiguous(out.as_slice_mut());
            for (out, &sum) in out[column..].chunks_exact_mut(I::LANES).zip(sums) {
                I::store(I::add(I::load(out), sum), out);
            }
        }
    }
}

/// `Σ_t y_t x_t'` over the first `V` vectors of each `x`.
#[inline(always)]
fn sums<'a, I: InstructionSet, const V: usize, const Q: usize>(
    x: impl Iterator<Item = &'a [f64]>,
    y: impl Iterator<Item = [f64; Q]>,
) -> [[I::Vector; V]; Q] {
    let mut sums = [[I::splat(0.0); V]; Q];
    for (x, y) in x.zip(y) {
        let (from, mut x) = (&x[..V * I::LANES], [I::splat(0.0); V]);
        for (v, x) in x.iter_mut().enumerate() {
            *x = I::load(&from[v * I::LANES..]);
        }
        for (&y, sums) in y.iter().zip(&mut sums) {
            let y = I::splat(y);
            for (sum, &x) in sums.iter_mut().zip(&x) {
                *sum = I::mul_add(y, x, *sum);
            }
        }
    }
    sums
}

/// Inner product with one running sum a lane.
#[inline(always)]
pub(crate) fn dot<I: InstructionSet>(a: &[f64], b: &[f64]) -> f64 {
    let (mut sums, whole) = (I::splat(0.0), a.len() / I::LANES * I::LANES);
    for (a, b) in a.chunks_exact(I::LANES).zip(b.chunks_exact(I::LANES)) {
        sums = I::mul_add(I::load(a), I::load(b), sums);
    }
    let mut lanes = [0.0; LANES];
    I::store(sums, &mut lanes);
    let rest: f64 = a[whole..].iter().zip(&b[whole..]).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(n_rows: usize, n_cols: usize, seed: f64) -> Rows {
        Rows::from_fn(n_rows, n_cols, |i, j| {
            (seed + 7.0 * i as f64 + 3.0 * j as f64).sin()
        })
    }

    #[test]
    fn agrees_with_the_definition_at_every_remainder() {
        for n_inner in [1, 5, 64, 131] {
            for (n_out, n_cols) in [(1, 1), (2, 9), (7, 16), (13, 41), (5, 300), (101, 15)] {
                let x = example(n_inner, n_cols, 0.3);
                let y = example(n_inner, n_out, 0.7);
                let want = y.view().t().dot(&x.view());
                let both = [product(y.down(), &x), product(y.transposed().across(), &x)];
                for got in both {
                    assert!((&got.view() - &want).iter().all(|gap| gap.abs() < 1e-12));
                    assert!(
                        got.values
                            .slice(s![.., n_cols..])
                            .iter()
                            .all(|&pad| pad == 0.0)
                    );
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_agrees_with_the_definition() {
        for (n_out, n_inner, n_cols) in [(1, 1, 1), (7, 65, 16), (13, 5, 41), (6, 131, 300)] {
            let (x, y) = (example(n_inner, n_cols, 0.3), example(n_inner, n_out, 0.7));
            let want = y.view().t().dot(&x.view());
            for level in 0..crate::dispatch::N_LEVELS {
                let mut got = Rows::zeros(n_out, n_cols);
                crate::dispatch::at_level(
                    level,
                    Product {
                        y: y.down(),
                        x: x.flat(),
                        x_stride: x.stride(),
                        row: 0,
                        column: 0,
                        out: got.values.view_mut(),
                    },
                );
                assert!((&got.view() - &want).iter().all(|gap| gap.abs() < 1e-12));
            }
        }
    }
}
