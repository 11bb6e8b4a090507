//! Upper triangles stored row by row: `(0, 0), (0, 1), ..., (0, n - 1), (1, 1), ...`.

use crate::dispatch::{InstructionSet, Kernel};
use crate::interrupt::check;
use crate::rows::Rows;

/// Entries of the triangle of an `n` by `n` matrix.
pub(super) fn length(n: usize) -> usize {
    n * (n + 1) / 2
}

/// Where row `i` starts; its first entry is the diagonal one.
pub(super) fn start(n: usize, i: usize) -> usize {
    i * (2 * n + 1 - i) / 2
}

/// Where entry `(i, j)` of the symmetric matrix is kept.
pub(super) fn at(n: usize, i: usize, j: usize) -> usize {
    let (low, high) = (i.min(j), i.max(j));
    start(n, low) + high - low
}

/// Unfold into `full`, `n` by `n`.
pub(super) fn unfold(triangle: &[f64], full: &mut Rows) {
    let (n, stride) = (full.n_rows(), full.stride());
    let full = full.flat_mut();
    for i in 0..n {
        let row = &triangle[start(n, i)..][..n - i];
        full[i * stride + i..][..n - i].copy_from_slice(row);
        for (j, &value) in (i..n).zip(row) {
            full[j * stride + i] = value;
        }
    }
}

/// Coefficients that turn a triangle of `S` into that of `A S A'`, shape `(length(n), length(q))`.
///
/// `a` holds the `q` rows of `A`.
pub(super) fn congruence(a: &Rows) -> Rows {
    let (q, n) = (a.n_rows(), a.n_cols());
    let columns = a.transposed();
    let mut out = Rows::zeros(length(n), length(q));
    for i in 0..n {
        check();
        for j in i..n {
            let (left, right) = (columns.row(i), columns.row(j));
            let row = out.row_mut(start(n, i) + j - i);
            let mut cells = row.iter_mut();
            for k in 0..q {
                for (l, cell) in (k..q).zip(&mut cells) {
                    let mirror = if i == j { 0.0 } else { right[k] * left[l] };
                    *cell = left[k] * right[l] + mirror;
                }
            }
        }
    }
    out
}

/// Triangle of `v v'` for every row `v`.
pub(super) fn outer_products(v: &Rows) -> Rows {
    let n = v.n_cols();
    let mut out = Rows::zeros(v.n_rows(), length(n));
    for (t, v) in v.iter().enumerate() {
        let mut cells = out.row_mut(t).iter_mut();
        for i in 0..n {
            for (&right, cell) in v[i..].iter().zip(&mut cells) {
                *cell = v[i] * right;
            }
        }
    }
    out
}

/// `out -= S v` with the triangle of `S`.
pub(super) struct SubtractProduct<'a> {
    pub(super) triangle: &'a [f64],
    pub(super) v: &'a [f64],
    pub(super) out: &'a mut [f64],
}

impl Kernel for SubtractProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: InstructionSet>(self) {
        let n = self.v.len();
        let mut rest = self.triangle;
        for i in 0..n {
            let (row, tail) = rest.split_at(n - i);
            rest = tail;
            self.out[i] -= crate::rows::dot::<I>(row, &self.v[i..]);
            let v = self.v[i];
            for (out, &s) in self.out[i + 1..].iter_mut().zip(&row[1..]) {
                *out -= s * v;
            }
        }
    }
}
