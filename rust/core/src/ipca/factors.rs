//! The factor step: one small regression a date, given the loadings.

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::problem::Problem;
use super::{MomentsView, small, triangle};
use crate::interrupt::check;
use crate::memory::Arrays;
use crate::rows::{Left, Rows, product};
use crate::vector::contiguous;
use crate::{Result, shape};

/// Loadings with the factors that suit them best.
#[derive(Debug, Clone)]
pub(super) struct Fitted {
    /// `f̃_t = [f_t; g_t]`, shape `(T, K + M)`.
    pub(super) factors: Rows,
    /// Triangles of `Θ'S_t Θ`, shape `(T, (K + M) (K + M + 1) / 2)`.
    pub(super) inner: Rows,
    /// The sum of squares, relative to that of returns.
    pub(super) objective: f64,
}

/// Best factors of every date for loadings `theta`, shape `(K + M, R)`.
pub(super) fn fit(problem: &Problem<'_>, theta: &Rows) -> Fitted {
    let inner = product(
        problem.geometry.stack.across(),
        &triangle::congruence(theta),
    );
    let pull = product(problem.cross.across(), &theta.transposed());
    let mut factors = Rows::zeros(problem.n_dates(), problem.n_columns());
    let mut date = Date::standardised(problem);
    let mut sum = problem.total;
    for t in 0..problem.n_dates() {
        check();
        let out = factors.row_mut(t);
        out[problem.n_latent..].copy_from_slice(problem.observed.row(t));
        date.solve(inner.row(t), pull.row(t), problem.geometry.masses[t], out);
        sum += date.gain(inner.row(t), pull.row(t), out);
    }
    let objective = sum / problem.total.max(f64::MIN_POSITIVE);
    Fitted {
        factors,
        inner,
        objective,
    }
}

/// The regression of one date: `f = (Γ'SΓ)⁻¹ Γ'(c - S Γ_g g)`, of minimum norm when singular.
pub(super) struct Date {
    n_latent: usize,
    n_columns: usize,
    /// Diagonal of the matrix for an average asset.
    usual: Vec<f64>,
    matrix: Vec<f64>,
    factor: small::Pivoted,
    inverse: Vec<f64>,
    right: Vec<f64>,
}

impl Date {
    fn new(usual: Vec<f64>, n_columns: usize) -> Self {
        let n_latent = usual.len();
        let square = vec![0.0; n_latent * n_latent];
        Self {
            n_latent,
            n_columns,
            usual,
            matrix: square.clone(),
            factor: small::Pivoted::default(),
            inverse: square,
            right: vec![0.0; n_latent],
        }
    }

    /// For loadings that are orthonormal in whitened instruments.
    pub(super) fn standardised(problem: &Problem<'_>) -> Self {
        Self::new(vec![1.0; problem.n_latent], problem.n_columns())
    }

    /// The latent block of a triangle, as a full matrix.
    pub(super) fn latent(&mut self, inner: &[f64]) -> &[f64] {
        let k = self.n_latent;
        for i in 0..k {
            for j in i..k {
                let value = inner[triangle::at(self.n_columns, i, j)];
                (self.matrix[i * k + j], self.matrix[j * k + i]) = (value, value);
            }
        }
        &self.matrix
    }

    /// Inverse or pseudo-inverse of the latent block; true for the former.
    pub(super) fn invert(&mut self, inner: &[f64], mass: f64) -> (&[f64], bool) {
        self.latent(inner);
        let regular = self
            .factor
            .invert(&self.matrix, &self.usual, mass, &mut self.inverse);
        (&self.inverse, regular)
    }

    /// Whether the latent block less `ridge` times the identity is numerically singular.
    pub(super) fn is_singular_without(&mut self, ridge: f64, inner: &[f64], mass: f64) -> bool {
        let k = self.n_latent;
        self.latent(inner);
        self.matrix
            .iter_mut()
            .step_by(k + 1)
            .for_each(|value| *value -= ridge);
        !self.factor.factor(&self.matrix, &self.usual, mass)
    }

    /// Overwrite the latent part of `factors`, given its observed part; `mass` is the number of
    /// assets, weighted as the matrix is.
    pub(super) fn solve(&mut self, inner: &[f64], pull: &[f64], mass: f64, factors: &mut [f64]) {
        let k = self.n_latent;
        let (latent, observed) = factors.split_at_mut(k);
        for i in 0..k {
            let cross = |m: usize| inner[triangle::at(self.n_columns, i, k + m)];
            let explained: f64 = observed.iter().enumerate().map(|(m, g)| cross(m) * g).sum();
            latent[i] = pull[i] - explained;
        }
        self.latent(inner);
        if self.factor.factor(&self.matrix, &self.usual, mass) {
            self.factor.solve(latent);
            return;
        }
        small::pseudo_invert(&self.matrix, k, &mut self.inverse);
        self.right.copy_from_slice(latent);
        for (i, value) in latent.iter_mut().enumerate() {
            let row = &self.inverse[i * k..][..k];
            *value = row.iter().zip(&self.right).map(|(a, b)| a * b).sum();
        }
    }

