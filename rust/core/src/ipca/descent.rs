//! The loop: alternating least squares, then Newton steps, with the descent watched.

use super::factors::{self, Fitted};
use super::gamma::{self, Conditions, conditions};
use super::newton::{Curvature, Workspace};
use super::problem::Problem;
use super::rotate::{orthonormal, standardise, subspace_step};
use super::{Settings, Stopping};
use crate::rows::{self, Rows};
use crate::{CoreError, Result};

/// Sweeps of alternating least squares before the first Newton step, unless the start was close.
const WARM_UP: usize = 3;
/// A Newton step is tried once a sweep moves less than this.
const CLOSE: f64 = 0.1;
/// A start from which a sweep moves less than this needs no warm-up.
const VERY_CLOSE: f64 = 1e-2;
/// No Newton step moves further.
const LONGEST: f64 = 0.5;
/// After a refusal, sweeps must get shorter by this factor before the next attempt.
const RETRY: f64 = 0.3;
/// Rounding of the objective, relative to the sum of squared returns.
const ROUNDING: f64 = 1e-13;
/// Minima closer than this, relative to the sum of squared returns, are the same.
const SAME: f64 = 1e-10;
/// Damping at which an attempt starts to be careful, and the factor by which it changes.
const FIRST_DAMPING: f64 = 1e-3;
const DAMPING_FACTOR: f64 = 10.0;
const MOST_ATTEMPTS: usize = 8;
/// Predicted distance to the limit that is small enough, relative to the tolerance.
const REMAINING: f64 = 1e-5;
/// Below this a step is rounding.
const NO_STEP: f64 = 1e-13;
/// Observed loadings below this share of the returns' scale are compared with it.
const OBSERVED_FLOOR: f64 = 1e-6;

/// Standardised loadings, their factors, and the directions they span in the original instruments.
struct Iterate {
    theta: Rows,
    fitted: Fitted,
    basis: Rows,
}

impl Iterate {
    fn new(problem: &Problem<'_>, theta: Rows) -> Option<Self> {
        let k = problem.n_latent;
        let theta = standardise(theta, k)?;
        let latent = Rows::from_fn(k, problem.rank(), |k, i| theta.row(k)[i]);
        let to_raw = Rows::from_view(problem.geometry.to_raw.t());
        let basis = orthonormal(rows::product(latent.across(), &to_raw))?;
        let fitted = factors::fit(problem, &theta);
        fitted.objective.is_finite().then_some(Self {
            theta,
            fitted,
            basis,
        })
    }

    /// `Θ mean(f̃)`, shape `(R,)`.
    fn forecast(&self) -> Vec<f64> {
        let share = 1.0 / self.fitted.factors.n_rows() as f64;
        let ones = Rows::from_fn(1, self.fitted.factors.n_rows(), |_, _| share);
        let mean = rows::product(ones.across(), &self.fitted.factors);
        rows::product(mean.across(), &self.theta).row(0).to_vec()
    }

    /// How far the identified loadings moved: the larger of the subspace steps in original and in
    /// whitened coordinates, and of the relative change of the observed loadings.
    fn distance(&self, other: &Self, n_latent: usize) -> f64 {
        let part = |rows: &Rows, from: usize, to: usize| {
            Rows::from_fn(to - from, rows.n_cols(), |q, i| rows.row(from + q)[i])
        };
        let (k, n) = (n_latent, self.theta.n_rows());
        let white = subspace_step(&part(&self.theta, 0, k), &part(&other.theta, 0, k));
        let raw = subspace_step(&self.basis, &other.basis);
        let (old, new) = (part(&self.theta, k, n), part(&other.theta, k, n));
        let change = Rows::from_fn(n - k, old.n_cols(), |m, i| new.row(m)[i] - old.row(m)[i]);
        let observed = gamma::norm(&change) / gamma::norm(&new).max(OBSERVED_FLOOR);
        white.max(raw).max(observed)
    }
}

/// What moved the loadings last.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sweep {
    Alternating,
    Newton,
    Damped,
}

/// What the last sweep changed besides the loadings.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes {
    /// Fall of the objective, relative to the sum of squared returns.
    pub(super) objective: f64,
    /// Change of `Θ mean(f̃)`, shape `(R,)`, in whitened instruments and root mean square returns.
    pub(super) forecast: Vec<f64>,
}

/// What every sweep did.
#[derive(Debug, Clone, Default)]
pub(super) struct Trace {
    /// How far each sweep moved.
    pub(super) steps: Vec<f64>,
    /// The objective at the start and after each sweep, relative to the sum of squared returns.
    pub(super) objectives: Vec<f64>,
}

