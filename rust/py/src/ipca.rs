//! Bindings of the IPCA kernels.

use ml4t_models_core::ipca::{
    self as kernel, Certificate, Loadings, MomentsView, Noise, Settings, Stopping, Weighting,
};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArray3, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::bridge;

/// The arrays of `ml4t.models.kernels.Moments`, in its order.
#[derive(FromPyObject)]
pub(crate) struct Moments<'py>(
    PyReadonlyArray1<'py, u32>,
    PyReadonlyArray2<'py, f64>,
    PyReadonlyArray2<'py, f64>,
    PyReadonlyArray1<'py, f64>,
);

impl Moments<'_> {
    fn view(&self) -> MomentsView<'_> {
        MomentsView {
            n_assets: self.0.as_array(),
            gram: self.1.as_array(),
            cross: self.2.as_array(),
            return_squares: self.3.as_array(),
        }
    }
}

/// In the order of `ml4t.models.kernels.IPCACertificate`.
type Evidence = (
    &'static str,
    (f64, f64, f64),
    (f64, f64),
    (usize, usize),
    (f64, f64, f64, f64),
    (usize, usize),
    bool,
    (Vec<f64>, Vec<f64>),
);

fn evidence(c: Certificate) -> Evidence {
    let stopping = match c.stopping {
        Stopping::Converged => "converged",
        Stopping::MaxIterations => "max_iter",
    };
    (
        stopping,
        (c.gamma_condition, c.factor_condition, c.subspace_step),
        (c.objective_delta, c.forecast_delta),
        (c.n_als, c.n_newton),
        (c.objective, c.ssr, c.normal_condition, c.date_condition),
        (c.n_singular_dates, c.n_unidentified),
        c.monotone,
        (c.objectives, c.steps),
    )
}

/// Settings as Python spells them.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Options {
    tol: f64,
    max_iter: usize,
    factor_ridge: f64,
    gamma_ridge: f64,
    portfolio: bool,
    min_assets: usize,
    rank_tolerance: f64,
}

impl Options {
    fn settings(&self, n_factors: usize) -> Settings {
        Settings {
            n_factors,
            tol: self.tol,
            max_iter: self.max_iter,
            factor_ridge: self.factor_ridge,
            gamma_ridge: self.gamma_ridge,
            weighting: if self.portfolio {
                Weighting::Portfolio
            } else {
                Weighting::Panel
            },
            min_assets: self.min_assets,
            rank_tolerance: self.rank_tolerance,
        }
    }
}

type Solution<'py> = (
    Bound<'py, PyArray2<f64>>,
    Bound<'py, PyArray2<f64>>,
    Bound<'py, PyArray2<f64>>,
    Bound<'py, PyArray1<usize>>,
    Bound<'py, PyArray2<f64>>,
    f64,
    Bound<'py, PyArray1<usize>>,
    Evidence,
);

/// See `ml4t.models.kernels.ipca`.
#[pyfunction]
pub(crate) fn ipca<'py>(
    py: Python<'py>,
    moments: Moments<'py>,
    n_factors: usize,
    observed: PyReadonlyArray2<'py, f64>,
    start: Option<PyReadonlyArray2<'py, f64>>,
    options: Options,
) -> PyResult<Solution<'py>> {
    let settings = options.settings(n_factors);
    let (view, observed) = (moments.view(), observed.as_array());
    let start = start.as_ref().map(|start| start.as_array());
    let found = bridge::run(py, || kernel::fit(&view, observed, start, &settings))?;
    let certificate = evidence(found.certificate);
    Ok((
        found.gamma.into_pyarray(py),
        found.gamma_observed.into_pyarray(py),
        found.factors.into_pyarray(py),
        found.dates_used.into_pyarray(py),
        found.instrument_second_moment.into_pyarray(py),
        found.ridge,
        found.unidentified.into_pyarray(py),
        certificate,
    ))
}