    /// `-2 c'b + b'S b`.
    fn gain(&self, inner: &[f64], pull: &[f64], factors: &[f64]) -> f64 {
        let mut cells = inner.iter();
        let mut sum = 0.0;
        for (i, &f) in factors.iter().enumerate() {
            let mut row = -2.0 * pull[i];
            for (j, (&g, &cell)) in factors[i..].iter().zip(&mut cells).enumerate() {
                row += if j == 0 { cell * g } else { 2.0 * cell * g };
            }
            sum += f * row;
        }
        sum
    }
}

/// Loadings on the original instruments, and how they are ridged.
#[derive(Debug, Clone, Copy)]
pub struct Loadings<'a> {
    /// `Γ_β`, shape `(P, K)`.
    pub latent: ArrayView2<'a, f64>,
    /// `Γ_g`, shape `(P, M)`.
    pub observed: ArrayView2<'a, f64>,
    /// Pseudo-assets a date.
    pub ridge: f64,
    /// Second moment of a pseudo-asset's instruments, shape `(P, P)`.
    pub second_moment: ArrayView2<'a, f64>,
}

/// Factors of every date for given loadings, shape `(T, K)`; NaN where a date has no usable row.
///
/// `observed` is `(T, M)`. Computed in the original instruments, so that the training dates give
/// the training factors again, bit by bit.
///
/// # Errors
///
/// [`crate::CoreError::Shape`] when moments, loadings and observed factors do not line up.
pub fn realised_factors(
    moments: &MomentsView<'_>,
    loadings: &Loadings<'_>,
    observed: ArrayView2<'_, f64>,
) -> Result<Array2<f64>> {
    moments.check()?;
    let (n_dates, n) = moments.cross.dim();
    let (k, m) = (loadings.latent.ncols(), loadings.observed.ncols());
    shape::require("gamma", &[n, k], loadings.latent.shape())?;
    shape::require("gamma_observed", &[n, m], loadings.observed.shape())?;
    shape::require(
        "instrument_second_moment",
        &[n, n],
        loadings.second_moment.shape(),
    )?;
    shape::require("observed", &[n_dates, m], observed.shape())?;
    let copied = usize::from(!moments.gram.is_standard_layout());
    let own = triangle::length(k + m) + 8;
    Arrays::new()
        .times(copied, "gram", moments.gram.shape())
        .and(
            "weights of the second moments",
            &[triangle::length(n) + 8, own],
        )
        .times(2, "second moments of the factors", &[n_dates, own])
        .times(2, "cross moments", &[n_dates, n + k + m + 8])
        .and("factors", &[n_dates, k])
        .require()?;
    let rows = Rows::from_fn(k + m, n, |q, i| match q.checked_sub(k) {
        None => loadings.latent[[i, q]],
        Some(m) => loadings.observed[[i, m]],
    });
    let weights = triangle::congruence(&rows);
    let mut inner = product(left_of(moments.gram.as_standard_layout().view()), &weights);
    let usual = pooled_triangle(loadings.second_moment, &weights);
    let ridge: Vec<f64> = usual.iter().map(|value| loadings.ridge * value).collect();
    let pull = product(
        left_of(moments.cross.as_standard_layout().view()),
        &rows.transposed(),
    );
    let mut out = Array2::from_elem((n_dates, k), f64::NAN);
    let diagonal = (0..k).map(|i| usual[triangle::start(k + m, i)]).collect();
    let (mut date, mut factors) = (Date::new(diagonal, k + m), vec![0.0; k + m]);
    for t in (0..n_dates).filter(|&t| moments.n_assets[t] > 0) {
        check();
        inner
            .row_mut(t)
            .iter_mut()
            .zip(&ridge)
            .for_each(|(cell, ridge)| *cell += ridge);
        copy(observed.row(t), &mut factors[k..]);
        date.solve(
            inner.row(t),
            pull.row(t),
            f64::from(moments.n_assets[t]),
            &mut factors,
        );
        out.row_mut(t)
            .iter_mut()
            .zip(&factors)
            .for_each(|(cell, &f)| *cell = f);
    }
    Ok(out)
}

/// Triangle of `Γ'W Γ`, with the `weights` of the congruence.
fn pooled_triangle(second_moment: ArrayView2<'_, f64>, weights: &Rows) -> Vec<f64> {
    let n = second_moment.nrows();
    let mut packed = Rows::zeros(1, triangle::length(n));
    let cells = (0..n).flat_map(|i| (i..n).map(move |j| (i, j)));
    for (cell, (i, j)) in packed.row_mut(0).iter_mut().zip(cells) {
        *cell = second_moment[[i, j]];
    }
    product(packed.across(), weights).row(0).to_vec()
}

fn copy(from: ArrayView1<'_, f64>, to: &mut [f64]) {
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = from);
}

/// A matrix in standard layout as the left factor of a product.
fn left_of(matrix: ArrayView2<'_, f64>) -> Left<'_> {
    let (n_out, skip) = matrix.dim();
    Left {
        values: contiguous(matrix.to_slice()),
        step: 1,
        skip,
        n_out,
    }
}
