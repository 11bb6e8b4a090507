//! Ranks and correlations within the cross-section of each date.
//!
//! Ranks are average ranks, 1 for the smallest: equal values share the mean of the places they take,
//! so that the order of the assets does not matter. `O(N log N)` a date, dates in parallel.

use ndarray::parallel::prelude::*;
use ndarray::{
    Array1, Array3, ArrayView1, ArrayView2, ArrayView3, ArrayViewMut0, ArrayViewMut1,
    ArrayViewMut2, Axis,
};
use pulp::Arch;

use crate::interrupt::{check, each_with};
use crate::memory::{self, Arrays};
use crate::real::Real;
use crate::{Result, shape};

/// What a rank is expressed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankScale {
    /// `1 ..= n`.
    Place,
    /// `(rank - 1) / (n - 1) - 0.5`, from -0.5 to 0.5; 0 where `n = 1`.
    Centred,
}

/// Which correlation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Correlation {
    /// Of the values.
    Pearson,
    /// Of the average ranks.
    Spearman,
}

/// Average ranks within each date and column.
///
/// `values` is `(T, N, L)`, any strides; so is the result. NaN stays NaN and does not count; infinite
/// values rank first or last.
///
/// # Errors
///
/// [`CoreError::Memory`](crate::CoreError::Memory).
pub fn average_ranks<Z: Real>(values: ArrayView3<'_, Z>, scale: RankScale) -> Result<Array3<f64>> {
    Arrays::new()
        .and("ranks", values.shape())
        .times(
            4 * memory::n_threads(),
            "values of a date",
            &[values.len_of(Axis(1))],
        )
        .require()?;
    let mut ranks = Array3::zeros(values.dim());
    ranks
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .zip(values.axis_iter(Axis(0)))
        .for_each_init(
            Ranker::default,
            each_with(
                |ranker: &mut Ranker,
                 (mut ranks, values): (ArrayViewMut2<'_, f64>, ArrayView2<'_, Z>)| {
                    for (mut ranks, values) in ranks.columns_mut().into_iter().zip(values.columns())
                    {
                        check();
                        let found = ranker.rank(values.iter().map(|&value| value.into()), scale);
                        ranks
                            .iter_mut()
                            .zip(found)
                            .for_each(|(rank, &found)| *rank = found);
                    }
                },
            ),
        );
    Ok(ranks)
}

/// Correlation of two variables across the assets of each date.
///
/// `a`, `b` and `mask` are `(T, N)`; cells count where the mask is true and both values are finite.
/// The result is `(T,)`: NaN where fewer than two cells count or a variable does not vary.
///
/// # Errors
///
/// [`CoreError::Shape`](crate::CoreError::Shape) when the arrays do not line up.
pub fn cross_sectional_correlation<A: Real, B: Real>(
    a: ArrayView2<'_, A>,
    b: ArrayView2<'_, B>,
    mask: Option<ArrayView2<'_, u8>>,
    kind: Correlation,
) -> Result<Array1<f64>> {
    shape::require("b", a.shape(), b.shape())?;
    if let Some(mask) = mask {
        shape::require("mask", a.shape(), mask.shape())?;
    }
    Arrays::new()
        .and("correlations", &[a.nrows()])
        .times(8 * memory::n_threads(), "values of a date", &[a.ncols()])
        .require()?;
    let mut correlations = Array1::zeros(a.nrows());
    correlations
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .enumerate()
        .for_each_init(
            Pairs::default,
            each_with(
                |pairs: &mut Pairs, (t, out): (usize, ArrayViewMut0<'_, f64>)| {
                    let mask = mask.map(|mask| mask.index_axis_move(Axis(0), t));
                    pairs.take(a.row(t), b.row(t), mask);
                    *out.into_scalar() = pairs.correlation(kind);
                },
            ),
        );
    Ok(correlations)
}

/// Working memory of the correlation of one cross-section.
#[derive(Debug, Default)]
struct Pairs {
    x: Vec<f64>,
    y: Vec<f64>,
    ranker: Ranker,
}

