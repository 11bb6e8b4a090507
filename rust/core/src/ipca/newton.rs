//! Newton steps on the loadings with the factors projected out.
//!
//! With `A_t = Θ_β'S_tΘ_β`, `H_t = S_tΘ_β`, `U_t = H_t A_t⁻¹` and `e_t = c_t - S_tΘ f̃_t`, half the
//! objective has gradient `-Σ e_t f̃_t'` and, with `B_t df = H_t df f̃_t' - e_t [df; 0]'`, Hessian
//! `Σ S_t ⊗ f̃_t f̃_t' - Σ B_t A_t⁻¹ B_t'`. Written out, that is
//!
//! ```text
//! Σ (S_t - U_t H_t') ⊗ f̃_t f̃_t' + C + C',    C = Σ V_t e_t',
//! V_t[(p, q), k] = U_t[p, k] f̃_t[q] - ½ e_t[p] A_t⁻¹[q, k]  (second part for latent q only)
//! ```
//!
//! so that two products over dates give it.

use ndarray::Array2;
use ndarray::parallel::prelude::*;

use super::factors::{Date, Fitted};
use super::gamma::{add_block, for_each_block, matrix, residuals, vectorised};
use super::problem::Problem;
use super::triangle;
use crate::cholesky::Cholesky;
use crate::dispatch::{InstructionSet, Kernel, dispatch};
use crate::rows::{Rows, add_product_here, product};

/// Dates that one task works on.
const TASK: usize = 16;

/// Second-order model of half the objective around standardised loadings.
pub(super) struct Curvature {
    /// Closed along the directions that the factors can undo; lower triangle only.
    hessian: Array2<f64>,
    /// Marquardt's scale: `Σ_t (tr S_t / R) f̃_t f̃_t'` on every instrument.
    scale: Rows,
    /// Minus the gradient.
    descent: Vec<f64>,
    rank: usize,
}

impl Curvature {
    pub(super) fn at(problem: &Problem<'_>, theta: &Rows, fitted: &Fitted) -> Self {
        let rank = problem.rank();
        let residuals = residuals(problem, theta, fitted);
        let scale = marquardt_scale(problem, fitted);
        let (remainders, mixed) = date_terms(problem, theta, fitted, &residuals);
        let pairs = triangle::outer_products(&fitted.factors);
        let own = product(pairs.down(), &remainders);
        let cross = product(residuals.down(), &mixed);
        let n = problem.n_columns();
        let mut hessian = Array2::zeros((n * rank, n * rank));
        for_each_block(n, |a, b, pair| {
            add_block(&mut hessian, rank, (a, b), own.row(pair));
            add_cross(&mut hessian, problem, (a, b), &cross);
        });
        let descent = vectorised(&product(fitted.factors.down(), &residuals));
        let mut curvature = Self {
            hessian,
            scale,
            descent,
            rank,
        };
        curvature.close(theta, problem.n_latent);
        curvature
    }

    /// Give the directions `Θ_β Ω`, along which nothing changes, the curvature of the others.
    fn close(&mut self, theta: &Rows, n_latent: usize) {
        let rank = self.rank;
        let latent = Rows::from_fn(n_latent, rank, |k, i| theta.row(k)[i]);
        let projector = product(latent.down(), &latent);
        for_each_block(self.scale.n_rows(), |a, b, _| {
            let scale = self.scale.row(a)[b];
            for i in 0..rank {
                for (j, &cell) in projector.row(i).iter().enumerate() {
                    self.hessian[[a * rank + i, b * rank + j]] += scale * cell;
                }
            }
        });
    }

    /// Change of the loadings under Levenberg-Marquardt damping; `None` when the damped Hessian is
    /// not positive definite.
    pub(super) fn step(&self, damping: f64, problem: &Problem<'_>) -> Option<(Rows, f64)> {
        let factor = if damping == 0.0 {
            Cholesky::new(self.hessian.view())?
        } else {
            let mut damped = self.hessian.clone();
            for_each_block(self.scale.n_rows(), |a, b, _| {
                for i in 0..self.rank {
                    damped[[a * self.rank + i, b * self.rank + i]] +=
                        damping * self.scale.row(a)[b];
                }
            });
            Cholesky::new(damped.view())?
        };
        let mut change = self.descent.clone();
        factor.solve(&mut change);
        let finite = change.iter().all(|value| value.is_finite());
        finite.then(|| (matrix(&change, problem), factor.condition()))
    }
}

fn marquardt_scale(problem: &Problem<'_>, fitted: &Fitted) -> Rows {
    let rank = problem.rank();
    let mut weighted = fitted.factors.clone();
    for t in 0..problem.n_dates() {
        let stack = problem.geometry.stack.row(t);
        let trace: f64 = (0..rank).map(|i| stack[triangle::start(rank, i)]).sum();
        weighted
            .row_mut(t)
            .iter_mut()
            .for_each(|value| *value *= trace / rank as f64);
    }
    product(weighted.down(), &fitted.factors)
}

