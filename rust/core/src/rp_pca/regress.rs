//! Time-series regressions of every asset on the factors and a constant.

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

use super::finish::present_rows;
use super::missing::least_squares;
use crate::interrupt::each;
use crate::stream::{Columns, Stream};
use crate::{Real, Result, linalg};

/// Slopes `(N, K)`, intercepts `(N,)` and mean squared residuals `(N,)`.
pub(super) struct Regression {
    pub(super) betas: Array2<f64>,
    pub(super) alphas: Array1<f64>,
    pub(super) residual_variances: Array1<f64>,
}

/// All assets at once: they share the regressors.
///
/// `cross` holds the products of their deviations, where these are known.
pub(super) fn complete<R: Real>(
    returns: ArrayView2<'_, R>,
    columns: &Columns,
    factors: ArrayView2<'_, f64>,
    cross: Option<Array2<f64>>,
) -> Result<Regression> {
    let n_dates = factors.nrows() as f64;
    let premia = factors.sum_axis(Axis(0)) / n_dates;
    let deviations = &factors - &premia;
    let cross = cross.unwrap_or_else(|| {
        let stream = Stream {
            exact: columns.exact(returns.nrows()),
            ..Stream::plain(returns, &columns.mean)
        };
        stream.transpose_times(deviations.view())
    });
    let mut gram = linalg::product(deviations.t(), deviations.view());
    drop_constants(&mut gram, premia.view(), n_dates);
    let mut inverse = Array2::zeros(gram.dim());
    for (k, mut column) in inverse.columns_mut().into_iter().enumerate() {
        let mut unit = Array1::zeros(premia.len());
        unit[k] = 1.0;
        column.assign(&least_squares(gram.view(), unit.view())?);
    }
    let betas = linalg::product(cross.view(), inverse.view());
    let explained = (&betas * &cross).sum_axis(Axis(1));
    Ok(Regression {
        alphas: &columns.mean - &betas.dot(&premia),
        residual_variances: (&columns.squares - &explained).mapv(|v| v.max(0.0)) / n_dates,
        betas,
    })
}

/// Asset by asset over its own dates; of least length where these are too few.
pub(super) fn missing<R: Real>(
    returns: ArrayView2<'_, R>,
    factors: ArrayView2<'_, f64>,
) -> Result<Regression> {
    let dates = present_rows(factors);
    let rows: Vec<Result<(Array1<f64>, f64, f64)>> = returns
        .axis_iter(Axis(1))
        .into_par_iter()
        .map(each(|asset| regress(asset, factors, &dates)))
        .collect();
    let (n_assets, k) = (returns.ncols(), factors.ncols());
    let mut out = Regression {
        betas: Array2::zeros((n_assets, k)),
        alphas: Array1::zeros(n_assets),
        residual_variances: Array1::zeros(n_assets),
    };
    for (i, row) in rows.into_iter().enumerate() {
        let (betas, alpha, variance) = row?;
        out.betas.row_mut(i).assign(&betas);
        out.alphas[i] = alpha;
        out.residual_variances[i] = variance;
    }
    Ok(out)
}

/// Take factors out that vary by no more than the rounding of their means: they have no slopes.
fn drop_constants(gram: &mut Array2<f64>, premia: ArrayView1<'_, f64>, n: f64) {
    for (k, &mean) in premia.iter().enumerate() {
        if gram[[k, k]] <= n * (n * f64::EPSILON * mean).powi(2) {
            gram.row_mut(k).fill(0.0);
            gram.column_mut(k).fill(0.0);
        }
    }
}

fn regress<R: Real>(
    asset: ArrayView1<'_, R>,
    factors: ArrayView2<'_, f64>,
    dates: &[usize],
) -> Result<(Array1<f64>, f64, f64)> {
    let seen: Vec<usize> = dates
        .iter()
        .copied()
        .filter(|&t| asset[t].into().is_finite())
        .collect();
    let n = seen.len() as f64;
    let mut y: Array1<f64> = seen.iter().map(|&t| asset[t].into()).collect();
    let mut x = factors.select(Axis(0), &seen);
    let (mean, premia) = (y.sum() / n, x.sum_axis(Axis(0)) / n);
    y -= mean;
    x -= &premia;
    let mut gram = x.t().dot(&x);
    drop_constants(&mut gram, premia.view(), n);
    let betas = least_squares(gram.view(), x.t().dot(&y).view())?;
    y -= &x.dot(&betas);
    let alpha = mean - betas.dot(&premia);
    Ok((betas, alpha, y.dot(&y) / n))
}
