//! Nearest point to the scores with a long and a short mass under a cap.
//!
//! For a fixed split, the `k` highest scores being the longs, either side is the projection onto a
//! capped simplex: `w_i = clip(s_i - tau, 0, cap)`. With all assets allowed on either side, the
//! supports of the two projections may not overlap: then they are the answer. If they overlap, every
//! long of a split `k` is above its threshold, so that the distance as a function of `k` follows
//! from prefix sums, and the number of capped longs only falls as `k` grows: one sweep finds the
//! nearest split. Sorting is what costs.

use super::narrow::{is_wide, narrow};
use super::{Exposure, Fault, MAX_SCORE, available};

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct Scratch {
    keys: Vec<u64>,
    /// Available scores, highest first.
    pub(super) falling: Vec<f64>,
    /// The same, negated, highest first.
    rising: Vec<f64>,
    long: Sweep,
    short: Sweep,
}

/// Where the sides of the nearest book lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Split {
    /// Scores from here up are long; of scores equal to it, the last `n_long_ties`.
    pub(super) lowest_long: f64,
    /// Equal scores at the boundary that are long.
    pub(super) n_long_ties: usize,
    /// Equal scores at the boundary.
    pub(super) n_ties: usize,
}

/// Project one date; `out` is zero where the mask is false. `None` without an available asset.
pub(super) fn project(
    scores: &[f64],
    mask: Option<&[u8]>,
    exposure: &Exposure,
    scratch: &mut Scratch,
    out: &mut [f64],
) -> Result<Option<Split>, Fault> {
    scratch.sort(scores, mask)?;
    let n_assets = scratch.falling.len();
    if n_assets == 0 {
        return Ok(None);
    }
    if let Some(why) = exposure.shortage(n_assets) {
        return Err(Fault::Infeasible(why));
    }
    let centre = scratch.falling[n_assets / 2];
    let Scratch {
        falling,
        rising,
        long,
        short,
        ..
    } = scratch;
    long.run(falling, centre, exposure.long, exposure);
    short.run(rising, -centre, exposure.short, exposure);
    let (n_long, n_short) = if long.support() + short.support() <= n_assets {
        (long.support(), short.support())
    } else {
        let n_long = nearest_split(long, short, n_assets);
        (n_long, n_assets - n_long)
    };
    let up = long.threshold(&falling[..n_long], exposure.long, exposure.cap);
    let down = short.threshold(&rising[..n_short], exposure.short, exposure.cap);
    // Between supports that do not overlap nothing is held, wherever the line is drawn.
    let split = Split::after(falling, n_long);
    for (i, is_long) in split.sides(scores, mask) {
        out[i] = if is_long {
            up.weight(scores[i])
        } else {
            // Not -w: there is no negative zero.
            0.0 - down.weight(-scores[i])
        };
    }
    Ok(Some(split))
}

impl Scratch {
    fn sort(&mut self, scores: &[f64], mask: Option<&[u8]>) -> Result<(), Fault> {
        self.keys.clear();
        for i in available(mask, scores.len()) {
            let score = scores[i];
            if !score.is_finite() {
                return Err(Fault::NotFinite(i));
            }
            if score.abs() > MAX_SCORE {
                return Err(Fault::TooLarge {
                    asset: i,
                    got: score,
                    most: MAX_SCORE,
                });
            }
            self.keys.push(rank_bits(score));
        }
        self.keys.sort_unstable();
        self.falling.clear();
        self.falling
            .extend(self.keys.iter().rev().map(|&key| from_rank_bits(key)));
        self.rising.clear();
        self.rising
            .extend(self.keys.iter().map(|&key| -from_rank_bits(key)));
        Ok(())
    }
}

/// Integers sort faster than floats: bits in the order of the numbers they stand for.
fn rank_bits(score: f64) -> u64 {
    let bits = score.to_bits();
    bits ^ (((bits as i64) >> 63) as u64 | 1 << 63)
}

fn from_rank_bits(key: u64) -> f64 {
    f64::from_bits(key ^ (((!key as i64) >> 63) as u64 | 1 << 63))
}

/// What each number of assets on one side costs.
#[derive(Default)]
struct Sweep {
    /// Fewest assets that hold the mass.
    fewest: usize,
    /// `sum (w - s)^2 - s^2` over the side, by its number of assets, from `fewest` to the support.
    costs: Vec<f64>,
    /// Of these assets, how many are at the cap.
    capped: Vec<usize>,
    /// Rounding that the costs may carry.
    noise: f64,
    /// Scores with narrowed gaps, where they are used.
    narrowed: Vec<f64>,
}

