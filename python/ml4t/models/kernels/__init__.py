"""The compiled kernels, with names, shapes and records: the only importer of `_core`.

Every kernel releases the interpreter, runs on the package's own thread pool (see
`set_num_threads`), gives the same bits for any number of threads, and works in a forked child.
Arrays of float32 and float64 are read where they lie, whatever their strides; results are float64.
"""

from __future__ import annotations

import os
import warnings

from ml4t.models._core import BUILD_PROFILE, get_num_threads, set_num_threads
from ml4t.models.kernels.digest import content_digest
from ml4t.models.kernels.factors import (
    PCAFactors,
    RPPCAFactors,
    pca,
    project_pca,
    project_rp_pca,
    rp_pca,
)
from ml4t.models.kernels.inference import ipca_bootstrap, ipca_bootstrap_noise, ipca_influence
from ml4t.models.kernels.instrumented import (
    IPCACertificate,
    IPCAFitMeasures,
    IPCASettings,
    IPCASolution,
    ipca,
    ipca_factors,
    ipca_fit_measures,
)
from ml4t.models.kernels.panel import (
    Moments,
    average_ranks,
    cross_sectional_correlation,
    managed_portfolios,
    panel_moments,
    row_moments,
)
from ml4t.models.kernels.rolling import (
    RollingPCAFactors,
    RollingRPPCAFactors,
    rolling_pca,
    rolling_rp_pca,
)
from ml4t.models.kernels.weights import normalize_weights, walk_within_turnover

_asked = os.environ.get("ML4T_NUM_THREADS", "").strip()
if _asked and not (_asked.isdecimal() and int(_asked) == get_num_threads()):
    warnings.warn(
        f"ML4T_NUM_THREADS must be an integer from 1 to 4096; got {_asked!r}, so "
        f"{get_num_threads()} threads are used",
        RuntimeWarning,
        stacklevel=2,
    )

__all__ = [
    "BUILD_PROFILE",
    "IPCACertificate",
    "IPCAFitMeasures",
    "IPCASettings",
    "IPCASolution",
    "Moments",
    "PCAFactors",
    "RPPCAFactors",
    "RollingPCAFactors",
    "RollingRPPCAFactors",
    "average_ranks",
    "content_digest",
    "cross_sectional_correlation",
    "get_num_threads",
    "ipca",
    "ipca_bootstrap",
    "ipca_bootstrap_noise",
    "ipca_factors",
    "ipca_fit_measures",
    "ipca_influence",
    "managed_portfolios",
    "normalize_weights",
    "panel_moments",
    "pca",
    "project_pca",
    "project_rp_pca",
    "rolling_pca",
    "rolling_rp_pca",
    "row_moments",
    "rp_pca",
    "set_num_threads",
    "walk_within_turnover",
]
