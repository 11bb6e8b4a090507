//! Demeaned scores, scaled to the exposures.
//!
//! The date is copied into its place in the result first, with NaN where the mask is false: what
//! then follows are passes without a branch over memory that is in the cache, and comparisons with
//! NaN being false, nothing is held there.

use super::{Exposure, Fault, available};
use crate::simd::widest;

/// Independent sums, so that additions need not wait for each other.
const LANES: usize = 8;

/// Scores that differ by no more than this share of the largest carry no information.
const CONSTANT: f64 = 4.0 * f64::EPSILON;

/// Between these no sum of scores overflows, nor does an exposure over one.
const SMALL: f64 = 1e-200;
const LARGE: f64 = 1e200;

/// A power of two: to multiply by it moves the point of a number and no digit.
const DOWN: f64 = f64::MIN_POSITIVE;
const UP: f64 = 1.0 / f64::MIN_POSITIVE;

/// Scale one date; `out` is zero where the mask is false.
pub(super) fn scale(
    scores: &[f64],
    mask: Option<&[u8]>,
    exposure: &Exposure,
    out: &mut [f64],
) -> Result<(), Fault> {
    let Some(first) = available(mask, scores.len()).next() else {
        out.fill(0.0);
        return Ok(());
    };
    let mut origin = scores[first];
    let count = mask.map_or(scores.len(), n_available);
    let mut seen = widest(
        #[inline(always)]
        || {
            copy(scores, mask, out);
            Seen::of(out, origin)
        },
    );
    let no_number = |&i: &usize| !scores[i].is_finite();
    if (!seen.sum.is_finite() || seen.count != count as f64)
        && let Some(asset) = available(mask, scores.len()).find(no_number)
    {
        return Err(Fault::NotFinite(asset));
    }
    if let Some(why) = exposure.shortage(count) {
        return Err(Fault::Infeasible(why));
    }
    // An overflow of the product is above the bound as well.
    if seen.spread() * count as f64 > LARGE {
        (origin, seen) = in_unit(DOWN, origin, out);
    }
    let largest = (origin + seen.low).abs().max((origin + seen.high).abs());
    if seen.spread() <= CONSTANT * largest {
        out.fill(0.0);
        constant(mask, exposure, count, out);
        return Ok(());
    }
    if seen.spread() < SMALL {
        (origin, seen) = in_unit(UP, origin, out);
    }
    let mean = seen.sum / count as f64;
    let (above, below) = widest(
        #[inline(always)]
        || masses(out, origin, mean),
    );
    let rates = (exposure.long / above, exposure.short / below);
    widest(
        #[inline(always)]
        || weigh(out, (origin, mean), rates),
    );
    Ok(())
}

/// Weights do not depend on the unit of the scores: take a better one than the caller's.
fn in_unit(unit: f64, origin: f64, out: &mut [f64]) -> (f64, Seen) {
    out.iter_mut().for_each(|cell| *cell *= unit);
    (origin * unit, Seen::of(out, origin * unit))
}

/// Number of available cells; sums of 128 of them fit into a byte.
fn n_available(mask: &[u8]) -> usize {
    mask.chunks(128)
        .map(|part| usize::from(part.iter().map(|&seen| u8::from(seen != 0)).sum::<u8>()))
        .sum()
}

/// Copy the scores, NaN where the mask is false: a number of all one bits is a NaN.
#[inline(always)]
fn copy(scores: &[f64], mask: Option<&[u8]>, out: &mut [f64]) {
    let Some(mask) = mask else {
        out.copy_from_slice(scores);
        return;
    };
    for ((out, &score), &seen) in out.iter_mut().zip(scores).zip(mask) {
        *out = f64::from_bits(score.to_bits() | u64::from(seen != 0).wrapping_sub(1));
    }
}

/// Look at all cells, `LANES` at a time, the last ones filled up with NaN.
#[inline(always)]
fn each_block(cells: &[f64], mut look: impl FnMut(&[f64; LANES])) {
    let (blocks, rest) = cells.as_chunks::<LANES>();
    for block in blocks {
        look(block);
    }
    let mut last = [f64::NAN; LANES];
    last[..rest.len()].copy_from_slice(rest);
    look(&last);
}

/// What one pass over the cells that are numbers shows, all relative to an origin.
struct Seen {
    count: f64,
    sum: f64,
    low: f64,
    high: f64,
}

impl Seen {
    fn spread(&self) -> f64 {
        self.high - self.low
    }

    #[inline(always)]
    fn of(cells: &[f64], origin: f64) -> Self {
        let (mut counts, mut sums) = ([0.0; LANES], [0.0; LANES]);
        let (mut lows, mut highs) = ([0.0; LANES], [0.0; LANES]);
        each_block(
            cells,
            #[inline(always)]
            |block| {
                for lane in 0..LANES {
                    let d = block[lane] - origin;
                    counts[lane] += if d.is_nan() { 0.0 } else { 1.0 };
                    sums[lane] += if d.is_nan() { 0.0 } else { d };
                    lows[lane] = if d < lows[lane] { d } else { lows[lane] };
                    highs[lane] = if d > highs[lane] { d } else { highs[lane] };
                }
            },
        );
        Self {
            count: total(&counts),
            sum: total(&sums),
            low: lows.into_iter().fold(0.0, f64::min),
            high: highs.into_iter().fold(0.0, f64::max),
        }
    }
}

/// Mass above and below the mean.
#[inline(always)]
fn masses(cells: &[f64], origin: f64, mean: f64) -> (f64, f64) {
    let (mut above, mut below) = ([0.0; LANES], [0.0; LANES]);
    each_block(
        cells,
        #[inline(always)]
        |block| {
            for lane in 0..LANES {
                let d = block[lane] - origin - mean;
                above[lane] += if d > 0.0 { d } else { 0.0 };
                below[lane] += if d < 0.0 { -d } else { 0.0 };
            }
        },
    );
    (total(&above), total(&below))
}

fn total(sums: &[f64; LANES]) -> f64 {
    let [a, b, c, d, e, f, g, h] = *sums;
    ((a + e) + (b + f)) + ((c + g) + (d + h))
}

/// Turn scores into weights; NaN becomes zero.
#[inline(always)]
fn weigh(cells: &mut [f64], (origin, mean): (f64, f64), (up, down): (f64, f64)) {
    for cell in cells {
        let d = *cell - origin - mean;
        // Adding zero makes a positive zero of a negative one.
        let weight = d * if d > 0.0 { up } else { down } + 0.0;
        *cell = if d.is_nan() { 0.0 } else { weight };
    }
}

/// No score says more than another: later assets are long, earlier ones short.
fn constant(mask: Option<&[u8]>, exposure: &Exposure, count: usize, out: &mut [f64]) {
    let (long, short) = (exposure.long, exposure.short);
    let n_long = if short == 0.0 {
        count
    } else if long == 0.0 {
        0
    } else {
        let share = (count as f64 * long / (long + short)).round_ties_even();
        (share as usize).clamp(1, count - 1)
    };
    let n_short = count - n_long;
    for (rank, i) in available(mask, out.len()).enumerate() {
        out[i] = if rank < n_short {
            -short / n_short as f64
        } else {
            long / n_long as f64
        };
    }
}
