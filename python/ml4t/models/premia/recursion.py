"""One-step recursions from the last realisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ml4t.models.types import LatentFactorState


def one_step_path(
    step: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    last: NDArray[np.float64],
    fallback: NDArray[np.float64],
    state: LatentFactorState,
) -> NDArray[np.float64]:
    """Forecast each period from the one before it, (T, K).

    Parameters
    ----------
    step : callable
        From the factors (K,) of a period to the forecast (K,) of the next.
    last : ndarray of float64, shape (K,)
        Factors before the first period.
    fallback : ndarray of float64, shape (K,)
        Stands in for a forecast that is not finite.
    state : LatentFactorState
        Where it brings a realised factor, that is what the next period starts from; otherwise the
        forecast is.
    """
    realised = state.factor_returns
    premia = np.empty((state.n_periods, last.size))
    level = last
    for period in range(state.n_periods):
        with np.errstate(over="ignore", invalid="ignore"):
            ahead = step(level)
        premia[period] = level = np.where(np.isfinite(ahead), ahead, fallback)
        if realised is not None and realised.shape[1] == level.size:
            level = np.where(np.isfinite(realised[period]), realised[period], level)
    return premia
