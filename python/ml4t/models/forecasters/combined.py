"""The premium as the mean of several forecasts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ml4t.models.configs import (
    AR1ForecasterConfig,
    CombinedForecasterConfig,
    EWMABaseForecasterConfig,
    ExpandingMeanForecasterConfig,
    MacroForecasterConfig,
    VAR1ForecasterConfig,
)
from ml4t.models.forecasters.ar import AR1FactorForecaster, AR1Fit
from ml4t.models.forecasters.base import BaseFactorForecaster
from ml4t.models.forecasters.ewma import EWMABaseFactorForecaster, EWMAFit
from ml4t.models.forecasters.macro import MacroFactorForecaster, MacroFit
from ml4t.models.forecasters.mean import ExpandingMeanFactorForecaster, ExpandingMeanFit
from ml4t.models.forecasters.var import VAR1FactorForecaster, VAR1Fit
from ml4t.models.lifecycle.estimator import Estimated
from ml4t.models.types import FitSummary, LatentFactorState

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FORECASTERS: dict[type, type[BaseFactorForecaster[Any, Any]]] = {
    AR1ForecasterConfig: AR1FactorForecaster,
    EWMABaseForecasterConfig: EWMABaseFactorForecaster,
    ExpandingMeanForecasterConfig: ExpandingMeanFactorForecaster,
    MacroForecasterConfig: MacroFactorForecaster,
    VAR1ForecasterConfig: VAR1FactorForecaster,
}


@dataclass(frozen=True, slots=True)
class CombinedFit:
    """Fitted parameters of `CombinedFactorForecaster`.

    Attributes
    ----------
    members : tuple of fits
        In the order of the settings.
    """

    members: tuple[AR1Fit | EWMAFit | ExpandingMeanFit | MacroFit | VAR1Fit, ...]

    def __post_init__(self) -> None:
        """Reject members of different numbers of factors; `load` relies on it."""
        # Every fit begins with one number for each factor.
        sizes = {getattr(one, fields(one)[0].name).size for one in self.members}
        if len(sizes) > 1:
            raise ValueError(f"members must be of the same factors; got {sorted(sizes)} factors")


class CombinedFactorForecaster(BaseFactorForecaster[CombinedForecasterConfig, CombinedFit]):
    r"""Forecast by a weighted mean of forecasters.

    .. math:: \hat x_t = \sum_m w_m \hat x^{(m)}_t

    Parameters
    ----------
    config : CombinedForecasterConfig, optional
        `members`, the settings of the forecasters, and their `weights`.

    References
    ----------
    Rapach, Strauss and Zhou (2010), Out-of-sample equity premium prediction: combination forecasts
    and links to the real economy, RFS 23(2).

    Examples
    --------
    >>> import numpy as np
    >>> from ml4t.models.configs import EWMABaseForecasterConfig, ExpandingMeanForecasterConfig
    >>> from ml4t.models.types import LatentFactorState
    >>> members = (ExpandingMeanForecasterConfig(), EWMABaseForecasterConfig(half_life=1.0))
    >>> forecaster = CombinedFactorForecaster(CombinedForecasterConfig(members=members))
    >>> past = LatentFactorState(np.ones((2, 1, 1)), factor_returns=[[0.0], [0.04]])
    >>> _ = forecaster.fit(past)
    >>> forecaster.predict(LatentFactorState(np.ones((1, 1, 1)))).factor_premia
    array([[0.02]])
    """

    config_type: ClassVar[type] = CombinedForecasterConfig
    fit_type: ClassVar[type] = CombinedFit

    @classmethod
    def _require_settings(cls, config: CombinedForecasterConfig, fit: CombinedFit) -> None:
        wanted = tuple(_FORECASTERS[type(one)].fit_type for one in config.members)
        if tuple(map(type, fit.members)) != wanted:
            raise ValueError(
                f"members must be {', '.join(one.__name__ for one in wanted)}; "
                f"got {', '.join(type(one).__name__ for one in fit.members)}"
            )

    def _learn(self, state: LatentFactorState) -> Estimated[CombinedFit]:
        estimated = [member._learn(state) for member in self._members()]
        notes = tuple(note for one in estimated for note in one.summary.notes)
        metrics = {"n_members": float(len(estimated))}
        summary = FitSummary(converged=True, train_metrics=metrics, notes=notes)
        return Estimated(CombinedFit(tuple(one.fit for one in estimated)), summary)

    def _forecast(self, fit: CombinedFit, state: LatentFactorState) -> NDArray[np.float64]:
        forecasts = [
            member._forecast(part, state)
            for member, part in zip(self._members(), fit.members, strict=True)
        ]
        weights = np.array(self.config.weights or (1.0,) * len(forecasts))
        return np.tensordot(weights / weights.sum(), np.array(forecasts), axes=1)

    def _members(self) -> list[BaseFactorForecaster[Any, Any]]:
        return [_FORECASTERS[type(one)](one) for one in self.config.members]
