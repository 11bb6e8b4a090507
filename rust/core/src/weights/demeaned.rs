//! Demeaned scores, scaled to the exposures.

// Lanes are what vectorises; iterators over two arrays and a lane number do not read better.
#![allow(clippy::needless_range_loop)]

use super::{Exposure, Fault, available};
use crate::simd::widest;

/// Independent sums, so that additions need not wait for each other.
const LANES: usize = 8;

/// Scores that differ by no more than this share of the largest carry no information.
const CONSTANT: f64 = 4.0 * f64::EPSILON;

/// Scale one date; `out` is zero where the mask is false.
pub(super) fn scale(
    scores: &[f64],
    mask: Option<&[bool]>,
    exposure: &Exposure,
    out: &mut [f64],
) -> Result<(), Fault> {
    let Some(first) = available(mask, scores.len()).next() else {
        return Ok(());
    };
    let origin = scores[first];
    let seen = widest(|| Seen::of(scores, mask, origin));
    if !seen.sum.is_finite() {
        if let Some(asset) = available(mask, scores.len()).find(|&i| !scores[i].is_finite()) {
            return Err(Fault::NotFinite(asset));
        }
        return rescaled(scores, mask, exposure, out, f64::MIN_POSITIVE);
    }
    if let Some(why) = exposure.shortage(seen.count) {
        return Err(Fault::Infeasible(why));
    }
    let largest = (origin + seen.low).abs().max((origin + seen.high).abs());
    if seen.high - seen.low <= CONSTANT * largest {
        constant(mask, exposure, seen.count, out);
        return Ok(());
    }
    let mean = seen.sum / seen.count as f64;
    let (above, below) = widest(|| masses(scores, mask, origin, mean));
    if above < 1e-290 || below < 1e-290 {
        // So small that dividing by it overflows.
        return rescaled(scores, mask, exposure, out, 1.0 / f64::MIN_POSITIVE);
    }
    let rates = (exposure.long / above, exposure.short / below);
    widest(|| write(scores, mask, (origin, mean), rates, out));
    Ok(())
}

/// Weights do not depend on the unit of the scores: choose a better one.
fn rescaled(
    scores: &[f64],
    mask: Option<&[bool]>,
    exposure: &Exposure,
    out: &mut [f64],
    unit: f64,
) -> Result<(), Fault> {
    let moved: Vec<f64> = scores.iter().map(|score| score * unit).collect();
    scale(&moved, mask, exposure, out)
}

/// What one pass over the scores of a date shows, all relative to an origin.
struct Seen {
    count: usize,
    sum: f64,
    low: f64,
    high: f64,
}

impl Seen {
    #[inline(always)]
    fn of(scores: &[f64], mask: Option<&[bool]>, origin: f64) -> Self {
        let mut sums = [0.0; LANES];
        let (mut lows, mut highs) = ([0.0f64; LANES], [0.0f64; LANES]);
        let mut look = |lane: usize, distance: f64| {
            sums[lane] += distance;
            lows[lane] = if distance < lows[lane] {
                distance
            } else {
                lows[lane]
            };
            highs[lane] = if distance > highs[lane] {
                distance
            } else {
                highs[lane]
            };
        };
        let whole = scores.len() / LANES * LANES;
        let mut count = scores.len();
        if let Some(mask) = mask {
            count = mask.iter().map(|&seen| usize::from(seen)).sum();
            for (scores, mask) in scores.chunks_exact(LANES).zip(mask.chunks_exact(LANES)) {
                for lane in 0..LANES {
                    look(
                        lane,
                        if mask[lane] {
                            scores[lane] - origin
                        } else {
                            0.0
                        },
                    );
                }
            }
            for i in (whole..scores.len()).filter(|&i| mask[i]) {
                look(i - whole, scores[i] - origin);
            }
        } else {
            for scores in scores.chunks_exact(LANES) {
                for lane in 0..LANES {
                    look(lane, scores[lane] - origin);
                }
            }
            for i in whole..scores.len() {
                look(i - whole, scores[i] - origin);
            }
        }
        Self {
            count,
            sum: total(&sums),
            low: lows.into_iter().fold(0.0, f64::min),
            high: highs.into_iter().fold(0.0, f64::max),
        }
    }
}

/// Mass above and below the mean.
#[inline(always)]
fn masses(scores: &[f64], mask: Option<&[bool]>, origin: f64, mean: f64) -> (f64, f64) {
    let (mut above, mut below) = ([0.0; LANES], [0.0; LANES]);
    let mut look = |lane: usize, d: f64| {
        above[lane] += if d > 0.0 { d } else { 0.0 };
        below[lane] += if d < 0.0 { -d } else { 0.0 };
    };
    let whole = scores.len() / LANES * LANES;
    if let Some(mask) = mask {
        for (scores, mask) in scores.chunks_exact(LANES).zip(mask.chunks_exact(LANES)) {
            for lane in 0..LANES {
                let d = scores[lane] - origin - mean;
                look(lane, if mask[lane] { d } else { 0.0 });
            }
        }
        for i in (whole..scores.len()).filter(|&i| mask[i]) {
            look(i - whole, scores[i] - origin - mean);
        }
    } else {
        for scores in scores.chunks_exact(LANES) {
            for lane in 0..LANES {
                look(lane, scores[lane] - origin - mean);
            }
        }
        for i in whole..scores.len() {
            look(i - whole, scores[i] - origin - mean);
        }
    }
    (total(&above), total(&below))
}

fn total(sums: &[f64; LANES]) -> f64 {
    let [a, b, c, d, e, f, g, h] = *sums;
    ((a + e) + (b + f)) + ((c + g) + (d + h))
}

#[inline(always)]
fn write(
    scores: &[f64],
    mask: Option<&[bool]>,
    (origin, mean): (f64, f64),
    (up, down): (f64, f64),
    out: &mut [f64],
) {
    let weight = |score: f64| {
        let d = score - origin - mean;
        // Adding zero makes a positive zero of a negative one.
        d * if d > 0.0 { up } else { down } + 0.0
    };
    if let Some(mask) = mask {
        for ((out, &score), &seen) in out.iter_mut().zip(scores).zip(mask) {
            *out = if seen { weight(score) } else { 0.0 };
        }
    } else {
        for (out, &score) in out.iter_mut().zip(scores) {
            *out = weight(score);
        }
    }
}

/// No score says more than another: later assets are long, earlier ones short.
fn constant(mask: Option<&[bool]>, exposure: &Exposure, count: usize, out: &mut [f64]) {
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
