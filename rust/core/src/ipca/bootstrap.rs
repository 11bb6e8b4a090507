//! Residual wild bootstrap of the loadings under a null hypothesis.
//!
//! With `x_t = Z_t'r_t / n_t` and `W_t = Z_t'Z_t / n_t`, the fit leaves `d_t = x_t - W_t Γ f̃_t`. A
//! draw is `x̃_t = W_t Γ⁰ f̃_t + q_t d_s`: `Γ⁰` is `Γ` with the loadings under test set to zero, `q_t`
//! is Student's t with five degrees of freedom, scaled, and `s` a date drawn uniformly. Estimating
//! everything again from the draw gives the test statistic as it is under the null.
//!
//! The second moments of the instruments are those of the data, so that a draw brings no more than
//! new cross moments. Random numbers are a function of seed, draw and date, not of what was drawn
//! before them: any thread may take any draw.
//!
//! Kelly, Pruitt, Su (2019), Characteristics are covariances, JFE 134(3), section 3.

use std::f64::consts::TAU;

use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView2, Axis, Zip};

use super::factors::{Fitted, Loadings, realised_factors};
use super::gamma::residuals;
use super::geometry::Geometry;
use super::problem::Problem;
use super::rotate::orthogonalise;
use super::{MomentsView, Settings, Stopping, check_inputs, descent};
use crate::interrupt::{check, each};
use crate::memory::{self, Arrays};
use crate::rows::Rows;
use crate::{Result, shape};

/// Degrees of freedom of the multipliers.
const FREEDOM: f64 = 5.0;
/// Random words for each date.
const WORDS: u64 = 3;
/// The increment of SplitMix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Which random numbers, and how strong they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Names the sequence of draws.
    pub seed: u64,
    /// Number of the first draw wanted.
    pub first: u64,
    /// How many draws.
    pub n_draws: usize,
    /// Variance of the multipliers: 1 in the paper, 5/3 for a plain t.
    pub variance: f64,
}

impl Noise {
    fn check(&self) -> Result<()> {
        let positive = self.variance > 0.0 && self.variance.is_finite();
        shape::require_that("t_variance", positive, "positive and finite", self.variance)
    }

