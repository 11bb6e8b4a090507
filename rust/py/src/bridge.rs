//! The only place where the interpreter is released and errors change language.

use ml4t_models_core::{CoreError, Result, pool};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

/// Run a kernel in the kernels' pool without holding the interpreter, then translate its error.
pub(crate) fn run<T, F>(py: Python<'_>, kernel: F) -> PyResult<T>
where
    T: Send,
    F: Send + FnOnce() -> Result<T>,
{
    py.detach(|| pool::install(kernel)).map_err(translate)
}

fn translate(error: CoreError) -> PyErr {
    let message = error.to_string();
    match error {
        CoreError::Failed { .. } => PyRuntimeError::new_err(message),
        _ => PyValueError::new_err(message),
    }
}

/// See `ml4t.models.kernels.set_num_threads`.
#[pyfunction]
pub(crate) fn set_num_threads(n_threads: usize) -> PyResult<()> {
    pool::set_num_threads(n_threads).map_err(translate)
}

/// See `ml4t.models.kernels.get_num_threads`.
#[pyfunction]
pub(crate) fn get_num_threads() -> usize {
    pool::num_threads()
}
