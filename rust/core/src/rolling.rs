//! PCA and RP-PCA over many windows of one panel.
//!
//! The Gram matrix of the dates is computed once. A window's is a sub-block of it, centred from both
//! sides, with the window's mean returns as one more row and column for RP-PCA; block Krylov starts
//! from the eigenvectors of the window before. What remains per window is one walk over its returns
//! for the loadings, which yields the means as well.
//!
//! The Gram matrix is taken around the means of the window that ends first, so that no bit of an
//! estimate comes from returns after its window. Windows with missing returns or with means far from
//! those, panels with many more dates than assets or scaled by volatility are fitted one by one.
//! Either way a window's result is that of a single fit, to about 1e-11.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, concatenate, s};
use rayon::prelude::*;

use crate::krylov::{self, Leading, Outcome};
use crate::pca::{self, Pca};
use crate::rp_pca::{self, RpPca, Settings};
use crate::stream::{self, Columns, Stream};
use crate::{Real, Result, decompose, linalg, shape};

/// Windows that hand their eigenvectors on; fixed, so that bits do not depend on the threads.
const CHAIN: usize = 16;
/// A Gram matrix of the dates may be this many times as large as the panel.
const LARGEST_GRAM: usize = 4;
/// Eigenvalues below this fraction of the largest are left to a single fit.
const BLURRED: f64 = 1e-6;
/// Squared distances of a window's means may exceed its squared deviations so many times.
const FAR: f64 = 100.0;

