//! The only place where the interpreter is released and errors change language.

use std::any::type_name;
use std::panic::{AssertUnwindSafe, catch_unwind};
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
        let name = type_name::<F>();
        guarded(name, || {
            pool::install_watched(kernel, LISTEN, || {
                // None while the interpreter shuts down.
                raised = Python::try_attach(|py| py.check_signals().err()).flatten();
                raised.is_none()
            })
        })
    });
    match raised {
        Some(error) => Err(error),
        None => outcome.map_err(translate),
    }
}

/// Turn a panic, which would reach Python as no `Exception`, into an error that names the kernel.
///
/// A panic is a mistake of ours; what the kernel was writing to is dropped with it. `closure` is
/// the name of its type: `_core::factors::pca::{{closure}}` holds the name that Python has for it.
fn guarded<T>(closure: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(CoreError::Failed {
            what: "a kernel of ml4t.models",
            why: format!(
                "{} broke off, which no input should bring about ({}); please report it",
                closure.split("::").nth(2).unwrap_or("it"),
                text.unwrap_or("without a message")
            ),
        })
    })
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
