//! PCA and RP-PCA over many windows of one panel.
//!
//! The Gram matrix of the dates is computed once. A window's is a sub-block of it, centred from both
//! sides, with the window's mean returns as one more row and column for RP-PCA; the eigenvectors of
//! the window before are refined to its own, or block Krylov finds them. What remains per window is
//! one walk over its returns for the loadings, which yields the means and the factors as well; RP-PCA
//! takes a second one for the variances.
//!
//! The Gram matrix is taken around the means of the window that ends first, so that no bit of an
//! estimate comes from returns after its window, nor from the windows after it. Windows with missing
//! returns, with means far from those or with dates too many for a Gram matrix, and panels scaled by
//! volatility are fitted one by one. Either way a window's result is that of a single fit, to about
//! 1e-11.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};
use rayon::prelude::*;

use crate::interrupt::{self, each};
use crate::krylov::{self, Leading, Outcome};
use crate::memory::Arrays;
use crate::pca::{self, Missing, Pca};
use crate::rp_pca::{self, RpPca, Settings};
use crate::stream::{self, Columns, DEPTH, Stream};
use crate::{Real, Result, chebyshev, decompose, linalg, shape};

mod ahead;
mod basis;
mod bordered;

use ahead::Ahead;
use bordered::{Bordered, Carried, Dates, carry};

/// Windows that hand their eigenvectors on: the first of them costs as much as five others. Fixed, so
/// that bits do not depend on the threads.
const CHAIN: usize = 64;
/// A Gram matrix may hold this many times as many dates as there are assets; windows that end later
/// are fitted one by one.
const LARGEST_GRAM: usize = 4;
/// Eigenvalues below this fraction of the largest are left to a single fit.
const BLURRED: f64 = 1e-6;
/// Squared distances of a window's means may exceed its squared deviations so many times.
const FAR: f64 = 100.0;

/// Fit PCA to every window of dates.
///
/// # Errors
///
/// [`crate::CoreError::Range`] for a window that is not within the panel; what [`pca::fit_with`] says of
/// the first window that it refuses.
pub fn pca<R: Real>(
    returns: ArrayView2<'_, R>,
    n_factors: usize,
    windows: &[Range<usize>],
    missing: Missing,
) -> Result<Vec<Pca>> {
    check(returns.nrows(), windows)?;
    require_room(returns.ncols(), n_factors, 1, windows)?;
    let shared = Shared::new(returns, n_factors, windows)?;
    chains(windows, |windows, carried| {
        let window = &windows[0];
        let part = returns.slice(s![window.clone(), ..]);
        shape::require_between("n_factors", n_factors, 1, part.nrows().min(part.ncols()))?;
        let found = match &shared {
            Some(shared) => shared.leading(windows, |_| 0.0, carried)?,
            None => None,
        };
        match (found, &shared) {
            (Some(found), Some(shared)) => Ok(shared.pca(window, &found)),
            _ => pca::fit_with(part, n_factors, missing),
        }
    })
}

/// Fit RP-PCA to every window of dates.
///
/// # Errors
///
/// As [`pca`]; what [`rp_pca::fit`] says of the first window that it refuses.
pub fn rp_pca<R: Real>(
    returns: ArrayView2<'_, R>,
    settings: &Settings,
    windows: &[Range<usize>],
) -> Result<Vec<RpPca>> {
    check(returns.nrows(), windows)?;
    require_room(returns.ncols(), settings.n_factors, 3, windows)?;
    let shared = if settings.scale_by_volatility {
        None
    } else {
        Shared::new(returns, settings.n_factors, windows)?
    };
    chains(windows, |windows, carried| {
        let window = &windows[0];
        let part = returns.slice(s![window.clone(), ..]);
        settings.check(part.dim())?;
        let (rho, divisor) = settings.weights(part.nrows());
        let found = match &shared {
            Some(shared) if rho >= 0.0 => {
                shared.leading(windows, |n| settings.weights(n).0, carried)?
            }
            _ => None,
        };
        match (found, &shared) {
            (Some(found), Some(shared)) => {
                let right = shared.loadings(window, &found, rho);
                let along = right.along(found.0.vectors.slice(s![..window.len(), ..]));
                let directions = rp_pca::Directions {
                    values: right.values.mapv(|v| v * v) / divisor,
                    vectors: right.vectors,
                };
                let columns = Columns::of(part)?;
                rp_pca::finish(part, columns, None, directions, Some(along), settings)
            }
            _ => rp_pca::fit(part, settings),
        }
    })
}

