//! Binding of the content digest.

use ml4t_models_core::digest::{ContentDigest, Words};
use numpy::PyReadonlyArray1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::bridge;

/// See `ml4t.models.kernels.content_digest`.
///
/// `pieces` yields byte arrays; `float_bytes` is 4 or 8 for floating-point content, else 0.
#[pyfunction]
pub(crate) fn content_digest<'py>(
    py: Python<'py>,
    pieces: &Bound<'py, PyAny>,
    float_bytes: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let words = match float_bytes {
        0 => Words::Plain,
        4 => Words::F32,
        8 => Words::F64,
        other => {
            let message = format!("float_bytes must be 0, 4 or 8; got {other}");
            return Err(PyValueError::new_err(message));
        }
    };
    let mut digest = ContentDigest::new(words);
    for piece in pieces.try_iter()? {
        let piece = piece?.extract::<PyReadonlyArray1<'py, u8>>()?;
        let bytes = piece.as_slice()?;
        bridge::run(py, || {
            digest.update(bytes);
            Ok(())
        })?;
    }
    Ok(PyBytes::new(py, &digest.finish()))
}
