//! A basis of Krylov spaces, held by what `Y'` is multiplied with.

use ndarray::{Array1, Array2, ArrayView2, Axis, Zip, s};

use super::bordered::Bordered;
use crate::linalg;
use crate::vector::{add_scaled, contiguous, dot};

/// Squared lengths below this share are rounding: the vectors before span such a one.
const SPANNED: f64 = 1e-11;

/// Orthonormal vectors `z` in rows, which are nearly eigenvectors, `YY'z`, and `z'YY'z`.
pub(super) struct Known<'a> {
    pub(super) vectors: ArrayView2<'a, f64>,
    pub(super) images: Array2<f64>,
    pub(super) values: Array1<f64>,
    /// So many are accurate enough to be left out of other spaces.
    pub(super) exact: usize,
}

/// Vectors `v`, as they were found and made orthonormal in their order.
pub(super) struct Basis {
    /// `Yv` as they were found, in rows.
    images: Array2<f64>,
    factor: Factor,
    /// `Y'Y` between the orthonormal vectors.
    pub(super) core: Array2<f64>,
    /// `D` in their coordinates, in columns; without the first.
    pub(super) along: Array2<f64>,
}

impl Basis {
    /// The eigenvectors `known`, then every column of `D` with `steps` vectors of its Krylov space.
    ///
    /// `starts` are the rows `Yd`, of which the first stands for itself, and `squares` is `D'D`.
    pub(super) fn grown(
        known: &Known<'_>,
        starts: Array2<f64>,
        squares: &Array2<f64>,
        steps: usize,
        block: &Bordered<'_>,
    ) -> Self {
        let (n_known, n_lanes) = (known.vectors.nrows(), starts.nrows());
        let shape = (n_known + n_lanes * (steps + 1), block.size());
        let (mut vectors, mut images) = (Array2::zeros(shape), Array2::zeros(shape));
        let scale = known.values.mapv(|v| v.sqrt().recip()).insert_axis(Axis(1));
        vectors
            .slice_mut(s![..n_known, ..])
            .assign(&(&known.vectors * &scale));
        images
            .slice_mut(s![..n_known, ..])
            .assign(&(&known.images * &scale));
        let each = steps + 1;
        let own = |lane: usize| n_known + lane * each;
        for (lane, start) in starts.outer_iter().enumerate().skip(1) {
            images.row_mut(own(lane)).assign(&start);
        }
        let exact = known.vectors.slice(s![..known.exact, ..]);
        let mut spaces = Spaces::from(starts);
        for first in n_known + 1..n_known + each {
            let (z, image) = spaces.next(exact, block);
            vectors.slice_mut(s![first..; each, ..]).assign(&z);
            images.slice_mut(s![first..; each, ..]).assign(&image);
        }
        let mut products = linalg::product(vectors.view(), images.t());
        let own: Vec<usize> = (0..n_lanes).map(own).collect();
        for &row in &own {
            let column = products.column(row).to_owned();
            products.row_mut(row).assign(&column);
        }
        for ((a, b), &square) in squares.indexed_iter() {
            products[(own[a], own[b])] = square;
        }
        Self::orthonormal(images, &products, &own[1..])
    }

    /// Vectors with images `Yv` and these products among each other; those of `D` are in rows `own`.
    fn orthonormal(images: Array2<f64>, products: &Array2<f64>, own: &[usize]) -> Self {
        let factor = Factor::of(products);
        let columns = products.select(Axis(0), own);
        let mut along = columns.t().as_standard_layout().into_owned();
        factor.divide_rows(&mut along);
        let mut core = linalg::product(images.view(), images.t());
        factor.divide_rows(&mut core);
        let mut core = core.t().as_standard_layout().into_owned();
        factor.divide_rows(&mut core);
        Self {
            images,
            factor,
            core,
            along,
        }
    }

    /// `Yv` in rows, from the leading coordinates of `v` in rows.
    pub(super) fn images_of(&self, mut v: Array2<f64>) -> Array2<f64> {
        self.factor.divide_columns(&mut v);
        linalg::product(v.view(), self.images.slice(s![..v.ncols(), ..]))
    }
}

