//! Bindings of the factor kernels: PCA, RP-PCA, their rolling forms, projection.

use ml4t_models_core::rp_pca::{BaseMoment, Normalisation, RpPca, Settings};
use ml4t_models_core::{pca as core_pca, rp_pca as core_rp_pca};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::bridge;
use crate::panel::Either2;

type Matrix<'py> = Bound<'py, PyArray2<f64>>;
type Vector<'py> = Bound<'py, PyArray1<f64>>;

/// Call a generic kernel with the view inside an `Either2`.
macro_rules! with_view {
    ($name:ident => $call:expr) => {
        match &$name {
            Either2::F64(array) => {
                let $name = array.as_array();
                $call
            }
            Either2::F32(array) => {
                let $name = array.as_array();
                $call
            }
        }
    };
}

/// Settings of RP-PCA as they come from Python, in the order of `RPPCAFactors`' function.
#[derive(FromPyObject)]
pub(crate) struct RpSettings(usize, f64, bool, bool, bool, bool);

impl From<RpSettings> for Settings {
    fn from(given: RpSettings) -> Self {
        let RpSettings(n_factors, gamma, covariance, scale_by_volatility, variance, orthogonalise) =
            given;
        Self {
            n_factors,
            gamma,
            base: if covariance {
                BaseMoment::Covariance
            } else {
                BaseMoment::SecondMoment
            },
            scale_by_volatility,
            normalisation: if variance {
                Normalisation::Variance
            } else {
                Normalisation::UnitLength
            },
            orthogonalise,
        }
    }
}

type Pca<'py> = (
    Vector<'py>,
    Matrix<'py>,
    Matrix<'py>,
    Vector<'py>,
    Vector<'py>,
);

/// See `ml4t.models.kernels.pca`.
#[pyfunction]
pub(crate) fn pca<'py>(
    py: Python<'py>,
    returns: Either2<'py>,
    n_factors: usize,
) -> PyResult<Pca<'py>> {
    let found = with_view!(returns => bridge::run(py, || core_pca::fit(returns, n_factors)))?;
    Ok((
        found.mean.into_pyarray(py),
        found.loadings.into_pyarray(py),
        found.factors.into_pyarray(py),
        found.singular_values.into_pyarray(py),
        found.explained_variance_ratio.into_pyarray(py),
    ))
}

/// See `ml4t.models.kernels.project_pca`.
#[pyfunction]
pub(crate) fn project_pca<'py>(
    py: Python<'py>,
    returns: Either2<'py>,
    mean: PyReadonlyArray1<'py, f64>,
    loadings: PyReadonlyArray2<'py, f64>,
) -> PyResult<Matrix<'py>> {
    let (mean, loadings) = (mean.as_array(), loadings.as_array());
    let factors = with_view!(returns => {
        bridge::run(py, || core_pca::project(returns, mean, loadings))
    })?;
    Ok(factors.into_pyarray(py))
}

type RpPcaArrays<'py> = (
    Vector<'py>,
    Matrix<'py>,
    Matrix<'py>,
    Matrix<'py>,
    Matrix<'py>,
    Vector<'py>,
    Vector<'py>,
    Vector<'py>,
);

fn rp_to_python(py: Python<'_>, found: RpPca) -> RpPcaArrays<'_> {
    (
        found.eigenvalues.into_pyarray(py),
        found.loadings.into_pyarray(py),
        found.factor_weights.into_pyarray(py),
        found.factors.into_pyarray(py),
        found.asset_betas.into_pyarray(py),
        found.alphas.into_pyarray(py),
        found.residual_variances.into_pyarray(py),
        found.variances.into_pyarray(py),
    )
}

/// See `ml4t.models.kernels.rp_pca`.
#[pyfunction]
pub(crate) fn rp_pca<'py>(
    py: Python<'py>,
    returns: Either2<'py>,
    settings: RpSettings,
) -> PyResult<RpPcaArrays<'py>> {
    let settings = settings.into();
    let found = with_view!(returns => bridge::run(py, || core_rp_pca::fit(returns, &settings)))?;
    Ok(rp_to_python(py, found))
}

/// See `ml4t.models.kernels.project_rp_pca`.
#[pyfunction]
pub(crate) fn project_rp_pca<'py>(
    py: Python<'py>,
    returns: Either2<'py>,
    factor_weights: PyReadonlyArray2<'py, f64>,
) -> PyResult<Matrix<'py>> {
    let weights = factor_weights.as_array();
    let factors = with_view!(returns => {
        bridge::run(py, || core_rp_pca::project(returns, weights))
    })?;
    Ok(factors.into_pyarray(py))
}