impl Pairs {
    /// Gather the values of both variables where both are finite and the mask is true.
    fn take<A: Real, B: Real>(
        &mut self,
        a: ArrayView1<'_, A>,
        b: ArrayView1<'_, B>,
        mask: Option<ArrayView1<'_, u8>>,
    ) {
        self.x.resize(a.len(), 0.0);
        self.y.resize(a.len(), 0.0);
        ArrayViewMut1::from(&mut self.x[..]).zip_mut_with(&a, |to, &from| *to = from.into());
        ArrayViewMut1::from(&mut self.y[..]).zip_mut_with(&b, |to, &from| *to = from.into());
        if mask.is_none() && totals(&self.x, &self.y).iter().all(|sum| sum.is_finite()) {
            return;
        }
        let (x, y, mut n) = (&mut self.x[..], &mut self.y[..], 0);
        // Without a branch: each pair is written, and the next overwrites one that does not count.
        for i in 0..x.len() {
            let seen = mask.is_none_or(|mask| mask[i] != 0);
            (x[n], y[n]) = (x[i], y[i]);
            n += usize::from(seen & x[n].is_finite() & y[n].is_finite());
        }
        self.x.truncate(n);
        self.y.truncate(n);
    }

    /// Correlation of what was gathered; the values are lost on the way.
    fn correlation(&mut self, kind: Correlation) -> f64 {
        if kind == Correlation::Spearman {
            for values in [&mut self.x, &mut self.y] {
                let ranks = self.ranker.rank(values.iter().copied(), RankScale::Centred);
                values.copy_from_slice(ranks);
            }
        }
        if self.x.len() < 2 {
            return f64::NAN;
        }
        plain_pearson(&self.x, &self.y).unwrap_or_else(|| pearson(&mut self.x, &mut self.y))
    }
}

/// Independent partial sums, enough to fill the widest registers.
const LANES: usize = 16;

/// Correlation by the textbook formula; `None` where that may lose digits, overflow or vanish.
fn plain_pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    /// Squared deviations below this share of the squared mean are left to [`pearson`].
    const LEAST_SHARE: f64 = 1e-18;
    let n = x.len() as f64;
    let [x_sum, y_sum] = totals(x, y);
    let (x_mean, y_mean) = (x_sum / n, y_sum / n);
    let [xx, yy, xy] = sums(
        x,
        y,
        #[inline(always)]
        |x, y| {
            let (x, y) = (x - x_mean, y - y_mean);
            [x * x, y * y, x * y]
        },
    );
    let is_safe = |square: f64, mean: f64| {
        (1e-150..1e150).contains(&square) && square > LEAST_SHARE * n * mean * mean
    };
    (is_safe(xx, x_mean) && is_safe(yy, y_mean))
        .then(|| (xy / (xx.sqrt() * yy.sqrt())).clamp(-1.0, 1.0))
}

/// The sums of both.
fn totals(x: &[f64], y: &[f64]) -> [f64; 2] {
    sums(
        x,
        y,
        #[inline(always)]
        |x, y| [x, y],
    )
}

/// Sums over pairs at the width of the machine, in an order that does not depend on it.
#[allow(clippy::needless_range_loop, reason = "lanes in registers, by index")]
#[inline(always)]
fn sums<const S: usize>(x: &[f64], y: &[f64], terms: impl Fn(f64, f64) -> [f64; S]) -> [f64; S] {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let mut sums = [[0.0; LANES]; S];
            let (x, y) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
            let rest = x.remainder().iter().zip(y.remainder());
            let mut last = [0.0; S];
            for (&x, &y) in rest {
                let terms = terms(x, y);
                for i in 0..S {
                    last[i] += terms[i];
                }
            }
            for (x, y) in x.zip(y) {
                for lane in 0..LANES {
                    let terms = terms(x[lane], y[lane]);
                    for i in 0..S {
                        sums[i][lane] += terms[i];
                    }
                }
            }
            std::array::from_fn(|i| sums[i].iter().sum::<f64>() + last[i])
        },
    )
}

/// Correlation of samples of any scale, which are centred and scaled on the way.
fn pearson(x: &mut [f64], y: &mut [f64]) -> f64 {
    if !standardise(x) || !standardise(y) {
        return f64::NAN;
    }
    let dot: f64 = x.iter().zip(y).map(|(x, y)| *x * *y).sum();
    dot.clamp(-1.0, 1.0)
}

/// Centre and scale to unit length; false where the sample does not vary.
///
/// Divided by its largest magnitude first, so that squares neither overflow nor vanish.
fn standardise(x: &mut [f64]) -> bool {
    let low = x.iter().copied().fold(f64::INFINITY, f64::min);
    let high = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if low == high {
        return false;
    }
    // Halves, because the distance of two huge values may overflow.
    let (middle, reach) = (0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low);
    x.iter_mut()
        .for_each(|x| *x = (0.5 * *x - 0.5 * middle) / reach);
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    x.iter_mut().for_each(|x| *x -= mean);
    let norm = x.iter().map(|x| *x * *x).sum::<f64>().sqrt();
    x.iter_mut().for_each(|x| *x /= norm);
    norm > 0.0
}

