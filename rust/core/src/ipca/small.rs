//! The `K` by `K` systems of one date, as plain loops on row-major slices.

use ndarray::ArrayView2;

use crate::linalg::symmetric_eigen;

/// A pivot below this share of its diagonal entry, or of the usual size of that, counts as zero.
const SINGULAR: f64 = 1e-12;

/// `P A P' = L L'` with the largest pivot first.
#[derive(Debug, Clone, Default)]
pub(super) struct Pivoted {
    l: Vec<f64>,
    order: Vec<usize>,
    sizes: Vec<f64>,
    moved: Vec<f64>,
}

impl Pivoted {
    /// Factor the full symmetric matrix `a`; false when it is numerically singular.
    ///
    /// `usual` says how large diagonal entries are as a rule, up to the factor `mass`: rounding
    /// errors are of that size, even where an entry happens to be small.
    pub(super) fn factor(&mut self, a: &[f64], usual: &[f64], mass: f64) -> bool {
        let n = usual.len();
        self.l.clear();
        self.l.extend_from_slice(a);
        self.order.clear();
        self.order.extend(0..n);
        self.sizes.clear();
        self.sizes
            .extend((0..n).map(|i| a[i * n + i].max(mass * usual[i])));
        (0..n).all(|j| self.eliminate(j, n))
    }

    /// Bring the largest pivot to place `j` and eliminate it; false when it is zero.
    fn eliminate(&mut self, j: usize, n: usize) -> bool {
        let share = |i: usize| self.l[i * n + i] / self.sizes[i];
        let best = (j + 1..n).fold(j, |best, i| if share(i) > share(best) { i } else { best });
        let largest = share(best);
        if largest.is_nan() || largest <= SINGULAR {
            return false;
        }
        self.order.swap(j, best);
        self.sizes.swap(j, best);
        for k in 0..n {
            self.l.swap(j * n + k, best * n + k);
        }
        for k in 0..n {
            self.l.swap(k * n + j, k * n + best);
        }
        let root = self.l[j * n + j].sqrt();
        for i in j..n {
            self.l[i * n + j] /= root;
        }
        for i in j + 1..n {
            for k in j + 1..n {
                self.l[i * n + k] -= self.l[i * n + j] * self.l[k * n + j];
            }
        }
        true
    }

    /// Solve `A x = b` in place.
    pub(super) fn solve(&mut self, b: &mut [f64]) {
        let (n, l, x) = (b.len(), &self.l, &mut self.moved);
        x.clear();
        x.extend(self.order.iter().map(|&i| b[i]));
        for i in 0..n {
            let dot: f64 = (0..i).map(|k| l[i * n + k] * x[k]).sum();
            x[i] = (x[i] - dot) / l[i * n + i];
        }
        for i in (0..n).rev() {
            let dot: f64 = (i + 1..n).map(|k| l[k * n + i] * x[k]).sum();
            x[i] = (x[i] - dot) / l[i * n + i];
        }
        for (&i, &value) in self.order.iter().zip(x.iter()) {
            b[i] = value;
        }
    }

    /// Inverse of `a`, or its pseudo-inverse when it is numerically singular; true for the former.
    pub(super) fn invert(&mut self, a: &[f64], usual: &[f64], mass: f64, out: &mut [f64]) -> bool {
        let n = usual.len();
        if !self.factor(a, usual, mass) {
            pseudo_invert(a, n, out);
            return false;
        }
        out.fill(0.0);
        // Row i of a symmetric matrix is its column i.
        for (i, column) in out.chunks_exact_mut(n.max(1)).enumerate() {
            column[i] = 1.0;
            self.solve(column);
        }
        true
    }
}

/// `a⁺`: eigenvalues below the share `SINGULAR` of the largest count as zero.
pub(super) fn pseudo_invert(a: &[f64], n: usize, out: &mut [f64]) {
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
        assert!(Pivoted::default().invert(&A, &[1.0; 3], 1.0, &mut inverse));
        for i in 0..3 {
            for j in 0..3 {
                let cell: f64 = (0..3).map(|k| A[i * 3 + k] * inverse[k * 3 + j]).sum();
                assert!((cell - f64::from(u8::from(i == j))).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn a_small_first_entry_does_not_hide_a_singular_matrix() {
        for small in [1e-2, 1e-4, 1e-5] {
            let a = [small * small, small * 0.3, small * 0.3, 0.09];
            assert!(!Pivoted::default().factor(&a, &[1.0; 2], 1.0));
        }
    }

    #[test]
    fn a_singular_matrix_gets_its_pseudo_inverse() {
        let mut inverse = [0.0; 4];
        assert!(!Pivoted::default().invert(&[1.0; 4], &[1.0; 2], 1.0, &mut inverse));
        assert!(inverse.iter().all(|v| (v - 0.25).abs() < 1e-15));
    }
}
