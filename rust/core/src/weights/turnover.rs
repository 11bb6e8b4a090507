//! The nearest book that can be reached within a turnover budget.
//!
//! A date starts from the book `p` that the date before left, without the assets that are gone: they
//! have to be sold whatever the budget. The new book `x` has `sum |x - p| <= limit`, `|x| <= cap`, and
//! the exposures, if some book within the budget has them. If none has, its long and its short mass
//! lie on the straight line from those of `p` to their targets, as far as the budget reaches. Among
//! all such books it is the nearest to the wanted one.
//!
//! Which asset is on which side makes the problem a choice: once that is fixed, it is a convex
//! quadratic programme with three multipliers (two masses and the turnover) plus one per full group,
//! solved exactly. What is guaranteed then:
//!
//! * always: turnover and caps, and the exposures when a book within the budget has them (with group
//!   caps: when one is found);
//! * up to ten assets, where all combinations of sides are tried: the nearest book of all;
//! * beyond: the nearest book for its sides, which a search finds.
//!
//! Which positions to give up within a budget for what they hold is a choice of the kind of the
//! knapsack problem; no fast exact method is known here. The search starts with all assets on the
//! side where they are held; of those wanted on the other side, the most wanted ones flip, as many
//! as is best; then single assets flip, those that cost least first, and up to 32 assets also pairs,
//! while the book gets better. Of thousands of random cases with six to ten assets it misses the
//! nearest book in less than one of two hundred (`turnover/tests.rs`).

use std::cmp::Ordering;

use ndarray::parallel::prelude::*;
use ndarray::{Array3, ArrayView2, ArrayView3, ArrayViewMut2, Axis};

use super::side::Side;
use super::{Exposure, Fault, GroupCap, MAX_SCORE, available, require_previous, require_room};
use crate::interrupt::each;
use crate::{Result, shape};

mod given_sides;

/// Up to so many assets, every combination of sides is tried.
const ALL_COMBINATIONS: usize = 10;
/// Beyond, at most so many assets change their side one by one,
const MAX_SINGLE_FLIPS: usize = 32;
/// and no more than this divided by the number of assets.
const MAX_WORK: usize = 1 << 14;
/// Few assets are gone through so often at most.
const MAX_ROUNDS: usize = 8;
/// Largest wanted weight in units of gross exposure: beside larger ones books lose digits.
const MAX_TIMES_GROSS: f64 = 1e6;
/// Rounding in sums of weights.
const EXACT: f64 = 1e-13;

/// Follow wanted books through time, trading at most `limit` a date.
///
/// `wanted` and `mask` are (B, T, N), `previous` is (B, N); without it windows start flat. `wanted`
/// should be what [`super::normalize`] gives under the same exposure and groups: a weight of more than
/// a million times the gross exposure is refused. Previous weights of
/// unavailable assets are dropped and do not count as turnover. A book above the cap or a group cap
/// is first brought down to it.
///
/// # Errors
///
/// [`crate::CoreError::Range`] for a negative or non-finite limit and for weights out of all
/// proportion, [`crate::CoreError::Shape`],
/// [`crate::CoreError::NonFiniteCell`], and [`crate::CoreError::Infeasible`] when the previous book
/// lies above the caps by more than the budget.
pub fn walk_within_turnover(
    wanted: ArrayView3<'_, f64>,
    mask: Option<ArrayView3<'_, u8>>,
    previous: Option<ArrayView2<'_, f64>>,
    exposure: &Exposure,
    groups: Option<&GroupCap>,
    limit: f64,
) -> Result<Array3<f64>> {
    let (n_windows, _, n_assets) = wanted.dim();
    shape::require_that(
        "turnover_limit",
        limit.is_finite() && limit >= 0.0,
        "finite and not negative",
        limit,
    )?;
    if let Some(mask) = &mask {
        shape::require("mask", wanted.shape(), mask.shape())?;
    }
    if let Some(groups) = groups {
        shape::require("group_ids", &[n_assets], &[groups.group_of.len()])?;
    }
    require_previous(previous, n_windows, n_assets)?;
    require_room(1, wanted.shape())?;
    let mut out = wanted.to_owned();
    let faults: Vec<Option<(usize, Fault)>> = out
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .enumerate()
        .map(each(
            |(window, mut books): (usize, ArrayViewMut2<'_, f64>)| {
                let mut walk = Walk::new(exposure, groups, limit, n_assets);
                if let Some(previous) = &previous {
                    walk.book = previous.row(window).to_vec();
                }
                for (date, mut row) in books.axis_iter_mut(Axis(0)).enumerate() {
                    let seen = mask
                        .as_ref()
                        .map(|mask| mask.index_axis(Axis(0), window).row(date).to_vec());
                    if let Err(fault) = walk.step(&row.to_vec(), seen.as_deref()) {
                        return Some((date, fault));
                    }
                    row.iter_mut()
                        .zip(&walk.book)
                        .for_each(|(cell, &weight)| *cell = weight);
                }
                None
            },
        ))
        .collect();
    match faults
        .into_iter()
        .enumerate()
        .find_map(|(window, fault)| Some((window, fault?)))
    {
        Some((window, (date, fault))) => Err(fault.at(window, date)),
        None => Ok(out),
    }
}

