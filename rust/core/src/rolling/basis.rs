//! A basis of Krylov spaces, held by what `Y'` is multiplied with.

use ndarray::{Array1, Array2, ArrayView2, Axis, Zip, s};

use super::bordered::Bordered;
use crate::linalg;
use crate::vector::{add_scaled, dot};

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
        let own: Vec<usize> = (0..n_lanes)
            .map(|lane| n_known + lane * (steps + 1))
            .collect();
        for (&row, start) in own.iter().zip(starts.outer_iter()).skip(1) {
            images.row_mut(row).assign(&start);
        }
        let exact = known.vectors.slice(s![..known.exact, ..]);
        let mut lanes = starts;
        let mut before = Array2::<f64>::zeros(lanes.raw_dim());
        for step in 0..steps {
            let share = linalg::product(lanes.view(), exact.t());
            linalg::add_product(lanes.view_mut(), -1.0, share.view(), exact);
            let mut image = block.times_rows(lanes.view());
            for (lane, &first) in own.iter().enumerate() {
                let (mut z, mut image) = (lanes.row_mut(lane), image.row_mut(lane));
                let square = z.dot(&image);
                let length = if square > 0.0 {
                    square.sqrt()
                } else {
                    f64::INFINITY
                };
                z /= length;
                image /= length;
                let row = first + 1 + step;
                vectors.row_mut(row).assign(&z);
                images.row_mut(row).assign(&image);
                // Three terms: z_next = YY'z - weight z - length z_before, and z becomes z_before.
                let weight = image.dot(&image);
                let back = if length.is_finite() { length } else { 0.0 };
                Zip::from(&mut z)
                    .and(&image)
                    .and(before.row_mut(lane))
                    .for_each(|z, &image, before| {
                        let next = image - weight * *z - back * *before;
                        *before = *z;
                        *z = next;
                    });
            }
        }
        let mut products = linalg::product(vectors.view(), images.t());
        for &row in &own {
            let column = products.column(row).to_owned();
            products.row_mut(row).assign(&column);
        }
        for ((a, b), &square) in squares.indexed_iter() {
            products[(own[a], own[b])] = square;
        }
        let factor = Factor::of(&products);
        let mut along = products
            .select(Axis(0), &own[1..])
            .t()
            .as_standard_layout()
            .into_owned();
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
            let Some(row) = rest.row_mut(0).into_slice() else {
                continue;
            };
            for (j, above) in above.outer_iter().enumerate() {
                if let Some(above) = above.to_slice().filter(|_| inverse[j] > 0.0) {
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
            let Some(row) = rest.row_mut(0).into_slice() else {
                continue;
            };
            if self.inverse[i] == 0.0 {
                row.fill(0.0);
                continue;
            }
            for (&weight, above) in weights.iter().zip(above.outer_iter()) {
                add_scaled(row, -weight, above.to_slice().unwrap_or_default());
            }
            row.iter_mut().for_each(|v| *v *= self.inverse[i]);
        }
    }

    /// `a L^-1`.
    fn divide_columns(&self, a: &mut Array2<f64>) {
        for mut row in a.outer_iter_mut() {
            let Some(row) = row.as_slice_mut() else {
                continue;
            };
            for i in (0..row.len()).rev() {
                row[i] *= self.inverse[i];
                let weights = self.lower.row(i);
                let weights = weights.to_slice().unwrap_or_default();
                let (head, tail) = row.split_at_mut(i);
                add_scaled(head, -tail[0], &weights[..i]);
            }
        }
    }
}