/// See `ml4t.models.kernels.ipca_factors`.
#[pyfunction]
pub(crate) fn ipca_factors<'py>(
    py: Python<'py>,
    moments: Moments<'py>,
    gamma: PyReadonlyArray2<'py, f64>,
    gamma_observed: PyReadonlyArray2<'py, f64>,
    observed: PyReadonlyArray2<'py, f64>,
    ridge: f64,
    second_moment: PyReadonlyArray2<'py, f64>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let loadings = Loadings {
        latent: gamma.as_array(),
        observed: gamma_observed.as_array(),
        ridge,
        second_moment: second_moment.as_array(),
    };
    let (view, observed) = (moments.view(), observed.as_array());
    let found = bridge::run(py, || kernel::realised_factors(&view, &loadings, observed))?;
    Ok(found.into_pyarray(py))
}

/// See `ml4t.models.kernels.ipca_fit_measures`.
#[pyfunction]
pub(crate) fn ipca_fit_measures<'py>(
    py: Python<'py>,
    moments: Moments<'py>,
    gamma: PyReadonlyArray2<'py, f64>,
    factors: PyReadonlyArray2<'py, f64>,
) -> PyResult<(f64, f64, f64, f64)> {
    let (view, gamma, factors) = (moments.view(), gamma.as_array(), factors.as_array());
    let fit = bridge::run(py, || kernel::fit_measures(&view, gamma, factors))?;
    Ok((
        fit.total,
        fit.predictive,
        fit.managed_total,
        fit.managed_predictive,
    ))
}

/// Seed, first draw, number of draws, variance of the multipliers.
type Draws = (u64, u64, usize, f64);

fn noise((seed, first, n_draws, variance): Draws) -> Noise {
    Noise {
        seed,
        first,
        n_draws,
        variance,
    }
}

/// See `ml4t.models.kernels.ipca_bootstrap`.
#[pyfunction]
pub(crate) fn ipca_bootstrap<'py>(
    py: Python<'py>,
    moments: Moments<'py>,
    gamma: PyReadonlyArray2<'py, f64>,
    observed: PyReadonlyArray2<'py, f64>,
    weights: PyReadonlyArray2<'py, f64>,
    draws: Draws,
    options: Options,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let (view, observed) = (moments.view(), observed.as_array());
    let (gamma, weights, noise) = (gamma.as_array(), weights.as_array(), noise(draws));
    let settings = options.settings(gamma.ncols().saturating_sub(observed.ncols()));
    let found = bridge::run(py, || {
        kernel::bootstrap(&view, observed, gamma, weights, &noise, &settings)
    })?;
    Ok(found.into_pyarray(py))
}

type NoiseArrays<'py> = (Bound<'py, PyArray2<f64>>, Bound<'py, PyArray2<usize>>);

/// See `ml4t.models.kernels.ipca_bootstrap_noise`.
#[pyfunction]
pub(crate) fn ipca_bootstrap_noise(
    py: Python<'_>,
    n_dates: usize,
    draws: Draws,
) -> PyResult<NoiseArrays<'_>> {
    let noise = noise(draws);
    let (multipliers, donors) = bridge::run(py, || kernel::bootstrap_noise(&noise, n_dates))?;
    Ok((multipliers.into_pyarray(py), donors.into_pyarray(py)))
}

/// See `ml4t.models.kernels.ipca_influence`.
#[pyfunction]
pub(crate) fn ipca_influence<'py>(
    py: Python<'py>,
    moments: Moments<'py>,
    gamma: PyReadonlyArray2<'py, f64>,
    observed: PyReadonlyArray2<'py, f64>,
    options: Options,
) -> PyResult<Bound<'py, PyArray3<f64>>> {
    let (view, gamma, observed) = (moments.view(), gamma.as_array(), observed.as_array());
    let settings = options.settings(gamma.ncols().saturating_sub(observed.ncols()));
    let found = bridge::run(py, || kernel::influence(&view, observed, gamma, &settings))?;
    Ok(found.into_pyarray(py))
}
