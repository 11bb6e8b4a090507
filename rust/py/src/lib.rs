//! `ml4t.models._core`: the list of what Python sees.

use pyo3::prelude::*;

mod bridge;
mod digest;
mod factors;
mod ipca;
mod panel;
mod weights;

/// Kernels of `ml4t.models`; import them from `ml4t.models.kernels`.
#[pymodule]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
        // Here, while the interpreter keeps other threads from writing the environment.
        ml4t_models_core::pool::read_environment();
        let profile = if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        };
        m.add("BUILD_PROFILE", profile)
    }

    #[pymodule_export]
    use crate::bridge::{get_num_threads, set_num_threads};

    #[pymodule_export]
    use crate::digest::content_digest;

    #[pymodule_export]
    use crate::factors::{pca, project_pca, project_rp_pca, rolling_pca, rolling_rp_pca, rp_pca};

    #[pymodule_export]
    use crate::ipca::{
        ipca, ipca_bootstrap, ipca_bootstrap_noise, ipca_factors, ipca_fit_measures, ipca_influence,
    };

    #[pymodule_export]
    use crate::panel::{
        average_ranks, cross_sectional_correlation, managed_portfolios, panel_moments, row_moments,
    };
    #[pymodule_export]
    use crate::weights::{normalize_weights, walk_within_turnover};
}
