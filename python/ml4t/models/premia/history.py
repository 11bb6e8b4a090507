"""The history of realised factors: what an estimate of premia reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.types import LatentFactorState


def history(model: str, state: LatentFactorState) -> NDArray[np.float64]:
    """Realised factors (T, K) in float64 with NaN for whatever is not finite."""
    if state.factor_returns is None:
        raise ValueError(f"{model} requires factor_returns to fit; the state has none")
    realised = np.asarray(state.factor_returns, dtype=np.float64)
    factors = np.ascontiguousarray(np.where(np.isfinite(realised), realised, np.nan))
    if not factors.shape[1]:
        raise ValueError(f"{model} requires at least one factor; factor_returns has none")
    empty = np.flatnonzero(np.isnan(factors).all(axis=0))
    if empty.size:
        raise ValueError(
            "factor_returns require at least one finite value in every factor; "
            f"factor {empty[0]} has none over {len(factors)} periods"
        )
    return factors


def finite_mean(factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the finite values of each factor, shape (K,)."""
    mean: NDArray[np.float64] = np.nanmean(factors, axis=0)
    return mean


def last_finite(x: NDArray[np.float64]) -> float:
    """Last finite value; the history is known to have one."""
    return float(x[np.isfinite(x)][-1])
