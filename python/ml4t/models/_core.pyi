"""Typed face of the compiled kernels; import them from `ml4t.models.kernels`."""

from collections.abc import Iterable
from typing import Final, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

_Floats: TypeAlias = NDArray[np.float64] | NDArray[np.float32]
_Moments: TypeAlias = tuple[
    NDArray[np.uint32], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]
]
_F64: TypeAlias = NDArray[np.float64]

class _IPCAOptions(TypedDict):
    tol: float
    max_iter: int
    factor_ridge: float
    gamma_ridge: float
    portfolio: bool
    min_assets: int
    rank_tolerance: float

_IPCAEvidence: TypeAlias = tuple[
    str,
    tuple[float, float, float],
    tuple[float, float],
    tuple[int, int],
    tuple[float, float, float, float],
    tuple[int, int],
    bool,
    tuple[list[float], list[float]],
]
_IPCASolution: TypeAlias = tuple[
    _F64,
    _F64,
    _F64,
    NDArray[np.uint64],
    _F64,
    float,
    NDArray[np.uint64],
    _IPCAEvidence,
]

__all__ = [
    "BUILD_PROFILE",
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

BUILD_PROFILE: Final[str]

def set_num_threads(n_threads: int) -> None: ...
def get_num_threads() -> int: ...
def content_digest(pieces: Iterable[NDArray[np.uint8]], float_bytes: int) -> bytes: ...
def panel_moments(
    characteristics: _Floats,
    returns: _Floats,
    mask: NDArray[np.uint8] | None,
    constant: bool,
    level: str | None = None,
) -> _Moments: ...
def row_moments(
    characteristics: _Floats,
    returns: _Floats,
    offsets: NDArray[np.int64],
    constant: bool,
) -> _Moments: ...
def pca(
    returns: _Floats, n_factors: int, completed: bool
) -> tuple[_F64, _F64, _F64, _F64, _F64, float]: ...
def project_pca(returns: _Floats, mean: _F64, loadings: _F64, completed: bool) -> _F64: ...
def rp_pca(
    returns: _Floats, settings: tuple[int, float, bool, bool, bool, bool]
) -> tuple[_F64, _F64, _F64, _F64, _F64, _F64, _F64, _F64]: ...
def project_rp_pca(returns: _Floats, factor_weights: _F64) -> _F64: ...
def ipca(
    moments: _Moments,
    n_factors: int,
    observed: _F64,
    start: _F64 | None,
    options: _IPCAOptions,
) -> _IPCASolution: ...
def ipca_factors(
    moments: _Moments,
    gamma: _F64,
    gamma_observed: _F64,
    observed: _F64,
    ridge: float,
    second_moment: _F64,
) -> _F64: ...
def ipca_fit_measures(
    moments: _Moments, gamma: _F64, factors: _F64
) -> tuple[float, float, float, float]: ...
def ipca_bootstrap(
    moments: _Moments,
    gamma: _F64,
    observed: _F64,
    weights: _F64,
    draws: tuple[int, int, int, float],
    options: _IPCAOptions,
) -> _F64: ...
def ipca_bootstrap_noise(
    n_dates: int, draws: tuple[int, int, int, float]
) -> tuple[_F64, NDArray[np.uint64]]: ...
def ipca_influence(
    moments: _Moments, gamma: _F64, observed: _F64, options: _IPCAOptions
) -> _F64: ...
def average_ranks(values: _Floats, scaled: bool) -> NDArray[np.float64]: ...
def cross_sectional_correlation(
    a: _Floats, b: _Floats, mask: NDArray[np.uint8] | None, rank: bool
) -> NDArray[np.float64]: ...
def managed_portfolios(
    characteristics: _Floats, returns: _Floats, mask: NDArray[np.uint8] | None
) -> NDArray[np.float64]: ...
def rolling_pca(
    returns: _Floats, n_factors: int, windows: list[tuple[int, int]], completed: bool
) -> tuple[_F64, _F64, _F64, _F64, _F64]: ...
def rolling_rp_pca(
    returns: _Floats,
    settings: tuple[int, float, bool, bool, bool, bool],
    windows: list[tuple[int, int]],
) -> tuple[_F64, _F64, _F64, _F64, _F64, _F64, _F64, _F64]: ...
def normalize_weights(
    scores: NDArray[np.float64],
    mask: NDArray[np.uint8] | None,
    limits: tuple[float, float, float | None],
    groups: tuple[NDArray[np.int64], float] | None,
) -> NDArray[np.float64]: ...
def walk_within_turnover(
    wanted: NDArray[np.float64],
    mask: NDArray[np.uint8] | None,
    previous: NDArray[np.float64] | None,
    limits: tuple[float, float, float | None],
    groups: tuple[NDArray[np.int64], float] | None,
    turnover_limit: float,
) -> NDArray[np.float64]: ...
