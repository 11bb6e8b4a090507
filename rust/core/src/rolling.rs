//! PCA and RP-PCA over many windows of one panel.
//!
//! Windows that follow one another closely share a Gram matrix of their dates. A window's is a
//! sub-block of it, centred from both sides, with the window's mean returns as one more row and column
//! for RP-PCA; the eigenvectors of the window before are refined to its own, or block Krylov finds
//! them. What remains per window is one walk over its returns for the loadings, which yields the means
//! and the factors as well; RP-PCA takes a second one for the variances.
//!
//! A run of windows shares a matrix while that is cheaper than single fits ([`follows`]). Its first
//! window is fitted alone; its means are those around which the matrix is taken, so that no bit of an
//! estimate comes from returns after its window, nor from the windows after it. Windows with missing
//! returns or with means far from those, and panels scaled by volatility are fitted one by one. Either
//! way a window's result is that of a single fit, to about 1e-11.

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

mod bordered;

use bordered::{Bordered, Carried, carry};

/// Windows that hand their eigenvectors on: the first of them costs as much as five others. Fixed, so
/// that bits do not depend on the threads.
const CHAIN: usize = 64;
/// New dates of a window above which its part of a Gram matrix costs more than a single fit.
const MOST_NEW_DATES: usize = 40;
/// A Gram matrix holds at most so many times as many dates as the window that is fitted from it.
const WINDOWS_WIDE: usize = 2;
/// A Gram matrix holds at most so many times as many dates as there are assets: with more its
/// products cost as much as those with the returns, and it takes more memory than they do.
const LARGEST_GRAM: f64 = 1.5;
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
    runs(windows, returns.ncols(), |run| {
        let shared = Shared::new(returns, n_factors, run)?;
        chains(run, |window, carried| {
            let part = returns.slice(s![window.clone(), ..]);
            shape::require_between("n_factors", n_factors, 1, part.nrows().min(part.ncols()))?;
            match &shared {
                Some(shared) => match shared.leading(window, 0.0, carried)? {
                    Some(found) => Ok(shared.pca(window, &found)),
                    None => pca::fit_with(part, n_factors, missing),
                },
                None => pca::fit_with(part, n_factors, missing),
            }
        })
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
    let is_shared = |window: &Range<usize>| {
        !settings.scale_by_volatility && settings.weights(window.len()).0 >= 0.0
    };
    runs(windows, returns.ncols(), |run| {
        let shared = if is_shared(&run[0]) {
            Shared::new(returns, settings.n_factors, run)?
        } else {
            None
        };
        chains(run, |window, carried| {
            let part = returns.slice(s![window.clone(), ..]);
            settings.check(part.dim())?;
            let (rho, divisor) = settings.weights(part.nrows());
            let Some(shared) = &shared else {
                return rp_pca::fit(part, settings);
            };
            let Some(found) = shared.leading(window, rho, carried)? else {
                return rp_pca::fit(part, settings);
            };
            let right = shared.loadings(window, &found, rho);
            let along = right.along(found.0.vectors.slice(s![..window.len(), ..]));
            let directions = rp_pca::Directions {
                values: right.values.mapv(|v| v * v) / divisor,
                vectors: right.vectors,
            };
            let columns = Columns::of(part)?;
            rp_pca::finish(part, columns, None, directions, Some(along), settings)
        })
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

/// Whether a window joins the run that `first` begins and `last` ends so far.
///
/// A run never looks ahead, so that windows to come change no bit of those before them.
fn follows(
    first: &Range<usize>,
    last: &Range<usize>,
    next: &Range<usize>,
    n_assets: usize,
) -> bool {
    let n_dates = next.end.saturating_sub(first.start);
    next.start >= first.start
        && next.end >= first.end
        && next.end <= last.end + MOST_NEW_DATES
        && n_dates <= WINDOWS_WIDE * next.len()
        && n_dates as f64 <= LARGEST_GRAM * n_assets as f64
}

/// Cut the windows into runs and fit these in parallel; the first error by window wins.
fn runs<T: Send>(
    windows: &[Range<usize>],
    n_assets: usize,
    fit: impl Fn(&[Range<usize>]) -> Result<Vec<T>> + Sync,
) -> Result<Vec<T>> {
    let runs = cut(windows, n_assets).into_par_iter();
    let fits: Vec<Result<Vec<T>>> = runs.map(each(&fit)).collect();
    joined(fits)
}

fn cut(windows: &[Range<usize>], n_assets: usize) -> Vec<&[Range<usize>]> {
    let mut runs = Vec::new();
    let mut first = 0;
    for next in 1..=windows.len() {
        let joins = windows
            .get(next)
            .is_some_and(|window| follows(&windows[first], &windows[next - 1], window, n_assets));
        if !joins {
            runs.push(&windows[first..next]);
            first = next;
        }
    }
    runs
}

/// Work through a run, chain by chain in parallel.
///
/// Nothing is carried into the first window, nor out of it.
fn chains<T: Send>(
    run: &[Range<usize>],
    fit: impl Fn(&Range<usize>, &mut Carried) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let fits: Vec<Result<Vec<T>>> = run
        .par_chunks(CHAIN)
        .map(each(|chain: &[Range<usize>]| {
            let mut carried = None;
            chain
                .iter()
                .map(|window| {
                    interrupt::check();
                    fit(window, &mut carried)
                })
                .collect()
        }))
        .collect();
    joined(fits)
}

fn joined<T>(parts: Vec<Result<Vec<T>>>) -> Result<Vec<T>> {
    let mut out = Vec::new();
    for part in parts {
        out.extend(part?);
    }
    Ok(out)
}

/// The panel around known means, and what windows need of its Gram matrix.
struct Shared<'a, R> {
    returns: ArrayView2<'a, R>,
    n_factors: usize,
    /// Mean returns in the run's first window, which is fitted alone.
    mean: Array1<f64>,
    alone: Range<usize>,
    /// Products of the dates' returns around `mean`.
    gram: Array2<f64>,
    /// Whether every return of the date is there.
    complete: Vec<bool>,
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
    /// None where no window of the run can use a Gram matrix.
    fn new(
        returns: ArrayView2<'a, R>,
        n_factors: usize,
        run: &[Range<usize>],
    ) -> Result<Option<Self>> {
        let (alone, others) = (&run[0], &run[1..]);
        let Some(last) = others.iter().map(|window| window.end).max() else {
            return Ok(None);
        };
        let used = returns.slice(s![alone.start..last, ..]);
        let dates = used.axis_iter(Axis(0)).into_par_iter();
        let is_complete = dates.map(each(|date: ArrayView1<'_, R>| {
            date.iter().all(|&r| r.into().is_finite())
        }));
        let complete: Vec<bool> = is_complete.collect();
        let local = |window: &Range<usize>| window.start - alone.start..window.end - alone.start;
        let can_use = |window: &&Range<usize>| complete[local(window)].iter().all(|&all| all);
        let last = others.iter().filter(can_use).map(|window| window.end).max();
        let columns = Columns::of(returns.slice(s![alone.clone(), ..]));
        let (Some(last), Ok(columns)) = (last, columns) else {
            return Ok(None);
        };
        let n = last - alone.start;
        Arrays::new()
            .times(2, "the Gram matrix of the dates", &[n, n + DEPTH])
            .require()?;
        let stream = Stream::plain(returns.slice(s![alone.start..last, ..]), &columns.mean);
        Ok(Some(Self {
            returns,
            n_factors,
            along_mean: stream.rows_times(&columns.mean.to_vec()),
            gram: stream.gram_of_rows_to_come(),
            alone: alone.clone(),
            complete,
            mean: columns.mean,
        }))
    }

    fn local(&self, window: &Range<usize>) -> Range<usize> {
        window.start - self.alone.start..window.end - self.alone.start
    }

    /// Products of a window's dates with its means, as far from `mean`.
    fn within(&self, local: &Range<usize>) -> Array1<f64> {
        let gram = self.gram.slice(s![local.clone(), local.clone()]);
        gram.sum_axis(Axis(1)) / local.len() as f64
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

    /// Leading eigenpairs of the window's centred Gram matrix, bordered when `rho > 0`.
    ///
    /// None where the window is fitted alone.
    fn leading(
        &self,
        window: &Range<usize>,
        rho: f64,
        carried: &mut Carried,
    ) -> Result<Option<(Leading, Sums)>> {
        let local = self.local(window);
        if *window == self.alone || !self.complete[local.clone()].iter().all(|&all| all) {
            *carried = None;
            return Ok(None);
        }
        let within = self.within(&local);
        let sums = self.sums_of(&local, &within);
        let moderate = stream::is_moderate(sums.within + sums.means);
        if !moderate || sums.apart > FAR * sums.within {
            *carried = None;
            return Ok(None);
        }
        let found = self.eigenpairs(window, within, rho, carried)?;
        let (n_dates, k) = (local.len(), self.n_factors);
        let floor = decompose::rounding(n_dates, self.returns.ncols()).powi(2) * sums.means;
        let clear = found.values[k - 1] > floor.max(BLURRED * found.values[0]);
        Ok(clear.then_some((found, sums)))
    }

    fn eigenpairs(
        &self,
        window: &Range<usize>,
        within: Array1<f64>,
        rho: f64,
        carried: &mut Carried,
    ) -> Result<Leading> {
        let local = self.local(window);
        let gram = self.gram.slice(s![local.clone(), local.clone()]);
        let along_mean = self.along_mean.slice(s![local]);
        let mean_square = self.mean.dot(&self.mean);
        let block = Bordered::new(gram, within, rho, along_mean, mean_square);
        let (n, k) = (block.size(), self.n_factors);
        let width = krylov::wide(k);
        let start = carry(carried, window, n, width);
        *carried = None;
        if let Some(start) = start
            && let Some((found, rows)) = chebyshev::polish(start, k, |q| block.times_rows(q))?
        {
            *carried = Some((window.clone(), rows));
            return Ok(found);
        }
        match krylov::leading(n, k, width, n / (2 * width), None, |q| block.times(q))? {
            Outcome::Found(found, best) => {
                *carried = Some((window.clone(), best.reversed_axes()));
                Ok(found)
            }
            Outcome::Stalled(_) => decompose::full(block.times(Array2::eye(n).view()).view(), k),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rolling(length: usize, stride: usize, n_dates: usize) -> Vec<Range<usize>> {
        let ends = (length..=n_dates).step_by(stride);
        ends.map(|end| end - length..end).collect()
    }

    fn expanding(from: usize, to: usize) -> Vec<Range<usize>> {
        (from..=to).map(|end| 0..end).collect()
    }

    fn n_dates(run: &[Range<usize>]) -> usize {
        let end = run.iter().map(|window| window.end).max().unwrap_or(0);
        end - run[0].start
    }

    #[test]
    fn a_gram_matrix_is_little_larger_than_a_window_and_than_the_returns() {
        for (length, stride) in [(250, 21), (250, 5), (60, 1), (1_000, 21)] {
            let windows = rolling(length, stride, 6_000);
            let runs = cut(&windows, 1_600);
            assert!(runs.iter().all(|run| n_dates(run) <= 2 * length));
            assert_eq!(runs.concat(), windows);
        }
        let windows = expanding(200, 900);
        let runs = cut(&windows, 400);
        assert_eq!(n_dates(runs[0]), 600);
        assert!(runs[1..].iter().all(|run| run.len() == 1));
    }

    #[test]
    fn windows_far_from_each_other_are_fitted_alone() {
        let far = rolling(250, MOST_NEW_DATES + 1, 3_000);
        assert!(cut(&far, 1_600).iter().all(|run| run.len() == 1));
        let backwards: Vec<_> = rolling(60, 1, 200).into_iter().rev().collect();
        assert!(cut(&backwards, 300).iter().all(|run| run.len() == 1));
    }

    #[test]
    fn windows_to_come_change_no_cut() {
        let mut windows = rolling(60, 7, 400);
        windows.extend(expanding(60, 200));
        windows.extend(rolling(100, 50, 400));
        let whole = cut(&windows, 90);
        for n in 0..windows.len() {
            let part = cut(&windows[..n], 90);
            for (one, other) in part.iter().zip(&whole) {
                assert!(other.starts_with(one));
            }
        }
    }
}
