"""From weights of the discount factor to expected returns, by one regression."""

from __future__ import annotations

import os  # noqa: TC003 - public signatures stay readable at run time
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from ml4t.models.checks import require_shape, require_type
from ml4t.models.configs.pipeline import MapperConfig
from ml4t.models.lifecycle.estimator import Estimated, Fittable
from ml4t.models.panel.masks import require_returns
from ml4t.models.types import (
    AssetForecastResult,
    CrossSectionBatch,
    FitSummary,
    StochasticDiscountFactorState,
)

MAPPER = "linear_stochastic_discount_factor_return"


@dataclass(frozen=True, slots=True)
class LinearReturnFit:
    """Fitted parameters of `LinearStochasticDiscountFactorReturnMapper`.

    Attributes
    ----------
    intercept : float
        Return per period.
    slope : float
        Return per period for one unit of weight.
    """

    intercept: float
    slope: float


class LinearStochasticDiscountFactorReturnMapper(Fittable[MapperConfig, LinearReturnFit]):
    r"""Expected return as a line in the weight of the discount factor's portfolio.

    .. math:: E_t[R_{i,t+1}] = a + b\,w_{it}

    Examples
    --------
    >>> import numpy as np
    >>> from ml4t.models.types import CrossSectionBatch, StochasticDiscountFactorState
    >>> weights = np.array([[0.1, 0.3], [0.2, 0.0]])
    >>> batch = CrossSectionBatch(np.zeros((2, 2, 1)), returns=0.01 + 0.5 * weights)
    >>> mapper = LinearStochasticDiscountFactorReturnMapper()
    >>> summary = mapper.fit(StochasticDiscountFactorState(weights), batch)
    >>> {name: round(value, 6) for name, value in summary.train_metrics.items()}
    {'intercept': 0.01, 'slope': 0.5}
    """

    config_type: ClassVar[type] = MapperConfig
    fit_type: ClassVar[type] = LinearReturnFit

    def __init__(self) -> None:
        super().__init__(MapperConfig(MAPPER))

    def fit(self, state: StochasticDiscountFactorState, batch: CrossSectionBatch) -> FitSummary:
        """Regress returns on weights over all cells with both.

        Parameters
        ----------
        state : StochasticDiscountFactorState
            `asset_weights` (T, N).
        batch : CrossSectionBatch
            With returns (T, N) of the same cells.

        Returns
        -------
        FitSummary
            `train_metrics`: intercept and slope; both 0 with fewer than two cells.

        Raises
        ------
        ValueError
            When the batch has no returns, or they do not line up with the weights.
        """
        return self._run(lambda: _estimate(state, batch), state, batch)

    def predict(self, state: StochasticDiscountFactorState) -> AssetForecastResult:
        """Forecast the return per period, (T, N); NaN where the weight is."""
        fit = self._fitted("predict")
        require_type("state", state, StochasticDiscountFactorState)
        return AssetForecastResult(
            fit.intercept + fit.slope * state.asset_weights,
            timestamps=state.timestamps,
            asset_ids=state.asset_ids,
            metadata={"mapper": MAPPER},
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:  # type: ignore[override]
        """Read a file that `save` wrote; see `Fittable.load`."""
        return super().load(path)

    @classmethod
    def _from_config(cls, config: MapperConfig) -> Self:
        if config.model_name != MAPPER:
            raise ValueError(f"model_name must be {MAPPER!r}; got {config.model_name!r}")
        return cls()


def _estimate(
    state: StochasticDiscountFactorState, batch: CrossSectionBatch
) -> Estimated[LinearReturnFit]:
    require_type("state", state, StochasticDiscountFactorState)
    require_type("batch", batch, CrossSectionBatch)
    returns = require_returns("LinearStochasticDiscountFactorReturnMapper", batch.returns)
    require_shape("returns", state.asset_weights.shape, returns.shape, axes="(T, N)")
    usable = np.isfinite(returns) & np.isfinite(state.asset_weights)
    intercept = slope = 0.0
    if usable.sum() >= 2:
        weights = state.asset_weights[usable].astype(np.float64)
        design = np.column_stack([np.ones(len(weights)), weights])
        target = returns[usable].astype(np.float64)
        intercept, slope = (float(x) for x in np.linalg.lstsq(design, target, rcond=None)[0])
    metrics = {"intercept": intercept, "slope": slope}
    return Estimated(LinearReturnFit(intercept, slope), FitSummary(True, metrics))
