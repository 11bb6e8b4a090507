//! A window's Gram matrix, centred from both sides, and what one window hands to the next.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis, s};

use super::ahead::Ahead;
use crate::krylov::SplitMix;
use crate::linalg;
use crate::stream::thin::columns_times;
use crate::vector::{add_scaled, contiguous, dot};

/// Size of the entries, relative to their average, that carried vectors have on new dates.
const UNKNOWN: f64 = 0.1;

/// What one window hands to the next.
#[derive(Default)]
pub(super) struct Carried {
    /// Its dates and its block of vectors, in rows.
    pub(super) last: Option<(Range<usize>, Array2<f64>)>,
    pub(super) ahead: Option<Ahead>,
}

/// Vectors of one window as a start for another, in rows; none where they share too few dates.
///
/// New dates get small random entries, and the last vector is random throughout: a start that is
/// orthogonal to a direction which only now matters would never see it.
pub(super) fn carry(
    carried: &Carried,
    to: &Range<usize>,
    size: usize,
    block: usize,
) -> Option<Array2<f64>> {
    let (from, rows) = carried.last.as_ref()?;
    let (first, last) = (from.start.max(to.start), from.end.min(to.end));
    let bordered = size - to.len();
    if 2 * last.saturating_sub(first) < to.len()
        || rows.nrows() < block
        || rows.ncols() != from.len() + bordered
    {
        return None;
    }
    let mut out = Array2::zeros((block, size));
    let mut random = SplitMix(0x5DEE_CE66);
    for mut row in out.rows_mut() {
        random.fill(contiguous(row.as_slice_mut()));
    }
    let known = block - 1;
    let mut old = out.slice_mut(s![..known, ..]);
    old *= UNKNOWN / (size as f64).sqrt();
    old.slice_mut(s![.., first - to.start..last - to.start])
        .assign(&rows.slice(s![..known, first - from.start..last - from.start]));
    old.slice_mut(s![.., to.len()..])
        .assign(&rows.slice(s![..known, from.len()..]));
    for mut row in out.rows_mut() {
        let mean = row.slice(s![..to.len()]).sum() / to.len() as f64;
        row.slice_mut(s![..to.len()]).mapv_inplace(|v| v - mean);
    }
    Some(out)
}

/// A window within the Gram matrix of all dates.
#[derive(Clone, Copy)]
pub(super) struct Dates<'a> {
    /// Products of all dates' returns around known means.
    pub(super) gram: ArrayView2<'a, f64>,
    /// These returns times those means.
    pub(super) along_mean: ArrayView1<'a, f64>,
    /// Squared length of the means.
    pub(super) mean_square: f64,
}

/// `YY' = [H G H, b; b', c]` with `H` the centring matrix, never formed.
pub(super) struct Bordered<'a> {
    all: Dates<'a>,
    window: Range<usize>,
    gram: ArrayView2<'a, f64>,
    rows: Vec<&'a [f64]>,
    /// Products of the dates with the window's means, as far from the known ones.
    within: Array1<f64>,
    rho: f64,
    /// `b` and `c`.
    border: Option<(Array1<f64>, f64)>,
}

impl<'a> Bordered<'a> {
    pub(super) fn new(all: Dates<'a>, window: Range<usize>, within: Array1<f64>, rho: f64) -> Self {
        let n = window.len() as f64;
        let gram = all.gram.slice_move(s![window.clone(), window.clone()]);
        let along_mean = all.along_mean.slice(s![window.clone()]);
        let border = (rho > 0.0).then(|| {
            let length = all.mean_square + 2.0 * along_mean.sum() / n + within.sum() / n;
            let mut row = &within + &along_mean;
            row -= row.sum() / n;
            (row * (rho * n).sqrt(), rho * n * length)
        });
        let rows =
            (0..gram.nrows()).map(|t| contiguous(gram.index_axis_move(Axis(0), t).to_slice()));
        Self {
            all,
            gram,
            rows: rows.collect(),
            window,
            within,
            rho,
            border,
        }
    }

    pub(super) fn rho(&self) -> f64 {
        self.rho
    }