/// Where the loop ended.
pub(super) struct Descent {
    pub(super) theta: Rows,
    pub(super) fitted: Fitted,
    pub(super) conditions: Conditions,
    pub(super) step: f64,
    pub(super) changes: Changes,
    pub(super) n_als: usize,
    pub(super) n_newton: usize,
    pub(super) condition: f64,
    pub(super) monotone: bool,
    pub(super) stopping: Stopping,
    pub(super) trace: Trace,
    /// Whether the first sweeps were short.
    without_doubt: bool,
}

impl Descent {
    /// Whether this minimum is lower by more than rounding.
    fn beats(&self, other: &Self) -> bool {
        self.fitted.objective < other.fitted.objective - SAME
    }
}

/// Minimise from each of `starts`, of shape `(K + M, R)`, and keep the lowest minimum.
///
/// Weakly identified problems have several. When the first start converges at a pace that leaves no
/// doubt, the others are not looked at.
pub(super) fn minimise(
    problem: &Problem<'_>,
    starts: Vec<Rows>,
    settings: &Settings,
) -> Result<Descent> {
    let mut best: Option<Descent> = None;
    for start in starts {
        let state = State::warmed_up(problem, start, settings);
        let found = state.and_then(|state| descend(state, settings));
        best = match (best, found) {
            (None, found) => Some(found?),
            (Some(best), Ok(other)) if other.beats(&best) => Some(other),
            (best, _) => best,
        };
        if best.as_ref().is_some_and(|best| best.without_doubt) {
            break;
        }
    }
    best.ok_or_else(lost_rank)
}

fn descend(mut state: State<'_>, settings: &Settings) -> Result<Descent> {
    let without_doubt = state.last_step() < VERY_CLOSE;
    let (conditions, stopping) = loop {
        if let Some(conditions) = state.certified() {
            break (conditions, Stopping::Converged);
        }
        if state.n_als + state.n_newton >= settings.max_iter {
            break (state.conditions(), Stopping::MaxIterations);
        }
        state.sweep()?;
    };
    Ok(Descent {
        conditions,
        step: state.last_step(),
        theta: state.at.theta,
        fitted: state.at.fitted,
        n_als: state.n_als,
        n_newton: state.n_newton,
        changes: state.changes,
        condition: state.condition,
        monotone: state.monotone,
        stopping,
        trace: Trace {
            steps: state.steps.iter().map(|&(_, step)| step).collect(),
            objectives: state.objectives,
        },
        without_doubt,
    })
}

fn lost_rank() -> CoreError {
    CoreError::Failed {
        what: "IPCA",
        why: "the loadings lost rank: the returns do not support this many factors, or the \
              characteristics differ too much in size to share a normalisation"
            .to_owned(),
    }
}

struct State<'a> {
    problem: &'a Problem<'a>,
    tol: f64,
    at: Iterate,
    changes: Changes,
    steps: Vec<(Sweep, f64)>,
    /// At the start and after every sweep.
    objectives: Vec<f64>,
    damping: f64,
    /// Newton is tried when an alternating sweep moves less than this.
    next_attempt: f64,
    n_als: usize,
    n_newton: usize,
    condition: f64,
    monotone: bool,
    /// Of the Newton steps; none before the first.
    work: Option<Workspace>,
}

impl<'a> State<'a> {
    /// After the first sweeps from `start`.
    fn warmed_up(problem: &'a Problem<'a>, start: Rows, settings: &Settings) -> Result<Self> {
        let mut state = Self {
            problem,
            tol: settings.tol,
            at: Iterate::new(problem, start).ok_or_else(lost_rank)?,
            changes: Changes::default(),
            steps: Vec::new(),
            objectives: Vec::new(),
            damping: 0.0,
            next_attempt: CLOSE,
            n_als: 0,
            n_newton: 0,
            condition: f64::NAN,
            monotone: true,
            work: None,
        };
        state.objectives.push(state.objective());
        while state.n_als < WARM_UP.min(settings.max_iter) && state.last_step() >= VERY_CLOSE {
            state.alternate()?;
        }
        Ok(state)
    }

    fn objective(&self) -> f64 {
        self.at.fitted.objective
    }

    /// Infinite before the first sweep.
    fn last_step(&self) -> f64 {
        self.steps.last().map_or(f64::INFINITY, |&(_, step)| step)
    }

    /// The first-order conditions, if they and the last steps show that this is a solution.
    fn certified(&self) -> Option<Conditions> {
        let hold = |found: &Conditions| found.gamma <= self.tol && found.factors <= self.tol;
        self.settled().then(|| self.conditions()).filter(hold)
    }