/// How good a book is: how far its masses are from their targets, then its distance.
#[derive(Debug, Clone, Copy)]
struct Quality {
    gap: f64,
    distance: f64,
}

impl Quality {
    fn beats(&self, other: &Self) -> bool {
        match (self.gap - other.gap).partial_cmp(&0.0) {
            Some(Ordering::Less) if other.gap - self.gap > EXACT => true,
            Some(Ordering::Greater) if self.gap - other.gap > EXACT => false,
            _ => self.distance < other.distance,
        }
    }
}

/// A window's book on its way through time.
struct Walk<'a> {
    exposure: &'a Exposure,
    groups: Option<&'a GroupCap>,
    limit: f64,
    book: Vec<f64>,
    base: Vec<bool>,
    long: Side,
    short: Side,
    best: Option<(Quality, Vec<f64>)>,
}

impl<'a> Walk<'a> {
    fn new(
        exposure: &'a Exposure,
        groups: Option<&'a GroupCap>,
        limit: f64,
        n_assets: usize,
    ) -> Self {
        Self {
            exposure,
            groups,
            limit,
            book: vec![0.0; n_assets],
            base: Vec::with_capacity(n_assets),
            long: Side::default(),
            short: Side::default(),
            best: None,
        }
    }

    /// Move the book one date on.
    fn step(&mut self, wanted: &[f64], mask: Option<&[u8]>) -> std::result::Result<(), Fault> {
        if let Some(mask) = mask {
            self.book
                .iter_mut()
                .zip(mask)
                .filter(|(_, seen)| **seen == 0)
                .for_each(|(w, _)| *w = 0.0);
        }
        let assets: Vec<usize> = available(mask, wanted.len()).collect();
        if let Some(&asset) = assets.iter().find(|&&i| !wanted[i].is_finite()) {
            return Err(Fault::NotFinite(asset));
        }
        let most = match self.exposure.gross() {
            0.0 => MAX_SCORE,
            gross => MAX_TIMES_GROSS * gross,
        };
        if let Some(&asset) = assets.iter().find(|&&i| wanted[i].abs() > most) {
            let got = wanted[asset];
            return Err(Fault::TooLarge { asset, got, most });
        }
        let needed: f64 = assets
            .iter()
            .map(|&i| (wanted[i] - self.book[i]).abs())
            .sum();
        if needed <= self.limit {
            for i in assets {
                self.book[i] = wanted[i];
            }
            return Ok(());
        }
        self.best = None;
        self.choose_sides(&assets, wanted);
        match self.best.take() {
            Some((_, book)) => {
                self.book = book;
                Ok(())
            }
            None => Err(Fault::Infeasible(format!(
                "the previous book lies above max_abs_weight or a group cap by more than \
                 turnover_limit={}",
                self.limit
            ))),
        }
    }

    /// Try combinations of sides; the best book is kept.
    fn choose_sides(&mut self, assets: &[usize], wanted: &[f64]) {
        self.stay(assets, wanted);
        if assets.len() <= ALL_COMBINATIONS {
            self.try_all(assets, wanted);
        } else {
            self.search(assets, wanted);
        }
    }

    fn try_all(&mut self, assets: &[usize], wanted: &[f64]) {
        let mut sides = self.base.clone();
        for flips in 0..1usize << assets.len() {
            let flipped = |place: usize| flips >> place & 1 == 1;
            self.attempt_flips(assets, wanted, &mut sides, assets, flipped);
        }
    }

    fn search(&mut self, assets: &[usize], wanted: &[f64]) {
        let mut sides = self.base.clone();
        let torn_from = |i: usize| wanted[i] != 0.0 && self.base[i] != (wanted[i] > 0.0);
        let mut torn: Vec<usize> = assets.iter().copied().filter(|&i| torn_from(i)).collect();
        torn.sort_by(|&i, &j| wanted[j].abs().total_cmp(&wanted[i].abs()).then(i.cmp(&j)));
        let n_flips = self.search_prefix(assets, wanted, &mut sides, &torn);
        for (place, &i) in torn.iter().enumerate() {
            sides[i] = self.base[i] ^ (place < n_flips);
        }
        self.improve(assets, wanted, &mut sides);
    }

