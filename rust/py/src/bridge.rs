//! The only place where the interpreter is released and errors change language.

use std::time::Duration;

use ml4t_models_core::{CoreError, Result, pool};
use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

/// How often a running kernel lets the interpreter handle signals; shorter ones never do.
const LISTEN: Duration = Duration::from_millis(50);

/// Run a kernel in the kernels' pool without holding the interpreter, then translate its error.
///
/// When a signal handler raises, as that of Ctrl-C does, the kernel is interrupted and the handler's
/// exception is raised.
pub(crate) fn run<T, F>(py: Python<'_>, kernel: F) -> PyResult<T>
where
    T: Send,
    F: Send + FnOnce() -> Result<T>,
{
    let mut raised = None;
    let outcome = py.detach(|| {
        pool::install_watched(kernel, LISTEN, || {
            // None while the interpreter shuts down.
            raised = Python::try_attach(|py| py.check_signals().err()).flatten();
            raised.is_none()
        })
    });
    match raised {
        Some(error) => Err(error),
        None => outcome.map_err(translate),
    }
}

pub(crate) fn translate(error: CoreError) -> PyErr {
    let message = error.to_string();
    match error {
        CoreError::Memory { .. } => PyMemoryError::new_err(message),
        CoreError::Interrupted => PyKeyboardInterrupt::new_err(message),
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
