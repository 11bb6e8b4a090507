//! PCA with missing returns: complete the panel by its own factors, and estimate again.
//!
//! At the solution every missing return is what the loadings of its asset make of the factors of its
//! date, both by least squares on what is observed: loadings are not shrunk by the share that is
//! missing, as they are when missing returns count as means. An asset (a date) of which the share
//! `m` is missing has the slopes of a Bayesian with the prior that assets (dates) suggest, in the
//! proportion `m`: `(X'X + m s2 P^-1)^-1 X'y`, with `s2` the variance of the residuals and `P` the mean
//! square of the slopes. Without noise, and for what is complete, that is least squares; a handful of
//! returns does not make large loadings.
//!
//! Stock and Watson (2002), Macroeconomic forecasting using diffusion indexes, Journal of Business and
//! Economic Statistics 20; Josse and Husson (2012), Handling missing values in exploratory
//! multivariate data analysis methods, Journal de la Société Française de Statistique 153.

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

use super::{Pca, fit, signs};
use crate::decompose::{self, Triplets};
use crate::interrupt::check;
use crate::memory::Arrays;
use crate::rp_pca::least_squares;
use crate::stream::{Columns, Stream};
use crate::{Real, Result, shape};

/// Most rounds of completion.
const MOST: usize = 500;
/// A round that moves the missing returns by less than this, relative to the panel, is the last.
const SETTLED: f64 = 1e-10;

/// As [`fit`], but for what is missing; the same bits where nothing is.
///
/// # Errors
///
/// As [`fit`].
pub fn fit_completed<R: Real>(returns: ArrayView2<'_, R>, n_factors: usize) -> Result<Pca> {
    let (n_dates, n_assets) = returns.dim();
    shape::require_between("n_factors", n_factors, 1, n_dates.min(n_assets))?;
    let columns = Columns::of(returns)?;
    if columns.complete(n_dates) {
        return fit(returns, n_factors);
    }
    super::require_room(returns.dim(), n_factors)?;
    Arrays::new()
        .times(2, "returns and their completion", &[n_dates, n_assets])
        .require()?;
    let mut panel = Panel::new(returns, &columns.mean);
    let mut step = f64::INFINITY;
    for _ in 0..MOST {
        check();
        let found = panel.components(n_factors)?;
        step = panel.complete(&found)?;
        if step <= SETTLED {
            break;
        }
    }
    let found = panel.components(n_factors)?;
    panel.finish(returns, found, step)
}

/// Factors of returns `(T, N)` that may be new, by least squares on the observed loadings.
///
/// A complete date has its returns times the loadings, as in [`super::project`]. Otherwise `f_t`
/// minimises the squares of `r_ti - mean_i - λ_i'(f_t - Λ'mean)` over the observed assets, of least
/// distance from `Λ'mean` where these do not determine it.
///
/// # Errors
///
/// [`crate::CoreError::Shape`] when the arrays disagree on `N`, [`crate::CoreError::Range`] when the
/// loadings hold no factor.
pub fn project_completed<R: Real>(
    returns: ArrayView2<'_, R>,
    mean: ArrayView1<'_, f64>,
    loadings: ArrayView2<'_, f64>,
) -> Result<Array2<f64>> {
    let mut factors = super::project(returns, mean, loadings)?;
    let premia = mean.dot(&loadings);
    let rows = factors.axis_iter_mut(Axis(0)).into_par_iter();
    rows.zip(returns.axis_iter(Axis(0)))
        .map(|(mut out, row)| {
            let row = row.mapv(Into::<f64>::into);
            let seen = row.iter().filter(|v| v.is_finite()).count();
            if seen < row.len() && seen > 0 {
                let pairs = row.iter().zip(loadings.rows()).zip(mean.iter());
                let pairs = pairs.filter(|((value, _), _)| value.is_finite());
                let (gram, cross) = normal(premia.len(), pairs.map(|((y, x), mean)| (y - mean, x)));
                out.assign(&(least_squares(gram.view(), cross.view())? + &premia));
            }
            Ok(())
        })
        .collect::<Result<()>>()?;
    Ok(factors)
}

/// A panel whose gaps are filled.
struct Panel {
    values: Array2<f64>,
    seen: Array2<bool>,
    /// Share that is missing of every date and of every asset.
    of_dates: Vec<f64>,
    of_assets: Vec<f64>,
}

/// Means, squares about them and principal components of a filled panel.
struct Components {
    mean: Array1<f64>,
    squares: f64,
    triplets: Triplets,
}

impl Components {
    /// What the components leave.
    fn left(&self) -> f64 {
        let explained: f64 = self.triplets.values.iter().map(|v| v * v).sum();
        (self.squares - explained).max(0.0)
    }
}

/// Intercept, and loadings.
type Line = (f64, Array1<f64>);

