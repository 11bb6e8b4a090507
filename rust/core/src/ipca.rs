//! Instrumented principal components (Kelly, Pruitt and Su 2019, 2020) on per-date moments.
//!
//! ```text
//! r_it = z_it'(Γ_β f_t + Γ_g g_t) + e_it
//! ```
//!
//! with `K` latent factors `f`, `M` observed factors `g` (an instrumented alpha is an observed
//! factor that is 1), and `P` instruments `z`. Least squares over assets and dates needs the
//! [`Moments`](crate::moments::Moments) alone:
//!
//! ```text
//! min Σ_t w_t [ r_t'r_t - 2 c_t'b_t + b_t'(S_t + ρ W) b_t ],    b_t = Γ_β f_t + Γ_g g_t
//! ```
//!
//! `ρ = factor_ridge + gamma_ridge / T` pseudo-assets a date, each with the pooled second moment
//! `W = Σ_t S_t / Σ_t n_t` and return zero, keep both steps regular without a scale of their own.
//!
//! | module      | what it does                                                          |
//! |-------------|-----------------------------------------------------------------------|
//! | `whiten`    | coordinates in which the pooled second moment is the identity          |
//! | `geometry`  | takes the second moments there, once for any number of return vectors  |
//! | `problem`   | cross moments, observed factors and scales in that geometry            |
//! | `factors`   | `f_t` given `Γ`, for estimation and for new dates                      |
//! | `gamma`     | `Γ` given `f_t`; residuals and first-order conditions                  |
//! | `newton`    | second-order steps with the factors projected out                      |
//! | `descent`   | alternating sweeps, then Newton, with safeguards and stopping rule     |
//! | `certificate` | what shows that the loadings solve the problem                       |
//! | `rotate`    | the identified form                                                    |
//! | `measures`  | coefficients of determination                                          |
//! | `bootstrap` | tests of loadings by the residual wild bootstrap                       |
//! | `influence` | what each date contributes to the variance of the loadings             |
//!
//! Kelly, Pruitt, Su (2019), Characteristics are covariances, JFE 134(3), 501-524.
//! Golub, Pereyra (2003), Separable nonlinear least squares, Inverse Problems 19, R1-R26.

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, concatenate};

use crate::memory::{self, Arrays};
use crate::moments::Moments;
use crate::{CoreError, Result, shape};

mod bootstrap;
mod certificate;
mod descent;
mod factors;
mod gamma;
mod geometry;
mod influence;
mod measures;
mod newton;
mod problem;
mod rotate;
mod small;
mod triangle;
mod whiten;

pub use bootstrap::{Noise, bootstrap, bootstrap_noise};
pub use certificate::{Certificate, Stopping};
pub use factors::{Loadings, realised_factors};
pub use influence::influence;
pub use measures::{FitMeasures, fit_measures};
pub use rotate::{Identified, identify};

use descent::Descent;
use geometry::Geometry;
use problem::Problem;

/// Observed factors beyond this have squares that overflow when two are multiplied.
const LARGEST_OBSERVED: f64 = 1e75;

/// Moments of `T` dates over `P` instruments, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct MomentsView<'a> {
    /// Usable rows, shape `(T,)`.
    pub n_assets: ArrayView1<'a, u32>,
    /// Upper triangles of `Z_t'Z_t` row by row, shape `(T, P (P + 1) / 2)`.
    pub gram: ArrayView2<'a, f64>,
    /// `Z_t'r_t`, shape `(T, P)`.
    pub cross: ArrayView2<'a, f64>,
    /// `r_t'r_t`, shape `(T,)`.
    pub return_squares: ArrayView1<'a, f64>,
}

impl<'a> From<&'a Moments> for MomentsView<'a> {
    fn from(moments: &'a Moments) -> Self {
        Self {
            n_assets: moments.n_assets.view(),
            gram: moments.gram.view(),
            cross: moments.cross.view(),
            return_squares: moments.return_squares.view(),
        }
    }
}

impl MomentsView<'_> {
    fn check(&self) -> Result<()> {
        let (n_dates, n) = self.cross.dim();
        shape::require_that("the number of instruments", n > 0, "at least 1", n)?;
        shape::require("gram", &[n_dates, triangle::length(n)], self.gram.shape())?;
        shape::require("n_assets", &[n_dates], self.n_assets.shape())?;
        shape::require("return_squares", &[n_dates], self.return_squares.shape())
    }
}

