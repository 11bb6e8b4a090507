//! The `K` by `K` systems of one date, as plain loops on row-major slices.

use ndarray::ArrayView2;

use crate::linalg::symmetric_eigen;

/// A pivot below this share of its diagonal entry counts as zero.
const SINGULAR: f64 = 1e-12;

/// Cholesky factor in the lower triangle of `a`; false when `a` is numerically singular.
pub(super) fn cholesky(a: &mut [f64], n: usize) -> bool {
    for j in 0..n {
        let diagonal = a[j * n + j];
        let pivot = diagonal - (0..j).map(|k| a[j * n + k].powi(2)).sum::<f64>();
        if pivot.is_nan() || pivot <= SINGULAR * diagonal || diagonal <= 0.0 {
            return false;
        }
        let root = pivot.sqrt();
        a[j * n + j] = root;
        for i in j + 1..n {
            let dot: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            a[i * n + j] = (a[i * n + j] - dot) / root;
        }
    }
    true
}

/// Solve `L L' x = b` in place.
pub(super) fn solve(l: &[f64], n: usize, b: &mut [f64]) {
    for i in 0..n {
        let dot: f64 = (0..i).map(|k| l[i * n + k] * b[k]).sum();
        b[i] = (b[i] - dot) / l[i * n + i];
    }
    for i in (0..n).rev() {
        let dot: f64 = (i + 1..n).map(|k| l[k * n + i] * b[k]).sum();
        b[i] = (b[i] - dot) / l[i * n + i];
    }
}

/// Inverse of `a`, or its pseudo-inverse when `a` is numerically singular; true for the former.
pub(super) fn invert(a: &[f64], n: usize, out: &mut [f64]) -> bool {
    let mut l = a.to_vec();
    if !cholesky(&mut l, n) {
        pseudo_invert(a, n, out);
        return false;
    }
    out[..n * n].fill(0.0);
    for i in 0..n {
        // Row i of a symmetric matrix is its column i.
        let column = &mut out[i * n..(i + 1) * n];
        column[i] = 1.0;
        solve(&l, n, column);
    }
    true
}

fn pseudo_invert(a: &[f64], n: usize, out: &mut [f64]) {
    out[..n * n].fill(0.0);
    let Some(eigen) = ArrayView2::from_shape((n, n), a)
        .ok()
        .and_then(|a| symmetric_eigen(a).ok())
    else {
        return;
    };
    let floor = SINGULAR * eigen.values[0].max(0.0);
    for (k, &value) in eigen
        .values
        .iter()
        .enumerate()
        .filter(|&(_, &value)| value > floor)
    {
        let v = eigen.vectors.column(k);
        for i in 0..n {
            for j in 0..n {
                out[i * n + j] += v[i] * v[j] / value;
            }
        }
    }
}

/// Largest absolute row sum.
pub(super) fn one_norm(a: &[f64], n: usize) -> f64 {
    a.chunks_exact(n.max(1))
        .map(|row| row.iter().map(|v| v.abs()).sum())
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [f64; 9] = [4.0, 2.0, 0.0, 2.0, 5.0, 1.0, 0.0, 1.0, 3.0];

    #[test]
    fn the_inverse_undoes_the_matrix() {
        let mut inverse = [0.0; 9];
        assert!(invert(&A, 3, &mut inverse));
        for i in 0..3 {
            for j in 0..3 {
                let cell: f64 = (0..3).map(|k| A[i * 3 + k] * inverse[k * 3 + j]).sum();
                assert!((cell - f64::from(u8::from(i == j))).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn a_singular_matrix_gets_its_pseudo_inverse() {
        let mut inverse = [0.0; 4];
        assert!(!invert(&[1.0, 1.0, 1.0, 1.0], 2, &mut inverse));
        assert!(inverse.iter().all(|v| (v - 0.25).abs() < 1e-15));
    }
}
