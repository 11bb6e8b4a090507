//! One side of a book: nearest point to wanted weights with a mass, a cap, group caps and a held book.
//!
//! With multipliers `lambda` of the mass and `nu` of turnover, an asset's weight is
//! `clip(median(t + lambda - nu, q, t + lambda + nu), 0, cap)`: the wanted weight `t`, shifted, and
//! drawn towards the held weight `q`. A group at its cap `C` has a shift of its own that makes its
//! weights sum to `C`, so that the mass of the side is `sum_g min(C, mass of g at lambda)`: monotone
//! and piecewise linear in `lambda`. Newton's method with a bracket finds its root exactly.

use crate::interrupt::check;

/// How far a shifted weight may lie above or below the held one without moving it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Slack {
    /// Subtracted from weights that would rise; infinite: none may rise.
    pub(super) up: f64,
    /// Added to weights that would fall; infinite: none may fall.
    pub(super) down: f64,
}

impl Slack {
    /// The held book does not matter.
    pub(super) const FREE: Self = Self { up: 0.0, down: 0.0 };
    /// Weights may only rise.
    pub(super) const RISE: Self = Self {
        up: 0.0,
        down: f64::INFINITY,
    };
    /// Weights may only fall.
    pub(super) const FALL: Self = Self {
        up: f64::INFINITY,
        down: 0.0,
    };
}

/// Largest mass of a group, and the number of groups.
#[derive(Debug, Clone, Copy)]
pub(super) struct Groups {
    pub(super) n_groups: usize,
    pub(super) cap: f64,
}

/// Assets of one side, their weights counted as positive.
#[derive(Debug, Clone, Default)]
pub(super) struct Side {
    /// Places in the cross-section.
    pub(super) assets: Vec<usize>,
    /// Wanted weights.
    pub(super) wanted: Vec<f64>,
    /// Held weights, in `0..=cap`.
    pub(super) held: Vec<f64>,
    /// Groups; all zero when there are none.
    pub(super) group_of: Vec<usize>,
    /// Weights found.
    pub(super) weights: Vec<f64>,
    /// Multiplier found last.
    shift: f64,
    masses: Vec<f64>,
    slopes: Vec<f64>,
}

impl Side {
    pub(super) fn clear(&mut self) {
        self.assets.clear();
        self.wanted.clear();
        self.held.clear();
        self.group_of.clear();
        self.weights.clear();
        self.shift = 0.0;
    }

    pub(super) fn push(&mut self, asset: usize, wanted: f64, held: f64, group: usize) {
        self.assets.push(asset);
        self.wanted.push(wanted);
        self.held.push(held);
        self.group_of.push(group);
        self.weights.push(held);
    }

    /// Largest mass that the side can have.
    pub(super) fn capacity(&mut self, cap: f64, groups: Option<Groups>) -> f64 {
        let Some(groups) = groups else {
            return if self.assets.is_empty() {
                0.0
            } else {
                self.assets.len() as f64 * cap
            };
        };
        self.masses.clear();
        self.masses.resize(groups.n_groups, 0.0);
        for &group in &self.group_of {
            self.masses[group] += cap;
        }
        self.masses.iter().map(|mass| mass.min(groups.cap)).sum()
    }

    pub(super) fn held_mass(&self) -> f64 {
        self.held.iter().sum()
    }

    pub(super) fn turnover(&self) -> f64 {
        self.weights
            .iter()
            .zip(&self.held)
            .map(|(w, q)| (w - q).abs())
            .sum()
    }

    pub(super) fn distance(&self) -> f64 {
        self.weights
            .iter()
            .zip(&self.wanted)
            .map(|(w, t)| (w - t) * (w - t))
            .sum()
    }

    /// Bring held weights of groups above their cap down to it, and return what that trades.
    pub(super) fn trim_groups(&mut self, cap: f64, groups: Groups) -> f64 {
        let mut traded = 0.0;
        for group in 0..groups.n_groups {
            let mut part = self.part(group);
            let excess = part.held_mass() - groups.cap;
            if excess > 0.0 {
                part.solve(groups.cap, cap, None, Slack::FALL);
                traded += excess;
                self.take(group, &part.weights);
            }
        }
        self.held.copy_from_slice(&self.weights);
        traded
    }

