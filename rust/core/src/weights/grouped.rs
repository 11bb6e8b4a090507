//! Nearest point to the scores when no group may weigh too much on either side.
//!
//! Either side alone, all assets allowed on it, is exact. When no asset is wanted on both, that is
//! the nearest book. Otherwise the sides have to be chosen. Up to eight assets, all are tried. Beyond,
//! the search starts with those of the nearest book without group caps and those of the scores
//! relative to the mean of their group; then assets flip, those next to the boundary between longs
//! and shorts first, while the book gets nearer.

use super::narrow::{is_wide, narrow};
use super::nearest::{self, Scratch};
use super::side::{Groups, Side, Slack};
use super::{Exposure, Fault, GroupCap, available};

/// Widest gap between scores that are narrowed, in caps.
const GAP_IN_CAPS: f64 = 100.0;
/// Up to so many assets, every combination of sides is tried.
const ALL_COMBINATIONS: usize = 8;
/// Beyond, at most so many assets change their side one by one,
const MAX_FLIPS: usize = 32;
/// and no more than this divided by the number of assets,
const MAX_WORK: usize = 1 << 14;
/// so often.
const MAX_ROUNDS: usize = 8;

/// Project one date; `out` is zero where the mask is false.
pub(super) fn project(
    scores: &[f64],
    mask: Option<&[u8]>,
    exposure: &Exposure,
    groups: &GroupCap,
    scratch: &mut Scratch,
    out: &mut [f64],
) -> Result<(), Fault> {
    let Some(split) = nearest::project(scores, mask, exposure, scratch, out)? else {
        return Ok(());
    };
    let narrowed = narrowed(scores, mask, exposure, scratch);
    let boundary = available(mask, scores.len())
        .find(|&i| scores[i] == split.lowest_long)
        .map_or(f64::INFINITY, |i| narrowed.as_deref().unwrap_or(scores)[i]);
    let sides: Vec<Place> = split.sides(scores, mask).collect();
    let scores = narrowed.as_deref().unwrap_or(scores);
    let everywhere = [true, false].map(|long| {
        let mut side = gather(scores, groups, long, available(mask, scores.len()));
        solve(&mut side, exposure, groups, long).then_some(side)
    });
    let found = match everywhere {
        [Some(long), Some(short)] if apart(&long, &short) => Some([long, short]),
        _ => Search::new(scores, groups, exposure).run(
            within_groups(scores, mask, groups, &sides).collect(),
            sides,
            boundary,
        ),
    };
    let Some([long, short]) = found else {
        return Err(Fault::Infeasible(format!(
            "groups of at most {} cannot support long={} and short={}",
            groups.cap, exposure.long, exposure.short
        )));
    };
    out.fill(0.0);
    for (side, sign) in [(long, 1.0), (short, -1.0)] {
        for (&asset, &weight) in side.assets.iter().zip(&side.weights) {
            out[asset] += sign * weight;
        }
    }
    Ok(())
}

/// Scores of which sums keep all digits, where the given ones spread too widely.
///
/// With given sides, gaps of two caps give the same weights as larger ones (see `narrow`); that they
/// are larger here lets the largest scores come first where sides are chosen.
fn narrowed(
    scores: &[f64],
    mask: Option<&[u8]>,
    exposure: &Exposure,
    scratch: &Scratch,
) -> Option<Vec<f64>> {
    let cap = exposure.cap.min(exposure.long.max(exposure.short));
    let falling = &scratch.falling;
    if !is_wide(falling, cap) {
        return None;
    }
    let mut places = Vec::new();
    narrow(falling, GAP_IN_CAPS * cap, &mut places);
    let middle = places[places.len() / 2];
    let mut out = vec![0.0; scores.len()];
    for i in available(mask, scores.len()) {
        out[i] = places[falling.partition_point(|&other| other > scores[i])] - middle;
    }
    Some(out)
}

/// An asset, and whether it is long.
type Place = (usize, bool);

/// The nearest book of all whose sides were tried.
struct Search<'a> {
    scores: &'a [f64],
    groups: &'a GroupCap,
    exposure: &'a Exposure,
    best: Option<(f64, [Side; 2])>,
}

impl<'a> Search<'a> {
    fn new(scores: &'a [f64], groups: &'a GroupCap, exposure: &'a Exposure) -> Self {
        Self {
            scores,
            groups,
            exposure,
            best: None,
        }
    }

