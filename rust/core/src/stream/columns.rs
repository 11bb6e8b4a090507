//! Moments of every asset by itself.

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis};
use pulp::Arch;

use super::{block_width, widen};
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
    each_row(&block, |row| {
        add_present(row, &mut count, &mut mean, &mut squares)
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
        each_row(&block, |row| add_squares(row, &mean, &mut squares));
    }
    for (mut row, found) in out.rows_mut().into_iter().zip([count, mean, squares]) {
        row.assign(&Array1::from(found));
    }
}

/// Visit the rows in double precision, in place where they are so.
fn each_row<R: Real>(block: &ArrayView2<'_, R>, mut visit: impl FnMut(&[f64])) {
    if let AnyView::F64(view) = R::any(block.view())
        && view.rows().into_iter().all(|row| row.to_slice().is_some())
    {
        view.rows()
            .into_iter()
            .filter_map(|row| row.to_slice())
            .for_each(visit);
        return;
    }
    let mut buffer = vec![0.0; block.ncols()];
    for row in block.rows() {
        widen(row, &mut buffer);
        visit(&buffer);
    }
}

fn add_present(row: &[f64], count: &mut [f64], sum: &mut [f64], squares: &mut [f64]) {
    Arch::new().dispatch(|| {
        for (((&v, n), s), q) in row.iter().zip(count).zip(sum).zip(squares) {
            let finite = v.is_finite();
            let value = if finite { v } else { 0.0 };
            *n += if finite { 1.0 } else { 0.0 };
            *s += value;
            *q += value * value;
        }
    });
}

fn add_squares(row: &[f64], mean: &[f64], squares: &mut [f64]) {
    Arch::new().dispatch(|| {
        for ((&v, &m), s) in row.iter().zip(mean).zip(squares) {
            let deviation = if v.is_finite() { v - m } else { 0.0 };
            *s += deviation * deviation;
        }
    });
}
