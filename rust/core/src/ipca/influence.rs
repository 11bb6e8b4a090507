//! How each date moves the estimated loadings: the parts of their asymptotic variance.
//!
//! With the factors projected out, the first-order condition is `Σ_t s_t(Θ) = 0`, `s_t = e_t f̃_t'`,
//! and its derivative is minus the Hessian `H` of half the objective. To first order an estimate
//! deviates by `H⁻¹ Σ_t s_t`, the sum of one contribution for each date. The directions that the
//! factors undo are closed: deviations are those of the space that the latent loadings span, taken
//! in the basis of the estimate, and of the observed loadings orthogonal to it.
//!
//! Kelly, Pruitt, Su (2020), Instrumented principal component analysis, SSRN 2983919.

use ndarray::{Array2, Array3, ArrayView1, ArrayView2, Axis, concatenate, s};

use super::factors;
use super::gamma::{matrix, residuals};
use super::geometry::Geometry;
use super::newton::{Curvature, Workspace};
use super::problem::Problem;
use super::rotate::standardise;
use super::{MomentsView, Settings, check_inputs};
use crate::cholesky::Cholesky;
use crate::interrupt::check;
use crate::linalg::product;
use crate::rows::Rows;
use crate::{CoreError, Result, shape};

/// Contribution of every usable date to the deviation of the loadings, shape `(T_used, P, K + M)`.
///
/// `gamma`, of shape `(P, K + M)`, must solve the problem of `settings`, with orthonormal latent
/// loadings that are orthogonal to the observed ones. The sum over dates of outer products is the
/// asymptotic variance, clustered by date.
///
/// # Errors
///
/// As [`fit`](super::fit), and [`CoreError::Failed`] when the objective has no strict minimum at
/// `gamma`.
pub fn influence(
    moments: &MomentsView<'_>,
    observed: ArrayView2<'_, f64>,
    gamma: ArrayView2<'_, f64>,
    settings: &Settings,
) -> Result<Array3<f64>> {
    check_inputs(moments, observed, Some(gamma), settings)?;
    let geometry = Geometry::new(moments, settings)?;
    super::require_finite(observed, &geometry.dates)?;
    let problem = Problem::new(&geometry, moments, observed, settings.n_factors)?;
    let theta = standardise(problem.whitened(gamma), problem.n_latent);
    let theta = theta.ok_or_else(|| no_minimum("the latent loadings are collinear"))?;
    let fitted = factors::fit(&problem, &theta);
    let curvature = Curvature::at(&problem, &theta, &fitted, &mut Workspace::new(&problem));
    let hessian = curvature
        .factored()
        .ok_or_else(|| no_minimum("the Hessian is not positive definite"))?;
    let errors = residuals(&problem, &theta, &fitted);
    let basis = Basis::new(&problem, gamma, &theta)?;
    crate::memory::require(
        "influence of the dates",
        &[problem.n_dates(), gamma.nrows(), gamma.ncols()],
    )?;
    let mut out = Array3::zeros((problem.n_dates(), gamma.nrows(), gamma.ncols()));
    for (t, mut out) in out.outer_iter_mut().enumerate() {
        check();
        let change = date_change(&problem, &hessian, fitted.factors.row(t), errors.row(t));
        out.assign(&basis.identified(&problem.original(&change)));
    }
    Ok(out)
}

fn no_minimum(why: &str) -> CoreError {
    CoreError::Failed {
        what: "standard errors of IPCA",
        why: format!("the loadings are no strict minimum: {why}"),
    }
}

/// `H⁻¹ vec(e f̃')`.
fn date_change(problem: &Problem<'_>, hessian: &Cholesky, factors: &[f64], error: &[f64]) -> Rows {
    let mut score: Vec<f64> = factors
        .iter()
        .flat_map(|f| error.iter().map(move |e| f * e))
        .collect();
    hessian.solve(&mut score);
    matrix(&score, problem)
}

/// How standardised loadings become the identified ones.
struct Basis<'a> {
    latent: ArrayView2<'a, f64>,
    observed: ArrayView2<'a, f64>,
    /// Latent loadings are standardised ones times this, shape `(K, K)`.
    turn: Array2<f64>,
    /// Observed loadings are standardised ones plus standardised latent ones times this, `(K, M)`.
    shift: Array2<f64>,
}

impl<'a> Basis<'a> {
    fn new(problem: &Problem<'_>, gamma: ArrayView2<'a, f64>, theta: &Rows) -> Result<Self> {
        let (latent, observed) = gamma.split_at(Axis(1), problem.n_latent);
        let found = problem.original(theta);
        let (raw, own) = found.view().split_at(Axis(1), problem.n_latent);
        let gram = product(raw.t(), raw);
        let factor = Cholesky::new(gram.view())
            .ok_or_else(|| no_minimum("the latent loadings are collinear"))?;
        let coordinates = |target: ArrayView2<'_, f64>| {
            let mut out = product(raw.t(), target);
            for mut column in out.columns_mut() {
                let mut solution = column.to_vec();
                factor.solve(&mut solution);
                column.assign(&ArrayView1::from(&solution));
            }
            out
        };
        let turn = coordinates(latent);
        let shift = coordinates((&observed - &own).view());
        shape::require("gamma", &[found.nrows(), found.ncols()], gamma.shape())?;
        Ok(Self {
            latent,
            observed,
            turn,
            shift,
        })
    }

    /// The change `(P, K + M)` of the identified loadings for one of the standardised ones.
    fn identified(&self, change: &Array2<f64>) -> Array2<f64> {
        let k = self.latent.ncols();
        let (raw, own) = (change.slice(s![.., ..k]), change.slice(s![.., k..]));
        let latent = self.outside(product(raw, self.turn.view()));
        let mut observed = self.outside(&own + &product(raw, self.shift.view()));
        // Still orthogonal to the latent loadings once these have moved.
        let follow = product(latent.t(), self.observed);
        observed -= &product(self.latent, follow.view());
        concatenate![Axis(1), latent, observed]
    }

    /// The part orthogonal to the latent loadings.
    fn outside(&self, change: Array2<f64>) -> Array2<f64> {
        let part = product(self.latent.t(), change.view());
        &change - &product(self.latent, part.view())
    }
}
