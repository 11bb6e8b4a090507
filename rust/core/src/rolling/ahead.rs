//! Eigenvectors of the windows that follow a solved one, nearly exact, for a few products in all.
//!
//! With `Y` the solved window's panel, centred and bordered, a window that differs from it by a few
//! dates has the moment matrix `Y'Y + D N D'`: the columns of `D` are the returns of these dates
//! around the solved window's means and, for RP-PCA, the means; `N` is tiny. So its eigenvectors lie
//! in the span of `Y`'s and of the Krylov spaces of `Y'Y` from the columns of `D`. One walk over the
//! Gram matrix takes all these spaces a step further, and serves several windows.
//!
//! A vector `v = Y'z` is held by its `z`: then `v'w = z'YY'w` and `v'(Y'Y)w = (YY'z)'(YY'w)`. Every
//! date has a space of its own, built without a look at the others, and a window sees the spaces of
//! the dates up to its own: no bit of it comes from later ones.
//!
//! Saad (2011), Numerical Methods for Large Eigenvalue Problems, sections 4.3 and 6.3 (Ritz pairs of
//! Krylov spaces); Golub and Kahan (1965), Calculating the singular values and pseudo-inverse of a
//! matrix, SIAM Journal on Numerical Analysis 2 (the recurrence in terms of `z`).

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView2, Axis, s};

use super::basis::{Basis, Known};
use super::bordered::Bordered;
use crate::krylov::{ANGLE, SplitMix};
use crate::vector::contiguous;
use crate::{chebyshev, linalg};

/// Spaces that grow side by side: as many vectors as a walk over the Gram matrix multiplies at once.
const LANES: usize = 8;
/// For every date by which the next window differs a window has so many dates, or the spaces cost
/// more than they save.
const WORTHWHILE: usize = 200;
/// Most steps of a space; beyond them the gap is too weak.
const MOST_STEPS: usize = 12;
/// Angle between eigenvectors of windows that differ by a few dates, about.
const APART: f64 = 0.05;
/// Vectors with residuals below this share of their eigenvalue are left out of the spaces.
const EXACT: f64 = 1e-4;
/// Size of the random entries that the known eigenvectors get.
const UNKNOWN: f64 = 1e-3;

/// A solved window and the spaces of the dates by which others differ from it.
pub(super) struct Ahead {
    base: Range<usize>,
    /// Dates that have a space, in the order of the windows that bring them.
    dates: Vec<usize>,
    rho: f64,
    /// Known vectors, then as many of every space.
    n_known: usize,
    each: usize,
    basis: Basis,
}

impl Ahead {
    /// Spaces from the window `base`, whose eigenvectors are the rows of `known`, for the windows
    /// that follow; none where they would not pay.
    pub(super) fn new(
        base: &Range<usize>,
        known: ArrayView2<'_, f64>,
        k: usize,
        windows: &[Range<usize>],
        block: &Bordered<'_>,
    ) -> Option<Self> {
        let bordered = usize::from(block.rho() > 0.0);
        let dates = differing(base, windows, LANES - 1 - bordered)?;
        let mut vectors = known.as_standard_layout().into_owned();
        vectors.outer_iter_mut().for_each(|row| block.centre(row));
        let images = block.times_rows(vectors.view());
        let pairs = vectors.outer_iter().zip(images.outer_iter());
        let values: Array1<f64> = pairs.map(|(z, image)| z.dot(&image)).collect();
        let steps = steps(&values, k)?;
        let mut starts = Array2::zeros((LANES, block.size()));
        SplitMix(0x5DEE_CE66).fill(contiguous(starts.row_mut(0).as_slice_mut()));
        block.centre(starts.row_mut(0));
        if let Some(mean) = block.times_mean() {
            starts.row_mut(1).assign(&mean);
        }
        for (mut row, &date) in starts.outer_iter_mut().skip(1 + bordered).zip(&dates) {
            row.assign(&block.times_date(date));
        }
        let mut squares = Array2::zeros((LANES, LANES));
        block.squares(&dates, squares.slice_mut(s![1.., 1..]));
        let rest = &images - &(&vectors * &values.view().insert_axis(Axis(1)));
        let lengths = rest.outer_iter().map(|row| row.dot(&row).sqrt());
        // One that is hardly larger than the rest is no obstacle, and what it lacks is.
        let clear = 2.0 * values[values.len() - 2];
        let exact = lengths
            .zip(&values)
            .take_while(|(length, value)| **value >= clear && *length <= EXACT * *value);
        let known = Known {
            exact: exact.count(),
            vectors: vectors.view(),
            images,
            values,
        };
        Some(Self {
            base: base.clone(),
            rho: block.rho(),
            n_known: vectors.nrows(),
            each: steps + 1,
            basis: Basis::grown(&known, starts, &squares, steps, block),
            dates,
        })
    }

