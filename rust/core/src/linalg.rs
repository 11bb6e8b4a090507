//! Dense factorisations, on `ndarray` outside and `faer` inside.
//!
//! Everything here runs on the calling thread: callers parallelise over dates or columns, so that
//! results do not depend on the number of threads.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::Solve;
use faer::{Accum, MatMut, MatRef, Par, Side};
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2};

use crate::{CoreError, Result};

/// Borrow an `ndarray` matrix of any layout as a `faer` one.
pub fn as_faer<'a>(a: ArrayView2<'a, f64>) -> MatRef<'a, f64> {
    let ((rows, columns), strides) = (a.dim(), a.strides().to_vec());
    // SAFETY: pointer, shape and strides come from a live view with the same lifetime.
    #[allow(unsafe_code)]
    unsafe {
        MatRef::from_raw_parts(a.as_ptr(), rows, columns, strides[0], strides[1])
    }
}

fn as_faer_mut<'a>(a: &'a mut ArrayViewMut2<'_, f64>) -> MatMut<'a, f64> {
    let ((rows, columns), strides) = (a.dim(), a.strides().to_vec());
    // SAFETY: as above, and the exclusive borrow is held for the lifetime of the result.
    #[allow(unsafe_code)]
    unsafe {
        MatMut::from_raw_parts_mut(a.as_mut_ptr(), rows, columns, strides[0], strides[1])
    }
}

/// `A B`, shape `(rows of A, columns of B)`; the inner dimensions must agree.
pub fn product(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) -> Array2<f64> {
    let mut out = Array2::zeros((a.nrows(), b.ncols()));
    add_product(out.view_mut(), 1.0, a, b);
    out
}

/// `C += alpha A B`; the dimensions must agree.
pub fn add_product(
    mut c: ArrayViewMut2<'_, f64>,
    alpha: f64,
    a: ArrayView2<'_, f64>,
    b: ArrayView2<'_, f64>,
) {
    let (a, b) = (as_faer(a), as_faer(b));
    matmul(as_faer_mut(&mut c), Accum::Add, a, b, alpha, Par::Seq);
}

/// Eigenvalues in descending order and their eigenvectors as columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Eigen {
    /// Eigenvalues, largest first, shape `(n,)`.
    pub values: Array1<f64>,
    /// Orthonormal eigenvectors in columns, shape `(n, n)`.
    pub vectors: Array2<f64>,
}

/// Eigendecomposition of a symmetric matrix; only the lower triangle is read.
///
/// # Errors
///
/// [`CoreError::Failed`] when the matrix is not finite or the iteration does not converge.
pub fn symmetric_eigen(a: ArrayView2<'_, f64>) -> Result<Eigen> {
    let n = a.nrows();
    let failed = |why: &str| CoreError::Failed {
        what: "symmetric eigendecomposition",
        why: why.to_owned(),
    };
    if a.iter().any(|v| !v.is_finite()) {
        return Err(failed("the matrix is not finite"));
    }
    let found = as_faer(a)
        .self_adjoint_eigen(Side::Lower)
        .map_err(|_| failed("no convergence"))?;
    let (values, vectors) = (found.S().column_vector(), found.U());
    Ok(Eigen {
        values: Array1::from_shape_fn(n, |k| values[n - 1 - k]),
        vectors: Array2::from_shape_fn((n, n), |(i, k)| vectors[(i, n - 1 - k)]),
    })
}

/// Singular values in descending order and right singular vectors; `vectors` is `(columns, min)`.
///
/// # Errors
///
/// [`CoreError::Failed`] when the iteration does not converge.
pub fn right_singular(a: ArrayView2<'_, f64>) -> Result<Eigen> {
    let found = as_faer(a).thin_svd().map_err(|_| CoreError::Failed {
        what: "singular value decomposition",
        why: "no convergence".to_owned(),
    })?;
    let (values, vectors) = (found.S().column_vector(), found.V());
    Ok(Eigen {
        values: Array1::from_shape_fn(values.nrows(), |k| values[k]),
        vectors: Array2::from_shape_fn((vectors.nrows(), vectors.ncols()), |(i, k)| {
            vectors[(i, k)]
        }),
    })
}

/// Solve `A X = B` for symmetric positive definite `A`; `None` when it is not numerically so.
pub fn solve_positive_definite(
    a: ArrayView2<'_, f64>,
    b: ArrayView2<'_, f64>,
) -> Option<Array2<f64>> {
    let factor = as_faer(a).llt(Side::Lower).ok()?;
    let x = factor.solve(as_faer(b));
    let out = Array2::from_shape_fn(b.dim(), |(i, j)| x[(i, j)]);
    out.iter().all(|v| v.is_finite()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn eigenvalues_come_largest_first() {
        let found = symmetric_eigen(array![[2.0, 1.0], [1.0, 2.0]].view());
        let values = found.map(|e| e.values.to_vec()).unwrap_or_default();
        assert!((values[0] - 3.0).abs() < 1e-14 && (values[1] - 1.0).abs() < 1e-14);
    }

    #[test]
    fn layout_does_not_matter() {
        let a = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
        let b = array![[1.0, 0.5], [2.0, -1.0], [0.0, 3.0]];
        assert_eq!(product(a.view(), b.view()), a.dot(&b));
        assert_eq!(product(b.t(), a.t()), a.dot(&b).t());
    }

    #[test]
    fn an_indefinite_matrix_is_not_solved() {
        let a = array![[1.0, 2.0], [2.0, 1.0]];
        assert_eq!(solve_positive_definite(a.view(), a.view()), None);
    }
}
