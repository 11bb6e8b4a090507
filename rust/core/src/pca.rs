//! Principal components of a panel of returns.
//!
//! Loadings are the leading right singular vectors of the panel after every asset's mean is taken
//! out and missing returns are set to that mean, or completed by the factors ([`fit_completed`]). Factors are the *raw* returns times the loadings,
//! so that they carry the premium that the means hold.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

use crate::krylov::NARROW;
use crate::memory::{self, Arrays};
use crate::stream::{Columns, LARGEST_BLOCK, MAX_PARTS, Stream};
use crate::{Real, Result, decompose, shape};

mod gaps;

pub use gaps::{fit_completed, project_completed};

/// A mean below this fraction of a factor's root mean square has no sign to go by.
const NO_MEAN: f64 = 1e-10;
/// Loadings this close to the largest in size count as equal to it.
const TIE: f64 = 1.0 - 1e-9;

/// Leading factors of a panel.
///
/// Axes: `T` dates, `N` assets, `K` factors.
#[derive(Debug, Clone, PartialEq)]
pub struct Pca {
    /// Mean of every asset's finite returns, shape `(N,)`.
    pub mean: Array1<f64>,
    /// Orthonormal loadings, shape `(N, K)`; each factor's mean is not negative.
    pub loadings: Array2<f64>,
    /// Raw returns times loadings, missing returns at their asset's mean, shape `(T, K)`.
    pub factors: Array2<f64>,
    /// Singular values of the centred panel in descending order, shape `(K,)`.
    pub singular_values: Array1<f64>,
    /// Share of the centred panel's sum of squares that each factor explains, shape `(K,)`.
    pub explained_variance_ratio: Array1<f64>,
    /// How far the last round moved the missing returns, relative to the panel; 0 where nothing is
    /// missing, or missing returns count as means.
    pub step: f64,
}

/// What becomes of missing returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// They count as the mean of their asset.
    Mean,
    /// The factors complete them.
    Completed,
}

/// [`fit`] or [`fit_completed`].
///
/// # Errors
///
/// As these.
pub fn fit_with<R: Real>(
    returns: ArrayView2<'_, R>,
    n_factors: usize,
    missing: Missing,
) -> Result<Pca> {
    match missing {
        Missing::Mean => fit(returns, n_factors),
        Missing::Completed => fit_completed(returns, n_factors),
    }
}

/// Fit `n_factors` factors to returns of shape `(T, N)`; what is not finite is missing.
///
/// # Errors
///
/// [`crate::CoreError::Range`] unless `1 <= n_factors <= min(T, N)`; [`crate::CoreError::NoData`]
/// when an asset has no finite return; [`crate::CoreError::Rank`] when the centred panel has a rank
/// below `n_factors`.
pub fn fit<R: Real>(returns: ArrayView2<'_, R>, n_factors: usize) -> Result<Pca> {
    let (n_dates, n_assets) = returns.dim();
    shape::require_between("n_factors", n_factors, 1, n_dates.min(n_assets))?;
    require_room(returns.dim(), n_factors)?;
    let columns = Columns::of(returns)?;
    let stream = Stream {
        exact: columns.exact(n_dates),
        ..Stream::plain(returns, &columns.mean)
    };
    let found = decompose::leading(&stream, n_factors)?;
    let total = columns.squares.sum();
    Ok(pinned(
        columns.mean,
        found.right,
        found.scores,
        found.values,
        total,
    ))
}

/// Refuse a panel whose factors, loadings and sums by part cannot be had.
pub(crate) fn require_room((n_dates, n_assets): (usize, usize), n_factors: usize) -> Result<()> {
    let short = n_dates.min(n_assets);
    Arrays::new()
        .times(6, "factors", &[n_dates, n_factors])
        .times(6, "loadings", &[n_assets, n_factors])
        .times(8, "means of the assets", &[n_assets])
        .times(
            MAX_PARTS + 2,
            "sums of a part",
            &[short, n_factors.max(NARROW)],
        )
        .times(
            memory::n_threads(),
            "a block of returns",
            &[LARGEST_BLOCK.max(16 * short)],
        )
        .require()
}

/// Add the premia to the centred factors and pin the signs; `total` is the panel's sum of squares.
pub(crate) fn pinned(
    mean: Array1<f64>,
    mut loadings: Array2<f64>,
    deviations: Array2<f64>,
    singular_values: Array1<f64>,
    total: f64,
) -> Pca {
    let premia = mean.dot(&loadings);
    let signs = signs(premia.view(), deviations.view(), loadings.view());
    loadings *= &signs;
    Pca {
        mean,
        loadings,
        factors: (deviations + premia) * signs,
        explained_variance_ratio: singular_values.mapv(|v| v * v / total),
        singular_values,
        step: 0.0,
    }
}

/// Factors of returns `(T, N)` that may be new: missing ones count as the asset's mean.
///
/// # Errors
///
/// [`crate::CoreError::Shape`] when the arrays disagree on `N`, [`crate::CoreError::Range`] when the
/// loadings hold no factor.
pub fn project<R: Real>(
    returns: ArrayView2<'_, R>,
    mean: ArrayView1<'_, f64>,
    loadings: ArrayView2<'_, f64>,
) -> Result<Array2<f64>> {
    let (n_dates, n_assets) = (returns.nrows(), mean.len());
    shape::require("returns", &[n_dates, n_assets], returns.shape())?;
    shape::require("loadings", &[n_assets, loadings.ncols()], loadings.shape())?;
    let n_factors = loadings.ncols();
    shape::require_that(
        "columns of loadings",
        n_factors > 0,
        "at least 1",
        n_factors,
    )?;
    require_room(returns.dim(), loadings.ncols())?;
    // Whatever the strides of the view: an owned copy of it would keep them.
    let mean: Array1<f64> = mean.iter().copied().collect();
    let premia = mean.dot(&loadings);
    Ok(Stream::plain(returns, &mean).times(loadings) + premia)
}

/// Signs that make every factor's mean positive, or its largest loading where the mean is nothing.
///
/// `premia` (K,) are the means, `deviations` (T, K) the factors without them.
pub(crate) fn signs(
    premia: ArrayView1<'_, f64>,
    deviations: ArrayView2<'_, f64>,
    loadings: ArrayView2<'_, f64>,
) -> Array1<f64> {
    let n_dates = deviations.nrows().max(1) as f64;
    Array1::from_shape_fn(premia.len(), |k| {
        let spread = deviations.column(k).fold(0.0, |sum, v| sum + v * v) / n_dates;
        let negative = if premia[k].abs() > NO_MEAN * (spread + premia[k] * premia[k]).sqrt() {
            premia[k] < 0.0
        } else {
            largest(loadings.index_axis(Axis(1), k)) < 0.0
        };
        if negative { -1.0 } else { 1.0 }
    })
}

/// The entry of largest size; of several as large, the first.
fn largest(column: ArrayView1<'_, f64>) -> f64 {
    let top = column.fold(0.0_f64, |top, v| top.max(v.abs()));
    let found = column.iter().find(|v| v.abs() >= TIE * top);
    found.copied().unwrap_or(0.0)
}