/// Working memory of the ranking of one cross-section.
#[derive(Debug, Default)]
struct Ranker {
    /// Sort key of every value.
    keys: Vec<u64>,
    /// Leading bits of the key and position, in one integer, of every value that is not NaN.
    order: Vec<u64>,
    ranks: Vec<f64>,
}

impl Ranker {
    fn rank(&mut self, values: impl Iterator<Item = f64>, scale: RankScale) -> &[f64] {
        self.ranks.clear();
        self.ranks.extend(values);
        self.sort();
        let (keys, n, low) = (&self.keys, self.order.len(), self.position_bits());
        let key = |entry: u64| keys[(entry & low) as usize];
        let mut before = 0;
        for ties in self
            .order
            .chunk_by(|&a, &b| (a ^ b) & !low == 0 && key(a) == key(b))
        {
            // Places before + 1 ..= before + ties, averaged.
            let rank = before as f64 + 0.5 * (ties.len() + 1) as f64;
            let rank = match scale {
                RankScale::Place => rank,
                RankScale::Centred if n == 1 => 0.0,
                RankScale::Centred => (rank - 1.0) / (n - 1) as f64 - 0.5,
            };
            for &entry in ties {
                self.ranks[(entry & low) as usize] = rank;
            }
            before += ties.len();
        }
        &self.ranks
    }

    /// Bits that hold a position.
    fn position_bits(&self) -> u64 {
        (self.ranks.len() as u64).next_power_of_two() - 1
    }

    /// Bring the values that are not NaN into order.
    fn sort(&mut self) {
        let low = self.position_bits();
        self.keys.clear();
        self.keys.extend(self.ranks.iter().map(|&v| sort_key(v)));
        self.order.clear();
        for (i, (&key, value)) in self.keys.iter().zip(&self.ranks).enumerate() {
            if !value.is_nan() {
                self.order.push(key & !low | i as u64);
            }
        }
        // Single integers sort twice as fast as pairs. Where the bits that gave way to the position
        // make the difference, the whole keys decide.
        self.order.sort_unstable();
        let alike = |a: &u64, b: &u64| (a ^ b) & !low == 0;
        for run in self.order.chunk_by_mut(alike) {
            if run.len() > 1 {
                run.sort_unstable_by_key(|entry| self.keys[(entry & low) as usize]);
            }
        }
    }
}

/// Integers in the order of the numbers; both zeros get the same.
fn sort_key(value: f64) -> u64 {
    let bits = (value + 0.0).to_bits();
    if value < 0.0 { !bits } else { bits | 1 << 63 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn ties_share_the_mean_of_their_places() {
        let values = array![[[3.0], [-0.0], [f64::NAN], [0.0], [f64::NEG_INFINITY]]];
        let ranks = average_ranks(values.view(), RankScale::Place).unwrap_or_default();
        let finite: Vec<f64> = ranks
            .iter()
            .copied()
            .filter(|rank| !rank.is_nan())
            .collect();
        assert_eq!(finite, [4.0, 2.5, 2.5, 1.0]);
        let centred = average_ranks(values.view(), RankScale::Centred).unwrap_or_default();
        assert_eq!(
            (centred[[0, 0, 0]], centred[[0, 1, 0]], centred[[0, 4, 0]]),
            (0.5, 0.0, -0.5)
        );
    }

    #[test]
    fn values_apart_by_their_last_bit_do_not_tie() {
        let next = f64::from_bits(1.5_f64.to_bits() + 1);
        let values = array![[[next], [1.5], [next], [-1.5]]];
        let ranks = average_ranks(values.view(), RankScale::Place).unwrap_or_default();
        assert_eq!(
            ranks.iter().copied().collect::<Vec<_>>(),
            [3.5, 2.0, 3.5, 1.0]
        );
    }

    #[test]
    fn a_monotone_map_has_rank_correlation_one() {
        let a = array![[1.0, 2.0, 3.0, 1e300], [1.0, 1.0, 1.0, 1.0]];
        let b = a.mapv(|x: f64| -x.ln());
        let got = cross_sectional_correlation(a.view(), b.view(), None, Correlation::Spearman);
        let got = got.unwrap_or_default();
        assert!((got[0] + 1.0).abs() < 1e-15 && got[1].is_nan());
    }
}
