//! Moments of every asset by itself.

use std::ops::Range;

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis};
use pulp::{Arch, Simd, WithSimd};

use super::direct::slices;
use super::thin::GROUP;
use super::{block_width, widen};
use crate::simd::fetch;
use crate::{AnyView, CoreError, Real, Result, shape};

/// Squared means may exceed squared deviations so many times before centring must come first.
const LARGE_MEANS: f64 = 10.0;

/// Sizes of the largest return between which squares of its squares keep all their digits.
const SMALLEST: f64 = 1e-60;
const LARGEST: f64 = 1e60;

/// Centred squares below this share of the raw ones have lost digits, and are summed again.
const SAFE_SHARE: f64 = 0.1;

/// Count, mean and centred sum of squares of every asset's finite returns, each of shape `(N,)`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Columns {
    pub(crate) count: Array1<f64>,
    pub(crate) mean: Array1<f64>,
    pub(crate) squares: Array1<f64>,
}

impl Columns {
    /// Refuses an asset without a finite return, and a panel whose squares leave the range of doubles.
    pub(crate) fn of<R: Real>(returns: ArrayView2<'_, R>) -> Result<Self> {
        let (n_dates, n_assets) = returns.dim();
        let mut moments = Array2::zeros((3, n_assets));
        let width = block_width(n_dates);
        moments
            .axis_chunks_iter_mut(Axis(1), width)
            .into_par_iter()
            .zip(returns.axis_chunks_iter(Axis(1), width))
            .for_each(|(out, block)| column_moments(out, block));
        let [count, mean, squares] = [0, 1, 2].map(|row| moments.row(row).to_owned());
        match count.iter().position(|&n| n == 0.0) {
            Some(index) => Err(CoreError::NoData {
                what: "returns",
                axis: "asset",
                index,
            }),
            None => {
                let raw = (&mean * &mean * &count).sum() + squares.sum();
                require_moderate(returns, raw)?;
                Ok(Self {
                    count,
                    mean,
                    squares,
                })
            }
        }
    }

    /// Whether means are small enough beside deviations to be taken out after a product.
    pub(crate) fn exact(&self, n_dates: usize) -> bool {
        let means = n_dates as f64 * self.mean.dot(&self.mean);
        self.complete(n_dates) && small_means(means, self.squares.sum())
    }

    /// Whether every one of `n_dates` returns of every asset is there.
    pub(crate) fn complete(&self, n_dates: usize) -> bool {
        self.count.iter().all(|&n| n == n_dates as f64)
    }
}

/// Whether squared means are small enough beside squared deviations, both summed over the cells.
pub(crate) fn small_means(means: f64, deviations: f64) -> bool {
    means <= LARGE_MEANS * deviations
}

/// Whether a sum of squared returns is far from both ends of the range of doubles.
pub(crate) fn is_moderate(squares: f64) -> bool {
    (SMALLEST * SMALLEST..=LARGEST * LARGEST).contains(&squares)
}

/// Refuse returns too small or too large to be squared twice; `squares` is their sum of squares.
fn require_moderate<R: Real>(returns: ArrayView2<'_, R>, squares: f64) -> Result<()> {
    if is_moderate(squares) {
        return Ok(());
    }
    let sizes = returns.iter().map(|&v| v.into().abs());
    let largest = sizes.filter(|v| v.is_finite()).fold(0.0, f64::max);
    shape::require_that(
        "returns",
        largest == 0.0 || (SMALLEST..=LARGEST).contains(&largest),
        &format!("zero or of a largest size between {SMALLEST:e} and {LARGEST:e}"),
        format!("{largest:e}: rescale the data"),
    )
}

