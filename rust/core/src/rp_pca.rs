//! Risk-premium PCA: principal components that also price.
//!
//! Loadings are the leading eigenvectors of the second-moment or covariance matrix of returns plus
//! `gamma` times the outer product of the means. With `X` the panel, `rho = 1 + gamma` (second
//! moment) or `gamma (T - 1) / T` (covariance) and `d = T` or `T - 1`, that matrix is
//!
//! `M = X' [(I - 11'/T) + rho 11'/T] X / d = Y'Y / d`,
//!
//! with `Y` the centred panel on top of one more row `sqrt(rho T) mean'`. So RP-PCA of a complete
//! panel with `rho >= 0` *is* the singular value decomposition of `Y`, in the primal (`N x N`) or
//! the dual (`T + 1` square) form, whichever is smaller. A negative `rho` gives the row a negative
//! weight: [`negative`]. Missing returns leave only the primal form: [`missing`].
//!
//! Lettau and Pelger (2020), Estimating latent asset-pricing factors, Journal of Econometrics 218;
//! Lettau and Pelger (2020), Factors that fit the time series and cross-section of stock returns,
//! Review of Financial Studies 33; Xiong and Pelger (2023), Large dimensional latent factor modeling
//! with missing observations, Journal of Econometrics 233.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::stream::{Columns, Stream};
use crate::{CoreError, Real, Result, decompose, linalg, pca, shape};

mod finish;
mod missing;
mod negative;
mod regress;

pub(crate) use finish::{Along, finish};
pub(crate) use missing::least_squares;
pub use missing::project;

/// Variances below this are taken for it when assets are scaled or factors normalised.
const LEAST_VARIANCE: f64 = 1e-12;
/// Eigenvalues below this fraction of the largest are no factor.
const NO_FACTOR: f64 = 1e-13;

/// What the mean term is added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseMoment {
    /// `X'X / T`.
    SecondMoment,
    /// Centred cross-products over `T - 1`.
    Covariance,
}

/// Length of the loadings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalisation {
    /// Weights of length one.
    UnitLength,
    /// Loadings times, weights divided by the square root of the eigenvalue.
    Variance,
}

/// Settings of [`fit`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// `K`.
    pub n_factors: usize,
    /// Weight of the squared means; 0 leaves the base moment alone.
    pub gamma: f64,
    /// What the mean term is added to.
    pub base: BaseMoment,
    /// Divide every asset by its standard deviation before its moments are taken.
    pub scale_by_volatility: bool,
    /// Length of the loadings.
    pub normalisation: Normalisation,
    /// Rotate to factors that are uncorrelated in the sample.
    pub orthogonalise: bool,
}

/// A fitted RP-PCA.
///
/// Axes: `T` dates, `N` assets, `K` factors.
#[derive(Debug, Clone, PartialEq)]
pub struct RpPca {
    /// Leading eigenvalues of the moment matrix, descending, shape `(K,)`.
    pub eigenvalues: Array1<f64>,
    /// Loadings `Λ`, shape `(N, K)`; rotated along with the factors when these are orthogonalised.
    pub loadings: Array2<f64>,
    /// Portfolio weights `W` of the factors, shape `(N, K)`: a complete date has `F_t = W'r_t`.
    pub factor_weights: Array2<f64>,
    /// Factors of the sample, shape `(T, K)`, their means not negative; NaN where nothing is observed.
    pub factors: Array2<f64>,
    /// Slopes of every asset's regression on the factors and a constant, shape `(N, K)`.
    pub asset_betas: Array2<f64>,
    /// Intercepts of these regressions, return per period, shape `(N,)`.
    pub alphas: Array1<f64>,
    /// Mean squared residual of these regressions, shape `(N,)`.
    pub residual_variances: Array1<f64>,
    /// Variance of every asset around its mean, divisor `n`, shape `(N,)`.
    pub variances: Array1<f64>,
}

/// Leading eigenvectors of the moment matrix of scaled returns.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Directions {
    /// Eigenvalues, descending, shape `(K,)`.
    pub(crate) values: Array1<f64>,
    /// Orthonormal eigenvectors, shape `(N, K)`.
    pub(crate) vectors: Array2<f64>,
}