fn check(n_dates: usize, windows: &[Range<usize>]) -> Result<()> {
    for window in windows {
        let inside = window.start < window.end && window.end <= n_dates;
        shape::require_that(
            "windows",
            inside,
            &format!("non-empty ranges of the {n_dates} dates"),
            format!("{window:?}"),
        )?;
    }
    Ok(())
}

/// Refuse windows whose `n` sets of loadings, and those of the caller, cannot be had.
fn require_room(
    n_assets: usize,
    n_factors: usize,
    n: usize,
    windows: &[Range<usize>],
) -> Result<()> {
    let longest = windows.iter().map(Range::len).max().unwrap_or(0);
    Arrays::new()
        .times(2 * n, "loadings", &[windows.len(), n_assets, n_factors])
        .times(4 + 2 * n, "means of the assets", &[windows.len(), n_assets])
        .and("factors", &[windows.len(), longest, n_factors])
        .require()
}

/// Work through the windows, chain by chain in parallel; the first error by window wins.
///
/// `fit` fits the first of the windows that it gets.
fn chains<T: Send>(
    windows: &[Range<usize>],
    fit: impl Fn(&[Range<usize>], &mut Carried) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let parts: Vec<Result<Vec<T>>> = windows
        .par_chunks(CHAIN)
        .map(each(|chain: &[Range<usize>]| {
            let mut carried = Carried::default();
            (0..chain.len())
                .map(|index| {
                    interrupt::check();
                    fit(&chain[index..], &mut carried)
                })
                .collect()
        }))
        .collect();
    let mut out = Vec::with_capacity(windows.len());
    for part in parts {
        out.extend(part?);
    }
    Ok(out)
}

/// The panel around known means, and what windows need of its Gram matrix.
struct Shared<'a, R> {
    returns: ArrayView2<'a, R>,
    n_factors: usize,
    /// Mean returns in the window that ends first.
    mean: Array1<f64>,
    /// Date with which `gram` begins.
    first: usize,
    /// Products of the dates' returns around `mean`.
    gram: Array2<f64>,
    /// Whether every return of the date is there.
    complete: Vec<bool>,
    /// Sums of the rows of `gram` up to a date, one date a row.
    sums: Array2<f64>,
    /// These returns times `mean`, by date.
    along_mean: Array1<f64>,
}

/// Right singular vectors of a window.
struct Right {
    /// Singular values, shape `(K,)`.
    values: Array1<f64>,
    /// Loadings, shape `(N, K)`.
    vectors: Array2<f64>,
    /// Mean returns, shape `(N,)`.
    mean: Array1<f64>,
    /// Products of the returns with the left singular vectors, shape `(N, K)`.
    images: Array2<f64>,
}

impl Right {
    /// The window's returns along its loadings: singular vectors are each other's images.
    fn along(&self, left: ArrayView2<'_, f64>) -> rp_pca::Along {
        rp_pca::Along {
            returns: &left * &self.values + self.mean.dot(&self.vectors),
            cross: &self.images * &self.values,
        }
    }
}

/// Sums over a window.
struct Sums {
    /// Squared deviations from the window's means.
    within: f64,
    /// Squared distances of the window's means from those of the Gram matrix, times dates.
    apart: f64,
    /// Squared means, times dates.
    means: f64,
}