    /// `Yd` of a date's returns around the window's means.
    pub(super) fn times_date(&self, date: usize) -> Array1<f64> {
        let n = self.window.len();
        let given = self.all.gram.slice(s![self.window.clone(), date]);
        let mut out = Array1::zeros(self.size());
        out.slice_mut(s![..n]).assign(&(&given - &self.within));
        self.centre(out.view_mut());
        if self.border.is_some() {
            let along = self.all.along_mean[date]
                - self.all.along_mean.slice(s![self.window.clone()]).sum() / n as f64;
            let within = (given.sum() - self.within.sum()) / n as f64;
            out[n] = (self.rho * n as f64).sqrt() * (along + within);
        }
        out
    }

    /// Products of the window's mean returns, where `Y` holds them, and then of the dates' returns
    /// around them with each other.
    pub(super) fn squares(&self, dates: &[usize], mut out: ArrayViewMut2<'_, f64>) {
        let n = self.window.len() as f64;
        let first = usize::from(self.border.is_some());
        if let Some((_, corner)) = &self.border {
            out[(0, 0)] = corner / (self.rho * n);
        }
        let with_mean = |date: usize| self.all.gram.slice(s![self.window.clone(), date]).sum() / n;
        let own = self.within.sum() / n;
        for (i, &a) in dates.iter().enumerate() {
            for (j, &b) in dates.iter().enumerate() {
                out[(first + i, first + j)] =
                    self.all.gram[(a, b)] - with_mean(a) - with_mean(b) + own;
            }
            if first == 1 {
                let product = self.times_date(a)[self.window.len()] / (self.rho * n).sqrt();
                out[(0, 1 + i)] = product;
                out[(1 + i, 0)] = product;
            }
        }
    }

    /// `Ym` of the window's mean returns, where they are one more row of `Y`.
    pub(super) fn times_mean(&self) -> Option<Array1<f64>> {
        let (row, corner) = self.border.as_ref()?;
        let mut out: Array1<f64> = row.iter().chain(Some(corner)).copied().collect();
        out /= (self.rho * self.window.len() as f64).sqrt();
        Some(out)
    }

    /// Take the mean out of the dates' entries.
    pub(super) fn centre(&self, mut v: ArrayViewMut1<'_, f64>) {
        let mut dates = v.slice_mut(s![..self.window.len()]);
        let mean = dates.sum() / self.window.len() as f64;
        dates -= mean;
    }

    pub(super) fn size(&self) -> usize {
        self.gram.nrows() + usize::from(self.border.is_some())
    }

    /// The matrix times a block of columns.
    pub(super) fn times(&self, q: ArrayView2<'_, f64>) -> Array2<f64> {
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
        let mut out = Array2::zeros((n + 1, q.ncols()));
        out.slice_mut(s![..n, ..]).assign(&image);
        out.slice_mut(s![n.., ..]).assign(&bottom);
        out
    }

    /// The matrix times every row of a block that is centred already.
    pub(super) fn times_rows(&self, q: ArrayView2<'_, f64>) -> Array2<f64> {
        let (n, block) = (self.gram.nrows(), q.nrows());
        let mut across = vec![0.0; n * block];
        for (lane, row) in q.rows().into_iter().enumerate() {
            let cells = across.iter_mut().skip(lane).step_by(block);
            cells.zip(row).for_each(|(cell, &v)| *cell = v);
        }
        let mut found = vec![0.0; block * n];
        columns_times(&self.rows, &across, block, &mut found);
        let mut out = Array2::zeros((block, self.size()));
        for ((mut line, found), given) in out
            .rows_mut()
            .into_iter()
            .zip(found.chunks_exact(n))
            .zip(q.rows())
        {
            let line = contiguous(line.as_slice_mut());
            let given = contiguous(given.to_slice());
            let mean = ArrayView1::from(found).sum() / n as f64;
            line.iter_mut().zip(found).for_each(|(v, f)| *v = f - mean);
            if let Some((border, corner)) = &self.border {
                let border = contiguous(border.as_slice());
                add_scaled(&mut line[..n], given[n], border);
                line[n] = dot(border, &given[..n]) + corner * given[n];
            }
        }
        out
    }
}

/// Take the mean out of every column.
fn centred(mut a: Array2<f64>) -> Array2<f64> {
    if let Some(mean) = a.mean_axis(Axis(0)) {
        a -= &mean;
    }
    a
}
