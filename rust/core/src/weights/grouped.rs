//! Nearest point to the scores when no group may weigh too much on either side.
//!
//! Either side alone, all assets allowed on it, is exact. When no asset is wanted on both, that is
//! the nearest book. Otherwise the sides are those of the nearest book without group caps; where
//! these cannot hold the masses, they are those of the scores relative to the mean of their group.

use super::nearest::{self, Scratch, Split};
use super::side::{Groups, Side, Slack};
use super::{Exposure, Fault, GroupCap, available};

/// Project one date; `out` is zero where the mask is false.
pub(super) fn project(
    scores: &[f64],
    mask: Option<&[bool]>,
    exposure: &Exposure,
    groups: &GroupCap,
    scratch: &mut Scratch,
    out: &mut [f64],
) -> Result<(), Fault> {
    let Some(split) = nearest::project(scores, mask, exposure, scratch, out)? else {
        return Ok(());
    };
    let everywhere = [true, false].map(|long| {
        let mut side = gather(scores, groups, long, available(mask, scores.len()));
        solve(&mut side, exposure, groups, long).then_some(side)
    });
    let found = match everywhere {
        [Some(long), Some(short)] if apart(&long, &short) => Some([long, short]),
        _ => sided(scores, groups, exposure, split.sides(scores, mask)).or_else(|| {
            sided(
                scores,
                groups,
                exposure,
                within_groups(scores, mask, groups, split),
            )
        }),
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
    sides: impl Iterator<Item = (usize, bool)>,
) -> Option<[Side; 2]> {
    let (mut long, mut short) = (Vec::new(), Vec::new());
    for (asset, is_long) in sides {
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
    mask: Option<&'a [bool]>,
    groups: &'a GroupCap,
    split: Split,
) -> impl Iterator<Item = (usize, bool)> + 'a {
    let mut sums = vec![(0.0, 0.0); groups.n_groups];
    for i in available(mask, scores.len()) {
        let (sum, count) = &mut sums[groups.group_of[i]];
        *sum += scores[i];
        *count += 1.0;
    }
    split.sides(scores, mask).map(move |(i, is_long)| {
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
