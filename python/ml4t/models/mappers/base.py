"""Base of mappers."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import numpy as np

from ml4t.models.checks import require_shape, require_type
from ml4t.models.configs.base import BaseModelConfig
from ml4t.models.configs.pipeline import MapperConfig
from ml4t.models.lifecycle.estimator import Estimated, Fittable
from ml4t.models.lifecycle.parameters import Parameters
from ml4t.models.panel.context import require_history
from ml4t.models.types import (
    AssetForecastResult,
    FactorForecastResult,
    FitRunRecord,
    FitSummary,
    LatentFactorState,
)

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

ConfigT = TypeVar("ConfigT", bound=BaseModelConfig)
FitT = TypeVar("FitT")


class BaseAssetMapper(Parameters):
    """A mapper: a configuration and no fit, so that it is never fitted.

    Parameters
    ----------
    config : MapperConfig, optional

    Raises
    ------
    TypeError
        When `config` is something else.
    """

    config_type: ClassVar[type] = MapperConfig

    def __init__(self, config: MapperConfig | None = None) -> None:
        given = MapperConfig() if config is None else config
        self.config: MapperConfig = require_type("config", given, self.config_type)

    @property
    def is_fitted(self) -> bool:
        """False: the mapper has no fit."""
        return False

    @property
    def available_checkpoints(self) -> tuple[int, ...]:
        """None."""
        return ()

    @property
    def last_fit_record(self) -> FitRunRecord | None:
        """None."""
        return None

    def __repr__(self) -> str:
        """Show the settings."""
        return f"{type(self).__name__}({self.config!r})"


def require_agreement(state: LatentFactorState, forecast: FactorForecastResult) -> None:
    """Reject premia that do not line up with the exposures on dates and factors."""
    require_type("state", state, LatentFactorState)
    require_type("factor_forecast", forecast, FactorForecastResult)
    require_shape("factor_premia", (state.n_periods, state.n_factors), forecast.factor_premia.shape)


def expected_returns(
    state: LatentFactorState, premia: NDArray[Any], mapper: str
) -> AssetForecastResult:
    """Exposures (T, N, K) times premia (T, K), with the labels of the state.

    Factor by factor: exposures that are the same at all dates are one block of memory, and the sum
    has the same bits in whatever order they lie.
    """
    dtype = np.result_type(state.asset_betas, premia)
    returns = np.zeros(state.asset_betas.shape[:2], dtype=dtype)
    for k in range(premia.shape[1]):
        returns += state.asset_betas[:, :, k] * premia[:, k, None]
    return AssetForecastResult(
        returns,
        timestamps=state.timestamps,
        asset_ids=state.asset_ids,
        metadata={"mapper": mapper},
    )


class ConditionalMapper(Fittable[ConfigT, FitT], Generic[ConfigT, FitT]):
    r"""A mapper whose premia depend on a state or a regime.

    What it learned moves the premia of a forecaster by what is known of the date beyond the mean,

    .. math:: E_t[r_{n,t+1}] = \beta_{tn}' (\lambda_t + \lambda(s_t) - \bar\lambda),

    so that with the mean forecaster the premia are :math:`\lambda(s_t)` itself.

    Parameters
    ----------
    config : optional
        Settings; the defaults of `config_type` where none are given.
    """

    def __init__(self, config: ConfigT | None = None) -> None:
        super().__init__(self.config_type() if config is None else config)

    def fit(self, state: LatentFactorState) -> FitSummary:
        """Learn from realised factors, and from what was known before them.

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
            When the state lacks what the mapper needs, or a factor has no finite value.
        """
        return self._run(lambda: self._learn(require_history(state)), state)

    def premia(self, state: LatentFactorState) -> FactorForecastResult:
        """Give the conditional premia of every period, without those of a forecaster.

        Parameters
        ----------
        state : LatentFactorState
            None of its realised factors is read for its own period or an earlier one.

        Returns
        -------
        FactorForecastResult
            `factor_premia` (T, K), expected return per period for one unit of exposure.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            When the state does not fit what was learned from.
        """
        fit = self._fitted("premia")
        require_history(state)
        mean = self._mean_premia(fit)
        if mean.size != state.n_factors:
            raise ValueError(
                f"{type(self).__name__}: state must have the fitted number of factors "
                f"{mean.size}; got {state.n_factors}"
            )
        return FactorForecastResult(
            self._premia(fit, state),
            timestamps=state.timestamps,
            metadata={"model_name": self.config.model_name},
        )

    def predict(
        self, state: LatentFactorState, factor_forecast: FactorForecastResult
    ) -> AssetForecastResult:
        """Forecast the return of every asset.

        Parameters
        ----------
        state : LatentFactorState
            `asset_betas` (T, N, K); NaN where an asset has no exposure.
        factor_forecast : FactorForecastResult
            `factor_premia` (T, K) that the conditional premia move.

        Returns
        -------
        AssetForecastResult
            `expected_returns` (T, N) per period; NaN where a beta is.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            When state, forecast and fit disagree.
        """
        fit = self._fitted("predict")
        require_agreement(state, factor_forecast)
        moved = self.premia(state).factor_premia - self._mean_premia(fit)
        return expected_returns(
            state, factor_forecast.factor_premia + moved, self.config.model_name
        )

    @abstractmethod
    def _learn(self, state: LatentFactorState) -> Estimated[FitT]:
        """Learn from a state."""

    @abstractmethod
    def _premia(self, fit: FitT, state: LatentFactorState) -> NDArray[np.float64]:
        """Conditional premia (T, K)."""

    @abstractmethod
    def _mean_premia(self, fit: FitT) -> NDArray[np.float64]:
        """Unconditional premia (K,)."""