impl Panel {
    /// Fill with the means.
    fn new<R: Real>(returns: ArrayView2<'_, R>, mean: &Array1<f64>) -> Self {
        let mut values = returns.mapv(Into::<f64>::into);
        let seen = values.mapv(f64::is_finite);
        for mut row in values.rows_mut() {
            let cells = row.iter_mut().zip(mean).filter(|(v, _)| !v.is_finite());
            cells.for_each(|(value, &mean)| *value = mean);
        }
        let missing = |lane: ArrayView1<'_, bool>| {
            lane.iter().filter(|&&seen| !seen).count() as f64 / lane.len() as f64
        };
        Self {
            of_dates: seen.rows().into_iter().map(missing).collect(),
            of_assets: seen.columns().into_iter().map(missing).collect(),
            values,
            seen,
        }
    }

    fn n_seen(&self) -> f64 {
        self.seen.iter().filter(|&&seen| seen).count() as f64
    }

    fn components(&self, k: usize) -> Result<Components> {
        let columns = Columns::of(self.values.view())?;
        let stream = Stream {
            exact: columns.exact(self.values.nrows()),
            ..Stream::plain(self.values.view(), &columns.mean)
        };
        let triplets = decompose::leading(&stream, k)?;
        Ok(Components {
            triplets,
            squares: columns.squares.sum(),
            mean: columns.mean,
        })
    }

    /// Fill anew; how far the gaps moved, relative to the panel.
    fn complete(&mut self, found: &Components) -> Result<f64> {
        let noise = found.left() / self.n_seen();
        let factors = self.factors(found, noise)?;
        let lines = self.lines(factors.view(), noise)?;
        let mut moved = 0.0;
        for (t, mut row) in self.values.rows_mut().into_iter().enumerate() {
            let f = factors.row(t);
            for (i, line) in lines.iter().enumerate() {
                if let (Some((level, slopes)), false) = (line, self.seen[[t, i]]) {
                    let fresh = level + slopes.dot(&f);
                    moved += (fresh - row[i]).powi(2);
                    row[i] = fresh;
                }
            }
        }
        Ok((moved / found.squares).sqrt())
    }

    /// Factors about the means, by what is observed of each date.
    fn factors(&self, found: &Components, noise: f64) -> Result<Array2<f64>> {
        let Triplets { values, right, .. } = &found.triplets;
        let mut factors = found.triplets.scores.clone();
        let prior = values.mapv(|v| noise * self.values.nrows() as f64 / (v * v));
        let rows = factors.axis_iter_mut(Axis(0)).into_par_iter().enumerate();
        rows.filter(|(t, _)| self.of_dates[*t] > 0.0)
            .map(|(t, mut out)| {
                let cells = self.values.row(t).into_iter().zip(self.seen.row(t));
                let pairs = cells.zip(right.rows()).zip(&found.mean);
                let pairs = pairs.filter(|(((_, seen), _), _)| **seen);
                let (mut gram, cross) =
                    normal(out.len(), pairs.map(|(((y, _), x), mean)| (y - mean, x)));
                let mut diagonal = gram.diag_mut();
                diagonal.scaled_add(self.of_dates[t], &prior);
                out.assign(&least_squares(gram.view(), cross.view())?);
                Ok(())
            })
            .collect::<Result<()>>()?;
        Ok(factors)
    }

    /// Regressions of the assets with gaps on the factors, by what is observed of each.
    fn lines(&self, factors: ArrayView2<'_, f64>, noise: f64) -> Result<Vec<Option<Line>>> {
        let (n_assets, k) = (self.values.ncols(), factors.ncols());
        (0..n_assets)
            .into_par_iter()
            .map(|i| {
                if self.of_assets[i] == 0.0 {
                    return Ok(None);
                }
                let dates = self.seen.column(i).into_iter().enumerate();
                let dates: Vec<usize> = dates.filter(|(_, s)| **s).map(|(t, _)| t).collect();
                let (mut level, mut centre) = (0.0, Array1::zeros(k));
                for &t in &dates {
                    level += self.values[[t, i]];
                    centre += &factors.row(t);
                }
                level /= dates.len() as f64;
                centre /= dates.len() as f64;
                let apart: Vec<Array1<f64>> =
                    dates.iter().map(|&t| &factors.row(t) - &centre).collect();
                let values = dates.iter().map(|&t| self.values[[t, i]] - level);
                let pairs = values.zip(apart.iter().map(|x| x.view()));
                let (mut gram, cross) = normal(k, pairs);
                // Loadings of unit length: their mean square is one over the number of assets.
                gram.diag_mut()
                    .mapv_inplace(|v| v + self.of_assets[i] * noise * n_assets as f64);
                let slopes = least_squares(gram.view(), cross.view())?;
                Ok(Some((level - slopes.dot(&centre), slopes)))
            })
            .collect()
    }

    fn finish<R: Real>(
        &self,
        returns: ArrayView2<'_, R>,
        found: Components,
        step: f64,
    ) -> Result<Pca> {
        let n_seen = self.n_seen();
        // What is missing has the noise of what is not, and the filled panel none.
        let total = found.squares + found.left() * (self.seen.len() as f64 - n_seen) / n_seen;
        let Triplets { values, right, .. } = found.triplets;
        let factors = project_completed(returns, found.mean.view(), right.view())?;
        let premia = factors.mean_axis(Axis(0)).unwrap_or_default();
        let signs = signs(premia.view(), (&factors - &premia).view(), right.view());
        Ok(Pca {
            mean: found.mean,
            loadings: right * &signs,
            factors: factors * &signs,
            explained_variance_ratio: values.mapv(|v| v * v / total),
            singular_values: values,
            step,
        })
    }
}

/// Gram matrix of the regressors, and their products with what is explained.
fn normal<'a>(
    k: usize,
    pairs: impl Iterator<Item = (f64, ArrayView1<'a, f64>)>,
) -> (Array2<f64>, Array1<f64>) {
    let (mut gram, mut cross) = (Array2::zeros((k, k)), Array1::zeros(k));
    for (y, x) in pairs {
        for i in 0..k {
            cross[i] += x[i] * y;
            for j in 0..=i {
                gram[[i, j]] += x[i] * x[j];
            }
        }
    }
    // The lower triangle is all that is read.
    (gram, cross)
}
