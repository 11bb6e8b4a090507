//! Dense factorisations, on `ndarray` outside and `faer` inside.
//!
//! Everything here runs on one thread: callers parallelise over dates or columns, so that results do
//! not depend on the number of threads. A long factorisation runs on a thread of its own that owns
//! a copy of its matrix, so that the caller can stop waiting for it.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::Solve;
use faer::{Accum, MatMut, MatRef, Par, Side};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut2, Axis, s};

use crate::memory::Arrays;
use crate::{CoreError, Result, interrupt, shape};

/// Multiplications that take a tenth of a second or less on any machine of today.
const LONG: usize = 1 << 28;
/// A product as shallow as this, or shallower, waits for memory.
const LEAST_DEPTH: usize = 16;
/// Rows multiplied at a time, whatever their length.
const LEAST_ROWS: usize = 64;

/// Corrections of a least-squares solution by its own residual.
const REFINEMENTS: usize = 2;

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

/// `A B`, shape `(rows of A, columns of B)`.
///
/// # Panics
///
/// When the inner dimensions differ.
pub fn product(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) -> Array2<f64> {
    let mut out = Array2::zeros((a.nrows(), b.ncols()));
    add_product(out.view_mut(), 1.0, a, b);
    out
}

/// `C += alpha A B`.
///
/// # Panics
///
/// When the dimensions differ.
pub fn add_product(
    mut c: ArrayViewMut2<'_, f64>,
    alpha: f64,
    a: ArrayView2<'_, f64>,
    b: ArrayView2<'_, f64>,
) {
    let by_row = b.ncols() * a.ncols().max(LEAST_DEPTH);
    if a.nrows() * by_row <= LONG {
        let (a, b) = (as_faer(a), as_faer(b));
        return matmul(as_faer_mut(&mut c), Accum::Add, a, b, alpha, Par::Seq);
    }
    let rows = (LONG / by_row).max(LEAST_ROWS);
    let parts = c.axis_chunks_iter_mut(Axis(0), rows);
    for (mut c, a) in parts.zip(a.axis_chunks_iter(Axis(0), rows)) {
        interrupt::check();
        let (a, b) = (as_faer(a), as_faer(b));
        matmul(as_faer_mut(&mut c), Accum::Add, a, b, alpha, Par::Seq);
    }
}