    fn run(mut self, within: Vec<Place>, plain: Vec<Place>, boundary: f64) -> Option<[Side; 2]> {
        self.attempt(&plain);
        let mut sides = if self.attempt(&within) { within } else { plain };
        if sides.len() <= ALL_COMBINATIONS {
            for flips in 1..1usize << sides.len() {
                let flip =
                    |(place, &(i, long)): (usize, &Place)| (i, long ^ (flips >> place & 1 == 1));
                let flipped: Vec<Place> = sides.iter().enumerate().map(flip).collect();
                self.attempt(&flipped);
            }
        } else {
            self.improve(&mut sides, boundary);
        }
        self.best.map(|(_, book)| book)
    }

    fn improve(&mut self, sides: &mut [Place], boundary: f64) {
        let mut near: Vec<usize> = (0..sides.len()).collect();
        let away = |place: usize| (self.scores[sides[place].0] - boundary).abs();
        near.sort_by(|&a, &b| away(a).total_cmp(&away(b)).then(a.cmp(&b)));
        near.truncate(MAX_FLIPS.min(MAX_WORK / sides.len()));
        for _ in 0..MAX_ROUNDS {
            let mut better = false;
            for &place in &near {
                sides[place].1 = !sides[place].1;
                if self.attempt(sides) {
                    better = true;
                } else {
                    sides[place].1 = !sides[place].1;
                }
            }
            if !better {
                return;
            }
        }
    }

    /// Whether the book with these sides is nearer than all before.
    fn attempt(&mut self, sides: &[Place]) -> bool {
        let Some(book) = sided(self.scores, self.groups, self.exposure, sides) else {
            return false;
        };
        let distance = book[0].distance() + book[1].distance();
        let nearer = self
            .best
            .as_ref()
            .is_none_or(|(least, _)| distance < least * (1.0 - 1e-12));
        if nearer {
            self.best = Some((distance, book));
        }
        nearer
    }
}

/// No asset is held on both sides.
fn apart(long: &Side, short: &Side) -> bool {
    long.weights
        .iter()
        .zip(&short.weights)
        .all(|(&up, &down)| up == 0.0 || down == 0.0)
}

fn gather(
    scores: &[f64],
    groups: &GroupCap,
    long: bool,
    assets: impl Iterator<Item = usize>,
) -> Side {
    let mut side = Side::default();
    for i in assets {
        let wanted = if long { scores[i] } else { -scores[i] };
        side.push(i, wanted, 0.0, groups.group_of[i]);
    }
    side
}

/// Whether the side can hold its mass; its weights are then set.
fn solve(side: &mut Side, exposure: &Exposure, groups: &GroupCap, long: bool) -> bool {
    let mass = if long { exposure.long } else { exposure.short };
    let limits = Groups {
        n_groups: groups.n_groups,
        cap: groups.cap,
    };
    if side.capacity(exposure.cap, Some(limits)) < mass * (1.0 - 1e-12) {
        return false;
    }
    side.solve(mass, exposure.cap, Some(limits), Slack::FREE);
    true
}

fn sided(
    scores: &[f64],
    groups: &GroupCap,
    exposure: &Exposure,
    sides: &[Place],
) -> Option<[Side; 2]> {
    let (mut long, mut short) = (Vec::new(), Vec::new());
    for &(asset, is_long) in sides {
        if is_long { &mut long } else { &mut short }.push(asset);
    }
    let mut long = gather(scores, groups, true, long.into_iter());
    let mut short = gather(scores, groups, false, short.into_iter());
    (solve(&mut long, exposure, groups, true) && solve(&mut short, exposure, groups, false))
        .then_some([long, short])
}

/// Sides by the scores relative to the mean of their group; a group of one keeps its side.
fn within_groups<'a>(
    scores: &'a [f64],
    mask: Option<&'a [u8]>,
    groups: &'a GroupCap,
    sides: &'a [Place],
) -> impl Iterator<Item = Place> + 'a {
    let mut sums = vec![(0.0, 0.0); groups.n_groups];
    for i in available(mask, scores.len()) {
        let (sum, count) = &mut sums[groups.group_of[i]];
        *sum += scores[i];
        *count += 1.0;
    }
    sides.iter().map(move |&(i, is_long)| {
        let (sum, count) = sums[groups.group_of[i]];
        (
            i,
            if count > 1.0 {
                scores[i] > sum / count
            } else {
                is_long
            },
        )
    })
}