    fn conditions(&self) -> Conditions {
        conditions(self.problem, &self.at.theta, &self.at.fitted)
    }

    fn sweep(&mut self) -> Result<()> {
        if self.newton_is_due() {
            if self.newton() {
                return Ok(());
            }
            self.next_attempt = RETRY * self.last_step();
        }
        self.alternate()
    }

    fn newton_is_due(&self) -> bool {
        if self.problem.n_latent == 0 || self.problem.n_latent == self.problem.rank() {
            return false;
        }
        match self.steps.last() {
            None => false,
            Some(&(Sweep::Newton, _)) => true,
            // A short damped step proves nothing: let plain sweeps be the judge.
            Some(&(Sweep::Damped, step)) => step > self.tol,
            Some(&(Sweep::Alternating, step)) => step < self.next_attempt,
        }
    }

    fn alternate(&mut self) -> Result<()> {
        let found = gamma::step(self.problem, &self.at.theta, &self.at.fitted)?;
        let next = Iterate::new(self.problem, found.theta).ok_or_else(lost_rank)?;
        self.condition = found.condition;
        self.n_als += 1;
        self.monotone &= next.fitted.objective <= self.at.fitted.objective + ROUNDING;
        self.advance(Sweep::Alternating, next);
        Ok(())
    }

    fn advance(&mut self, sweep: Sweep, next: Iterate) {
        self.steps
            .push((sweep, self.at.distance(&next, self.problem.n_latent)));
        let (old, new) = (self.at.forecast(), next.forecast());
        self.changes = Changes {
            objective: self.objective() - next.fitted.objective,
            forecast: new.iter().zip(old).map(|(new, old)| new - old).collect(),
        };
        self.objectives.push(next.fitted.objective);
        self.at = next;
    }

    /// One step of Newton, damped as far as it takes; false when nothing was found.
    fn newton(&mut self) -> bool {
        let work = self
            .work
            .get_or_insert_with(|| Workspace::new(self.problem));
        let curvature = Curvature::at(self.problem, &self.at.theta, &self.at.fitted, work);
        for _ in 0..MOST_ATTEMPTS {
            if let Some((next, condition)) = self.attempt(&curvature) {
                let sweep = if self.damping == 0.0 {
                    Sweep::Newton
                } else {
                    Sweep::Damped
                };
                self.condition = condition;
                self.n_newton += 1;
                self.advance(sweep, next);
                self.damping /= DAMPING_FACTOR;
                if self.damping < FIRST_DAMPING {
                    self.damping = 0.0;
                }
                return true;
            }
            self.damping = (self.damping * DAMPING_FACTOR).max(FIRST_DAMPING);
        }
        self.damping = 0.0;
        false
    }

    fn attempt(&self, curvature: &Curvature) -> Option<(Iterate, f64)> {
        let (change, condition) = curvature.step(self.damping, self.problem)?;
        let theta = &self.at.theta;
        let moved = |q: usize, i: usize| theta.row(q)[i] + change.row(q)[i];
        let next = Iterate::new(
            self.problem,
            Rows::from_fn(theta.n_rows(), theta.n_cols(), moved),
        )?;
        let falls = next.fitted.objective <= self.at.fitted.objective + ROUNDING;
        let moderate = self.at.distance(&next, self.problem.n_latent) <= LONGEST;
        (falls && moderate).then_some((next, condition))
    }

    /// Whether the last step is within the tolerance and what is left to go is negligible.
    fn settled(&self) -> bool {
        let Some(&(sweep, step)) = self.steps.last() else {
            return false;
        };
        if self.problem.n_latent == 0 {
            // A linear problem: one solve is the solution.
            return true;
        }
        let before = self.steps.len().checked_sub(2).map(|i| self.steps[i]);
        let rounding = step <= NO_STEP && sweep != Sweep::Damped;
        let near = rounding || remaining((sweep, step), before) <= REMAINING * self.tol;
        step <= self.tol && near
    }
}

/// Predicted distance to the limit: quadratic after Newton, geometric after plain sweeps.
fn remaining((sweep, step): (Sweep, f64), before: Option<(Sweep, f64)>) -> f64 {
    match (sweep, before) {
        (Sweep::Newton, Some((Sweep::Newton, last))) => step.powi(3) / last.powi(2),
        (Sweep::Newton, _) => step,
        (Sweep::Alternating, Some((Sweep::Alternating, last))) if step < last => {
            let rate = step / last;
            step * rate / (1.0 - rate)
        }
        _ => f64::INFINITY,
    }
}