/// A factorisation of `a` that takes about `work` multiplications; interruptible where these are many.
pub(crate) fn long<T: Send + 'static>(
    work: usize,
    a: ArrayView2<'_, f64>,
    factor: impl FnOnce(MatRef<'_, f64>) -> T + Send + 'static,
) -> T {
    if work <= LONG {
        return factor(as_faer(a));
    }
    let a = a.to_owned();
    interrupt::apart(move || factor(as_faer(a.view())))
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
/// [`CoreError::Shape`] when the matrix is not square, [`CoreError::Failed`] when it is not finite or
/// the iteration does not converge.
pub fn symmetric_eigen(a: ArrayView2<'_, f64>) -> Result<Eigen> {
    let n = a.nrows();
    shape::require("the matrix", &[n, n], a.shape())?;
    let failed = |why: &str| CoreError::Failed {
        what: "symmetric eigendecomposition",
        why: why.to_owned(),
    };
    Arrays::new().times(6, "eigenvectors", &[n, n]).require()?;
    if a.iter().any(|v| !v.is_finite()) {
        return Err(failed("the matrix is not finite"));
    }
    let found = long(n * n * n, a, |a| a.self_adjoint_eigen(Side::Lower));
    let found = found.map_err(|_| failed("no convergence"))?;
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
    let work = a.len() * a.nrows().min(a.ncols());
    let found = long(work, a, |a| a.thin_svd());
    let found = found.map_err(|_| CoreError::Failed {
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
///
/// # Panics
///
/// When `A` is not square, or `B` has not as many rows.
pub fn solve_positive_definite(
    a: ArrayView2<'_, f64>,
    b: ArrayView2<'_, f64>,
) -> Option<Array2<f64>> {
    let factor = long(a.nrows().pow(3), a, |a| a.llt(Side::Lower).ok())?;
    let x = factor.solve(as_faer(b));
    let out = Array2::from_shape_fn(b.dim(), |(i, j)| x[(i, j)]);
    out.iter().all(|v| v.is_finite()).then_some(out)
}

/// Solve `A x = b` for symmetric `A` with unit diagonal by Cholesky; `None` unless every pivot, the
/// share of a column that the columns before it do not span, is at least `least`.
///
/// # Panics
///
/// When `A` is not square, or `b` has not as many entries.
pub fn solve_well_determined(
    a: ArrayView2<'_, f64>,
    b: ArrayView1<'_, f64>,
    least: f64,
) -> Option<Array1<f64>> {
    let factor = long(a.nrows().pow(3), a, |a| a.llt(Side::Lower).ok())?;
    let root = factor.L();
    // Written so that a NaN is refused, too.
    if !(0..a.nrows()).all(|i| root[(i, i)] * root[(i, i)] >= least) {
        return None;
    }
    let x = factor.solve(as_faer(b.insert_axis(Axis(1))));
    let out: Array1<f64> = (0..b.len()).map(|i| x[(i, 0)]).collect();
    out.iter().all(|v| v.is_finite()).then_some(out)
}

/// The shortest of the least-squares solutions of `A x = b`, shape `(columns of A,)`.
///
/// The rank is decided after every column of `A` is scaled to unit length, so that units do not
/// matter: singular values below `eps * max(rows, columns)` times the largest count as zero. The norm
/// that is smallest is that of `x` itself, not of the scaled coefficients.
///
/// # Errors
///
/// [`CoreError::Shape`] when `b` has not as many entries as `A` has rows, [`CoreError::Failed`] when
/// the singular value decomposition does not converge.
pub fn minimum_norm(a: ArrayView2<'_, f64>, b: ArrayView1<'_, f64>) -> Result<Array1<f64>> {
    let (n, p) = a.dim();
    shape::require("b", &[n], b.shape())?;
    if n == 0 || p == 0 {
        return Ok(Array1::zeros(p));
    }
    let scale: Array1<f64> = a.columns().into_iter().map(length).collect();
    Arrays::new()
        .times(4, "rows of a date", &[n, p + 1])
        .times(12, "singular vectors", &[p + 1, p + 1])
        .require()?;
    let mut system = Array2::zeros((n, p + 1));
    system.slice_mut(s![.., ..p]).assign(&(&a / &scale));
    system.column_mut(p).assign(&b);
    if n > p + 1 {
        // Rotations change neither the solution nor the singular values.
        let factor = long(n * p * p, system.view(), |a| a.qr());
        let root = factor.thin_R();
        system = Array2::from_shape_fn(
            (p + 1, p + 1),
            |(i, j)| if i <= j { root[(i, j)] } else { 0.0 },
        );
    }
    let (core, rhs) = (system.slice(s![.., ..p]), system.column(p));
    let svd = long(core.nrows() * p * p, core, |a| a.svd());
    let svd = svd.map_err(|_| CoreError::Failed {
        what: "singular value decomposition",
        why: "no convergence".to_owned(),
    })?;
    let values: Vec<f64> = svd.S().column_vector().iter().copied().collect();
    let largest = values.first().copied().unwrap_or(0.0);
    let tolerance = f64::EPSILON * n.max(p) as f64 * largest;
    let rank = values
        .iter()
        .take_while(|&&value| value > tolerance)
        .count();
    let left = Array2::from_shape_fn((system.nrows(), rank), |(i, k)| svd.U()[(i, k)] / values[k]);
    let right = Array2::from_shape_fn((p, rank), |(j, k)| svd.V()[(j, k)]);
    let solve = |rhs: ArrayView1<'_, f64>| right.dot(&left.t().dot(&rhs));
    // What rounding leaves unexplained, of the solution or by taking the null space out, is small and
    // solved for again.
    let refined = |mut x: Array1<f64>| {
        for _ in 0..REFINEMENTS {
            let rest = &rhs - &core.dot(&x);
            x += &solve(rest.view());
        }
        x / &scale
    };
    if rank == p {
        return Ok(refined(solve(rhs)));
    }
    let solution = solve(rhs) / &scale;
    // What a solution can lose without changing the fit: the null space, in the units of `x`.
    let null = Array2::from_shape_fn((p, p - rank), |(j, k)| svd.V()[(j, rank + k)] / scale[j]);
    let null = long(p * (p - rank).pow(2), null.view(), |a| {
        a.qr().compute_thin_Q()
    });
    let null = Array2::from_shape_fn((p, p - rank), |(j, k)| null[(j, k)]);
    let shortest = &solution - &null.dot(&null.t().dot(&solution));
    Ok(refined(shortest * &scale))
}

/// Euclidean length, without overflow; 1 for zero, so that one can divide by it.
fn length(x: ArrayView1<'_, f64>) -> f64 {
    let largest = x.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    if largest == 0.0 {
        return 1.0;
    }
    largest * x.iter().map(|x| (x / largest).powi(2)).sum::<f64>().sqrt()
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
    fn of_many_solutions_the_shortest_is_taken() {
        // x + 2 y + 0 z = 5 in least squares: along (1, 2, 0), whatever the scaling inside.
        let a = array![
            [1.0, 2.0, 0.0],
            [2.0, 4.0, 0.0],
            [3.0, 6.0, 0.0],
            [0.0, 0.0, 0.0]
        ];
        let b = array![5.0, 10.0, 15.0, 1.0];
        for rows in 1..=4 {
            let got = minimum_norm(a.slice(s![..rows, ..]), b.slice(s![..rows]));
            let got = got.unwrap_or_default();
            let error = (&got - &array![1.0, 2.0, 0.0]).mapv(f64::abs);
            assert!(got.len() == 3 && error.iter().all(|e| *e < 1e-14), "{got}");
        }
    }

    #[test]
    fn an_indefinite_matrix_is_not_solved() {
        let a = array![[1.0, 2.0], [2.0, 1.0]];
        assert_eq!(solve_positive_definite(a.view(), a.view()), None);
    }
}
