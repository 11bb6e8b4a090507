//! Moments of every asset by itself.

use std::ops::Range;

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis};
use pulp::{Arch, Simd, WithSimd};

use super::block_width;
use super::rows::Rows;
use super::thin::registers;
use crate::interrupt::each;
use crate::simd::fetch_far;
use crate::{CoreError, Real, Result, shape};

/// Squared means may exceed squared deviations so many times before centring must come first.
const LARGE_MEANS: f64 = 10.0;

/// Sizes of the largest return between which squares of its squares keep all their digits.
const SMALLEST: f64 = 1e-60;
const LARGEST: f64 = 1e60;

/// Rows that are summed while the sums lie in registers, and registers' widths of columns.
const GROUP: usize = 16;
const WIDE: usize = 4;

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
            .for_each(each(|(out, block)| column_moments(out, block)));
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

fn column_moments<R: Real>(out: ArrayViewMut2<'_, f64>, block: ArrayView2<'_, R>) {
    let mut buffer = Array2::zeros((0, 0));
    match Rows::read(block, &mut buffer) {
        Rows::Single(rows) => moments_of(&rows, out),
        Rows::Double(rows) => moments_of(&rows, out),
    }
}

fn moments_of<E: Real>(rows: &[&[E]], mut out: ArrayViewMut2<'_, f64>) {
    let mut sums = Sums::of(rows, out.ncols(), false);
    // Something missing, or beyond squaring, leaves no finite sum.
    if !sums.squares.iter().chain(&sums.sum).all(|v| v.is_finite()) {
        sums = Sums::of(rows, out.ncols(), true);
    }
    let Sums {
        count,
        sum: mut mean,
        mut squares,
        ..
    } = sums;
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

/// Count, sum and sum of squares by column: of what is finite where that is checked, else of all.
///
/// Rows are added one after the other, so that a check changes no bit of a complete column.
struct Sums<'a, E> {
    rows: &'a [&'a [E]],
    checked: bool,
    count: Vec<f64>,
    sum: Vec<f64>,
    squares: Vec<f64>,
}

impl<'a, E: Real> Sums<'a, E> {
    fn of(rows: &'a [&'a [E]], width: usize, checked: bool) -> Self {
        let n = if checked { 0.0 } else { rows.len() as f64 };
        let sums = Self {
            rows,
            checked,
            count: vec![n; width],
            sum: vec![0.0; width],
            squares: vec![0.0; width],
        };
        Arch::new().dispatch(sums)
    }

    /// Rows `first` and those after it in registers' width of columns; `W` of 1 may be a part of one.
    #[inline(always)]
    fn tile<S: Simd, const W: usize, const CHECKED: bool>(
        &mut self,
        simd: S,
        first: usize,
        columns: Range<usize>,
    ) {
        let (zero, one) = (simd.splat_f64s(0.0), simd.splat_f64s(1.0));
        let mut n = registers::<S, f64, W>(simd, &self.count[columns.clone()]);
        let mut sum = registers::<S, f64, W>(simd, &self.sum[columns.clone()]);
        let mut squares = registers::<S, f64, W>(simd, &self.squares[columns.clone()]);
        for row in self.rows.iter().skip(first).take(GROUP) {
            let row = registers::<S, E, W>(simd, &row[columns.clone()]);
            for w in 0..W {
                let mut v = row[w];
                if CHECKED {
                    // Only what is finite leaves nothing when taken from itself.
                    let finite = simd.equal_f64s(simd.sub_f64s(v, v), zero);
                    v = simd.select_f64s(finite, v, zero);
                    n[w] = simd.add_f64s(n[w], simd.select_f64s(finite, one, zero));
                }
                sum[w] = simd.add_f64s(sum[w], v);
                squares[w] = simd.mul_add_e_f64s(v, v, squares[w]);
            }
        }
        store(simd, &mut self.count[columns.clone()], n);
        store(simd, &mut self.sum[columns.clone()], sum);
        store(simd, &mut self.squares[columns], squares);
    }

    #[inline(always)]
    fn all<S: Simd, const CHECKED: bool>(&mut self, simd: S) {
        let (width, one) = (self.sum.len(), S::F64_LANES);
        let most = width - width % (WIDE * one);
        for first in (0..self.rows.len()).step_by(GROUP) {
            let rows = self.rows;
            let later = &rows[rows.len().min(first + GROUP)..];
            later[..later.len().min(GROUP)]
                .iter()
                .for_each(|row| fetch_far(row, row.len()));
            for start in (0..most).step_by(WIDE * one) {
                self.tile::<S, WIDE, CHECKED>(simd, first, start..start + WIDE * one);
            }
            for start in (most..width).step_by(one) {
                self.tile::<S, 1, CHECKED>(simd, first, start..width.min(start + one));
            }
        }
    }
}

impl<E: Real> WithSimd for Sums<'_, E> {
    type Output = Self;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) -> Self {
        if self.checked {
            self.all::<S, true>(simd);
        } else {
            self.all::<S, false>(simd);
        }
        self
    }
}

/// Registers to as many values; the last one may be a part.
#[inline(always)]
fn store<S: Simd, const W: usize>(simd: S, out: &mut [f64], found: [S::f64s; W]) {
    for (part, v) in out.chunks_mut(S::F64_LANES).zip(found) {
        if part.len() == S::F64_LANES {
            S::as_mut_simd_f64s(part).0[0] = v;
        } else {
            simd.partial_store_f64s(part, v);
        }
    }
}

fn add_squares<E: Real>(row: &[E], mean: &[f64], squares: &mut [f64]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for ((&v, &m), s) in row.iter().zip(mean).zip(squares) {
                let v: f64 = v.into();
                let deviation = if v.is_finite() { v - m } else { 0.0 };
                *s += deviation * deviation;
            }
        },
    );
}
