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
//! so that two products over dates give it, added up in blocks of dates.

use std::ops::Range;

use ndarray::Array2;
use ndarray::parallel::prelude::*;

use super::factors::{Date, Fitted};
use super::gamma::{add_block, for_each_block, matrix, vectorised};
use super::problem::Problem;
use super::triangle;
use crate::cholesky::Cholesky;
use crate::dispatch::{InstructionSet, Kernel, dispatch};
use crate::interrupt::{check, each};
use crate::rows::{Rows, add_product, add_product_here, product};

/// Dates that one task works on.
const TASK: usize = 16;
/// Dates whose contributions are kept at a time: a multiple of what a product sums in registers, so
/// that the sums have the bits of those over all dates at once.
pub(super) const BLOCK: usize = 256;

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
    pub(super) fn at(
        problem: &Problem<'_>,
        theta: &Rows,
        fitted: &Fitted,
        work: &mut Workspace,
    ) -> Self {
        let rank = problem.rank();
        let scale = marquardt_scale(problem, fitted);
        let Sums { own, cross, pull } = work.sums(problem, theta, fitted);
        let n = problem.n_columns();
        let mut hessian = Array2::zeros((n * rank, n * rank));
        for_each_block(n, |a, b, pair| {
            check();
            add_block(&mut hessian, rank, (a, b), own.row(pair));
            add_cross(&mut hessian, problem, (a, b), &cross);
        });
        let mut curvature = Self {
            hessian,
            scale,
            descent: vectorised(&pull),
            rank,
        };
        curvature.close(theta, problem.n_latent);
        curvature
    }

    /// The Hessian; `None` unless it is positive definite.
    pub(super) fn factored(&self) -> Option<Cholesky> {
        Cholesky::new(self.hessian.view())
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

/// Room for what a block of dates contributes; kept between steps, since it is large.
#[derive(Debug, Clone)]
pub(super) struct Workspace {
    block: Terms,
    /// Of the dates after the last whole block.
    rest: Terms,
}

/// What dates contribute.
#[derive(Debug, Clone)]
struct Terms {
    /// Triangles of `S_t - U_t H_t'`, shape `(dates, R (R + 1) / 2)`.
    remainders: Rows,
    /// `V_t`, shape `(dates, (K + M) K R)`, ordered by `q`, `k`, `p`.
    mixed: Rows,
    /// `e_t`, shape `(dates, R)`.
    residuals: Rows,
}

/// Sums over all dates.
struct Sums {
    /// Triangles of `Σ (S_t - U_t H_t') f̃_t[a] f̃_t[b]`, one pair of factors a row.
    own: Rows,
    /// `Σ e_t V_t'`.
    cross: Rows,
    /// `Σ f̃_t e_t'`.
    pull: Rows,
}

impl Workspace {
    pub(super) fn new(problem: &Problem<'_>) -> Self {
        let n_dates = problem.n_dates();
        Self {
            block: Terms::new(problem, if n_dates < BLOCK { 0 } else { BLOCK }),
            rest: Terms::new(problem, n_dates % BLOCK),
        }
    }

    fn sums(&mut self, problem: &Problem<'_>, theta: &Rows, fitted: &Fitted) -> Sums {
        let pairs = triangle::outer_products(&fitted.factors);
        let (n_dates, rank) = (problem.n_dates(), problem.rank());
        let mut sums = Sums {
            own: Rows::zeros(pairs.n_cols(), triangle::length(rank)),
            cross: Rows::zeros(rank, self.rest.mixed.n_cols()),
            pull: Rows::zeros(problem.n_columns(), rank),
        };
        for first in (0..n_dates).step_by(BLOCK) {
            let dates = first..n_dates.min(first + BLOCK);
            let terms = if dates.len() == BLOCK {
                &mut self.block
            } else {
                &mut self.rest
            };
            terms.fill(problem, theta, fitted, dates);
            let factors = fitted.factors.down_from(first);
            add_product(pairs.down_from(first), &terms.remainders, &mut sums.own);
            add_product(terms.residuals.down(), &terms.mixed, &mut sums.cross);
            add_product(factors, &terms.residuals, &mut sums.pull);
        }
        sums
    }
}

impl Terms {
    fn new(problem: &Problem<'_>, n_dates: usize) -> Self {
        let rank = problem.rank();
        // Not without columns, so that every matrix has its blocks of dates.
        let n_mixed = (problem.n_columns() * problem.n_latent * rank).max(1);
        Self {
            remainders: Rows::zeros(n_dates, triangle::length(rank)),
            mixed: Rows::zeros(n_dates, n_mixed),
            residuals: Rows::zeros(n_dates, rank),
        }
    }

    fn fill(&mut self, problem: &Problem<'_>, theta: &Rows, fitted: &Fitted, dates: Range<usize>) {
        let (rank, k) = (problem.rank(), problem.n_latent);
        let strides = [&self.remainders, &self.mixed, &self.residuals].map(Rows::stride);
        let blocks = self
            .remainders
            .blocks_mut(TASK)
            .zip(self.mixed.blocks_mut(TASK));
        let blocks = blocks.zip(self.residuals.blocks_mut(TASK)).enumerate();
        let fill = each(
            |(block, [remainders, mixed, residuals]): (usize, [&mut [f64]; 3])| {
                let (mut full, mut h) =
                    (Rows::zeros(rank, rank), Rows::zeros(theta.n_rows(), rank));
                let (mut u, mut date) = (Rows::zeros(k, rank), Date::standardised(problem));
                let remainders = remainders.chunks_exact_mut(strides[0]);
                let mixed = mixed.chunks_exact_mut(strides[1]);
                let terms = remainders
                    .zip(mixed)
                    .zip(residuals.chunks_exact_mut(strides[2]));
                for (((remainder, mixed), residual), t) in terms.zip(dates.start + block * TASK..) {
                    check();
                    let stack = problem.geometry.stack.row(t);
                    triangle::unfold(stack, &mut full);
                    h.flat_mut().fill(0.0);
                    add_product_here(theta.across(), &full, &mut h);
                    let (factors, inner) = (fitted.factors.row(t), fitted.inner.row(t));
                    let (inverse, _) = date.invert(inner, problem.geometry.masses[t]);
                    let cross = problem.cross.row(t);
                    let inputs = Inputs {
                        inverse,
                        factors,
                        stack,
                        cross,
                        h: &h,
                    };
                    dispatch(DateTerms {
                        inputs,
                        u: &mut u,
                        remainder,
                        mixed,
                        residual,
                    });
                }
            },
        );
        blocks.for_each(|(block, ((remainders, mixed), residuals))| {
            fill((block, [remainders, mixed, residuals]));
        });
    }
}

#[derive(Clone, Copy)]
struct Inputs<'a> {
    /// `A⁻¹`.
    inverse: &'a [f64],
    /// `f̃`.
    factors: &'a [f64],
    /// The triangle of `S`.
    stack: &'a [f64],
    /// `c`.
    cross: &'a [f64],
    /// `Θ'S`.
    h: &'a Rows,
}

