"""Base of forecasters: realised factors in, premia of later dates out."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from ml4t.models.configs.base import BaseModelConfig
from ml4t.models.lifecycle.estimator import Estimated, Fittable
from ml4t.models.panel.context import require_history
from ml4t.models.premia.history import history
from ml4t.models.types import FactorForecastResult, FitSummary, LatentFactorState

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ConfigT = TypeVar("ConfigT", bound=BaseModelConfig)
FitT = TypeVar("FitT")


class BaseFactorForecaster(Fittable[ConfigT, FitT], Generic[ConfigT, FitT]):
    """A forecaster of factor premia.

    Parameters
    ----------
    config : optional
        Settings; the defaults of `config_type` where none are given.
    """

    config_type: ClassVar[type] = BaseModelConfig

    def __init__(self, config: ConfigT | None = None) -> None:
        super().__init__(self.config_type() if config is None else config)

    def fit(self, state: LatentFactorState) -> FitSummary:
        """Learn from realised factors.

        Parameters
        ----------
        state : LatentFactorState
            `factor_returns` (T, K), return per period; NaN marks a missing realisation.

        Returns
        -------
        FitSummary

        Raises
        ------
        ValueError
            Without `factor_returns`, or when a factor has no finite value.
        FloatingPointError
            When an estimate is not finite.
        """
        return self._run(lambda: self._learn(require_history(state)), state)

    def predict(self, state: LatentFactorState) -> FactorForecastResult:
        """Forecast the premia of the periods of `state`.

        Parameters
        ----------
        state : LatentFactorState
            Gives the number of periods and their labels. No forecast of a period reads its
            realisation.

        Returns
        -------
        FactorForecastResult
            `factor_premia` (T, K), expected return per period for one unit of exposure.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            When the number of factors differs from the fit's.
        """
        fit = self._fitted("predict")
        require_history(state)
        premia = self._forecast(fit, state)
        if premia.shape[1] != state.n_factors:
            raise ValueError(
                f"{type(self).__name__}: state must have the fitted number of factors "
                f"{premia.shape[1]}; got {state.n_factors}"
            )
        return FactorForecastResult(
            premia, timestamps=state.timestamps, metadata={"model_name": self.config.model_name}
        )

    @abstractmethod
    def _learn(self, state: LatentFactorState) -> Estimated[FitT]:
        """Learn from a state."""

    @abstractmethod
    def _forecast(self, fit: FitT, state: LatentFactorState) -> NDArray[np.float64]:
        """Premia (T, K) for the periods of `state`."""


class HistoryForecaster(BaseFactorForecaster[ConfigT, FitT], Generic[ConfigT, FitT]):
    """A forecaster that learns from realised factors and from nothing else.

    Parameters
    ----------
    config : optional
    """

    def _learn(self, state: LatentFactorState) -> Estimated[FitT]:
        return self._estimate(history(type(self).__name__, state))

    @abstractmethod
    def _estimate(self, factors: NDArray[np.float64]) -> Estimated[FitT]:
        """Learn from a history (T, K) in which every factor has a finite value; NaN is missing."""


def require_same_length(fit: object, *vectors: NDArray[np.float64]) -> None:
    """Reject a record whose vectors are not all of one shape (K,)."""
    shapes = {vector.shape for vector in vectors}
    if len(shapes) != 1 or vectors[0].ndim != 1 or not vectors[0].size:
        raise ValueError(f"{type(fit).__name__}: estimates must share one shape (K,); got {shapes}")
