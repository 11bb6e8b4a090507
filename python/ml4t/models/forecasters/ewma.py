"""The premium as an exponentially weighted mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ml4t.models.configs import EWMABaseForecasterConfig
from ml4t.models.forecasters.base import HistoryForecaster, require_same_length
from ml4t.models.lifecycle.estimator import Estimated
from ml4t.models.types import FitSummary, LatentFactorState

if TYPE_CHECKING:
    from numpy.typing import NDArray


def smoothed_level(factors: NDArray[np.float64], half_life: float) -> NDArray[np.float64]:
    r"""Last level of the exponential smoother, shape (K,).

    .. math:: \ell_t = \alpha x_t + (1 - \alpha)\,\ell_{t-1}, \quad \alpha = 1 - 2^{-1/h}

    seeded with the first finite value of each factor; missing values leave the level as it is.

    Parameters
    ----------
    factors : ndarray of float64, shape (T, K)
        NaN marks a missing realisation.
    half_life : float
        :math:`h`, in periods.
    """
    alpha = 1.0 - 0.5 ** (1.0 / half_life)
    level = np.full(factors.shape[1], np.nan)
    for x in factors:
        smoothed = np.where(np.isnan(level), x, alpha * x + (1.0 - alpha) * level)
        level = np.where(np.isnan(x), level, smoothed)
    return level


@dataclass(frozen=True, slots=True)
class EWMAFit:
    """Fitted parameters of `EWMABaseFactorForecaster`.

    Attributes
    ----------
    ewma_level : ndarray of float64, shape (K,)
        Last smoothed factor return per period.
    """

    ewma_level: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Reject a record of the wrong shape; `load` relies on it."""
        require_same_length(self, self.ewma_level)


class EWMABaseFactorForecaster(HistoryForecaster[EWMABaseForecasterConfig, EWMAFit]):
    """Forecast every coming period by an exponentially weighted mean of realised factors.

    Parameters
    ----------
    config : EWMABaseForecasterConfig, optional
        `half_life` in periods.
    """

    config_type: ClassVar[type] = EWMABaseForecasterConfig
    fit_type: ClassVar[type] = EWMAFit

    def _estimate(self, factors: NDArray[np.float64]) -> Estimated[EWMAFit]:
        level = smoothed_level(factors, self.config.half_life)
        metrics = {"half_life": float(self.config.half_life)}
        return Estimated(EWMAFit(level), FitSummary(converged=True, train_metrics=metrics))

    def _forecast(self, fit: EWMAFit, state: LatentFactorState) -> NDArray[np.float64]:
        return np.tile(fit.ewma_level, (state.n_periods, 1))
