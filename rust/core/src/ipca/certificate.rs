//! Evidence that loadings solve the estimation problem.

use ndarray::ArrayView1;

use super::descent::Descent;
use super::factors::Date;
use super::problem::Problem;
use super::small;

/// Why the sweeps ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopping {
    /// Step, predicted remaining distance and both first-order conditions are within tolerance.
    Converged,
    /// `max_iter` sweeps were not enough.
    MaxIterations,
}

/// Evidence that the loadings solve the problem, or that they do not.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificate {
    /// Why the sweeps ended; nothing but [`Stopping::Converged`] is convergence.
    pub stopping: Stopping,
    /// `‖Σ_t e_t f̃_t'‖ / ‖Σ_t c_t f̃_t'‖` in whitened instruments, with `e_t = c_t - S_t Γ f̃_t`.
    pub gamma_condition: f64,
    /// `‖Γ_β'e‖ / ‖Γ_β'c‖` over all dates, in whitened instruments.
    pub factor_condition: f64,
    /// Last step: the largest of `‖(I - P P')Q‖` between the spans of `Γ_β` in original and in
    /// whitened instruments and of the relative change of `Γ_g`.
    pub subspace_step: f64,
    /// Fall of the objective in the last sweep, relative to the sum of squared returns.
    pub objective_delta: f64,
    /// Largest change of `Γ mean(f̃)` in the last sweep: return per period for one unit of an
    /// instrument.
    pub forecast_delta: f64,
    /// Sweeps of alternating least squares.
    pub n_als: usize,
    /// Newton steps.
    pub n_newton: usize,
    /// Ridged and weighted sum of squared residuals, relative to that of returns.
    pub objective: f64,
    /// Sum of squared residuals over the dates used, without ridge and weights, return units squared.
    pub ssr: f64,
    /// Condition number (1-norm estimate) of the last matrix solved for the loadings; infinite when
    /// the factors were collinear.
    pub normal_condition: f64,
    /// Largest condition number (1-norm) of `Γ_β'S_tΓ_β`, ridge included.
    pub date_condition: f64,
    /// Dates whose `Γ_β'S_tΓ_β` is numerically singular without the ridge.
    pub n_singular_dates: usize,
    /// Directions of the instruments that no date spans; `Γ` is zero along them.
    pub n_unidentified: usize,
    /// Whether no sweep raised the objective beyond rounding.
    pub monotone: bool,
    /// `objective` at the start and after each sweep.
    pub objectives: Vec<f64>,
    /// `subspace_step` of each sweep.
    pub steps: Vec<f64>,
}

/// Collect the evidence; `ssr` is in squared return units.
pub(super) fn certify(problem: &Problem<'_>, descent: &Descent, ssr: f64) -> Certificate {
    let (date_condition, n_singular_dates) = date_conditions(problem, descent);
    let geometry = problem.geometry;
    Certificate {
        stopping: descent.stopping,
        gamma_condition: descent.conditions.gamma,
        factor_condition: descent.conditions.factors,
        subspace_step: descent.step,
        objective_delta: descent.changes.objective,
        forecast_delta: forecast_delta(problem, descent),
        n_als: descent.n_als,
        n_newton: descent.n_newton,
        objective: descent.fitted.objective,
        ssr,
        normal_condition: descent.condition,
        date_condition,
        n_singular_dates,
        n_unidentified: geometry.to_raw.nrows() - geometry.rank(),
        monotone: descent.monotone,
        objectives: descent.trace.objectives.clone(),
        steps: descent.trace.steps.clone(),
    }
}

/// Largest condition number of a date's matrix, and how many are singular but for the ridge.
fn date_conditions(problem: &Problem<'_>, descent: &Descent) -> (f64, usize) {
    let (k, geometry) = (problem.n_latent, problem.geometry);
    let mut date = Date::standardised(problem);
    let (mut largest, mut n_singular) = (1.0_f64, 0);
    for t in 0..problem.n_dates() {
        let (inner, mass) = (descent.fitted.inner.row(t), geometry.masses[t]);
        let norm = small::one_norm(date.latent(inner), k);
        let (inverse, regular) = date.invert(inner, mass);
        let condition = if regular {
            norm * small::one_norm(inverse, k)
        } else {
            f64::INFINITY
        };
        largest = largest.max(condition);
        let ridge = geometry.weights[t] * geometry.ridge;
        n_singular += usize::from(date.is_singular_without(ridge, inner, mass));
    }
    (largest, n_singular)
}

fn forecast_delta(problem: &Problem<'_>, descent: &Descent) -> f64 {
    let change = problem
        .geometry
        .to_raw
        .dot(&ArrayView1::from(&descent.changes.forecast));
    change
        .iter()
        .fold(0.0, |largest: f64, v| largest.max(v.abs()))
        * problem.return_scale
}
