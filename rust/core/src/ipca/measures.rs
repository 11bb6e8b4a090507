//! How much of the returns the factors explain: uncentred, benchmark zero.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

use super::{MomentsView, triangle};
use crate::dispatch::dispatch;
use crate::interrupt::check;
use crate::linalg::product;
use crate::memory::Arrays;
use crate::{Result, shape};

/// Coefficients of determination of Kelly, Pruitt and Su, each `1 - Σ residual² / Σ target²`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitMeasures {
    /// Asset returns, explained by the factors of their date.
    pub total: f64,
    /// Asset returns, explained by the mean factors.
    pub predictive: f64,
    /// Managed portfolios `x_t = Z_t'r_t / n_t`, explained by the factors of their date.
    pub managed_total: f64,
    /// Managed portfolios, explained by the mean factors.
    pub managed_predictive: f64,
}

/// Sums of squares over the dates with finite factors.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Squares {
    pub(super) assets: f64,
    pub(super) managed: f64,
}

/// Fit of loadings `gamma`, shape `(P, Q)`, with `factors`, shape `(T, Q)`, latent and observed
/// side by side. Dates with a factor that is not finite, or without a usable row, do not count.
///
/// # Errors
///
/// [`crate::CoreError::Shape`] when the arrays do not line up.
pub fn fit_measures(
    moments: &MomentsView<'_>,
    gamma: ArrayView2<'_, f64>,
    factors: ArrayView2<'_, f64>,
) -> Result<FitMeasures> {
    moments.check()?;
    let (n_dates, n) = moments.cross.dim();
    shape::require("gamma", &[n, factors.ncols()], gamma.shape())?;
    shape::require("factors", &[n_dates, gamma.ncols()], factors.shape())?;
    Arrays::new()
        .times(2, "exposures of the instruments", &[n_dates, n])
        .times(5, "factors", factors.shape())
        .and("the moments of a date", &[triangle::length(n)])
        .require()?;
    let counts = |t: usize| moments.n_assets[t] > 0 && factors.row(t).iter().all(|f| f.is_finite());
    let dates: Vec<usize> = (0..n_dates).filter(|&t| counts(t)).collect();
    let used = factors.select(Axis(0), &dates);
    let mean = used
        .mean_axis(Axis(0))
        .unwrap_or_else(|| Array1::zeros(gamma.ncols()));
    let mean = Array2::from_shape_fn(used.dim(), |(_, q)| mean[q]);
    let nothing = squares(moments, &dates, gamma, (&used * 0.0).view());
    let total = squares(moments, &dates, gamma, used.view());
    let predictive = squares(moments, &dates, gamma, mean.view());
    Ok(FitMeasures {
        total: 1.0 - total.assets / nothing.assets,
        predictive: 1.0 - predictive.assets / nothing.assets,
        managed_total: 1.0 - total.managed / nothing.managed,
        managed_predictive: 1.0 - predictive.managed / nothing.managed,
    })
}

/// Sums of squared residuals over `dates`, whose factors are the rows of `factors`.
pub(super) fn squares(
    moments: &MomentsView<'_>,
    dates: &[usize],
    gamma: ArrayView2<'_, f64>,
    factors: ArrayView2<'_, f64>,
) -> Squares {
    let betas = product(factors, gamma.t());
    let mut sums = Squares::default();
    for (&date, b) in dates.iter().zip(betas.rows()) {
        check();
        let (b, cross) = (b.to_vec(), moments.cross.row(date));
        let left = unexplained(moments.gram.row(date), cross, &b);
        let explained: f64 = b
            .iter()
            .zip(cross.iter().zip(&left))
            .map(|(b, (c, e))| b * (c + e))
            .sum();
        sums.assets += moments.return_squares[date] - explained;
        let n = f64::from(moments.n_assets[date]);
        sums.managed += left.iter().map(|e| (e / n).powi(2)).sum::<f64>();
    }
    sums
}

/// `c - S b`.
fn unexplained(gram: ArrayView1<'_, f64>, cross: ArrayView1<'_, f64>, b: &[f64]) -> Vec<f64> {
    let mut out = cross.to_vec();
    let copied;
    let packed = match gram.to_slice() {
        Some(packed) => packed,
        None => {
            copied = gram.to_vec();
            &copied
        }
    };
    dispatch(triangle::SubtractProduct {
        triangle: packed,
        v: b,
        out: &mut out,
    });
    out
}