    /// The sides from which the exposures are nearest: assets stay where they are held, or go where
    /// they are wanted; a side without room for its mass gets the smallest positions of the other.
    ///
    /// To move the masses costs at least the sum of their changes, and closing positions `q` of the
    /// other side adds to that whatever of `sum q` its mass need not fall by: fewest and smallest is
    /// cheapest. So a book within the budget has the exposures if and only if one with these sides
    /// has (without group caps).
    fn stay(&mut self, assets: &[usize], wanted: &[f64]) {
        self.base.clear();
        let held_or_wanted = self.book.iter().zip(wanted);
        self.base
            .extend(held_or_wanted.map(|(&p, &y)| if p == 0.0 { y >= 0.0 } else { p > 0.0 }));
        for (long, mass) in [(true, self.exposure.long), (false, self.exposure.short)] {
            let n_there = assets.iter().filter(|&&i| self.base[i] == long).count();
            let missing = self.exposure.fewest(mass).saturating_sub(n_there);
            if missing == 0 {
                continue;
            }
            let mut others: Vec<usize> = assets
                .iter()
                .copied()
                .filter(|&i| self.base[i] != long)
                .collect();
            let toward = |i: usize| if long { -wanted[i] } else { wanted[i] };
            others.sort_by(|&i, &j| {
                let smaller = self.book[i].abs().total_cmp(&self.book[j].abs());
                smaller
                    .then(toward(i).total_cmp(&toward(j)))
                    .then(i.cmp(&j))
            });
            for &i in others.iter().take(missing) {
                self.base[i] = long;
            }
        }
    }

    /// Flip single assets, those that cost least first, and pairs where assets are few, as long as
    /// the book gets better.
    fn improve(&mut self, assets: &[usize], wanted: &[f64], sides: &mut [bool]) {
        let mut cheapest = assets.to_vec();
        let cost = |i: usize| self.book[i].abs() + wanted[i].abs();
        cheapest.sort_by(|&i, &j| cost(i).total_cmp(&cost(j)).then(i.cmp(&j)));
        cheapest.truncate(MAX_SINGLE_FLIPS.min(MAX_WORK / assets.len()));
        for _ in 0..MAX_ROUNDS {
            let mut better = false;
            for &i in &cheapest {
                better |= self.flip_if_better(assets, wanted, sides, &[i]);
            }
            if assets.len() > MAX_SINGLE_FLIPS {
                return;
            }
            for (place, &i) in cheapest.iter().enumerate() {
                for &j in cheapest.iter().take(if better { 0 } else { place }) {
                    better |= self.flip_if_better(assets, wanted, sides, &[i, j]);
                }
            }
            if !better {
                return;
            }
        }
    }

    fn flip_if_better(
        &mut self,
        assets: &[usize],
        wanted: &[f64],
        sides: &mut [bool],
        flipped: &[usize],
    ) -> bool {
        flipped.iter().for_each(|&i| sides[i] = !sides[i]);
        let quality = self.attempt(assets, wanted, sides);
        let better = self.keep_if_best(quality);
        if !better {
            flipped.iter().for_each(|&i| sides[i] = !sides[i]);
        }
        better
    }

    // An entry would borrow the map across the attempt, which may fail.
    #[allow(clippy::map_entry)]
    /// Flip the most wanted assets: none, all, and the best number of them that a search finds.
    fn search_prefix(
        &mut self,
        assets: &[usize],
        wanted: &[f64],
        sides: &mut [bool],
        torn: &[usize],
    ) -> usize {
        let (mut low, mut high) = (0, torn.len());
        let mut tried = std::collections::BTreeMap::new();
        loop {
            let step = ((high - low) / 4).max(1);
            for n_flips in (low..=high).step_by(step).chain([high]) {
                if !tried.contains_key(&n_flips) {
                    let got =
                        self.attempt_flips(assets, wanted, sides, torn, |place| place < n_flips);
                    tried.insert(n_flips, got);
                }
            }
            let best = tried.iter().filter_map(|(&n, &got)| Some((n, got?)));
            let best = best.reduce(|a, b| if b.1.beats(&a.1) { b } else { a });
            let best = best.map_or(0, |(n_flips, _)| n_flips);
            if step == 1 {
                return best;
            }
            (low, high) = (
                best.saturating_sub(step - 1),
                (best + step - 1).min(torn.len()),
            );
        }
    }

    fn attempt_flips(
        &mut self,
        assets: &[usize],
        wanted: &[f64],
        sides: &mut [bool],
        torn: &[usize],
        flipped: impl Fn(usize) -> bool,
    ) -> Option<Quality> {
        for (place, &i) in torn.iter().enumerate() {
            sides[i] = self.base[i] ^ flipped(place);
        }
        let quality = self.attempt(assets, wanted, sides);
        self.keep_if_best(quality);
        quality
    }

    /// Keep the book of the last attempt if it beats all before.
    fn keep_if_best(&mut self, quality: Option<Quality>) -> bool {
        let Some(quality) = quality else {
            return false;
        };
        if self
            .best
            .as_ref()
            .is_some_and(|(best, _)| !quality.beats(best))
        {
            return false;
        }
        let mut book = vec![0.0; self.book.len()];
        for (side, sign) in [(&self.long, 1.0), (&self.short, -1.0)] {
            for (&asset, &weight) in side.assets.iter().zip(&side.weights) {
                book[asset] = sign * weight + 0.0;
            }
        }
        self.best = Some((quality, book));
        true
    }
}

#[cfg(test)]
mod tests;
