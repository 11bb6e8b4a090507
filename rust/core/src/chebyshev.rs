//! Leading eigenpairs of a positive semidefinite operator from a start that is near them.
//!
//! Subspace iteration with Chebyshev polynomials: what lies in `[0, edge]` stays as it is while what
//! lies above grows as fast as any polynomial can make it. Unlike a Krylov space no basis is kept:
//! a product with the operator costs that product and nothing else. Vectors lie in rows.
//!
//! Zhou, Saad, Tiago and Chelikowsky (2006), Self-consistent-field calculations using
//! Chebyshev-filtered subspace iteration, Journal of Computational Physics 219.

use ndarray::{Array1, Array2, ArrayView2, Axis, s};

use crate::interrupt::check;
use crate::krylov::{ANGLE, Leading, excess};
use crate::vector::{add_scaled, contiguous, dot, norm};
use crate::{Result, linalg};

/// Products with the operator after which another way is cheaper.
const MOST_PRODUCTS: usize = 40;
/// The largest wanted pair may outgrow the smallest by this, over the angle that is left.
const SPREAD: f64 = 1e5;
/// Degree while no gap is in sight.
const BLIND: f64 = 4.0;
/// A row that keeps less than this share of its length holds rounding only.
const VANISHED: f64 = 1e-13;

/// Refine `start` (block, n) to the `k` leading pairs; `k + 2 <= block`.
///
/// `apply` multiplies every row by the operator. Returns the pairs and the whole block, in rows, for
/// a later start; `None` where the start is poor or the gap too weak.
///
/// # Errors
///
/// [`crate::CoreError::Failed`] when the operator yields numbers that are not finite.
pub(crate) fn polish(
    start: Array2<f64>,
    k: usize,
    apply: impl Fn(ArrayView2<'_, f64>) -> Array2<f64>,
) -> Result<Option<(Leading, Array2<f64>)>> {
    let (mut basis, mut left) = (start, MOST_PRODUCTS);
    loop {
        check();
        if !orthonormalise(&mut basis) {
            return Ok(None);
        }
        let image = apply(basis.view());
        let pairs = Pairs::of(&basis, &image, k)?;
        if pairs.excess <= 1.0 {
            let found = Leading {
                values: pairs.values.slice(s![..k]).to_owned(),
                vectors: pairs.basis.slice(s![..k, ..]).t().to_owned(),
            };
            return Ok(Some((found, pairs.basis)));
        }
        match pairs.degree(k, left) {
            Some(degree) => {
                left -= degree;
                basis = pairs.filtered(degree, &apply);
            }
            None => return Ok(None),
        }
    }
}

/// Ritz pairs of a block, and how many times its tolerance the worst residual is.
struct Pairs {
    values: Array1<f64>,
    basis: Array2<f64>,
    image: Array2<f64>,
    excess: f64,
}

impl Pairs {
    fn of(basis: &Array2<f64>, image: &Array2<f64>, k: usize) -> Result<Self> {
        let projection = linalg::product(basis.view(), image.t());
        let found = linalg::symmetric_eigen(projection.view())?;
        let basis = linalg::product(found.vectors.t(), basis.view());
        let image = linalg::product(found.vectors.t(), image.view());
        let residuals = Array1::from_shape_fn(k + 1, |i| {
            let mut row = image.row(i).to_vec();
            let vector = basis.row(i);
            add_scaled(&mut row, -found.values[i], contiguous(vector.as_slice()));
            norm(&row)
        });
        Ok(Self {
            excess: excess(&found.values, &residuals, basis.nrows()),
            values: found.values,
            basis,
            image,
        })
    }

    /// Upper end of what is not wanted; the last pair of the block is the poorest.
    fn edge(&self) -> f64 {
        let next = self.values[self.values.len() - 2];
        next.max(f64::EPSILON * self.values[0])
    }

    /// Degree of the next filter; None when the products left will not do.
    fn degree(&self, k: usize, left: usize) -> Option<usize> {
        let growth = |i: usize| (2.0 * self.values[i] / self.edge() - 1.0).acosh();
        let (least, most) = (growth(k - 1), growth(0));
        let (needed, angle) = if self.excess.is_finite() {
            ((4.0 * self.excess).ln() / least, self.excess * ANGLE)
        } else {
            (BLIND, 1.0)
        };
        // Also for the NaN of a pair below the edge.
        if needed.is_nan() || needed.ceil() > left as f64 {
            return None;
        }
        let tolerable = (SPREAD / angle.min(1.0)).ln() / (most - least);
        Some(needed.ceil().min(tolerable.floor()).max(1.0) as usize)
    }

    /// The Chebyshev polynomial of `[0, edge]` applied to the block.
    fn filtered(
        self,
        degree: usize,
        apply: &impl Fn(ArrayView2<'_, f64>) -> Array2<f64>,
    ) -> Array2<f64> {
        let half = 0.5 * self.edge();
        let (mut before, mut now) = (self.basis, self.image);
        now.zip_mut_with(&before, |image, v| *image = *image / half - v);
        for _ in 1..degree {
            check();
            let image = apply(now.view());
            ndarray::Zip::from(&mut before)
                .and(&now)
                .and(&image)
                .for_each(|old, v, image| *old = 2.0 * (image / half - v) - *old);
            std::mem::swap(&mut before, &mut now);
        }
        now
    }
}

/// Orthonormalise rows in their order; false when one of them vanishes.
fn orthonormalise(rows: &mut Array2<f64>) -> bool {
    for j in 0..rows.nrows() {
        let (known, mut rest) = rows.view_mut().split_at(Axis(0), j);
        let row = contiguous(rest.row_mut(0).into_slice());
        let length = norm(row);
        for _ in 0..2 {
            for other in known.rows() {
                let other = contiguous(other.to_slice());
                let weight = dot(other, row);
                add_scaled(row, -weight, other);
            }
        }
        let left = norm(row);
        if !left.is_finite() || left <= VANISHED * length {
            return false;
        }
        row.iter_mut().for_each(|v| *v /= left);
    }
    true
}
