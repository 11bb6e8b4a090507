"""The premium as the mean of the history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ml4t.models.configs import ExpandingMeanForecasterConfig
from ml4t.models.forecasters.base import HistoryForecaster, require_same_length
from ml4t.models.lifecycle.estimator import Estimated
from ml4t.models.premia.history import finite_mean
from ml4t.models.types import FitSummary, LatentFactorState

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ExpandingMeanFit:
    """Fitted parameters of `ExpandingMeanFactorForecaster`.

    Attributes
    ----------
    mean_factor_premium : ndarray of float64, shape (K,)
        Mean realised factor return per period.
    """

    mean_factor_premium: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Reject a record of the wrong shape; `load` relies on it."""
        require_same_length(self, self.mean_factor_premium)


class ExpandingMeanFactorForecaster(
    HistoryForecaster[ExpandingMeanForecasterConfig, ExpandingMeanFit]
):
    """Forecast every coming period by the mean of all realised factor returns.

    Parameters
    ----------
    config : ExpandingMeanForecasterConfig, optional

    Examples
    --------
    >>> import numpy as np
    >>> from ml4t.models.types import LatentFactorState
    >>> past = LatentFactorState(np.ones((3, 2, 1)), factor_returns=[[0.01], [0.02], [0.03]])
    >>> forecaster = ExpandingMeanFactorForecaster()
    >>> _ = forecaster.fit(past)
    >>> forecaster.predict(LatentFactorState(np.ones((1, 2, 1)))).factor_premia
    array([[0.02]])
    """

    config_type: ClassVar[type] = ExpandingMeanForecasterConfig
    fit_type: ClassVar[type] = ExpandingMeanFit

    def _estimate(self, factors: NDArray[np.float64]) -> Estimated[ExpandingMeanFit]:
        mean = finite_mean(factors)
        metrics = {
            "n_train_periods": float(len(factors)),
            "mean_abs_factor_premium": float(np.abs(mean).mean()),
        }
        return Estimated(ExpandingMeanFit(mean), FitSummary(converged=True, train_metrics=metrics))

    def _forecast(self, fit: ExpandingMeanFit, state: LatentFactorState) -> NDArray[np.float64]:
        return np.tile(fit.mean_factor_premium, (state.n_periods, 1))
