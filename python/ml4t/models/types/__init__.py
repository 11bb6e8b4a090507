"""Batches that go into models, results that come out, and reports of fits."""

from ml4t.models.types.batches import (
    CrossSectionBatch,
    PersistentPanelBatch,
    PortfolioSequenceBatch,
)
from ml4t.models.types.record import FitRunRecord, FitSummary
from ml4t.models.types.results import (
    AssetForecastResult,
    AssetSignalResult,
    AssetWeightsResult,
    FactorForecastResult,
    LatentFactorPrediction,
    LatentFactorState,
    PortfolioPrediction,
    PortfolioWeightsResult,
    StochasticDiscountFactorState,
)

__all__ = [
    "AssetForecastResult",
    "AssetSignalResult",
    "AssetWeightsResult",
    "CrossSectionBatch",
    "FactorForecastResult",
    "FitRunRecord",
    "FitSummary",
    "LatentFactorPrediction",
    "LatentFactorState",
    "PersistentPanelBatch",
    "PortfolioPrediction",
    "PortfolioSequenceBatch",
    "PortfolioWeightsResult",
    "StochasticDiscountFactorState",
]
