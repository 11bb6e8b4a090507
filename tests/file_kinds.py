"""One small object of every kind of file that the package writes, with what reads it back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import tiny
from ml4t.models import (
    BetaLambdaMapper,
    CharacteristicMoments,
    ExpandingMeanFactorForecaster,
    LatentFactorForecastPipeline,
    LinearFeaturePortfolioModel,
    LinearPortfolioConfig,
    PCAConfig,
    PCAModel,
    PortfolioAllocationPipeline,
)
from ml4t.models.configs import ExpandingMeanForecasterConfig
from ml4t.models.integration import predictions_frame_from_asset_forecast
from ml4t.models.types import (
    AssetForecastResult,
    CrossSectionBatch,
    PersistentPanelBatch,
    PortfolioSequenceBatch,
)


@dataclass(frozen=True)
class Kind:
    """How an object is written, and what is read again."""

    write: Callable[[Path], Path]
    load: Callable[[Path], Any]


def moments(n_dates: int = 3) -> CharacteristicMoments:
    rng = np.random.default_rng(0)
    batch = CrossSectionBatch(
        characteristics=rng.normal(size=(n_dates, 6, 2)),
        returns=rng.normal(size=(n_dates, 6)),
        timestamps=tuple(f"2001-01-{day + 1:02d}" for day in range(n_dates)),
    )
    return CharacteristicMoments.from_batch(batch)


def pipeline() -> LatentFactorForecastPipeline:
    made = LatentFactorForecastPipeline(
        PCAModel(PCAConfig(n_factors=2)),
        ExpandingMeanFactorForecaster(ExpandingMeanForecasterConfig()),
        BetaLambdaMapper(),
    )
    made.fit(PersistentPanelBatch(returns=np.random.default_rng(0).normal(size=(12, 4))))
    return made


def allocation() -> PortfolioAllocationPipeline:
    rng = np.random.default_rng(0)
    made = PortfolioAllocationPipeline(LinearFeaturePortfolioModel(LinearPortfolioConfig()))
    made.fit(
        PortfolioSequenceBatch(
            features=rng.normal(size=(2, 5, 4, 3)), returns=rng.normal(size=(2, 5, 4))
        )
    )
    return made


def frame(value: float = 1.0) -> Any:
    return predictions_frame_from_asset_forecast(AssetForecastResult(np.full((3, 2), value)))


@cache
def run_state() -> Any:
    """Capture a training of two networks' worth of state after its first epoch."""
    from ml4t.models import CAEConfig, CAEModel  # noqa: PLC0415 - torch is optional
    from ml4t.models.training.callbacks import Callback  # noqa: PLC0415

    class Keep(Callback):
        state: Any = None

        def on_epoch(self, event: Any) -> None:
            self.state = event.capture()

    rng, keep = np.random.default_rng(0), Keep()
    CAEModel(CAEConfig(n_factors=1, n_epochs=1, hidden_units=(2,))).fit(
        CrossSectionBatch(
            characteristics=rng.normal(size=(3, 5, 2)), returns=rng.normal(size=(3, 5))
        ),
        callbacks=[keep],
    )
    return keep.state


def kinds() -> dict[str, Kind]:
    """Name every kind; the run state only with torch."""
    found = {
        "model": Kind(tiny.fitted().save, tiny.MeanModel.load),
        "pipeline": Kind(pipeline().save, LatentFactorForecastPipeline.load),
        "allocation": Kind(allocation().save, PortfolioAllocationPipeline.load),
        "moments": Kind(moments().save, CharacteristicMoments.load),
        "frame": Kind(frame().write_parquet, lambda path: pl.read_parquet(path, glob=False)),
    }
    try:
        from ml4t.models.training.run_state import RunState  # noqa: PLC0415 - torch is optional
    except ImportError:
        return found
    return found | {"run state": Kind(lambda path: run_state().save(path), RunState.load)}
