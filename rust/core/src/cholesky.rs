//! Cholesky factor of a symmetric matrix, with an estimate of its condition.

use faer::Side;
use faer::linalg::solvers::{Llt, Solve};
use ndarray::ArrayView2;

use crate::interrupt::check;
use crate::linalg;

/// Most rounds of the norm estimator; it rarely needs more than two.
const ROUNDS: usize = 5;

/// A factored positive definite matrix.
pub(crate) struct Cholesky {
    factor: Llt<f64>,
    /// Largest absolute column sum of the matrix.
    norm: f64,
    n: usize,
}

impl Cholesky {
    /// `None` unless `a` is numerically positive definite; only its lower triangle is read.
    pub(crate) fn new(a: ArrayView2<'_, f64>) -> Option<Self> {
        let n = a.nrows();
        let mut sums = vec![0.0; n];
        for (i, row) in a.rows().into_iter().enumerate() {
            for (j, value) in row.iter().take(i).enumerate() {
                sums[i] += value.abs();
                sums[j] += value.abs();
            }
            sums[i] += row[i].abs();
        }
        let norm = sums.into_iter().fold(0.0, f64::max);
        if !norm.is_finite() {
            return None;
        }
        let factor = linalg::long(n * n * n, a, |a| a.llt(Side::Lower).ok())?;
        Some(Self { factor, norm, n })
    }

    /// Solve in place.
    pub(crate) fn solve(&self, b: &mut [f64]) {
        let n = b.len();
        self.factor
            .solve_in_place(faer::MatMut::from_column_major_slice_mut(b, n, 1));
    }

    /// Condition number in the 1-norm: exact norm times Higham's estimate of the inverse's, which
    /// is a lower bound and rarely off by more than a factor of three.
    ///
    /// Higham (1988), FORTRAN codes for estimating the one-norm, ACM TOMS 14(4), 381-396.
    pub(crate) fn condition(&self) -> f64 {
        let n = self.n;
        if n == 0 {
            return 1.0;
        }
        let (mut x, mut best) = (vec![1.0 / n as f64; n], 0.0);
        for _ in 0..ROUNDS {
            check();
            self.solve(&mut x);
            let estimate: f64 = x.iter().map(|v| v.abs()).sum();
            if estimate <= best {
                break;
            }
            best = estimate;
            let mut dual: Vec<f64> = x.iter().map(|v| 1.0_f64.copysign(*v)).collect();
            self.solve(&mut dual);
            let steepest = (0..n).fold(0, |a, b| if dual[b].abs() > dual[a].abs() { b } else { a });
            x.fill(0.0);
            x[steepest] = 1.0;
        }
        best * self.norm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn the_condition_of_a_diagonal_matrix_is_its_spread() {
        let a = Array2::from_diag(&ndarray::array![4.0, 1e-3, 2.0]);
        let condition = Cholesky::new(a.view()).map(|factor| factor.condition());
        assert!(condition.is_some_and(|c| (c / 4e3 - 1.0).abs() < 1e-12));
    }

    #[test]
    fn an_indefinite_matrix_has_no_factor() {
        let a = ndarray::array![[1.0, 2.0], [2.0, 1.0]];
        assert!(Cholesky::new(a.view()).is_none());
    }
}
