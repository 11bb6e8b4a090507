//! Bindings of the factor kernels: PCA, RP-PCA, their rolling forms, projection.

use ml4t_models_core::rp_pca::{BaseMoment, Normalisation, RpPca, Settings};
use std::ops::Range;

use ml4t_models_core::{pca as core_pca, rolling, rp_pca as core_rp_pca};
use ndarray::{Array1, Array2, Array3, Axis};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArray3, PyReadonlyArray1, PyReadonlyArray2};
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
    f64,
);

/// What Python says of missing returns.
fn missing(completed: bool) -> core_pca::Missing {
    if completed {
        core_pca::Missing::Completed
    } else {
        core_pca::Missing::Mean
    }
}

/// See `ml4t.models.kernels.pca`.
#[pyfunction]
pub(crate) fn pca<'py>(
    py: Python<'py>,
    returns: Either2<'py>,
    n_factors: usize,
    completed: bool,
) -> PyResult<Pca<'py>> {
    let found = with_view!(returns => {
        bridge::run(py, || core_pca::fit_with(returns, n_factors, missing(completed)))
    })?;
    Ok((
        found.mean.into_pyarray(py),
        found.loadings.into_pyarray(py),
        found.factors.into_pyarray(py),
        found.singular_values.into_pyarray(py),
        found.explained_variance_ratio.into_pyarray(py),
        found.step,
    ))
}

/// See `ml4t.models.kernels.project_pca`.
#[pyfunction]
pub(crate) fn project_pca<'py>(
    py: Python<'py>,
    returns: Either2<'py>,
    mean: PyReadonlyArray1<'py, f64>,
    loadings: PyReadonlyArray2<'py, f64>,
    completed: bool,
) -> PyResult<Matrix<'py>> {
    let (mean, loadings) = (mean.as_array(), loadings.as_array());
    let factors = with_view!(returns => {
        bridge::run(py, || match missing(completed) {
            core_pca::Missing::Mean => core_pca::project(returns, mean, loadings),
            core_pca::Missing::Completed => core_pca::project_completed(returns, mean, loadings),
        })
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

type Cube<'py> = Bound<'py, PyArray3<f64>>;
type RollingPca<'py> = (
    Matrix<'py>,
    Cube<'py>,
    Matrix<'py>,
    Matrix<'py>,
    Vector<'py>,
);
type RollingRpPca<'py> = (
    Matrix<'py>,
    Cube<'py>,
    Cube<'py>,
    Cube<'py>,
    Matrix<'py>,
    Matrix<'py>,
    Matrix<'py>,
    Cube<'py>,
);

fn ranges(windows: Vec<(usize, usize)>) -> Vec<Range<usize>> {
    windows
        .into_iter()
        .map(|(start, stop)| start..stop)
        .collect()
}

/// Vectors of equal length as the rows of a matrix.
fn rows<T>(fits: &[T], field: impl Fn(&T) -> &Array1<f64>) -> Array2<f64> {
    let width = fits.first().map_or(0, |fit| field(fit).len());
    let mut out = Array2::zeros((fits.len(), width));
    for (mut row, fit) in out.axis_iter_mut(Axis(0)).zip(fits) {
        row.assign(field(fit));
    }
    out
}

/// Matrices of equal shape behind one another.
fn layers<T>(fits: &[T], field: impl Fn(&T) -> &Array2<f64>) -> Array3<f64> {
    let (height, width) = fits.first().map_or((0, 0), |fit| field(fit).dim());
    let mut out = Array3::zeros((fits.len(), height, width));
    for (mut layer, fit) in out.axis_iter_mut(Axis(0)).zip(fits) {
        layer.assign(field(fit));
    }
    out
}

/// See `ml4t.models.kernels.rolling_pca`.
#[pyfunction]
pub(crate) fn rolling_pca<'py>(
    py: Python<'py>,
    returns: Either2<'py>,
    n_factors: usize,
    windows: Vec<(usize, usize)>,
    completed: bool,
) -> PyResult<RollingPca<'py>> {
    let windows = ranges(windows);
    let (mean, loadings, values, ratio, steps) = with_view!(returns => bridge::run(py, || {
        let fits = rolling::pca(returns, n_factors, &windows, missing(completed))?;
        Ok((
            rows(&fits, |fit| &fit.mean),
            layers(&fits, |fit| &fit.loadings),
            rows(&fits, |fit| &fit.singular_values),
            rows(&fits, |fit| &fit.explained_variance_ratio),
            fits.iter().map(|fit| fit.step).collect::<Array1<f64>>(),
        ))
    }))?;
    Ok((
        mean.into_pyarray(py),
        loadings.into_pyarray(py),
        values.into_pyarray(py),
        ratio.into_pyarray(py),
        steps.into_pyarray(py),
    ))
}

/// See `ml4t.models.kernels.rolling_rp_pca`.
#[pyfunction]
pub(crate) fn rolling_rp_pca<'py>(
    py: Python<'py>,
    returns: Either2<'py>,
    settings: RpSettings,
    windows: Vec<(usize, usize)>,
) -> PyResult<RollingRpPca<'py>> {
    let (settings, windows) = (settings.into(), ranges(windows));
    let found = with_view!(returns => bridge::run(py, || {
        let fits = rolling::rp_pca(returns, &settings, &windows)?;
        let moments: Vec<_> = fits.iter().map(RpPca::factor_moments).collect();
        Ok((
            rows(&fits, |fit| &fit.eigenvalues),
            layers(&fits, |fit| &fit.loadings),
            layers(&fits, |fit| &fit.factor_weights),
            layers(&fits, |fit| &fit.asset_betas),
            rows(&fits, |fit| &fit.alphas),
            rows(&fits, |fit| &fit.residual_variances),
            rows(&moments, |(mean, _)| mean),
            layers(&moments, |(_, covariance)| covariance),
        ))
    }))?;
    Ok((
        found.0.into_pyarray(py),
        found.1.into_pyarray(py),
        found.2.into_pyarray(py),
        found.3.into_pyarray(py),
        found.4.into_pyarray(py),
        found.5.into_pyarray(py),
        found.6.into_pyarray(py),
        found.7.into_pyarray(py),
    ))
}