/// Fit to returns of shape `(T, N)`; what is not finite is missing.
///
/// # Errors
///
/// [`CoreError::Range`] unless `1 <= n_factors <= min(T, N)`, for a `gamma` that is not finite and a
/// covariance of one date; [`CoreError::NoData`] when an asset has no finite return;
/// [`CoreError::Rank`] when the moment matrix has fewer than `n_factors` positive eigenvalues, or
/// factors to be orthogonalised are collinear.
pub fn fit<R: Real>(returns: ArrayView2<'_, R>, settings: &Settings) -> Result<RpPca> {
    settings.check(returns.dim())?;
    pca::require_room(returns.dim(), settings.n_factors)?;
    let columns = Columns::of(returns)?;
    let scale = settings.scale(&columns);
    let directions = if columns.complete(returns.nrows()) {
        complete(returns, &columns, scale.as_ref(), settings)?
    } else {
        missing::directions(returns, &columns, scale.as_ref(), settings)?
    };
    finish(returns, columns, scale, directions, None, settings)
}

impl RpPca {
    /// Mean `(K,)` and covariance `(K, K)`, divisor `n`, of the factors over the dates that have them.
    pub fn factor_moments(&self) -> (Array1<f64>, Array2<f64>) {
        let seen = self
            .factors
            .select(Axis(0), &finish::present_rows(self.factors.view()));
        let n = seen.nrows().max(1) as f64;
        let mean = seen.sum_axis(Axis(0)) / n;
        let deviations = seen - &mean;
        let covariance = linalg::product(deviations.t(), deviations.view()) / n;
        (mean, covariance)
    }
}

impl Settings {
    pub(crate) fn check(&self, (n_dates, n_assets): (usize, usize)) -> Result<()> {
        shape::require_between("n_factors", self.n_factors, 1, n_dates.min(n_assets))?;
        shape::require_that("gamma", self.gamma.is_finite(), "finite", self.gamma)?;
        let enough = self.base == BaseMoment::SecondMoment || n_dates > 1;
        shape::require_that(
            "returns",
            enough,
            "at least 2 dates for a covariance",
            n_dates,
        )
    }

    /// `1 / sigma_i`, where assets are to be scaled.
    pub(crate) fn scale(&self, columns: &Columns) -> Option<Array1<f64>> {
        self.scale_by_volatility.then(|| {
            let variances = &columns.squares / &columns.count;
            variances.mapv(|v| v.max(LEAST_VARIANCE).sqrt().recip())
        })
    }

    /// Weight of the mean's direction relative to the others, and the divisor of all.
    pub(crate) fn weights(&self, n_dates: usize) -> (f64, f64) {
        let t = n_dates as f64;
        match self.base {
            BaseMoment::SecondMoment => (1.0 + self.gamma, t),
            BaseMoment::Covariance => (self.gamma * (t - 1.0) / t, t - 1.0),
        }
    }
}

fn complete<R: Real>(
    returns: ArrayView2<'_, R>,
    columns: &Columns,
    scale: Option<&Array1<f64>>,
    settings: &Settings,
) -> Result<Directions> {
    let n_dates = returns.nrows();
    let (rho, divisor) = settings.weights(n_dates);
    let stream = Stream {
        returns,
        mean: &columns.mean,
        scale,
        premium: (rho.abs() * n_dates as f64).sqrt(),
        exact: columns.exact(n_dates),
    };
    let found = if rho < 0.0 {
        negative::leading(&stream, settings.n_factors)?
    } else {
        let found = decompose::leading(&stream, settings.n_factors)?;
        Directions {
            values: found.values.mapv(|v| v * v),
            vectors: found.right,
        }
    };
    // Squares that cancel leave more rounding than roots do.
    let least = decompose::least(&stream);
    let least = match rho < 0.0 {
        true => least * stream.level() * -rho,
        false => least * least,
    };
    require_positive(&found.values, least)?;
    Ok(Directions {
        values: found.values / divisor,
        ..found
    })
}

/// Refuse factors that the moment matrix does not hold; eigenvalues up to `least` are rounding.
pub(crate) fn require_positive(values: &Array1<f64>, least: f64) -> Result<()> {
    let floor = least.max(NO_FACTOR * values[0]).max(0.0);
    let rank = values.iter().filter(|&&v| v > floor).count();
    if rank < values.len() {
        return Err(CoreError::Rank {
            what: "the moment matrix of returns",
            rank,
            wanted: values.len(),
        });
    }
    Ok(())
}
