//! Which of the equivalent loadings: orthonormal bases, subspace steps, the identified form.

use ndarray::{Array2, ArrayView2, ArrayViewMut1, Axis};

use super::gamma::norm;
use crate::interrupt::check;
use crate::linalg::{add_product, product, symmetric_eigen};
use crate::rows::{self, Rows};
use crate::{Result, shape};

/// A row that loses more than this in orthogonalisation depends on the rows before it.
const DEPENDENT: f64 = 1e-13;
/// A mean below this share of the root mean square decides no sign.
const NO_MEAN: f64 = 1e-10;

/// Orthonormal rows with the same span, in the same order; `None` when they are dependent.
pub(super) fn orthonormal(mut rows: Rows) -> Option<Rows> {
    for k in 0..rows.n_rows() {
        check();
        let before = length(rows.row(k));
        // Twice is enough (Kahan and Parlett).
        for _ in 0..2 {
            for j in 0..k {
                let earlier = rows.row(j).to_vec();
                subtract_part(rows.row_mut(k), &earlier);
            }
        }
        let after = length(rows.row(k));
        if after.is_nan() || after <= DEPENDENT * before {
            return None;
        }
        rows.row_mut(k).iter_mut().for_each(|value| *value /= after);
    }
    Some(rows)
}

fn length(row: &[f64]) -> f64 {
    row.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// Remove from `row` its part along the unit vector.
fn subtract_part(row: &mut [f64], unit: &[f64]) {
    let part: f64 = row.iter().zip(unit).map(|(a, b)| a * b).sum();
    row.iter_mut().zip(unit).for_each(|(a, b)| *a -= part * b);
}

/// Orthonormal latent rows, and observed rows orthogonal to them; the fit does not change, since
/// the factors take up the difference.
pub(super) fn standardise(theta: Rows, n_latent: usize) -> Option<Rows> {
    let latent = Rows::from_fn(n_latent, theta.n_cols(), |k, i| theta.row(k)[i]);
    let latent = orthonormal(latent)?;
    let mut out = theta;
    for k in 0..n_latent {
        out.row_mut(k).copy_from_slice(latent.row(k));
    }
    for m in n_latent..out.n_rows() {
        for _ in 0..2 {
            for k in 0..n_latent {
                subtract_part(out.row_mut(m), latent.row(k));
            }
        }
    }
    Some(out)
}

/// `‖(I - P P') Q‖` of two orthonormal bases in rows: at least the sine of the largest principal
/// angle, and at most `√K` times it.
pub(super) fn subspace_step(p: &Rows, q: &Rows) -> f64 {
    let parts = rows::product(q.across(), &p.transposed());
    let within = rows::product(parts.across(), p);
    norm(&Rows::from_fn(q.n_rows(), q.n_cols(), |k, i| {
        q.row(k)[i] - within.row(k)[i]
    }))
}

/// Loadings and factors of Kelly, Pruitt and Su's normalisation.
#[derive(Debug, Clone, PartialEq)]
pub struct Identified {
    /// `Γ_β`, shape `(P, K)`.
    pub latent: Array2<f64>,
    /// `Γ_g`, shape `(P, M)`.
    pub observed: Array2<f64>,
    /// `f_t`, shape `(T, K)`.
    pub factors: Array2<f64>,
}

/// Orthonormal `Γ_β` that is orthogonal to `Γ_g`, with the factors moved along.
///
/// # Errors
///
/// [`crate::CoreError::Rank`] when the columns of `Γ_β` are dependent.
pub(super) fn orthogonalise(
    latent: ArrayView2<'_, f64>,
    observed: ArrayView2<'_, f64>,
) -> Result<(Array2<f64>, Array2<f64>)> {
    let k = latent.ncols();
    let basis = orthonormal(Rows::from_view(latent.t())).ok_or(crate::CoreError::Rank {
        what: "gamma",
        rank: k.saturating_sub(1),
        wanted: k,
    })?;
    let basis = basis.view().t().to_owned();
    let mut observed = observed.to_owned();
    for _ in 0..2 {
        let parts = product(basis.t(), observed.view());
        add_product(observed.view_mut(), -1.0, basis.view(), parts.view());
    }
    Ok((basis, observed))
}

/// Rotate orthonormal loadings and their factors: second moment of the factors diagonal and
/// descending, means not negative (the largest loading positive where a mean vanishes).
///
/// # Errors
///
/// [`crate::CoreError::Failed`] when the factors are not finite.
pub(super) fn principal_axes(
    latent: ArrayView2<'_, f64>,
    factors: ArrayView2<'_, f64>,
) -> Result<(Array2<f64>, Array2<f64>)> {
    if factors.ncols() == 0 {
        return Ok((latent.to_owned(), factors.to_owned()));
    }
    let eigen = symmetric_eigen(product(factors.t(), factors).view())?;
    let mut latent = product(latent, eigen.vectors.view());
    let mut factors = product(factors, eigen.vectors.view());
    let pairs = latent
        .axis_iter_mut(Axis(1))
        .zip(factors.axis_iter_mut(Axis(1)));
    pairs.for_each(|(loadings, factor)| pin_sign(loadings, factor));
    Ok((latent, factors))
}

fn pin_sign(mut loadings: ArrayViewMut1<'_, f64>, mut factor: ArrayViewMut1<'_, f64>) {
    let n_dates = factor.len() as f64;
    let (sum, squares) = (factor.sum(), factor.mapv(|f| f * f).sum());
    let decided = sum.abs() / n_dates > NO_MEAN * (squares / n_dates).sqrt();
    let largest = loadings
        .iter()
        .fold(0.0, |a: f64, &b| if b.abs() > a.abs() { b } else { a });
    if (if decided { sum } else { largest }) < 0.0 {
        loadings.mapv_inplace(|v| -v);
        factor.mapv_inplace(|v| -v);
    }
}

/// The identified form of any loadings and factors; `Γ_β f_t + Γ_g g_t` does not change.
///
/// `latent` is `(P, K)`, `observed_loadings` `(P, M)`, `factors` `(T, K)`, `observed` `(T, M)`.
/// Afterwards `Γ_β'Γ_β = I`, `Γ_β'Γ_g = 0`, `(1/T) Σ f f'` is diagonal and descending, and no
/// factor mean is negative.
///
/// # Errors
///
/// [`crate::CoreError::Shape`] when the arrays do not line up, [`crate::CoreError::Rank`] when the
/// columns of `latent` are dependent.
pub fn identify(
    latent: ArrayView2<'_, f64>,
    observed_loadings: ArrayView2<'_, f64>,
    factors: ArrayView2<'_, f64>,
    observed: ArrayView2<'_, f64>,
) -> Result<Identified> {
    let (n_dates, (n, k), m) = (factors.nrows(), latent.dim(), observed.ncols());
    shape::require("gamma_observed", &[n, m], observed_loadings.shape())?;
    shape::require("factors", &[n_dates, k], factors.shape())?;
    shape::require("observed", &[n_dates, m], observed.shape())?;
    let (basis, rest) = orthogonalise(latent, observed_loadings)?;
    let mut moved = product(factors, product(latent.t(), basis.view()).view());
    let shift = product(observed_loadings.t(), basis.view());
    add_product(moved.view_mut(), 1.0, observed, shift.view());
    let (latent, factors) = principal_axes(basis.view(), moved.view())?;
    Ok(Identified {
        latent,
        observed: rest,
        factors,
    })
}