/// Triangles of `S_t - U_t H_t'`, shape `(T, R (R + 1) / 2)`, and `V_t`, shape `(T, (K + M) K R)`.
fn date_terms(
    problem: &Problem<'_>,
    theta: &Rows,
    fitted: &Fitted,
    residuals: &Rows,
) -> (Rows, Rows) {
    let (rank, k, n) = (problem.rank(), problem.n_latent, problem.n_columns());
    let latent = Rows::from_fn(k, rank, |k, i| theta.row(k)[i]);
    let mut remainders = problem.geometry.stack.clone();
    let mut mixed = Rows::zeros(problem.n_dates(), n * k * rank);
    let (first, second) = (remainders.stride(), mixed.stride().max(1));
    let blocks = remainders
        .blocks_mut(TASK)
        .zip(mixed.blocks_mut(TASK))
        .enumerate();
    blocks.for_each(|(block, (remainders, mixed))| {
        let (mut full, mut h) = (Rows::zeros(rank, rank), Rows::zeros(k, rank));
        let mut u = h.clone();
        let mut date = Date::standardised(problem);
        let outputs = remainders
            .chunks_exact_mut(first)
            .zip(mixed.chunks_exact_mut(second));
        for ((remainder, mixed), t) in outputs.zip(block * TASK..) {
            triangle::unfold(&remainder[..triangle::length(rank)], &mut full);
            h.flat_mut().fill(0.0);
            add_product_here(latent.across(), &full, &mut h);
            let (inverse, _) = date.invert(fitted.inner.row(t), problem.geometry.masses[t]);
            let (factors, residual) = (fitted.factors.row(t), residuals.row(t));
            dispatch(DateTerms {
                inverse,
                factors,
                residual,
                h: &h,
                u: &mut u,
                remainder,
                mixed,
            });
        }
    });
    (remainders, mixed)
}

struct DateTerms<'a> {
    /// `A⁻¹`.
    inverse: &'a [f64],
    /// `f̃`.
    factors: &'a [f64],
    /// `e`.
    residual: &'a [f64],
    /// `H'`.
    h: &'a Rows,
    /// `U'`, overwritten.
    u: &'a mut Rows,
    /// The triangle of `S`, replaced by that of `S - U H'`.
    remainder: &'a mut [f64],
    /// `V'`, one row of instruments for each `(q, k)`.
    mixed: &'a mut [f64],
}

impl Kernel for DateTerms<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: InstructionSet>(self) {
        let (k, rank) = (self.h.n_rows(), self.h.n_cols());
        self.u.flat_mut().fill(0.0);
        for a in 0..k {
            for b in 0..k {
                axpy::<I>(self.inverse[a * k + b], self.h.row(b), self.u.row_mut(a));
            }
        }
        let mut rest = self.remainder;
        for i in 0..rank {
            let (row, tail) = rest.split_at_mut(rank - i);
            rest = tail;
            for a in 0..k {
                axpy::<I>(-self.u.row(a)[i], &self.h.row(a)[i..], row);
            }
        }
        let pairs = self
            .mixed
            .chunks_exact_mut(rank)
            .take(self.factors.len() * k);
        for (pair, out) in pairs.enumerate() {
            let (q, a) = (pair / k, pair % k);
            axpy::<I>(self.factors[q], self.u.row(a), out);
            if q < k {
                axpy::<I>(-0.5 * self.inverse[q * k + a], self.residual, out);
            }
        }
    }
}

/// `y += a x`.
#[inline(always)]
fn axpy<I: InstructionSet>(a: f64, x: &[f64], y: &mut [f64]) {
    let whole = y.len() / I::LANES * I::LANES;
    let (y, y_rest) = y.split_at_mut(whole);
    let (x, x_rest) = x.split_at(whole);
    let factor = I::splat(a);
    for (x, y) in x.chunks_exact(I::LANES).zip(y.chunks_exact_mut(I::LANES)) {
        I::store(I::mul_add(factor, I::load(x), I::load(y)), y);
    }
    for (x, y) in x_rest.iter().zip(y_rest) {
        *y += a * x;
    }
}

/// Add the block `(a, b)` of `C + C'`; row `i` of `cross` holds `C'[i, (q, k, p)]`.
fn add_cross(
    hessian: &mut Array2<f64>,
    problem: &Problem<'_>,
    (a, b): (usize, usize),
    cross: &Rows,
) {
    let (rank, k) = (problem.rank(), problem.n_latent);
    for i in 0..rank {
        if b < k {
            let column = &cross.row(i)[(a * k + b) * rank..][..rank];
            for (j, value) in column.iter().enumerate() {
                hessian[[a * rank + j, b * rank + i]] += value;
            }
        }
        if a < k {
            let row = &cross.row(i)[(b * k + a) * rank..][..rank];
            for (j, value) in row.iter().enumerate() {
                hessian[[a * rank + i, b * rank + j]] += value;
            }
        }
    }
}
