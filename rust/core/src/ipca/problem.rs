//! One estimation problem: a geometry, and returns to explain in it.
//!
//! A bootstrap draw or a shifted target shares the [`Geometry`] and brings other cross moments.

use ndarray::{Array2, ArrayView2};

use super::geometry::{Geometry, whitened_cross};
use super::{MomentsView, gamma, triangle};
use crate::linalg::symmetric_eigen;
use crate::rows::{Rows, product};
use crate::{CoreError, Result};

/// An eigenvalue below this share of the largest marks observed factors as collinear.
const COLLINEAR: f64 = 1e-12;

/// Minimise `Σ_t q_t - 2 c_t'b_t + b_t'S_t b_t` with `b_t = Θ f̃_t` and `f̃_t = [f_t; g_t]`.
///
/// Dates are weighted and ridged already, coordinates whitened, returns and observed factors scaled
/// to unit mean square: what is left is the plain least-squares problem of the papers.
#[derive(Debug, Clone)]
pub(super) struct Problem<'a> {
    pub(super) geometry: &'a Geometry,
    /// `K`.
    pub(super) n_latent: usize,
    /// `c_t`, shape `(T, R)`.
    pub(super) cross: Rows,
    /// `g_t`, shape `(T, M)`.
    pub(super) observed: Rows,
    /// `Σ_t q_t`.
    pub(super) total: f64,
    /// Root mean square return.
    pub(super) return_scale: f64,
    /// Root mean square of each observed factor, shape `(M,)`.
    pub(super) observed_scale: Vec<f64>,
}

impl<'a> Problem<'a> {
    pub(super) fn new(
        geometry: &'a Geometry,
        moments: &MomentsView<'_>,
        observed: ArrayView2<'_, f64>,
        n_latent: usize,
    ) -> Result<Self> {
        let dates = &geometry.dates;
        let squares = dates.iter().zip(&geometry.weights);
        let squares: f64 = squares.map(|(&t, w)| w * moments.return_squares[t]).sum();
        let return_scale = (squares / geometry.masses.iter().sum::<f64>()).sqrt();
        supports(geometry, n_latent, observed.ncols(), return_scale)?;
        let return_scale = if return_scale > 0.0 {
            return_scale
        } else {
            1.0
        };
        let mut cross = whitened_cross(geometry, moments.cross);
        cross
            .flat_mut()
            .iter_mut()
            .for_each(|value| *value /= return_scale);
        let mut observed = Rows::from_fn(dates.len(), observed.ncols(), |t, m| {
            observed[[dates[t], m]]
        });
        let observed_scale = normalise_columns(&mut observed)?;
        let total = squares / return_scale.powi(2);
        Ok(Self {
            geometry,
            n_latent,
            cross,
            observed,
            total,
            return_scale,
            observed_scale,
        })
    }

    /// `T`.
    pub(super) fn n_dates(&self) -> usize {
        self.cross.n_rows()
    }

    /// `R`.
    pub(super) fn rank(&self) -> usize {
        self.cross.n_cols()
    }

    /// `K + M`.
    pub(super) fn n_columns(&self) -> usize {
        self.n_latent + self.observed.n_cols()
    }

    /// Where a cold start may begin, each of shape `(K + M, R)`: pooled least squares for the
    /// observed factors and, of what they leave,
    ///
    /// * the leading eigenvectors of `Σ_t c_t c_t' / tr S_t` in whitened instruments, which are the
    ///   solution itself when the `S_t` are proportional to each other;
    /// * those of `Σ_t c_t c_t'` in the original instruments.
    pub(super) fn starts(&self) -> Result<Vec<Rows>> {
        let (n_observed, rank) = (self.observed.n_cols(), self.rank());
        let mut left = self.cross.clone();
        let mut theta = Rows::zeros(self.n_columns(), rank);
        if n_observed > 0 {
            let own = gamma::observed_only(self)?;
            let fitted = product(self.observed.across(), &own);
            for t in 0..self.n_dates() {
                gamma::subtract_product(self, t, fitted.row(t), left.row_mut(t));
            }
            for m in 0..n_observed {
                theta.row_mut(self.n_latent + m).copy_from_slice(own.row(m));
            }
        }
        if self.n_latent == 0 {
            return Ok(vec![theta]);
        }
        let scaled = self.divided_by_trace(&left);
        let white = symmetric_eigen(product(left.down(), &scaled).view())?;
        let from_raw = self.geometry.from_raw.view();
        let raw = crate::linalg::product(left.view(), from_raw);
        let raw = symmetric_eigen(crate::linalg::product(raw.t(), raw.view()).view())?;
        let raw = crate::linalg::product(from_raw, raw.vectors.view());
        Ok([white.vectors, raw]
            .map(|vectors| self.with_latent(&theta, vectors.view()))
            .into())
    }