    /// Multiplier and donor date for each of `n_dates` dates of the draw with this number.
    fn draw(&self, number: u64, n_dates: usize) -> Vec<(f64, usize)> {
        let key = mix(mix(self.seed).wrapping_add(GOLDEN.wrapping_mul(number.wrapping_add(1))));
        let scale = (self.variance * (FREEDOM - 2.0) / FREEDOM).sqrt();
        let date = |t: u64| {
            let word = |i: u64| mix(key.wrapping_add(GOLDEN.wrapping_mul(WORDS * t + i + 1)));
            let multiplier = scale * student(uniform(word(0)), uniform(word(1)));
            (multiplier, below(n_dates, word(2)))
        };
        (0..n_dates as u64).map(date).collect()
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// In the open unit interval.
fn uniform(word: u64) -> f64 {
    ((word >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// Uniform on `0..n`, up to a bias of `n / 2^64`.
fn below(n: usize, word: u64) -> usize {
    ((u128::from(word) * n as u128) >> 64) as usize
}

/// Student's t from two uniforms (Bailey 1994, Math. Comp. 62, 779-781).
fn student(u: f64, v: f64) -> f64 {
    (FREEDOM * (u.powf(-2.0 / FREEDOM) - 1.0)).sqrt() * (TAU * v).cos()
}

/// Multipliers and donors of the draws of `noise`, both of shape `(n_draws, n_dates)`.
///
/// # Errors
///
/// [`crate::CoreError::Range`] for a variance that is not positive.
pub fn bootstrap_noise(noise: &Noise, n_dates: usize) -> Result<(Array2<f64>, Array2<usize>)> {
    noise.check()?;
    Arrays::new()
        .times(2, "multipliers", &[noise.n_draws, n_dates])
        .times(2, "a draw", &[n_dates])
        .require()?;
    let mut multipliers = Array2::zeros((noise.n_draws, n_dates));
    let mut donors = Array2::zeros((noise.n_draws, n_dates));
    let rows = multipliers.rows_mut().into_iter().zip(donors.rows_mut());
    for (number, (mut multipliers, mut donors)) in (noise.first..).zip(rows) {
        check();
        for (t, (multiplier, donor)) in noise.draw(number, n_dates).into_iter().enumerate() {
            (multipliers[t], donors[t]) = (multiplier, donor);
        }
    }
    Ok((multipliers, donors))
}

/// Test statistics `Σ weights ∘ Γ²` of bootstrap draws; NaN where a draw's estimate failed.
///
/// `gamma` holds the estimated loadings `(P, K + M)`, latent factors first. The null sets those
/// with a positive entry in `weights`, of the same shape, to zero. Each draw is estimated with
/// `settings`, starting from the null, and its loadings are taken in the form in which the latent
/// ones are orthonormal and orthogonal to the observed ones. Draws run in parallel; the result does
/// not depend on the number of threads.
///
/// # Errors
///
/// As [`fit`](super::fit), and [`crate::CoreError::Range`] for weights or a variance that make no
/// sense. A draw without a converged estimate is no error.
pub fn bootstrap(
    moments: &MomentsView<'_>,
    observed: ArrayView2<'_, f64>,
    gamma: ArrayView2<'_, f64>,
    weights: ArrayView2<'_, f64>,
    noise: &Noise,
    settings: &Settings,
) -> Result<Vec<f64>> {
    check_inputs(moments, observed, Some(gamma), settings)?;
    shape::require("weights", gamma.shape(), weights.shape())?;
    let sensible = weights.iter().all(|w| *w >= 0.0 && w.is_finite());
    shape::require_that(
        "weights",
        sensible,
        "at least 0 and finite",
        "another number",
    )?;
    noise.check()?;
    let (n_dates, n) = moments.cross.dim();
    let columns = gamma.ncols();
    super::room(n_dates, n, columns)
        .times(
            memory::n_threads(),
            "second moments by draw",
            &[n_dates, memory::triangle(n)],
        )
        .times(
            2 * memory::n_threads(),
            "derivatives by draw",
            &[n_dates, n * columns, columns],
        )
        .times(
            5 * memory::n_threads(),
            "the Hessian of a draw",
            &[n * columns, n * columns],
        )
        .and("statistics", &[noise.n_draws])
        .require()?;
    let geometry = Geometry::new(moments, settings)?;
    super::require_finite(observed, &geometry.dates)?;
    let problem = Problem::new(&geometry, moments, observed, settings.n_factors)?;
    let factors = factors_of(&problem, moments, gamma, observed)?;
    let world = World::new(&problem, gamma, weights, &factors);
    let numbers = (0..noise.n_draws).into_par_iter();
    Ok(numbers
        .map(each(|i: usize| {
            world.statistic(
                &noise.draw(noise.first + i as u64, problem.n_dates()),
                settings,
            )
        }))
        .collect())
}

/// `f̃_t` for loadings on the original instruments, in the units of the problem.
fn factors_of(
    problem: &Problem<'_>,
    moments: &MomentsView<'_>,
    gamma: ArrayView2<'_, f64>,
    observed: ArrayView2<'_, f64>,
) -> Result<Fitted> {
    let (latent, own) = gamma.split_at(Axis(1), problem.n_latent);
    let loadings = Loadings {
        latent,
        observed: own,
        ridge: problem.geometry.ridge,
        second_moment: problem.geometry.second_moment.view(),
    };
    let found = realised_factors(moments, &loadings, observed)?;
    let dates = &problem.geometry.dates;
    let factors = Rows::from_fn(dates.len(), gamma.ncols(), |t, q| {
        match q.checked_sub(problem.n_latent) {
            None => found[[dates[t], q]] / problem.return_scale,
            Some(m) => problem.observed.row(t)[m],
        }
    });
    Ok(Fitted {
        inner: Rows::zeros(0, 0),
        objective: f64::NAN,
        factors,
    })
}

/// The null hypothesis as a machine that makes cross moments.
struct World<'a> {
    problem: &'a Problem<'a>,
    weights: ArrayView2<'a, f64>,
    /// Where estimates start: the null, then the estimated loadings.
    starts: [Rows; 2],
    /// `w_t n_t W_t Γ⁰ f̃_t`, shape `(T, R)`.
    explained: Rows,
    /// `d_t`, shape `(T, R)`.
    errors: Rows,
}

impl<'a> World<'a> {
    fn new(
        problem: &'a Problem<'a>,
        gamma: ArrayView2<'_, f64>,
        weights: ArrayView2<'a, f64>,
        fitted: &Fitted,
    ) -> Self {
        let mut null = gamma.to_owned();
        Zip::from(&mut null).and(weights).for_each(|cell, &weight| {
            if weight > 0.0 {
                *cell = 0.0;
            }
        });
        let [null, theta] = [null.view(), gamma].map(|gamma| problem.whitened(gamma));
        let mut explained = residuals(problem, &null, fitted);
        let pairs = explained.flat_mut().iter_mut().zip(problem.cross.flat());
        pairs.for_each(|(left, cross)| *left = cross - *left);
        let mut errors = residuals(problem, &theta, fitted);
        for (t, mass) in problem.geometry.masses.iter().enumerate() {
            errors.row_mut(t).iter_mut().for_each(|e| *e /= mass);
        }
        Self {
            problem,
            weights,
            starts: [null, theta],
            explained,
            errors,
        }
    }

    fn cross(&self, draw: &[(f64, usize)]) -> Rows {
        let mut cross = self.explained.clone();
        let masses = self.problem.geometry.masses.iter();
        for (t, (&(multiplier, donor), mass)) in draw.iter().zip(masses).enumerate() {
            let pairs = cross.row_mut(t).iter_mut().zip(self.errors.row(donor));
            pairs.for_each(|(cell, error)| *cell += mass * multiplier * error);
        }
        cross
    }

    /// NaN when no start leads to a converged estimate.
    fn statistic(&self, draw: &[(f64, usize)], settings: &Settings) -> f64 {
        let problem = Problem {
            cross: self.cross(draw),
            observed: self.problem.observed.clone(),
            observed_scale: self.problem.observed_scale.clone(),
            ..*self.problem
        };
        let estimates = self.starts.iter().map(|start| {
            let found = descent::minimise(&problem, vec![start.clone()], settings).ok()?;
            if found.stopping != Stopping::Converged {
                return None;
            }
            let gamma = problem.original(&found.theta);
            let (latent, own) = gamma.view().split_at(Axis(1), problem.n_latent);
            let (latent, own) = orthogonalise(latent, own).ok()?;
            let (of_latent, of_own) = self.weights.split_at(Axis(1), problem.n_latent);
            let sum = weighted_squares(of_latent, &latent) + weighted_squares(of_own, &own);
            sum.is_finite().then_some(sum)
        });
        estimates.flatten().next().unwrap_or(f64::NAN)
    }
}

fn weighted_squares(weights: ArrayView2<'_, f64>, loadings: &Array2<f64>) -> f64 {
    let pairs = weights.iter().zip(loadings.iter());
    pairs.map(|(weight, value)| weight * value * value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(variance: f64) -> Noise {
        Noise {
            seed: 7,
            first: 0,
            n_draws: 1,
            variance,
        }
    }

    #[test]
    fn multipliers_have_the_variance_asked_for_and_donors_are_uniform() {
        let draw = noise(5.0 / 3.0).draw(3, 1 << 18);
        let n = draw.len() as f64;
        let mean = draw.iter().map(|(q, _)| q).sum::<f64>() / n;
        let variance = draw.iter().map(|(q, _)| q * q).sum::<f64>() / n;
        let late = draw.iter().filter(|(_, s)| *s >= draw.len() / 4).count() as f64 / n;
        assert!(mean.abs() < 0.01, "{mean}");
        // The kurtosis of t5 is 9: the standard error is 5/3 sqrt(8 / n) = 0.009.
        assert!((variance - 5.0 / 3.0).abs() < 0.03, "{variance}");
        assert!((late - 0.75).abs() < 0.005, "{late}");
    }

    #[test]
    fn a_draw_does_not_depend_on_the_length_of_the_sample() {
        let (short, long) = (noise(1.0).draw(5, 10), noise(1.0).draw(5, 20));
        assert!(short.iter().zip(&long).all(|(a, b)| a.0 == b.0));
    }
}
