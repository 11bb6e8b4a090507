//! Bindings of the weight kernels.

use ml4t_models_core::weights::{self, Exposure, GroupCap};
use ml4t_models_core::{Result, memory};
use ndarray::ArrayView1;
use numpy::{
    IntoPyArray, PyArray3, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArray3,
};
use pyo3::prelude::*;

use crate::bridge;

/// Gross exposure, net exposure, cap.
type Limits = (f64, f64, Option<f64>);
/// Group of every asset, and the cap of a group.
type Groups<'py> = (PyReadonlyArray1<'py, i64>, f64);

fn group_cap(groups: Option<(ArrayView1<'_, i64>, f64)>) -> Result<Option<GroupCap>> {
    groups.map(|(ids, cap)| GroupCap::new(ids, cap)).transpose()
}

/// See `ml4t.models.kernels.normalize_weights`.
#[pyfunction]
pub(crate) fn normalize_weights<'py>(
    py: Python<'py>,
    scores: PyReadonlyArray3<'py, f64>,
    mask: Option<PyReadonlyArray3<'py, u8>>,
    limits: Limits,
    groups: Option<Groups<'py>>,
) -> PyResult<Bound<'py, PyArray3<f64>>> {
    let (scores, mask) = (scores.as_array(), mask.as_ref().map(|mask| mask.as_array()));
    let groups = groups.as_ref().map(|(ids, cap)| (ids.as_array(), *cap));
    memory::require("weights", scores.shape()).map_err(bridge::translate)?;
    // NumPy asks for huge pages; without them page faults cost more than the kernel.
    let weights = PyArray3::<f64>::zeros(py, scores.raw_dim(), false);
    let mut cells = weights.try_readwrite()?;
    let out = cells.as_array_mut();
    bridge::run(py, || {
        let exposure = Exposure::new(limits.0, limits.1, limits.2)?;
        weights::normalize_into(scores, mask, &exposure, group_cap(groups)?.as_ref(), out)
    })?;
    drop(cells);
    Ok(weights)
}

/// See `ml4t.models.kernels.walk_within_turnover`.
#[pyfunction]
pub(crate) fn walk_within_turnover<'py>(
    py: Python<'py>,
    wanted: PyReadonlyArray3<'py, f64>,
    mask: Option<PyReadonlyArray3<'py, u8>>,
    previous: Option<PyReadonlyArray2<'py, f64>>,
    limits: Limits,
    groups: Option<Groups<'py>>,
    turnover_limit: f64,
) -> PyResult<Bound<'py, PyArray3<f64>>> {
    let (wanted, mask) = (wanted.as_array(), mask.as_ref().map(|mask| mask.as_array()));
    let previous = previous.as_ref().map(|previous| previous.as_array());
    let groups = groups.as_ref().map(|(ids, cap)| (ids.as_array(), *cap));
    let weights = bridge::run(py, || {
        let exposure = Exposure::new(limits.0, limits.1, limits.2)?;
        let groups = group_cap(groups)?;
        let groups = groups.as_ref();
        weights::walk_within_turnover(wanted, mask, previous, &exposure, groups, turnover_limit)
    })?;
    Ok(weights.into_pyarray(py))
}