impl Sweep {
    /// Number of assets that are held when all may be.
    fn support(&self) -> usize {
        self.fewest + self.costs.len() - 1
    }

    fn cost(&self, n_assets: usize) -> f64 {
        self.costs[n_assets - self.fewest]
    }

    /// The weights of a side that consists of `scores`.
    fn threshold(&self, scores: &[f64], mass: f64, cap: f64) -> Threshold {
        if scores.is_empty() || mass <= 0.0 {
            return Threshold::nothing();
        }
        let capped = self.capped[scores.len() - self.fewest];
        Threshold::of(scores, (self.fewest, capped), mass, cap.min(mass))
    }

    /// `scores` fall.
    fn run(&mut self, scores: &[f64], centre: f64, mass: f64, exposure: &Exposure) {
        let cap = exposure.cap.min(mass);
        if is_wide(scores, cap) {
            let mut narrowed = std::mem::take(&mut self.narrowed);
            narrow(scores, 2.0 * cap, &mut narrowed);
            self.sweep(&narrowed, narrowed[scores.len() / 2], mass, exposure);
            self.narrowed = narrowed;
        } else {
            self.sweep(scores, centre, mass, exposure);
        }
    }

    fn sweep(&mut self, scores: &[f64], centre: f64, mass: f64, exposure: &Exposure) {
        self.costs.clear();
        self.capped.clear();
        self.fewest = exposure.fewest(mass);
        self.noise = 0.0;
        if self.fewest == 0 {
            self.costs.push(0.0);
            self.capped.push(0);
            return;
        }
        let cap = exposure.cap.min(mass);
        let head = &scores[..self.fewest];
        let mut interior = Interior::default();
        for &score in head {
            interior.add(score - centre);
        }
        let mut capped = Capped::default();
        // At first as many as possible are capped; every further asset sets some free.
        while interior.count > 0 && mass - (capped.count + 1) as f64 * cap >= 0.0 {
            let moved = scores[capped.count] - centre;
            interior.drop(moved);
            capped.add(moved, cap);
        }
        let mut n_assets = self.fewest;
        loop {
            let mut threshold = interior.threshold(mass - capped.count as f64 * cap);
            while capped.count > 0
                && (interior.count == 0 || scores[capped.count - 1] - centre - threshold < cap)
            {
                if interior.count == 0 && mass >= capped.count as f64 * cap * (1.0 - 1e-12) {
                    break;
                }
                let moved = scores[capped.count - 1] - centre;
                capped.drop(moved, cap);
                interior.add(moved);
                threshold = interior.threshold(mass - capped.count as f64 * cap);
            }
            let cost = capped.cost + interior.cost(threshold);
            self.costs.push(cost);
            self.capped.push(capped.count);
            self.noise = self
                .noise
                .max(capped.cost.abs() + interior.squares + cost.abs());
            let next = scores.get(n_assets).map(|score| score - centre);
            // With every asset at its cap, the lowest that a threshold can be is a cap below.
            let bar = if interior.count > 0 {
                threshold
            } else {
                scores[n_assets - 1] - centre - cap
            };
            match next {
                Some(next) if next > bar => interior.add(next),
                _ => return,
            }
            n_assets += 1;
        }
    }
}

/// Assets strictly between zero and the cap.
#[derive(Default)]
struct Interior {
    count: usize,
    sum: f64,
    squares: f64,
}

impl Interior {
    fn add(&mut self, score: f64) {
        self.count += 1;
        self.sum += score;
        self.squares += score * score;
    }

    fn drop(&mut self, score: f64) {
        self.count -= 1;
        self.sum -= score;
        self.squares -= score * score;
    }

    fn threshold(&self, mass: f64) -> f64 {
        (self.sum - mass) / self.count as f64
    }

    /// `w = s - tau` gives `w^2 - 2 w s = tau^2 - s^2`.
    fn cost(&self, threshold: f64) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        self.count as f64 * threshold * threshold - self.squares
    }
}

/// Assets at the cap.
#[derive(Default)]
struct Capped {
    count: usize,
    cost: f64,
}

impl Capped {
    fn add(&mut self, score: f64, cap: f64) {
        self.count += 1;
        self.cost += cap * cap - 2.0 * cap * score;
    }