    fn with_latent(&self, theta: &Rows, vectors: ArrayView2<'_, f64>) -> Rows {
        let mut theta = theta.clone();
        for (k, vector) in vectors
            .columns()
            .into_iter()
            .take(self.n_latent)
            .enumerate()
        {
            theta
                .row_mut(k)
                .iter_mut()
                .zip(vector)
                .for_each(|(cell, &value)| *cell = value);
        }
        theta
    }

    fn divided_by_trace(&self, rows: &Rows) -> Rows {
        let rank = self.rank();
        let trace = |t: usize| -> f64 {
            (0..rank)
                .map(|i| self.geometry.stack.row(t)[triangle::start(rank, i)])
                .sum()
        };
        let mut out = rows.clone();
        for t in 0..rows.n_rows() {
            let trace = trace(t).max(f64::MIN_POSITIVE);
            out.row_mut(t).iter_mut().for_each(|value| *value /= trace);
        }
        out
    }

    /// Loadings on the original instruments in these coordinates and units, shape `(K + M, R)`.
    pub(super) fn whitened(&self, gamma: ArrayView2<'_, f64>) -> Rows {
        let theta = crate::linalg::product(self.geometry.from_raw.view(), gamma);
        Rows::from_fn(self.n_columns(), self.rank(), |q, i| {
            theta[[i, q]] / self.unit(q)
        })
    }

    /// Loadings on the original instruments in the caller's units, shape `(P, K + M)`.
    pub(super) fn original(&self, theta: &Rows) -> Array2<f64> {
        let mut gamma = crate::linalg::product(self.geometry.to_raw.view(), theta.view().t());
        for (q, mut column) in gamma.columns_mut().into_iter().enumerate() {
            column *= self.unit(q);
        }
        gamma
    }

    /// Latent loadings have no unit, observed ones that of returns over factors.
    fn unit(&self, q: usize) -> f64 {
        match q.checked_sub(self.n_latent) {
            None => 1.0,
            Some(m) => self.return_scale / self.observed_scale[m],
        }
    }
}

/// Refuse more factors than instruments, dates or returns carry.
fn supports(
    geometry: &Geometry,
    n_latent: usize,
    n_observed: usize,
    return_scale: f64,
) -> Result<()> {
    let of_returns = if return_scale > 0.0 { usize::MAX } else { 0 };
    let ranks = [
        ("characteristics", geometry.rank(), n_latent),
        (
            "the sample of usable dates",
            geometry.dates.len(),
            n_latent + n_observed,
        ),
        ("returns", of_returns, n_latent),
    ];
    match ranks.into_iter().find(|&(_, rank, wanted)| rank < wanted) {
        Some((what, rank, wanted)) => Err(CoreError::Rank { what, rank, wanted }),
        None => Ok(()),
    }
}

/// Scale columns to unit mean square; refuse collinear ones.
fn normalise_columns(observed: &mut Rows) -> Result<Vec<f64>> {
    let (n_dates, n) = (observed.n_rows(), observed.n_cols());
    let mean_square = |m: usize| observed.iter().map(|g| g[m] * g[m]).sum::<f64>() / n_dates as f64;
    let scale: Vec<f64> = (0..n).map(|m| mean_square(m).sqrt()).collect();
    for t in 0..n_dates {
        for (value, &scale) in observed.row_mut(t).iter_mut().zip(&scale) {
            *value /= if scale > 0.0 { scale } else { 1.0 };
        }
    }
    if n == 0 {
        return Ok(scale);
    }
    let eigen = symmetric_eigen(product(observed.down(), observed).view())?;
    let floor = COLLINEAR * eigen.values[0];
    let rank = eigen.values.iter().filter(|&&value| value > floor).count();
    if rank < n {
        return Err(CoreError::Rank {
            what: "observed_factors with the intercept",
            rank,
            wanted: n,
        });
    }
    Ok(scale)
}