fn column_moments<R: Real>(mut out: ArrayViewMut2<'_, f64>, block: ArrayView2<'_, R>) {
    let width = block.ncols();
    let (mut count, mut mean, mut squares) = (vec![0.0; width], vec![0.0; width], vec![0.0; width]);
    let mut buffer = Array2::zeros((0, 0));
    let rows = rows_of(&block, &mut buffer);
    Arch::new().dispatch(Sums {
        rows: &rows,
        count: &mut count,
        sum: &mut mean,
        squares: &mut squares,
    });
    let mut large_mean = false;
    for ((m, n), s) in mean.iter_mut().zip(&count).zip(&mut squares) {
        *m /= n;
        let about_zero = *s;
        *s -= n * *m * *m;
        large_mean |= *s < SAFE_SHARE * about_zero;
    }
    if large_mean {
        squares.fill(0.0);
        rows.iter()
            .for_each(|row| add_squares(row, &mean, &mut squares));
    }
    for (mut row, found) in out.rows_mut().into_iter().zip([count, mean, squares]) {
        row.assign(&Array1::from(found));
    }
}

/// Rows in double precision: in place where they are so, else widened into the buffer.
fn rows_of<'s, R: Real>(block: &ArrayView2<'s, R>, buffer: &'s mut Array2<f64>) -> Vec<&'s [f64]> {
    if let AnyView::F64(view) = R::any(*block)
        && view.rows().into_iter().all(|row| row.to_slice().is_some())
    {
        return slices(view, 0..view.nrows(), 0..view.ncols());
    }
    *buffer = Array2::zeros(block.dim());
    for (row, mut line) in block.rows().into_iter().zip(buffer.rows_mut()) {
        if let Some(line) = line.as_slice_mut() {
            widen(row, line);
        }
    }
    slices(buffer.view(), 0..buffer.nrows(), 0..buffer.ncols())
}

/// Count, sum and sum of squares of what is finite, by column.
struct Sums<'a> {
    rows: &'a [&'a [f64]],
    count: &'a mut [f64],
    sum: &'a mut [f64],
    squares: &'a mut [f64],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (width, lanes) = (self.sum.len(), S::F64_LANES);
        let whole = width - width % lanes;
        for first in (0..self.rows.len()).step_by(GROUP) {
            for start in (0..whole).step_by(lanes) {
                self.tile::<S, true>(simd, first, start..start + lanes);
            }
            if whole < width {
                self.tile::<S, false>(simd, first, whole..width);
            }
        }
    }
}

impl Sums<'_> {
    /// A group of rows in a register's width of columns, or in the few that do not fill one.
    #[inline(always)]
    fn tile<S: Simd, const WHOLE: bool>(&mut self, simd: S, first: usize, columns: Range<usize>) {
        let load = |values: &[f64]| {
            if WHOLE {
                S::as_simd_f64s(values).0[0]
            } else {
                simd.partial_load_f64s(values)
            }
        };
        let (zero, one) = (simd.splat_f64s(0.0), simd.splat_f64s(1.0));
        let mut out = [&mut *self.count, &mut *self.sum, &mut *self.squares]
            .map(|all| &mut all[columns.clone()]);
        let [mut n, mut sum, mut squares] = [load(out[0]), load(out[1]), load(out[2])];
        for (index, row) in self.rows.iter().enumerate().skip(first).take(GROUP) {
            if let Some(next) = self.rows.get(index + GROUP) {
                fetch(&next[columns.clone()]);
            }
            let v = load(&row[columns.clone()]);
            // Only what is finite leaves nothing when taken from itself.
            let finite = simd.equal_f64s(simd.sub_f64s(v, v), zero);
            let v = simd.select_f64s(finite, v, zero);
            n = simd.add_f64s(n, simd.select_f64s(finite, one, zero));
            sum = simd.add_f64s(sum, v);
            squares = simd.mul_add_e_f64s(v, v, squares);
        }
        for (out, found) in out.iter_mut().zip([n, sum, squares]) {
            if WHOLE {
                S::as_mut_simd_f64s(out).0[0] = found;
            } else {
                simd.partial_store_f64s(out, found);
            }
        }
    }
}

fn add_squares(row: &[f64], mean: &[f64], squares: &mut [f64]) {
    Arch::new().dispatch(|| {
        for ((&v, &m), s) in row.iter().zip(mean).zip(squares) {
            let deviation = if v.is_finite() { v - m } else { 0.0 };
            *s += deviation * deviation;
        }
    });
}