struct DateTerms<'a> {
    inputs: Inputs<'a>,
    /// `U'`.
    u: &'a mut Rows,
    /// The triangle of `S - U H'`.
    remainder: &'a mut [f64],
    /// `V'`, one row of instruments for each `(q, k)`.
    mixed: &'a mut [f64],
    /// `e`.
    residual: &'a mut [f64],
}

impl Kernel for DateTerms<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: InstructionSet>(self) {
        let Inputs {
            inverse,
            factors,
            stack,
            cross,
            h,
        } = self.inputs;
        let (k, rank) = (self.u.n_rows(), h.n_cols());
        let residual = &mut self.residual[..rank];
        residual.copy_from_slice(cross);
        for (q, &f) in factors.iter().enumerate() {
            axpy::<I>(-f, h.row(q), residual);
        }
        for a in 0..k {
            let u = self.u.row_mut(a);
            u.fill(0.0);
            for b in 0..k {
                axpy::<I>(inverse[a * k + b], h.row(b), u);
            }
        }
        let (mut from, mut to) = (stack, self.remainder);
        for i in 0..rank {
            let (row, rest) = from.split_at(rank - i);
            let (out, left) = to.split_at_mut(rank - i);
            (from, to) = (rest, left);
            out.copy_from_slice(row);
            for one in (0..k - k % 2).step_by(2) {
                let two = one + 1;
                let (x, y) = (&h.row(one)[i..], &h.row(two)[i..]);
                axpy2::<I>((-self.u.row(one)[i], x), (-self.u.row(two)[i], y), out);
            }
            if k % 2 == 1 {
                axpy::<I>(-self.u.row(k - 1)[i], &h.row(k - 1)[i..], out);
            }
        }
        let pairs = self.mixed.chunks_exact_mut(rank).take(factors.len() * k);
        for (pair, out) in pairs.enumerate() {
            let (q, a) = (pair / k, pair % k);
            out.fill(0.0);
            let half = if q < k {
                -0.5 * inverse[q * k + a]
            } else {
                0.0
            };
            axpy2::<I>((factors[q], self.u.row(a)), (half, residual), out);
        }
    }
}

/// `y += a x`.
#[inline(always)]
fn axpy<I: InstructionSet>(a: f64, x: &[f64], y: &mut [f64]) {
    axpy2::<I>((a, x), (0.0, x), y);
}

/// `y += a x + b z`.
#[inline(always)]
fn axpy2<I: InstructionSet>((a, x): (f64, &[f64]), (b, z): (f64, &[f64]), y: &mut [f64]) {
    let whole = y.len() / I::LANES * I::LANES;
    let (y, y_rest) = y.split_at_mut(whole);
    let ((x, x_rest), (z, z_rest)) = (x.split_at(whole), z.split_at(whole));
    let (first, second) = (I::splat(a), I::splat(b));
    let vectors = x.chunks_exact(I::LANES).zip(z.chunks_exact(I::LANES));
    for ((x, z), y) in vectors.zip(y.chunks_exact_mut(I::LANES)) {
        let sum = I::mul_add(first, I::load(x), I::load(y));
        I::store(I::mul_add(second, I::load(z), sum), y);
    }
    for ((x, z), y) in x_rest.iter().zip(z_rest).zip(y_rest) {
        *y += a * x + b * z;
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
