"""A model as small as one can be: the mean return of every asset."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ml4t.models.checks import NOT_FINITE_IS_A_RESULT, require_shape
from ml4t.models.configs import PCAConfig
from ml4t.models.lifecycle.estimator import Estimated, Fittable
from ml4t.models.types import FitSummary, PersistentPanelBatch

__all__ = [
    "MeanFit",
    "MeanModel",
    "OtherModel",
    "PCAConfig",
    "Spread",
    "fitted",
    "panel",
    "replace",
]


@dataclass(frozen=True, slots=True)
class Spread:
    low: float = field(metadata=NOT_FINITE_IS_A_RESULT)
    high: float = field(metadata=NOT_FINITE_IS_A_RESULT)


@dataclass(frozen=True, slots=True)
class MeanFit:
    mean: NDArray[np.float32] | NDArray[np.float64]
    n_observed: NDArray[np.int64]
    spreads: tuple[Spread, ...]
    by_label: dict[tuple[str, int], dict[str, NDArray[np.float64]]]
    last: NDArray[np.float64] | None
    asset_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        (n_assets,) = self.mean.shape
        require_shape("n_observed", (n_assets,), self.n_observed.shape)
        if self.asset_ids:
            require_shape("asset_ids", (n_assets,), (len(self.asset_ids),))


class MeanModel(Fittable[PCAConfig, MeanFit]):
    config_type: ClassVar[type] = PCAConfig
    fit_type: ClassVar[type] = MeanFit
    # What tests hook in to make an estimation fail or wait.
    before_end: ClassVar[object] = None

    def fit(self, batch: PersistentPanelBatch) -> FitSummary:
        return self._run(lambda: self._estimate(batch), batch)

    def predict(self) -> NDArray[np.float64]:
        return self._fitted("predict").mean * 2.0

    def _estimate(self, batch: PersistentPanelBatch) -> Estimated[MeanFit]:
        if batch.returns is None:
            raise ValueError("MeanModel requires returns; the batch has none")
        if callable(self.before_end):
            self.before_end()
        mean = np.nanmean(batch.returns, axis=0).astype(self.config.dtype)
        fit = MeanFit(
            mean=mean,
            n_observed=np.isfinite(batch.returns).sum(axis=0),
            spreads=(Spread(float(mean.min()), float(mean.max())), Spread(-np.inf, np.nan)),
            by_label={("mean", 3): {"a.b": np.arange(6.0).reshape(2, 3).T}, ("sd", -1): {}},
            last=batch.returns[-1].astype(float),
            asset_ids=batch.asset_ids,
        )
        return Estimated(fit, FitSummary(True, train_metrics={"n_dates": len(batch.returns)}))


class OtherModel(MeanModel):
    """The same under another name."""


def panel(seed: int = 0, n_dates: int = 12, n_assets: int = 4) -> PersistentPanelBatch:
    rng = np.random.default_rng(seed)
    returns = 0.01 * rng.standard_normal((n_dates, n_assets))
    returns[3, 1] = np.nan
    ids = tuple(f"secret-{i}" for i in range(n_assets))
    return PersistentPanelBatch(returns, asset_ids=ids, metadata={"owner": "secret"})


def fitted(seed: int = 0, **config: object) -> MeanModel:
    model = MeanModel(PCAConfig(**{"n_factors": 3} | config))
    model.fit(panel(seed))
    return model
