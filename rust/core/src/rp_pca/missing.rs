//! RP-PCA with missing returns: moments from what is observed, factors by regression on it.

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut1, Axis, Zip};

use super::{BaseMoment, Directions, Settings, require_positive};
use crate::interrupt::each;
use crate::memory::Arrays;
use crate::stream::{Columns, DEPTH, Stream};
use crate::{Real, Result, decompose, krylov, linalg, pca, shape};

/// Eigenvalues below this fraction of the largest are dropped from a small Gram matrix.
const SINGULAR: f64 = 1e-12;

/// Eigenvectors of the pairwise moment matrix.
///
/// `M_ij` is the mean of `x_ti x_tj` over the dates when both are observed (for a covariance: of the
/// deviations from each asset's own mean, with one observation less in the divisor but at least
/// one), plus `gamma` times the product of the means. Two assets never observed together contribute
/// the product of the means only. Such a matrix need not be positive semidefinite.
pub(super) fn directions<R: Real>(
    returns: ArrayView2<'_, R>,
    columns: &Columns,
    scale: Option<&Array1<f64>>,
    settings: &Settings,
) -> Result<Directions> {
    let (n_dates, n_assets) = returns.dim();
    Arrays::new()
        .times(3, "second moments of returns", &[n_assets, n_assets])
        .times(DEPTH, "a block of returns", &[n_assets])
        .and("which returns are there", &[n_dates.div_ceil(2), n_assets])
        .require()?;
    let matrix = moments(returns, columns, scale, settings);
    let found = decompose::of_matrix(matrix.view(), settings.n_factors, None)?;
    let least = least(returns.dim(), &columns.mean, scale, settings);
    require_positive(&found.values, least)?;
    Ok(Directions {
        values: found.values,
        vectors: found.vectors,
    })
}

/// Eigenvalues that are no larger are rounding of the means.
fn least(
    (n_dates, n_assets): (usize, usize),
    mean: &Array1<f64>,
    scale: Option<&Array1<f64>>,
    settings: &Settings,
) -> f64 {
    let rounding = decompose::rounding(n_dates, n_assets);
    let level = scale.map_or_else(
        || mean.dot(mean),
        |scale| (mean * scale).mapv(|v| v * v).sum(),
    );
    // Squares of means that are taken out again leave more rounding than deviations do.
    level * (rounding * rounding).max(-settings.gamma * rounding)
}

fn moments<R: Real>(
    returns: ArrayView2<'_, R>,
    columns: &Columns,
    scale: Option<&Array1<f64>>,
    settings: &Settings,
) -> Array2<f64> {
    let seen = returns.mapv(|v| f32::from(u8::from(v.into().is_finite())));
    let zero = Array1::zeros(columns.mean.len());
    let joint = Stream::plain(seen.view(), &zero).gram_of_columns();
    let (centre, less) = match settings.base {
        BaseMoment::SecondMoment => (&zero, 0.0),
        BaseMoment::Covariance => (&columns.mean, 1.0),
    };
    let mut matrix = Stream {
        scale,
        ..Stream::plain(returns, centre)
    }
    .gram_of_columns();
    Zip::from(&mut matrix).and(&joint).par_for_each(|m, &n| {
        // Without a joint date the sum is an exact zero.
        *m /= (n - less).max(1.0);
    });
    let mean = match scale {
        Some(scale) => &columns.mean * scale,
        None => columns.mean.clone(),
    };
    let mean = mean.insert_axis(Axis(1));
    linalg::add_product(matrix.view_mut(), settings.gamma, mean.view(), mean.t());
    matrix
}

/// Factors of returns `(T, N)` that may be new, given the weights `(N, K)` of a fit.
///
/// A complete date has `F_t = W'r_t`. Otherwise with `W = QR`, `F_t = R'a` where `a` is the
/// least-squares coefficient of the observed returns on the observed rows of `Q`, of least length
/// when fewer assets are observed than there are factors. That is `(Λ_o'Λ_o)^-1 Λ_o'r_o` in the scale
/// of `W`, for any loadings that span what `W` spans. NaN for a date without a finite return.
///
/// # Errors
///
/// [`crate::CoreError::Shape`] when the arrays disagree on `N`, [`crate::CoreError::Range`] when the
/// weights hold no factor.
pub fn project<R: Real>(
    returns: ArrayView2<'_, R>,
    weights: ArrayView2<'_, f64>,
) -> Result<Array2<f64>> {
    shape::require(
        "returns",
        &[returns.nrows(), weights.nrows()],
        returns.shape(),
    )?;
    let n_factors = weights.ncols();
    shape::require_that(
        "columns of factor_weights",
        n_factors > 0,
        "at least 1",
        n_factors,
    )?;
    pca::require_room(returns.dim(), weights.ncols())?;
    let complete = returns.iter().all(|&v| v.into().is_finite());
    if complete {
        let zero = Array1::zeros(weights.nrows());
        return Ok(Stream::plain(returns, &zero).times(weights));
    }
    Ok(regress_all(returns, weights))
}

/// As [`project`], date by date.
pub(super) fn regress_all<R: Real>(
    returns: ArrayView2<'_, R>,
    weights: ArrayView2<'_, f64>,
) -> Array2<f64> {
    let (_, q) = krylov::orthonormal_columns(weights);
    let upper = linalg::product(q.t(), weights);
    let q = q.as_standard_layout().to_owned();
    let mut out = Array2::zeros((returns.nrows(), weights.ncols()));
    out.axis_iter_mut(Axis(0))
        .into_par_iter()
        .zip(returns.axis_iter(Axis(0)))
        .for_each(each(|(factors, row)| {
            regress_date(factors, row, q.view(), upper.view())
        }));
    out
}

fn regress_date<R: Real>(
    mut factors: ArrayViewMut1<'_, f64>,
    row: ArrayView1<'_, R>,
    q: ArrayView2<'_, f64>,
    upper: ArrayView2<'_, f64>,
) {
    let k = factors.len();
    let (mut gram, mut cross, mut n) = (Array2::zeros((k, k)), Array1::zeros(k), 0);
    for (&value, line) in row.iter().zip(q.rows()) {
        let value: f64 = value.into();
        if !value.is_finite() {
            continue;
        }
        n += 1;
        cross.scaled_add(value, &line);
        for i in 0..k {
            gram.row_mut(i).scaled_add(line[i], &line);
        }
    }
    let found = if n == row.len() {
        Some(cross)
    } else if n == 0 {
        None
    } else {
        least_squares(gram.view(), cross.view()).ok()
    };
    match found {
        Some(a) => factors.assign(&upper.t().dot(&a)),
        None => factors.fill(f64::NAN),
    }
}

/// Least-length solution of `G a = c` for a symmetric positive semidefinite `G`.
pub(crate) fn least_squares(
    gram: ArrayView2<'_, f64>,
    cross: ArrayView1<'_, f64>,
) -> Result<Array1<f64>> {
    let found = linalg::symmetric_eigen(gram)?;
    let floor = SINGULAR * found.values[0].max(0.0);
    let mut weights = found.vectors.t().dot(&cross);
    Zip::from(&mut weights)
        .and(&found.values)
        .for_each(|w, &v| *w = if v > floor { *w / v } else { 0.0 });
    Ok(found.vectors.dot(&weights))
}