    /// Nearly eigenvectors of `window`, in rows; none where it has dates without a space.
    pub(super) fn start(&self, window: &Range<usize>, rho: f64, k: usize) -> Option<Array2<f64>> {
        let away = difference(window, &self.base);
        let place = |date: &usize| self.dates.iter().position(|known| known == date);
        let last = away
            .iter()
            .map(place)
            .try_fold(0, |most, at| Some(most.max(at? + 1)))?;
        let (t, before) = (window.len() as f64, self.base.len() as f64);
        let bordered = usize::from(self.rho > 0.0);
        let signs = Array1::from_shape_fn(LANES - 1, |lane| {
            let date = lane.checked_sub(bordered).and_then(|i| self.dates.get(i));
            match date.filter(|date| away.contains(date)) {
                Some(date) if window.contains(date) => 1.0,
                Some(_) => -1.0,
                None => 0.0,
            }
        });
        let mut middle = Array2::from_shape_fn((LANES - 1, LANES - 1), |(i, j)| {
            let own = if i == j { signs[i] } else { 0.0 };
            own + (rho - 1.0) / t * signs[i] * signs[j]
        });
        if bordered == 1 {
            middle.row_mut(0).assign(&(&signs * rho));
            middle.column_mut(0).assign(&(&signs * rho));
            middle[(0, 0)] = rho * t - self.rho * before;
        }
        let size = self.n_known + (1 + bordered + last) * self.each;
        let along = self.basis.along.slice(s![..size, ..]);
        let mut moment = self.basis.core.slice(s![..size, ..size]).to_owned();
        let weighted = linalg::product(along, middle.view());
        linalg::add_product(moment.view_mut(), 1.0, weighted.view(), along.t());
        let times = |q: ArrayView2<'_, f64>| linalg::product(q, moment.view());
        let (_, found) = chebyshev::polish(self.seed(size)?, k, times).ok()??;
        let along = linalg::product(found.view(), along);
        // How far the means move, along every vector.
        let shift = along.dot(&signs) / t;
        let images = self.basis.images_of(found);
        let mut out = Array2::zeros((images.nrows(), window.len() + bordered));
        let (first, end) = (
            self.base.start.max(window.start),
            self.base.end.min(window.end),
        );
        out.slice_mut(s![.., first - window.start..end - window.start])
            .assign(&images.slice(s![.., first - self.base.start..end - self.base.start]));
        for (i, date) in self.dates.iter().enumerate() {
            if signs[bordered + i] > 0.0 {
                let entries = along.column(bordered + i);
                out.column_mut(date - window.start).assign(&entries);
            }
        }
        let mut dates = out.slice_mut(s![.., ..window.len()]);
        dates -= &shift.view().insert_axis(Axis(1));
        if bordered == 1 {
            let mean = &along.column(0) + &shift;
            out.column_mut(window.len())
                .assign(&(mean * (rho * t).sqrt()));
        }
        Some(out)
    }

    /// The known vectors in the basis, and a little of everything else.
    fn seed(&self, size: usize) -> Option<Array2<f64>> {
        let mut out = Array2::zeros((self.n_known, size));
        let mut random = SplitMix(0x5DEE_CE66);
        for (i, mut row) in out.outer_iter_mut().enumerate() {
            random.fill(contiguous(row.as_slice_mut()));
            row *= UNKNOWN / (size as f64).sqrt();
            row[i] = 1.0;
        }
        Some(out)
    }
}

/// Dates of one of the ranges only.
fn difference(a: &Range<usize>, b: &Range<usize>) -> Vec<usize> {
    let mut out: Vec<usize> = a.clone().filter(|date| !b.contains(date)).collect();
    out.extend(b.clone().filter(|date| !a.contains(date)));
    out
}

/// Dates by which the windows differ from `base`, of as many windows as there is room for.
///
/// None unless the first window follows closely: what comes after it must not decide how it is
/// found.
fn differing(base: &Range<usize>, windows: &[Range<usize>], most: usize) -> Option<Vec<usize>> {
    let first = windows.first()?;
    let away = difference(first, base).len();
    if away == 0 || away * WORTHWHILE > base.len() || away > most || first.end < base.end {
        return None;
    }
    let mut found = Vec::new();
    for window in windows {
        let mut fresh = difference(window, base);
        fresh.retain(|date| !found.contains(date));
        if window.end < base.end || found.len() + fresh.len() > most {
            break;
        }
        found.extend(fresh);
    }
    Some(found)
}

/// Steps after which a space holds what the `k` leading vectors need of it.
fn steps(values: &Array1<f64>, k: usize) -> Option<usize> {
    let edge = values[values.len() - 2].max(f64::EPSILON * values[0]);
    let growth = (2.0 * values[k - 1] / edge - 1.0).acosh();
    let steps = (APART / ANGLE).ln() / growth;
    // Also for the NaN of a pair below the edge.
    (steps <= MOST_STEPS as f64).then(|| steps.ceil() as usize)
}