    fn drop(&mut self, score: f64, cap: f64) {
        self.count -= 1;
        self.cost -= cap * cap - 2.0 * cap * score;
    }
}

/// The number of longs of the nearest split; more of them when two are equally near.
fn nearest_split(long: &Sweep, short: &Sweep, n_assets: usize) -> usize {
    let fewest = long.fewest.max(n_assets.saturating_sub(short.support()));
    let most = long.support().min(n_assets - short.fewest);
    let cost = |n_long: usize| long.cost(n_long) + short.cost(n_assets - n_long);
    let least = (fewest..=most).map(cost).fold(f64::INFINITY, f64::min);
    let tie = least + 1e-14 * (long.noise + short.noise);
    (fewest..=most)
        .rev()
        .find(|&n_long| cost(n_long) <= tie)
        .unwrap_or(most)
}

impl Split {
    fn after(falling: &[f64], n_long: usize) -> Self {
        if n_long == 0 {
            return Self {
                lowest_long: f64::INFINITY,
                n_long_ties: 0,
                n_ties: 0,
            };
        }
        let edge = falling[n_long - 1];
        let above = falling.partition_point(|&score| score > edge);
        let upto = falling.partition_point(|&score| score >= edge);
        Self {
            lowest_long: edge,
            n_long_ties: n_long - above,
            n_ties: upto - above,
        }
    }

    /// Every available asset, and whether it is on the long side.
    pub(super) fn sides<'a>(
        self,
        scores: &'a [f64],
        mask: Option<&'a [u8]>,
    ) -> impl Iterator<Item = (usize, bool)> + 'a {
        let mut ties_to_come = self.n_ties;
        available(mask, scores.len()).map(move |i| {
            let mut is_long = scores[i] > self.lowest_long;
            if scores[i] == self.lowest_long {
                is_long = ties_to_come <= self.n_long_ties;
                ties_to_come -= 1;
            }
            (i, is_long)
        })
    }
}

/// `w = clip((s - origin) - level, 0, cap)`, the origin being a score near the threshold.
#[derive(Debug, Clone, Copy)]
struct Threshold {
    origin: f64,
    level: f64,
    cap: f64,
}

impl Threshold {
    fn nothing() -> Self {
        Self {
            origin: 0.0,
            level: 0.0,
            cap: 0.0,
        }
    }

    /// Weights of the falling `scores` that sum to `mass`; `fewest` of them hold it, and about `capped`
    /// are at the cap.
    ///
    /// The sweep worked with prefix sums. Here sums run over distances from a score that is itself
    /// near the threshold, so that weights are exact however large the scores.
    fn of(scores: &[f64], (fewest, capped): (usize, usize), mass: f64, cap: f64) -> Self {
        let at = |place: usize| scores[place.min(scores.len() - 1)];
        let origin = at(capped);
        let (mut first, mut last) = (capped, scores.len());
        // No more than mass / cap are at the cap, and the fewest that hold the mass are held.
        let (mut low, mut high) = (
            at((mass / cap) as usize) - origin - cap,
            at(fewest - 1) - origin,
        );
        let mut level = low;
        for _ in 0..200 {
            let newton = interior_level(&scores[first..last], origin, mass - first as f64 * cap);
            level = newton
                .filter(|level| (low..=high).contains(level))
                .unwrap_or(0.5 * (low + high));
            let excess = |score: f64| score - origin - level;
            first = scores.partition_point(|&score| excess(score) >= cap);
            last = scores.partition_point(|&score| excess(score) > 0.0);
            let held: f64 = scores[first..last].iter().map(|&score| excess(score)).sum();
            let over = held + first as f64 * cap - mass;
            let rounding = scores.len() as f64 * f64::EPSILON * mass;
            if over.abs() <= rounding || level == low && level == high {
                break;
            }
            if over > 0.0 {
                low = level;
            } else {
                high = level;
            }
        }
        Self { origin, level, cap }
    }

    fn weight(&self, score: f64) -> f64 {
        (score - self.origin - self.level).clamp(0.0, self.cap)
    }
}

/// The level at which the `scores` between zero and the cap hold `mass`; `None` when there are none.
fn interior_level(scores: &[f64], origin: f64, mass: f64) -> Option<f64> {
    let sum: f64 = scores.iter().map(|score| score - origin).sum();
    (!scores.is_empty()).then(|| (sum - mass) / scores.len() as f64)
}
