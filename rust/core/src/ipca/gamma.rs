//! The loadings step: the pooled regression of returns on instruments times factors.

use ndarray::{Array2, ArrayView2};

use super::factors::Fitted;
use super::problem::Problem;
use super::triangle;
use crate::cholesky::Cholesky;
use crate::dispatch::dispatch;
use crate::interrupt::check;
use crate::rows::{Rows, product};
use crate::{CoreError, Result};

/// Weight of the present loadings where the factors leave others undetermined, in units of the
/// normal matrix's mean diagonal entry.
const PROXIMAL: f64 = 1e-10;
/// After these the shift is as large as the matrix.
const MOST_SHIFTS: usize = 11;

/// The loadings that suit the factors best, and the condition of the normal matrix.
pub(super) struct Step {
    pub(super) theta: Rows,
    pub(super) condition: f64,
}

/// Solve `[Σ_t S_t ⊗ f̃_t f̃_t'] vec Θ = vec Σ_t c_t f̃_t'`.
///
/// Where factors are collinear the solution nearest to the present loadings is taken.
pub(super) fn step(problem: &Problem<'_>, theta: &Rows, fitted: &Fitted) -> Result<Step> {
    let mut normal = normal_matrix(problem, &fitted.factors);
    let pull = product(fitted.factors.down(), &problem.cross);
    if let Some(factor) = Cholesky::new(normal.view()) {
        let mut solution = vectorised(&pull);
        factor.solve(&mut solution);
        if solution.iter().all(|value| value.is_finite()) {
            let theta = matrix(&solution, problem);
            return Ok(Step {
                theta,
                condition: factor.condition(),
            });
        }
    }
    let factor = nearly(&mut normal)?;
    let mut change = vectorised(&gradient(problem, theta, fitted));
    factor.solve(&mut change);
    let change = matrix(&change, problem);
    let theta = Rows::from_fn(theta.n_rows(), theta.n_cols(), |q, i| {
        theta.row(q)[i] + change.row(q)[i]
    });
    Ok(Step {
        theta,
        condition: f64::INFINITY,
    })
}

/// Factor of the matrix with as small a multiple of the identity added as makes it definite.
fn nearly(normal: &mut Array2<f64>) -> Result<Cholesky> {
    let mut shift = PROXIMAL * mean_diagonal(normal.view());
    for _ in 0..MOST_SHIFTS {
        normal
            .diag_mut()
            .iter_mut()
            .for_each(|value| *value += shift);
        if let Some(factor) = Cholesky::new(normal.view()) {
            return Ok(factor);
        }
        shift *= 10.0;
    }
    Err(CoreError::Failed {
        what: "loadings step of IPCA",
        why: "the second moments are not those of a panel: they are indefinite".to_owned(),
    })
}

/// Pooled regression on the observed factors alone, shape `(M, R)`.
pub(super) fn observed_only(problem: &Problem<'_>) -> Result<Rows> {
    let normal = normal_matrix(problem, &problem.observed);
    let factor = Cholesky::new(normal.view()).ok_or_else(|| CoreError::Failed {
        what: "regression on observed factors",
        why: "the normal matrix is singular".to_owned(),
    })?;
    let mut solution = vectorised(&product(problem.observed.down(), &problem.cross));
    factor.solve(&mut solution);
    let rank = problem.rank();
    Ok(Rows::from_fn(problem.observed.n_cols(), rank, |m, i| {
        solution[m * rank + i]
    }))
}

/// `Σ_t S_t ⊗ f f'`, rows and columns ordered by factor, then instrument; lower triangle only.
fn normal_matrix(problem: &Problem<'_>, factors: &Rows) -> Array2<f64> {
    let (q, rank) = (factors.n_cols(), problem.rank());
    let sums = product(
        triangle::outer_products(factors).down(),
        &problem.geometry.stack,
    );
    let mut out = Array2::zeros((q * rank, q * rank));
    for_each_block(q, |a, b, pair| {
        check();
        add_block(&mut out, rank, (a, b), sums.row(pair))
    });
    out
}