    /// Find the nearest weights that sum to `mass`; it must be within the capacity.
    pub(super) fn solve(&mut self, mass: f64, cap: f64, groups: Option<Groups>, slack: Slack) {
        check();
        if self.assets.is_empty() {
            return;
        }
        // No weight exceeds the mass; an infinite cap would leave the bracket open.
        let cap = cap.min(mass.max(0.0));
        let groups = groups.filter(|groups| groups.cap < mass);
        let (mut low, mut high) = self.bracket(cap, slack);
        let mut shift = self.shift.clamp(low, high);
        for _ in 0..200 {
            let (found, slope) = self.evaluate(shift, cap, groups, slack);
            let missing = mass - found;
            if missing.abs() <= 1e-14 * mass {
                break;
            }
            if missing > 0.0 {
                low = shift;
            } else {
                high = shift;
            }
            let newton = shift + missing / slope;
            let next = if slope > 0.0 && low < newton && newton < high {
                newton
            } else {
                0.5 * (low + high)
            };
            if next == shift {
                break;
            }
            shift = next;
        }
        self.shift = shift;
        let (found, slope) = self.evaluate(shift, cap, groups, slack);
        let missing = mass - found;
        if slack == Slack::FREE && slope > 0.0 && missing.abs() > 1e-14 * mass {
            self.settle(missing / slope, cap, groups);
        }
        if let Some(groups) = groups {
            self.hold_groups(cap, groups, slack);
        }
    }

    /// Add to the weights that a shift moves what is finer than the digits of the shift.
    fn settle(&mut self, share: f64, cap: f64, groups: Option<Groups>) {
        for (weight, &group) in self.weights.iter_mut().zip(&self.group_of) {
            let full = groups.is_some_and(|groups| self.masses[group] >= groups.cap);
            if *weight > 0.0 && *weight < cap && !full {
                *weight = (*weight + share).clamp(0.0, cap);
            }
        }
    }

    /// Shifts below and above which no weight changes any more.
    fn bracket(&self, cap: f64, slack: Slack) -> (f64, f64) {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for (&t, &q) in self.wanted.iter().zip(&self.held) {
            for edge in [
                -slack.down - t,
                q - slack.down - t,
                q + slack.up - t,
                cap + slack.up - t,
            ] {
                if edge.is_finite() {
                    low = low.min(edge);
                    high = high.max(edge);
                }
            }
        }
        (low, high)
    }

    /// Set the weights at a shift; return the mass under group caps and its derivative.
    fn evaluate(
        &mut self,
        shift: f64,
        cap: f64,
        groups: Option<Groups>,
        slack: Slack,
    ) -> (f64, f64) {
        let n_groups = groups.map_or(1, |groups| groups.n_groups);
        self.masses.clear();
        self.masses.resize(n_groups, 0.0);
        self.slopes.clear();
        self.slopes.resize(n_groups, 0.0);
        for i in 0..self.assets.len() {
            let (t, q) = (self.wanted[i] + shift, self.held[i]);
            let (rising, falling) = (t - slack.up, t + slack.down);
            let (free, moves) = if rising > q {
                (rising, true)
            } else if falling < q {
                (falling, true)
            } else {
                (q, false)
            };
            let group = if groups.is_some() {
                self.group_of[i]
            } else {
                0
            };
            self.weights[i] = free.clamp(0.0, cap);
            self.masses[group] += self.weights[i];
            if moves && free > 0.0 && free < cap {
                self.slopes[group] += 1.0;
            }
        }
        let limit = groups.map_or(f64::INFINITY, |groups| groups.cap);
        let (mut mass, mut slope) = (0.0, 0.0);
        for (&part, &rate) in self.masses.iter().zip(&self.slopes) {
            mass += part.min(limit);
            slope += if part < limit { rate } else { 0.0 };
        }
        (mass, slope)
    }

    /// Groups above their cap get their own shift.
    fn hold_groups(&mut self, cap: f64, groups: Groups, slack: Slack) {
        for group in 0..groups.n_groups {
            if self.masses[group] > groups.cap {
                let mut part = self.part(group);
                part.shift = self.shift;
                part.solve(groups.cap, cap, None, slack);
                self.take(group, &part.weights);
            }
        }
    }

    fn part(&self, group: usize) -> Self {
        let mut part = Self::default();
        for i in (0..self.assets.len()).filter(|&i| self.group_of[i] == group) {
            part.push(self.assets[i], self.wanted[i], self.held[i], 0);
        }
        part
    }

    fn take(&mut self, group: usize, weights: &[f64]) {
        let mut next = weights.iter();
        for (weight, &mine) in self.weights.iter_mut().zip(&self.group_of) {
            if mine == group
                && let Some(&found) = next.next()
            {
                *weight = found;
            }
        }
    }
}
