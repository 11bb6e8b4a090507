//! A window's Gram matrix, centred from both sides, and what one window hands to the next.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};

use crate::krylov::SplitMix;
use crate::linalg;
use crate::stream::thin::columns_times;
use crate::vector::{add_scaled, contiguous, dot};

/// Size of the entries, relative to their average, that carried vectors have on new dates.
const UNKNOWN: f64 = 0.1;

/// What one window hands to the next: its dates and its block of vectors, in rows.
pub(super) type Carried = Option<(Range<usize>, Array2<f64>)>;

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
    let (from, rows) = carried.as_ref()?;
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

/// `YY' = [H G H, b; b', c]` with `H` the centring matrix, never formed.
pub(super) struct Bordered<'a> {
    /// `G`: products of the window's returns around known means.
    gram: ArrayView2<'a, f64>,
    rows: Vec<&'a [f64]>,
    /// `b` and `c`.
    border: Option<(Array1<f64>, f64)>,
}

impl<'a> Bordered<'a> {
    /// `within` are the products of the returns with the window's means, as far from the known ones;
    /// `along_mean` those with the known means, whose squared length is `mean_square`.
    pub(super) fn new(
        gram: ArrayView2<'a, f64>,
        within: Array1<f64>,
        rho: f64,
        along_mean: ArrayView1<'_, f64>,
        mean_square: f64,
    ) -> Self {
        let n = gram.nrows() as f64;
        let border = (rho > 0.0).then(|| {
            let length = mean_square + 2.0 * along_mean.sum() / n + within.sum() / n;
            let mut row = within + along_mean;
            row -= row.sum() / n;
            (row * (rho * n).sqrt(), rho * n * length)
        });
        let rows =
            (0..gram.nrows()).map(|t| contiguous(gram.index_axis_move(Axis(0), t).to_slice()));
        Self {
            gram,
            rows: rows.collect(),
            border,
        }
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