impl<'a, R: Real> Shared<'a, R> {
    /// None where a Gram matrix of the dates does not serve.
    fn new(
        returns: ArrayView2<'a, R>,
        n_factors: usize,
        windows: &[Range<usize>],
    ) -> Result<Option<Self>> {
        let first = windows.iter().map(|w| w.start).min().unwrap_or(0);
        let last = windows.iter().map(|w| w.end).max().unwrap_or(0);
        let last = last.min(first + LARGEST_GRAM * returns.ncols());
        let earliest = windows.iter().min_by_key(|w| w.end).cloned();
        let Some(earliest) = earliest.filter(|w| w.end <= last) else {
            return Ok(None);
        };
        let n = last - first;
        Arrays::new()
            .times(3, "the Gram matrix of the dates", &[n + 1, n + DEPTH])
            .require()?;
        let used = returns.slice(s![first..last, ..]);
        let Ok(columns) = Columns::of(returns.slice(s![earliest, ..])) else {
            return Ok(None);
        };
        let stream = Stream::plain(used, &columns.mean);
        let along_mean = stream.rows_times(&columns.mean.to_vec());
        let dates = used.axis_iter(Axis(0)).into_par_iter();
        let complete = dates.map(each(|date: ArrayView1<'_, R>| {
            date.iter().all(|&r| r.into().is_finite())
        }));
        let gram = stream.gram_of_rows_to_come();
        let mut sums = Array2::zeros((gram.nrows() + 1, gram.nrows()));
        for (date, row) in gram.outer_iter().enumerate() {
            interrupt::check();
            let next = &sums.row(date) + &row;
            sums.row_mut(date + 1).assign(&next);
        }
        Ok(Some(Self {
            returns,
            n_factors,
            first,
            complete: complete.collect(),
            gram,
            sums,
            along_mean,
            mean: columns.mean,
        }))
    }

    fn local(&self, window: &Range<usize>) -> Range<usize> {
        window.start - self.first..window.end - self.first
    }

    fn holds(&self, local: &Range<usize>) -> bool {
        local.end <= self.gram.nrows()
    }

    /// Products of a window's dates with its means, as far from `mean`.
    fn within(&self, local: &Range<usize>) -> Array1<f64> {
        let sum = |date: usize| self.sums.slice(s![date, local.clone()]);
        (&sum(local.end) - &sum(local.start)) / local.len() as f64
    }

    fn sums_of(&self, local: &Range<usize>, within: &Array1<f64>) -> Sums {
        let n = local.len() as f64;
        let along = self.along_mean.slice(s![local.clone()]).sum();
        let squares: f64 = self.gram.diag().slice(s![local.clone()]).sum();
        let apart = within.sum();
        Sums {
            within: squares - apart,
            apart,
            means: n * self.mean.dot(&self.mean) + 2.0 * along + apart,
        }
    }

    /// Leading eigenpairs of the first window's centred Gram matrix, bordered when `rho > 0`.
    ///
    /// None where a single fit is the safer way.
    fn leading(
        &self,
        windows: &[Range<usize>],
        rho: impl Fn(usize) -> f64,
        carried: &mut Carried,
    ) -> Result<Option<(Leading, Sums)>> {
        let local = self.local(&windows[0]);
        if !self.holds(&local) {
            return Ok(None);
        }
        let complete = self.complete[local.clone()].iter().all(|&all| all);
        let sums = self.sums_of(&local, &self.within(&local));
        let moderate = stream::is_moderate(sums.within + sums.means);
        if !complete || !moderate || sums.apart > FAR * sums.within {
            *carried = Carried::default();
            return Ok(None);
        }
        let found = self.eigenpairs(windows, rho, carried)?;
        let (n_dates, k) = (local.len(), self.n_factors);
        let floor = decompose::rounding(n_dates, self.returns.ncols()).powi(2) * sums.means;
        let clear = found.values[k - 1] > floor.max(BLURRED * found.values[0]);
        Ok(clear.then_some((found, sums)))
    }

    fn block(&self, window: &Range<usize>, rho: f64) -> Bordered<'_> {
        let all = Dates {
            gram: self.gram.view(),
            along_mean: self.along_mean.view(),
            mean_square: self.mean.dot(&self.mean),
        };
        let local = self.local(window);
        let within = self.within(&local);
        Bordered::new(all, local, within, rho)
    }

    fn eigenpairs(
        &self,
        windows: &[Range<usize>],
        rho: impl Fn(usize) -> f64,
        carried: &mut Carried,
    ) -> Result<Leading> {
        let window = &windows[0];
        let block = self.block(window, rho(window.len()));
        let (n, k) = (block.size(), self.n_factors);
        let width = krylov::wide(k);
        let near = self.near(windows, rho, carried);
        let start = near.or_else(|| carry(carried, window, n, width));
        carried.last = None;
        if let Some(start) = start
            && let Some((found, rows)) = chebyshev::polish(start, k, |q| block.times_rows(q))?
        {
            carried.last = Some((window.clone(), rows));
            return Ok(found);
        }
        carried.ahead = None;
        match krylov::leading(n, k, width, n / (2 * width), None, |q| block.times(q))? {
            Outcome::Found(found, best) => {
                carried.last = Some((window.clone(), best.reversed_axes()));
                Ok(found)
            }
            Outcome::Stalled(_) => decompose::full(block.times(Array2::eye(n).view()).view(), k),
        }
    }

    /// Nearly eigenvectors of the first window, from what a window before it found out.
    fn near(
        &self,
        windows: &[Range<usize>],
        rho: impl Fn(usize) -> f64,
        carried: &mut Carried,
    ) -> Option<Array2<f64>> {
        let (window, k) = (self.local(&windows[0]), self.n_factors);
        let own = rho(window.len());
        if let Some(start) = carried
            .ahead
            .as_ref()
            .and_then(|a| a.start(&window, own, k))
        {
            return Some(start);
        }
        let (last, rows) = carried.last.as_ref()?;
        let block = self.block(last, rho(last.len()));
        let local: Vec<_> = windows
            .iter()
            .map(|window| self.local(window))
            .take_while(|window| self.holds(window))
            .collect();
        carried.ahead = Ahead::new(&self.local(last), rows.view(), k, &local, &block);
        carried.ahead.as_ref()?.start(&window, own, k)
    }

    /// Singular values, loadings and mean returns of a window.
    fn loadings(&self, window: &Range<usize>, (found, sums): &(Leading, Sums), rho: f64) -> Right {
        let (n, k) = (window.len(), self.n_factors);
        let mut sides = Array2::ones((n, k + 1));
        sides
            .slice_mut(s![.., ..k])
            .assign(&found.vectors.slice(s![..n, ..]));
        let part = self.returns.slice(s![window.clone(), ..]);
        let stream = Stream {
            exact: stream::small_means(sums.means, sums.within),
            ..Stream::plain(part, &self.mean)
        };
        let images = stream.transpose_times(sides.view());
        let mean = &self.mean + &(&images.column(k) / n as f64);
        let images = images.slice(s![.., ..k]);
        let mut right = images.to_owned();
        if rho > 0.0 {
            let weight = (rho * n as f64).sqrt();
            let premium = mean.view().insert_axis(Axis(1));
            let share = found.vectors.slice(s![n.., ..]);
            linalg::add_product(right.view_mut(), weight, premium, share);
        }
        let (values, vectors) = krylov::orthonormal_columns(right.view());
        Right {
            values,
            vectors,
            mean,
            images: images.to_owned(),
        }
    }

    fn pca(&self, window: &Range<usize>, found: &(Leading, Sums)) -> Pca {
        let right = self.loadings(window, found, 0.0);
        let deviations = &found.0.vectors * &right.values;
        let within = found.1.within;
        pca::pinned(right.mean, right.vectors, deviations, right.values, within)
    }
}