/// How dates weigh against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weighting {
    /// Every asset counts the same.
    Panel,
    /// Every date counts the same: `w_t = 1 / n_t`.
    Portfolio,
}

/// Settings of [`fit`].
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `K`: 1 to `P`, or 0 with observed factors.
    pub n_factors: usize,
    /// Bound on the step of the identified loadings and on both first-order conditions.
    pub tol: f64,
    /// Most sweeps, alternating and Newton together.
    pub max_iter: usize,
    /// Pseudo-assets a date.
    pub factor_ridge: f64,
    /// Pseudo-assets over all dates.
    pub gamma_ridge: f64,
    /// How dates weigh against each other.
    pub weighting: Weighting,
    /// Dates with fewer usable rows are left out.
    pub min_assets: usize,
    /// Directions with less than this share of the largest eigenvalue of the instruments' pooled
    /// correlation matrix, about their means where a constant leads, count as spanned by no date. It must exceed the relative error of the
    /// second moments: about 1e-15, or 1e-7 when they were computed in single precision.
    pub rank_tolerance: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            n_factors: 1,
            tol: 1e-6,
            max_iter: 500,
            factor_ridge: 1e-6,
            gamma_ridge: 1e-6,
            weighting: Weighting::Panel,
            min_assets: 2,
            rank_tolerance: 1e-11,
        }
    }
}

impl Settings {
    fn check(&self, n_instruments: usize, n_observed: usize) -> Result<()> {
        let least = usize::from(n_observed == 0);
        shape::require_between("n_factors", self.n_factors, least, n_instruments)?;
        let positive = self.tol > 0.0 && self.tol.is_finite();
        shape::require_that("tol", positive, "positive and finite", self.tol)?;
        shape::require_between("max_iter", self.max_iter, 1, usize::MAX)?;
        for (what, ridge) in [
            ("factor_ridge", self.factor_ridge),
            ("gamma_ridge", self.gamma_ridge),
        ] {
            let holds = ridge >= 0.0 && ridge.is_finite();
            shape::require_that(what, holds, "at least 0 and finite", ridge)?;
        }
        let share = (0.0..1.0).contains(&self.rank_tolerance);
        shape::require_that("rank_tolerance", share, "in [0, 1)", self.rank_tolerance)?;
        shape::require_between("min_assets", self.min_assets, 1, usize::MAX)
    }
}

/// Estimated loadings and factors in the identified form, with the evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// `Γ_β`, shape `(P, K)`: orthonormal columns.
    pub gamma: Array2<f64>,
    /// `Γ_g`, shape `(P, M)`: orthogonal to `Γ_β`.
    pub gamma_observed: Array2<f64>,
    /// `f_t` of the dates used, shape `(T_used, K)`: second moment diagonal and descending, means
    /// not negative.
    pub factors: Array2<f64>,
    /// Which dates had enough assets, ascending, shape `(T_used,)`.
    pub dates_used: Vec<usize>,
    /// `W`, shape `(P, P)`.
    pub instrument_second_moment: Array2<f64>,
    /// `ρ`: pseudo-assets a date.
    pub ridge: f64,
    /// Instruments that take part in directions that no date spans, ascending.
    pub unidentified: Vec<usize>,
    /// The evidence.
    pub certificate: Certificate,
}

/// Estimate `K` latent factors next to `M` observed ones.
///
/// `observed` is `(T, M)`, with `M = 0` for none. `start` holds loadings `(P, K + M)`; without it the
/// start comes from the data. After at least three sweeps of alternating least squares Newton steps
/// finish the job. Sums over dates run in a fixed order: the result does not depend on the number of
/// threads.
///
/// # Errors
///
/// [`CoreError::Shape`] and [`CoreError::Range`] for arguments that make no sense, and for sums of
/// squares or observed factors that are not finite, or too large, at a date that counts,
/// [`CoreError::EmptySample`] when no date has `min_assets` rows, [`CoreError::Rank`] when
/// instruments, dates or returns do not carry this many factors, or observed ones are collinear.
pub fn fit(
    moments: &MomentsView<'_>,
    observed: ArrayView2<'_, f64>,
    start: Option<ArrayView2<'_, f64>>,
    settings: &Settings,
) -> Result<Solution> {
    check_inputs(moments, observed, start, settings)?;
    let geometry = Geometry::new(moments, settings)?;
    require_finite(observed, &geometry.dates)?;
    let problem = Problem::new(&geometry, moments, observed, settings.n_factors)?;
    let starts = match start {
        Some(start) => vec![problem.whitened(start)],
        None => problem.starts()?,
    };
    let descent = descent::minimise(&problem, starts, settings)?;
    finish(moments, observed, &problem, descent)
}