/// Krylov spaces of `YY'` that grow side by side, in rows.
struct Spaces {
    now: Array2<f64>,
    before: Array2<f64>,
}

impl Spaces {
    fn from(starts: Array2<f64>) -> Self {
        let before = Array2::zeros(starts.raw_dim());
        Self {
            now: starts,
            before,
        }
    }

    /// The next `z` of every space, without its part along `exact`, and its `YY'z`, both in the unit
    /// in which `z'YY'z` is one; zeros where a space is at its end.
    fn next(
        &mut self,
        exact: ArrayView2<'_, f64>,
        block: &Bordered<'_>,
    ) -> (Array2<f64>, Array2<f64>) {
        let share = linalg::product(self.now.view(), exact.t());
        linalg::add_product(self.now.view_mut(), -1.0, share.view(), exact);
        let mut images = block.times_rows(self.now.view());
        let mut lengths = Array1::zeros(images.nrows());
        for ((mut z, mut image), length) in (self.now.outer_iter_mut())
            .zip(images.outer_iter_mut())
            .zip(&mut lengths)
        {
            let square = z.dot(&image);
            *length = if square > 0.0 { square.sqrt() } else { 0.0 };
            let unit = if square > 0.0 { *length } else { f64::INFINITY };
            z /= unit;
            image /= unit;
        }
        let found = self.now.clone();
        // Three terms: z_next = YY'z - weight z - length z_before, and z becomes z_before.
        for (lane, (image, &length)) in images.outer_iter().zip(&lengths).enumerate() {
            let weight = image.dot(&image);
            Zip::from(self.now.row_mut(lane))
                .and(&image)
                .and(self.before.row_mut(lane))
                .for_each(|z, &image, before| {
                    let next = image - weight * *z - length * *before;
                    *before = *z;
                    *z = next;
                });
        }
        (found, images)
    }
}

/// `L` of `LL'`; what is spanned by the rows before it is left out.
struct Factor {
    /// Below the diagonal.
    lower: Array2<f64>,
    /// Inverse of the diagonal, 0 for what is left out.
    inverse: Vec<f64>,
}

impl Factor {
    fn of(square: &Array2<f64>) -> Self {
        let n = square.nrows();
        let (mut lower, mut inverse) = (Array2::<f64>::zeros((n, n)), vec![0.0; n]);
        for (i, given) in square.outer_iter().enumerate() {
            let (above, mut rest) = lower.view_mut().split_at(Axis(0), i);
            let row = contiguous(rest.row_mut(0).into_slice());
            for (j, above) in above.outer_iter().enumerate() {
                if inverse[j] > 0.0 {
                    let above = contiguous(above.to_slice());
                    row[j] = (given[j] - dot(&row[..j], &above[..j])) * inverse[j];
                }
            }
            let left = given[i] - dot(&row[..i], &row[..i]);
            if left > SPANNED * given[i] {
                inverse[i] = left.sqrt().recip();
            }
        }
        Self { lower, inverse }
    }

    /// `L^-1 a`.
    fn divide_rows(&self, a: &mut Array2<f64>) {
        for (i, weights) in self.lower.outer_iter().enumerate() {
            let (above, mut rest) = a.view_mut().split_at(Axis(0), i);
            let row = contiguous(rest.row_mut(0).into_slice());
            if self.inverse[i] == 0.0 {
                row.fill(0.0);
                continue;
            }
            for (&weight, above) in weights.iter().zip(above.outer_iter()) {
                add_scaled(row, -weight, contiguous(above.to_slice()));
            }
            row.iter_mut().for_each(|v| *v *= self.inverse[i]);
        }
    }

    /// `a L^-1`.
    fn divide_columns(&self, a: &mut Array2<f64>) {
        for mut row in a.outer_iter_mut() {
            let row = contiguous(row.as_slice_mut());
            for i in (0..row.len()).rev() {
                row[i] *= self.inverse[i];
                let weights = self.lower.row(i);
                let weights = contiguous(weights.to_slice());
                let (head, tail) = row.split_at_mut(i);
                add_scaled(head, -tail[0], &weights[..i]);
            }
        }
    }
}