/// Fit PCA to every window of dates.
///
/// # Errors
///
/// [`crate::CoreError::Range`] for a window that is not within the panel; what [`pca::fit`] says of
/// the first window that it refuses.
pub fn pca<R: Real>(
    returns: ArrayView2<'_, R>,
    n_factors: usize,
    windows: &[Range<usize>],
) -> Result<Vec<Pca>> {
    check(returns.nrows(), windows)?;
    let shared = Shared::new(returns, n_factors, windows)?;
    chains(windows, |window, carried| {
        let part = returns.slice(s![window.clone(), ..]);
        shape::require_between("n_factors", n_factors, 1, part.nrows().min(part.ncols()))?;
        let found = match &shared {
            Some(shared) => shared.leading(window, 0.0, carried)?,
            None => None,
        };
        match (found, &shared) {
            (Some(found), Some(shared)) => Ok(shared.pca(window, found)),
            _ => pca::fit(part, n_factors),
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
    let shared = if settings.scale_by_volatility {
        None
    } else {
        Shared::new(returns, settings.n_factors, windows)?
    };
    chains(windows, |window, carried| {
        let part = returns.slice(s![window.clone(), ..]);
        settings.check(part.dim())?;
        let (rho, divisor) = settings.weights(part.nrows());
        let found = match &shared {
            Some(shared) if rho >= 0.0 => shared.leading(window, rho, carried)?,
            _ => None,
        };
        match (found, &shared) {
            (Some(found), Some(shared)) => {
                let (values, vectors, _) = shared.loadings(window, &found, rho);
                rp_pca::finish(
                    part,
                    Columns::of(part)?,
                    None,
                    rp_pca::Directions {
                        values: values.mapv(|v| v * v) / divisor,
                        vectors,
                    },
                    settings,
                )
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

/// What one window hands to the next: its dates and its block of vectors.
type Carried = Option<(Range<usize>, Array2<f64>)>;

/// Work through the windows, chain by chain in parallel; the first error by window wins.
fn chains<T: Send>(
    windows: &[Range<usize>],
    fit: impl Fn(&Range<usize>, &mut Carried) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let parts: Vec<Result<Vec<T>>> = windows
        .par_chunks(CHAIN)
        .map(|chain| {
            let mut carried = None;
            chain
                .iter()
                .map(|window| fit(window, &mut carried))
                .collect()
        })
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
    /// These returns times `mean`, by date.
    along_mean: Array1<f64>,
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
        let used = returns.slice(s![first..last, ..]);
        let earliest = windows.iter().min_by_key(|w| w.end).cloned();
        let Some(earliest) = earliest.filter(|_| windows.len() > 1) else {
            return Ok(None);
        };
        if used.nrows() > LARGEST_GRAM * used.ncols() {
            return Ok(None);
        }
        let Ok(columns) = Columns::of(returns.slice(s![earliest, ..])) else {
            return Ok(None);
        };
        let stream = Stream::plain(used, &columns.mean);
        let mean = columns.mean.view().insert_axis(Axis(1));
        let along_mean = stream.times(mean).remove_axis(Axis(1));
        let dates = used.axis_iter(Axis(0)).into_par_iter();
        let complete = dates.map(|date| date.iter().all(|&r| r.into().is_finite()));
        Ok(Some(Self {
            returns,
            n_factors,
            first,
            complete: complete.collect(),
            gram: stream.gram_of_rows(),
            along_mean,
            mean: columns.mean,
        }))
    }

    fn local(&self, window: &Range<usize>) -> Range<usize> {
        window.start - self.first..window.end - self.first
    }

    fn sums(&self, window: &Range<usize>) -> Sums {
        let (local, n) = (self.local(window), window.len() as f64);
        let gram = self.gram.slice(s![local.clone(), local.clone()]);
        let apart = gram.sum() / n;
        let along = self.along_mean.slice(s![local]).sum();
        Sums {
            within: gram.diag().sum() - apart,
            apart,
            means: n * self.mean.dot(&self.mean) + 2.0 * along + apart,
        }
    }

    /// Leading eigenpairs of a window's centred Gram matrix, bordered when `rho > 0`.
    ///
    /// None where a single fit is the safer way.
    fn leading(
        &self,
        window: &Range<usize>,
        rho: f64,
        carried: &mut Carried,
    ) -> Result<Option<Leading>> {
        let (local, sums) = (self.local(window), self.sums(window));
        if !self.complete[local.clone()].iter().all(|&all| all) || sums.apart > FAR * sums.within {
            *carried = None;
            return Ok(None);
        }
        let block = Bordered::new(
            self.gram.slice(s![local.clone(), local.clone()]),
            self.along_mean.slice(s![local]),
            self.mean.dot(&self.mean),
            rho,
        );
        let (n, k) = (block.size(), self.n_factors);
        let start = carried
            .as_ref()
            .map(|(dates, vectors)| carry(vectors.view(), dates, window, block.border.is_some()));
        let width = krylov::wide(k);
        let start = start.as_ref().map(|vectors| vectors.view());
        let found = match krylov::leading(n, k, width, n / (2 * width), start, |q| block.times(q))?
        {
            Outcome::Found(found, best) => {
                *carried = Some((window.clone(), best));
                found
            }
            Outcome::Stalled(_) => {
                *carried = None;
                decompose::full(block.times(Array2::eye(n).view()).view(), k)?
            }
        };
        let clear = found.values[k - 1] > BLURRED * found.values[0];
        Ok(clear.then_some(found))
    }

    /// Singular values, loadings and mean returns of a window.
    fn loadings(
        &self,
        window: &Range<usize>,
        found: &Leading,
        rho: f64,
    ) -> (Array1<f64>, Array2<f64>, Array1<f64>) {
        let (n, k) = (window.len(), self.n_factors);
        let mut sides = Array2::ones((n, k + 1));
        sides
            .slice_mut(s![.., ..k])
            .assign(&found.vectors.slice(s![..n, ..]));
        let (part, sums) = (
            self.returns.slice(s![window.clone(), ..]),
            self.sums(window),
        );
        let stream = Stream {
            exact: stream::small_means(sums.means, sums.within),
            ..Stream::plain(part, &self.mean)
        };
        let images = stream.transpose_times(sides.view());
        let mean = &self.mean + &(&images.column(k) / n as f64);
        let mut right = images.slice(s![.., ..k]).to_owned();
        if rho > 0.0 {
            let weight = (rho * n as f64).sqrt();
            let premium = mean.view().insert_axis(Axis(1));
            let share = found.vectors.slice(s![n.., ..]);
            linalg::add_product(right.view_mut(), weight, premium, share);
        }
        let (values, right) = krylov::orthonormal_columns(right.view());
        (values, right, mean)
    }

    fn pca(&self, window: &Range<usize>, found: Leading) -> Pca {
        let total = self.sums(window).within;
        let (values, loadings, mean) = self.loadings(window, &found, 0.0);
        pca::pinned(mean, loadings, found.vectors * &values, values, total)
    }
}

/// Vectors of one window as a start for another: the entries of the dates they share.
fn carry(
    vectors: ArrayView2<'_, f64>,
    from: &Range<usize>,
    to: &Range<usize>,
    bordered: bool,
) -> Array2<f64> {
    let mut out = Array2::zeros((to.len() + usize::from(bordered), vectors.ncols()));
    let (first, last) = (from.start.max(to.start), from.end.min(to.end));
    if first < last {
        out.slice_mut(s![first - to.start..last - to.start, ..])
            .assign(&vectors.slice(s![first - from.start..last - from.start, ..]));
    }
    if bordered && vectors.nrows() > from.len() {
        out.row_mut(to.len()).assign(&vectors.row(from.len()));
    }
    out
}

/// `[H G H, b; b', c]` with `H` the centring matrix, never formed.
struct Bordered<'a> {
    gram: ArrayView2<'a, f64>,
    /// `b` and `c`.
    border: Option<(Array1<f64>, f64)>,
}

impl<'a> Bordered<'a> {
    /// `mean_square` is the squared length of the means that were taken out of the panel, and
    /// `along_mean` the product of what is left with them.
    fn new(
        gram: ArrayView2<'a, f64>,
        along_mean: ArrayView1<'_, f64>,
        mean_square: f64,
        rho: f64,
    ) -> Self {
        let n = gram.nrows() as f64;
        let border = (rho > 0.0).then(|| {
            let within = gram.sum_axis(Axis(1)) / n;
            let length = mean_square + 2.0 * along_mean.sum() / n + within.sum() / n;
            let mut row = within + along_mean;
            row -= row.sum() / n;
            (row * (rho * n).sqrt(), rho * n * length)
        });
        Self { gram, border }
    }

    fn size(&self) -> usize {
        self.gram.nrows() + usize::from(self.border.is_some())
    }

    fn times(&self, q: ArrayView2<'_, f64>) -> Array2<f64> {
        let n = self.gram.nrows();
        let top = centred(q.slice(s![..n, ..]).to_owned());
        let mut image = centred(linalg::product(self.gram, top.view()));
        let Some((row, corner)) = &self.border else {
            return image;
        };
        let last = q.slice(s![n.., ..]);
        let row = row.view().insert_axis(Axis(1));
        linalg::add_product(image.view_mut(), 1.0, row, last);
        let bottom = linalg::product(row.t(), top.view()) + &(&last * *corner);
        concatenate(Axis(0), &[image.view(), bottom.view()]).unwrap_or(image)
    }
}

/// Take the mean out of every column.
fn centred(mut a: Array2<f64>) -> Array2<f64> {
    if let Some(mean) = a.mean_axis(Axis(0)) {
        a -= &mean;
    }
    a
}
