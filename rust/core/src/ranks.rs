//! Ranks and correlations within the cross-section of each date.
//!
//! Ranks are average ranks, 1 for the smallest: equal values share the mean of the places they take,
//! so that the order of the assets does not matter. `O(N log N)` a date, dates in parallel.

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array3, ArrayView1, ArrayView2, ArrayView3, Axis};

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
pub fn average_ranks<Z: Real>(values: ArrayView3<'_, Z>, scale: RankScale) -> Array3<f64> {
    let mut ranks = Array3::zeros(values.dim());
    ranks
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .zip(values.axis_iter(Axis(0)))
        .for_each_init(Ranker::default, |ranker, (mut ranks, values)| {
            for (mut ranks, values) in ranks.columns_mut().into_iter().zip(values.columns()) {
                let found = ranker.rank(values.iter().map(|&value| value.into()), scale);
                ranks
                    .iter_mut()
                    .zip(found)
                    .for_each(|(rank, &found)| *rank = found);
            }
        });
    ranks
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
    mask: Option<ArrayView2<'_, bool>>,
    kind: Correlation,
) -> Result<Array1<f64>> {
    shape::require("b", a.shape(), b.shape())?;
    if let Some(mask) = mask {
        shape::require("mask", a.shape(), mask.shape())?;
    }
    let mut correlations = Array1::zeros(a.nrows());
    correlations
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .enumerate()
        .for_each_init(Default::default, |work: &mut (Ranker, Ranker), (t, out)| {
            let mask = mask.map(|mask| mask.index_axis_move(Axis(0), t));
            let (mut x, mut y) = finite_pairs(a.row(t), b.row(t), mask);
            if kind == Correlation::Spearman {
                x = work.0.rank(x.into_iter(), RankScale::Centred).to_vec();
                y = work.1.rank(y.into_iter(), RankScale::Centred).to_vec();
            }
            *out.into_scalar() = pearson(&mut x, &mut y);
        });
    Ok(correlations)
}

fn finite_pairs<A: Real, B: Real>(
    a: ArrayView1<'_, A>,
    b: ArrayView1<'_, B>,
    mask: Option<ArrayView1<'_, bool>>,
) -> (Vec<f64>, Vec<f64>) {
    let seen = |i: usize| mask.is_none_or(|mask| mask[i]);
    (0..a.len())
        .filter(|&i| seen(i))
        .map(|i| (a[i].into(), b[i].into()))
        .filter(|(a, b): &(f64, f64)| a.is_finite() && b.is_finite())
        .unzip()
}

/// Correlation of two samples of the same size, which are centred and scaled on the way.
fn pearson(x: &mut [f64], y: &mut [f64]) -> f64 {
    if x.len() < 2 || !standardise(x) || !standardise(y) {
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
    /// Sort key and position of every value that is not NaN.
    order: Vec<(u64, u32)>,
    ranks: Vec<f64>,
}

impl Ranker {
    fn rank(&mut self, values: impl Iterator<Item = f64>, scale: RankScale) -> &[f64] {
        self.order.clear();
        self.ranks.clear();
        for (i, value) in values.enumerate() {
            self.ranks.push(value);
            if !value.is_nan() {
                self.order.push((sort_key(value), i as u32));
            }
        }
        self.order.sort_unstable();
        let n = self.order.len();
        let mut before = 0;
        for ties in self.order.chunk_by(|a, b| a.0 == b.0) {
            // Places before + 1 ..= before + ties, averaged.
            let rank = before as f64 + 0.5 * (ties.len() + 1) as f64;
            let rank = match scale {
                RankScale::Place => rank,
                RankScale::Centred if n == 1 => 0.0,
                RankScale::Centred => (rank - 1.0) / (n - 1) as f64 - 0.5,
            };
            for &(_, i) in ties {
                self.ranks[i as usize] = rank;
            }
            before += ties.len();
        }
        &self.ranks
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
        let ranks = average_ranks(values.view(), RankScale::Place);
        let finite: Vec<f64> = ranks
            .iter()
            .copied()
            .filter(|rank| !rank.is_nan())
            .collect();
        assert_eq!(finite, [4.0, 2.5, 2.5, 1.0]);
        let centred = average_ranks(values.view(), RankScale::Centred);
        assert_eq!(
            (centred[[0, 0, 0]], centred[[0, 1, 0]], centred[[0, 4, 0]]),
            (0.5, 0.0, -0.5)
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
