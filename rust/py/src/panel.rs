//! Bindings of the panel kernels: moments, ranks, managed portfolios.

use ml4t_models_core::ranks::{Correlation, RankScale};
use ml4t_models_core::simd::Level;
use ml4t_models_core::{managed, moments, ranks};
use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyArray3, PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArray3,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::bridge;

/// An array of either floating-point type, as it is: no copy.
macro_rules! either {
    ($name:ident, $array:ident) => {
        #[derive(FromPyObject)]
        pub(crate) enum $name<'py> {
            F64($array<'py, f64>),
            F32($array<'py, f32>),
        }
    };
}

either!(Either1, PyReadonlyArray1);
either!(Either2, PyReadonlyArray2);
either!(Either3, PyReadonlyArray3);

/// Call a generic kernel with the view inside each of two `Either`s.
macro_rules! with_views {
    (($a:ident: $first:ident, $b:ident: $second:ident) => $call:expr) => {
        match (&$a, &$b) {
            ($first::F64($a), $second::F64($b)) => {
                let ($a, $b) = ($a.as_array(), $b.as_array());
                $call
            }
            ($first::F64($a), $second::F32($b)) => {
                let ($a, $b) = ($a.as_array(), $b.as_array());
                $call
            }
            ($first::F32($a), $second::F64($b)) => {
                let ($a, $b) = ($a.as_array(), $b.as_array());
                $call
            }
            ($first::F32($a), $second::F32($b)) => {
                let ($a, $b) = ($a.as_array(), $b.as_array());
                $call
            }
        }
    };
}

type Moments<'py> = (
    Bound<'py, PyArray1<u32>>,
    Bound<'py, PyArray2<f64>>,
    Bound<'py, PyArray2<f64>>,
    Bound<'py, PyArray1<f64>>,
);

fn to_python(py: Python<'_>, moments: moments::Moments) -> Moments<'_> {
    (
        moments.n_assets.into_pyarray(py),
        moments.gram.into_pyarray(py),
        moments.cross.into_pyarray(py),
        moments.return_squares.into_pyarray(py),
    )
}

/// The instruction set of a name, the best one without; a name is for tests and benches.
fn level_named(name: Option<&str>) -> PyResult<Level> {
    let Some(name) = name else {
        return Ok(Level::best());
    };
    let all = Level::available();
    let found = all
        .iter()
        .find(|level| format!("{level:?}").eq_ignore_ascii_case(name));
    found.copied().ok_or_else(|| {
        PyValueError::new_err(format!(
            "level must be one of this machine's {all:?}; got {name:?}"
        ))
    })
}

/// See `ml4t.models.kernels.panel_moments`; its users leave the level out.
#[pyfunction]
#[pyo3(signature = (characteristics, returns, mask, constant, level=None))]
pub(crate) fn panel_moments<'py>(
    py: Python<'py>,
    characteristics: Either3<'py>,
    returns: Either2<'py>,
    mask: Option<PyReadonlyArray2<'py, u8>>,
    constant: bool,
    level: Option<&str>,
) -> PyResult<Moments<'py>> {
    let level = level_named(level)?;
    let mask = mask.as_ref().map(|mask| mask.as_array());
    let found = with_views!((characteristics: Either3, returns: Either2) => {
        bridge::run(py, || moments::from_panel_at(level, characteristics, returns, mask, constant))
    })?;
    Ok(to_python(py, found))
}

/// See `ml4t.models.kernels.row_moments`.
#[pyfunction]
pub(crate) fn row_moments<'py>(
    py: Python<'py>,
    characteristics: Either2<'py>,
    returns: Either1<'py>,
    offsets: Vec<usize>,
    constant: bool,
) -> PyResult<Moments<'py>> {
    let found = with_views!((characteristics: Either2, returns: Either1) => {
        bridge::run(py, || moments::from_rows(characteristics, returns, &offsets, constant))
    })?;
    Ok(to_python(py, found))
}

/// See `ml4t.models.kernels.average_ranks`.
#[pyfunction]
pub(crate) fn average_ranks<'py>(
    py: Python<'py>,
    values: Either3<'py>,
    scaled: bool,
) -> PyResult<Bound<'py, PyArray3<f64>>> {
    let scale = if scaled {
        RankScale::Centred
    } else {
        RankScale::Place
    };
    let found = match &values {
        Either3::F64(values) => {
            let values = values.as_array();
            bridge::run(py, || ranks::average_ranks(values, scale))
        }
        Either3::F32(values) => {
            let values = values.as_array();
            bridge::run(py, || ranks::average_ranks(values, scale))
        }
    }?;
    Ok(found.into_pyarray(py))
}

/// See `ml4t.models.kernels.cross_sectional_correlation`.
#[pyfunction]
pub(crate) fn cross_sectional_correlation<'py>(
    py: Python<'py>,
    a: Either2<'py>,
    b: Either2<'py>,
    mask: Option<PyReadonlyArray2<'py, u8>>,
    rank: bool,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let kind = if rank {
        Correlation::Spearman
    } else {
        Correlation::Pearson
    };
    let mask = mask.as_ref().map(|mask| mask.as_array());
    let found = with_views!((a: Either2, b: Either2) => {
        bridge::run(py, || ranks::cross_sectional_correlation(a, b, mask, kind))
    })?;
    Ok(found.into_pyarray(py))
}

/// See `ml4t.models.kernels.managed_portfolios`.
#[pyfunction]
pub(crate) fn managed_portfolios<'py>(
    py: Python<'py>,
    characteristics: Either3<'py>,
    returns: Either2<'py>,
    mask: Option<PyReadonlyArray2<'py, u8>>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let mask = mask.as_ref().map(|mask| mask.as_array());
    let found = with_views!((characteristics: Either3, returns: Either2) => {
        bridge::run(py, || managed::managed_portfolios(characteristics, returns, mask))
    })?;
    Ok(found.into_pyarray(py))
}