/// Refuse shapes and settings that make no sense; `start` holds loadings.
fn check_inputs(
    moments: &MomentsView<'_>,
    observed: ArrayView2<'_, f64>,
    start: Option<ArrayView2<'_, f64>>,
    settings: &Settings,
) -> Result<()> {
    moments.check()?;
    let (n_dates, n) = moments.cross.dim();
    let m = observed.ncols();
    shape::require("observed", &[n_dates, m], observed.shape())?;
    settings.check(n, m)?;
    room(n_dates, n, settings.n_factors + m).require()?;
    if let Some(start) = start {
        shape::require("start", &[n, settings.n_factors + m], start.shape())?;
        let finite = start.iter().all(|value| value.is_finite());
        shape::require_that("start", finite, "finite", "NaN or infinity")?;
    }
    Ok(())
}

/// What an estimation takes beside the moments.
fn room(n_dates: usize, n: usize, n_columns: usize) -> Arrays {
    let (pairs, own) = (memory::triangle(n), memory::triangle(n_columns));
    let side = n.saturating_mul(n_columns);
    Arrays::new()
        .times(2, "whitened second moments", &[n_dates, pairs])
        .times(
            2,
            "derivatives by date",
            &[n_dates.min(2 * newton::BLOCK), side, n_columns],
        )
        .times(16, "cross moments by date", &[n_dates, n + 8])
        .times(4, "factors by date", &[n_dates, own + 8])
        .times(2, "second moments by pair of factors", &[own + 8, pairs])
        .times(5, "the Hessian", &[side, side])
        .times(
            12 + 4 * memory::n_threads(),
            "second moments of a date",
            &[n, n + 8],
        )
}

fn require_finite(observed: ArrayView2<'_, f64>, dates: &[usize]) -> Result<()> {
    let cells = dates.iter().flat_map(|&date| {
        let row = observed.row(date).into_iter().enumerate();
        row.map(move |(m, &value)| (date, m, value))
    });
    // Squares are summed.
    match cells
        .into_iter()
        .find(|(_, _, value)| value.is_nan() || value.abs() > LARGEST_OBSERVED)
    {
        None => Ok(()),
        Some((date, m, value)) => Err(CoreError::Range {
            what: "observed",
            rule: format!("finite and at most {LARGEST_OBSERVED:e} in size at every date used"),
            got: format!("{value:e} at date {date}, factor {m}"),
        }),
    }
}

/// Factors for the final loadings, in the identified form, and the certificate.
fn finish(
    moments: &MomentsView<'_>,
    observed: ArrayView2<'_, f64>,
    problem: &Problem<'_>,
    descent: Descent,
) -> Result<Solution> {
    let geometry = problem.geometry;
    let gamma = problem.original(&descent.theta);
    let (latent, own) = gamma.view().split_at(Axis(1), problem.n_latent);
    let (latent, gamma_observed) = rotate::orthogonalise(latent, own)?;
    let loadings = Loadings {
        latent: latent.view(),
        observed: gamma_observed.view(),
        ridge: geometry.ridge,
        second_moment: geometry.second_moment.view(),
    };
    let factors = realised_factors(moments, &loadings, observed)?;
    let factors = factors.select(Axis(0), &geometry.dates);
    let (latent, _) = rotate::principal_axes(latent.view(), factors.view())?;
    let loadings = Loadings {
        latent: latent.view(),
        ..loadings
    };
    // Once more in the final basis, so that the factor step alone gives the same bits.
    let factors_all = realised_factors(moments, &loadings, observed)?;
    let factors = factors_all.select(Axis(0), &geometry.dates);
    let both = concatenate![Axis(1), latent, gamma_observed];
    let paths = concatenate![Axis(1), factors, observed.select(Axis(0), &geometry.dates)];
    let ssr = measures::squares(moments, &geometry.dates, both.view(), paths.view()).assets;
    let certificate = certificate::certify(problem, &descent, ssr);
    Ok(Solution {
        gamma: latent,
        gamma_observed,
        factors,
        dates_used: geometry.dates.clone(),
        instrument_second_moment: geometry.second_moment.clone(),
        ridge: geometry.ridge,
        unidentified: geometry.unidentified.clone(),
        certificate,
    })
}