/// Call with every factor pair `a >= b` and where it is kept in a triangle.
pub(super) fn for_each_block(q: usize, mut visit: impl FnMut(usize, usize, usize)) {
    for a in 0..q {
        for b in 0..=a {
            visit(a, b, triangle::at(q, a, b));
        }
    }
}

/// Write the symmetric block of a factor pair.
pub(super) fn add_block(
    out: &mut Array2<f64>,
    rank: usize,
    (a, b): (usize, usize),
    packed: &[f64],
) {
    let mut rest = packed;
    for i in 0..rank {
        let (row, tail) = rest.split_at(rank - i);
        rest = tail;
        for (j, &value) in (i..rank).zip(row) {
            out[[a * rank + j, b * rank + i]] += value;
            if a != b && i != j {
                out[[a * rank + i, b * rank + j]] += value;
            }
        }
    }
}

/// `e_t = c_t - S_t Θ f̃_t`, shape `(T, R)`.
pub(super) fn residuals(problem: &Problem<'_>, theta: &Rows, fitted: &Fitted) -> Rows {
    let explained = product(fitted.factors.across(), theta);
    let mut out = problem.cross.clone();
    for t in 0..problem.n_dates() {
        check();
        subtract_product(problem, t, explained.row(t), out.row_mut(t));
    }
    out
}

/// `out -= S_t v`.
pub(super) fn subtract_product(problem: &Problem<'_>, t: usize, v: &[f64], out: &mut [f64]) {
    dispatch(triangle::SubtractProduct {
        triangle: problem.geometry.stack.row(t),
        v,
        out,
    });
}

/// `Σ_t f̃_t e_t'`, shape `(K + M, R)`: minus half the derivative of the objective.
fn gradient(problem: &Problem<'_>, theta: &Rows, fitted: &Fitted) -> Rows {
    product(fitted.factors.down(), &residuals(problem, theta, fitted))
}

/// Relative norms of both first-order conditions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conditions {
    /// `‖Σ_t e_t f̃_t'‖ / ‖Σ_t c_t f̃_t'‖`.
    pub(super) gamma: f64,
    /// `‖Γ_β'e‖ / ‖Γ_β'c‖` over all dates.
    pub(super) factors: f64,
}

pub(super) fn conditions(problem: &Problem<'_>, theta: &Rows, fitted: &Fitted) -> Conditions {
    let residuals = residuals(problem, theta, fitted);
    let loadings = theta.transposed();
    let over_latent = |rows: &Rows| -> f64 {
        let pull = product(rows.across(), &loadings);
        pull.iter()
            .flat_map(|row| &row[..problem.n_latent])
            .map(|v| v * v)
            .sum::<f64>()
            .sqrt()
    };
    let over_gamma = |rows: &Rows| norm(&product(fitted.factors.down(), rows));
    Conditions {
        gamma: ratio(over_gamma(&residuals), over_gamma(&problem.cross)),
        factors: ratio(over_latent(&residuals), over_latent(&problem.cross)),
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if part == 0.0 { 0.0 } else { part / whole }
}

pub(super) fn norm(rows: &Rows) -> f64 {
    rows.flat().iter().map(|v| v * v).sum::<f64>().sqrt()
}

pub(super) fn mean_diagonal(a: ArrayView2<'_, f64>) -> f64 {
    a.diag().sum() / a.nrows().max(1) as f64
}

pub(super) fn vectorised(rows: &Rows) -> Vec<f64> {
    rows.iter().flatten().copied().collect()
}

pub(super) fn matrix(vector: &[f64], problem: &Problem<'_>) -> Rows {
    let rank = problem.rank();
    Rows::from_fn(problem.n_columns(), rank, |q, i| vector[q * rank + i])
}
