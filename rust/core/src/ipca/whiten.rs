//! Coordinates in which the pooled second moment of the instruments is the identity.

use ndarray::{Array1, Array2, ArrayView2};

use crate::linalg::{Eigen, add_product, product, symmetric_eigen};
use crate::rows::Rows;
use crate::{CoreError, Result};

/// Noise among the eigenvalues is at most this many times the most negative one.
const NOISE: f64 = 10.0;
/// An instrument with more than this share of the squares of a direction takes part in it.
const TAKES_PART: f64 = 1e-6;

/// How far rounding reaches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rounding {
    /// Directions with less than this share of the largest eigenvalue count as spanned by no date.
    pub(super) share: f64,
    /// Relative error of the second moments themselves.
    pub(super) of_sums: f64,
}

/// `B` and its inverse on the span of the instruments.
#[derive(Debug)]
pub(super) struct White {
    /// `Γ = to_raw Θ`, minimum norm among the equivalent ones, shape `(P, R)`. Also `B`.
    pub(super) to_raw: Array2<f64>,
    /// `Θ = from_raw Γ`, shape `(R, P)`.
    pub(super) from_raw: Array2<f64>,
    /// Instruments that take part in directions that no date spans, ascending.
    pub(super) unidentified: Vec<usize>,
}

/// Whiten the second moment `W`, shape `(P, P)`.
///
/// Where the instruments lead with a constant, the others are centred on it first: `M'WM`, with
/// `M = I - e_0 m'` and `m` their means. What remains is `D C D`, with `D` the root mean squares and
/// `C = V Λ V'`, and `B = M D⁻¹ V Λ^-½` without the directions that no date spans. So neither the
/// level nor the unit of a characteristic decides what counts as spanned, but what it varies by.
///
/// An exact second moment has no negative eigenvalue: one that is there shows the size of the noise.
/// Centring takes a mean square `w_j` to a variance `v_j` that errs by `of_sums w_j`: an instrument
/// whose variance is no more does not vary, and a direction `x` of `C` errs by `Σ_j x_j² w_j / v_j`
/// times `of_sums`.
pub(super) fn whiten(
    second_moment: ArrayView2<'_, f64>,
    constant: bool,
    rounding: Rounding,
) -> Result<White> {
    let n = second_moment.nrows();
    let mut mean = Array1::zeros(n);
    if constant {
        mean.assign(&(&second_moment.row(0) / second_moment[[0, 0]]));
        mean[0] = 0.0;
    }
    let mut centred = Array2::from_shape_fn((n, n), |(i, j)| {
        second_moment[[i, j]] - mean[i] * second_moment[[0, j]]
    });
    // A column that does not vary keeps its unit: its direction is dropped below.
    let still = |j: usize| centred[[j, j]] <= rounding.of_sums * second_moment[[j, j]];
    let still: Vec<bool> = (0..n).map(still).collect();
    for j in (0..n).filter(|&j| still[j]) {
        centred.row_mut(j).fill(0.0);
        centred.column_mut(j).fill(0.0);
    }
    let scale = Array1::from_shape_fn(n, |j| match still[j] {
        true => 1.0,
        false => centred[[j, j]].sqrt(),
    });
    let correlation = &centred / &scale / scale.view().insert_axis(ndarray::Axis(1));
    let eigen = symmetric_eigen(correlation.view())?;
    let error = second_moment.diag().to_owned() / &scale / &scale * rounding.of_sums;
    let rank = rank(&eigen, &error, rounding.share);
    if rank == 0 {
        return Err(CoreError::Rank {
            what: "characteristics",
            rank,
            wanted: 1,
        });
    }
    Ok(coordinates(&eigen, rank, &scale, &mean))
}

/// Directions that some date spans; `error` is that of each instrument's unit variance.
fn rank(eigen: &Eigen, error: &Array1<f64>, share: f64) -> usize {
    let (values, n) = (&eigen.values, eigen.values.len());
    let floor = (share * values[0]).max(-NOISE * values[n - 1]).max(0.0);
    let spanned = |k: &usize| {
        let noise = eigen.vectors.column(*k).mapv(|v| v * v).dot(error);
        values[*k] > floor.max(noise)
    };
    (0..n).take_while(spanned).count()
}

fn coordinates(eigen: &Eigen, rank: usize, scale: &Array1<f64>, mean: &Array1<f64>) -> White {
    let n = scale.len();
    let (roots, v) = (eigen.values.map(|value| value.abs().sqrt()), &eigen.vectors);
    let mut to_raw = Array2::from_shape_fn((n, rank), |(i, k)| v[[i, k]] / (scale[i] * roots[k]));
    let from_raw = Array2::from_shape_fn((rank, n), |(k, i)| v[[i, k]] * scale[i] * roots[k]);
    let mut unseen = Array2::from_shape_fn((n, n - rank), |(i, k)| v[[i, rank + k]] / scale[i]);
    let unidentified = taking_part(&eigen.vectors, rank);
    for columns in [&mut to_raw, &mut unseen] {
        let level = mean.dot(columns);
        let mut first = columns.row_mut(0);
        first -= &level;
    }
    // The inverse of `M` adds the means again.
    let level = from_raw.column(0).to_owned();
    let mut from_raw = from_raw;
    for (mut column, &mean) in from_raw.columns_mut().into_iter().zip(mean) {
        column.scaled_add(mean, &level);
    }
    if let Some(unseen) = super::rotate::orthonormal(Rows::from_view(unseen.t())) {
        let part = product(unseen.view(), to_raw.view());
        add_product(to_raw.view_mut(), -1.0, unseen.view().t(), part.view());
    }
    White {
        to_raw,
        from_raw,
        unidentified,
    }
}

/// Instruments of the directions from `rank` on, the constant of a centred one aside.
fn taking_part(vectors: &Array2<f64>, rank: usize) -> Vec<usize> {
    let share = |j: usize| -> f64 { vectors.row(j).iter().skip(rank).map(|v| v * v).sum() };
    let n = vectors.nrows();
    (0..n).filter(|&j| share(j) > TAKES_PART).collect()
}
