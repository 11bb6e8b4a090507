"""Protocols of models, forecasters and mappers: the methods that pipelines call."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from ml4t.models.types import (
    AssetForecastResult,
    AssetSignalResult,
    CrossSectionBatch,
    FactorForecastResult,
    FitRunRecord,
    FitSummary,
    LatentFactorState,
    PersistentPanelBatch,
    PortfolioSequenceBatch,
    PortfolioWeightsResult,
    StochasticDiscountFactorState,
)

__all__ = [
    "AssetMapper",
    "AssetPredictionModel",
    "FactorForecaster",
    "LatentFactorModel",
    "PortfolioModel",
    "PortfolioPostprocessor",
    "StochasticDiscountFactorEstimator",
]

PanelBatch: TypeAlias = PersistentPanelBatch | CrossSectionBatch


class _Fits(Protocol):
    @property
    def is_fitted(self) -> bool:
        """Whether a fit has succeeded."""
        ...

    @property
    def last_fit_record(self) -> FitRunRecord | None:
        """How the last fit ran, also when it failed."""
        ...


class _Checkpointed(_Fits, Protocol):
    @property
    def available_checkpoints(self) -> tuple[int, ...]:
        """Checkpoints of the fit."""
        ...


class LatentFactorModel(_Checkpointed, Protocol):
    """Learns factors and exposures from a panel.

    A model takes the kind of `PanelBatch` it is made for; the hint is Any, so that a model that
    asks for one kind is a `LatentFactorModel` to a type checker as well.
    """

    def fit(self, batch: Any) -> FitSummary:
        """Learn from a batch with returns."""
        ...

    def extract(self, batch: Any, *, checkpoint: int | None = None) -> LatentFactorState:
        """Return the exposures of the batch, and its realised factors if it has returns."""
        ...


class FactorForecaster(_Fits, Protocol):
    """Learns expected factor returns from realised ones."""

    def fit(self, state: LatentFactorState) -> FitSummary:
        """Learn from realised factors."""
        ...

    def predict(self, state: LatentFactorState) -> FactorForecastResult:
        """Forecast the premia of every date of the state."""
        ...


class AssetMapper(Protocol):
    """Turns exposures and factor premia into expected returns of assets.

    One that learns has `fit(state) -> FitSummary` as well; a pipeline calls it.
    """

    def predict(
        self, state: LatentFactorState, factor_forecast: FactorForecastResult
    ) -> AssetForecastResult:
        """Forecast the returns of every asset of the state."""
        ...


class PortfolioModel(_Checkpointed, Protocol):
    """Learns weights from windows of features."""

    def fit(
        self,
        batch: PortfolioSequenceBatch,
        *,
        validation_batch: PortfolioSequenceBatch | None = None,
    ) -> FitSummary:
        """Learn from windows with returns."""
        ...

    def predict(
        self, batch: PortfolioSequenceBatch, *, checkpoint: int | None = None
    ) -> PortfolioWeightsResult:
        """Choose the weights of every window."""
        ...


class PortfolioPostprocessor(Protocol):
    """Applies constraints to weights."""

    def transform(
        self, batch: PortfolioSequenceBatch, weights: PortfolioWeightsResult
    ) -> PortfolioWeightsResult:
        """Return the constrained weights."""
        ...


class AssetPredictionModel(_Checkpointed, Protocol):
    """Learns signals of assets from their characteristics."""

    def fit(
        self, batch: CrossSectionBatch, *, validation_batch: CrossSectionBatch | None = None
    ) -> FitSummary:
        """Learn from a batch with returns."""
        ...

    def predict(
        self, batch: CrossSectionBatch, *, checkpoint: int | None = None
    ) -> AssetSignalResult:
        """Return the signal of every asset at every date."""
        ...


class StochasticDiscountFactorEstimator(Protocol):
    """Learns a stochastic discount factor from a cross-section."""

    @property
    def available_checkpoints(self) -> tuple[tuple[str, int], ...]:
        """Labels of the fit's checkpoints: phase and epoch."""
        ...

    def fit(self, batch: CrossSectionBatch) -> FitSummary:
        """Learn from a batch with returns."""
        ...

    def extract(
        self, batch: CrossSectionBatch, *, checkpoint: tuple[str, int] | int | None = None
    ) -> StochasticDiscountFactorState:
        """Return the weights of the batch, and its realised discount factor if it has returns."""
        ...
