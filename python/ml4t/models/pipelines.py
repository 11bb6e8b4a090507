"""Models, forecasters and mappers joined into one fit and one forecast."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ml4t.models.lifecycle import bundle
from ml4t.models.lifecycle.params import Parameters
from ml4t.models.lifecycle.rollback import restored_on_failure
from ml4t.models.types import (
    FitSummary,
    LatentFactorPrediction,
    PortfolioPrediction,
    PortfolioSequenceBatch,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from ml4t.models.api import (
        AssetMapper,
        FactorForecaster,
        LatentFactorModel,
        PanelBatch,
        PortfolioModel,
        PortfolioPostprocessor,
    )

__all__ = [
    "LatentFactorForecastPipeline",
    "PipelineFitResult",
    "PortfolioAllocationPipeline",
    "PortfolioPipelineFitResult",
]


@dataclass(slots=True)
class PipelineFitResult:
    """What `LatentFactorForecastPipeline.fit` reports.

    Attributes
    ----------
    structural_fit : FitSummary
        Of the latent factor model.
    factor_forecast_fit : FitSummary
        Of the forecaster, on the model's default checkpoint.
    """

    structural_fit: FitSummary
    factor_forecast_fit: FitSummary


class LatentFactorForecastPipeline(Parameters):
    """Realised factors from a model, premia from a forecaster, expected returns from a mapper.

    Parameters
    ----------
    model : LatentFactorModel
    forecaster : FactorForecaster
        Fitted on the factors of the training batch; for a model with checkpoints, once for each of
        them, so that a prediction at a checkpoint uses the premia of that checkpoint's factors.
    mapper : AssetMapper
    """

    def __init__(
        self, model: LatentFactorModel, forecaster: FactorForecaster, mapper: AssetMapper
    ) -> None:
        self.model = model
        self.forecaster = forecaster
        self.mapper = mapper
        self._forecasters: dict[Any, FactorForecaster] = {}

    def __repr__(self) -> str:
        """Show the parts."""
        return f"{type(self).__name__}({self.model!r}, {self.forecaster!r}, {self.mapper!r})"

    def fit(
        self, batch: PanelBatch, *, validation_batch: PanelBatch | None = None
    ) -> PipelineFitResult:
        """Fit the model, realise its factors on the same batch, fit the forecaster on them.

        Parameters
        ----------
        batch : PersistentPanelBatch or CrossSectionBatch
            What the model learns from.
        validation_batch : same kind, optional
            For models that validate.

        Returns
        -------
        PipelineFitResult

        Raises
        ------
        ValueError
            When `validation_batch` is given and the model takes none; whatever the parts raise. A
            failure leaves every part as it was fitted before.
        """
        validation = {} if validation_batch is None else {"validation_batch": validation_batch}
        if validation and "validation_batch" not in inspect.signature(self.model.fit).parameters:
            raise ValueError(
                f"validation_batch must be None: {type(self.model).__name__} does not validate"
            )
        with restored_on_failure(self.model, self.forecaster):
            structural = self.model.fit(batch, **validation)
            forecast = self.forecaster.fit(self.model.extract(batch))
            forecasters: dict[Any, FactorForecaster] = {}
            for checkpoint in self.model.available_checkpoints:
                forecasters[checkpoint] = copy.copy(self.forecaster)
                forecasters[checkpoint].fit(self.model.extract(batch, checkpoint=checkpoint))
        self._forecasters = forecasters
        return PipelineFitResult(structural, forecast)

    def predict(
        self, batch: PanelBatch, *, checkpoint: int | None = None
    ) -> LatentFactorPrediction:
        """Forecast the returns of the dates of `batch`.

        Parameters
        ----------
        batch : PersistentPanelBatch or CrossSectionBatch
            Returns are not needed.
        checkpoint : int, optional
            Of the model; its default where None.

        Returns
        -------
        LatentFactorPrediction
            Exposures (with realised factors where the batch has returns), premia, expected returns.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            When the checkpoint is not available.
        """
        state = self.model.extract(batch, checkpoint=checkpoint)
        forecaster = self._forecasters.get(checkpoint, self.forecaster)
        premia = forecaster.predict(state)
        return LatentFactorPrediction(state, premia, self.mapper.predict(state, premia))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write all parts into one file, whole or not at all.

        Raises
        ------
        RuntimeError
            Before a fit.
        TypeError
            When a part is not of this package.
        OSError
            When the target cannot be written; what was there stays.
        """
        parts = {"model": self.model, "forecaster": self.forecaster, "mapper": self.mapper}
        at = {f"forecaster at {key}": part for key, part in self._forecasters.items()}
        return bundle.save(path, self._model_type(), parts | at)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str | None = None) -> Self:
        """Read what `save` wrote; the predictions are the same bit for bit.

        Parameters
        ----------
        path : path-like
        device : str, optional
            Instead of the stored one.

        Raises
        ------
        FileNotFoundError
            When there is no such file.
        ValueError
            When the file is damaged, of another class, or not understood in full.
        """
        parts = bundle.load(path, cls._model_type(), device=device)
        try:
            pipeline = cls(parts.pop("model"), parts.pop("forecaster"), parts.pop("mapper"))
            pipeline._forecasters = {
                key: parts.pop(f"forecaster at {key}")
                for key in pipeline.model.available_checkpoints
            }
        except KeyError as error:
            raise ValueError(f"cannot load {path}: the part {error} is missing") from error
        if parts:
            raise ValueError(f"cannot load {path}: {min(parts)!r} is no part of a pipeline")
        return pipeline

    @classmethod
    def _model_type(cls) -> str:
        return f"ml4t.models.{cls.__name__}"


@dataclass(slots=True)
class PortfolioPipelineFitResult:
    """What `PortfolioAllocationPipeline.fit` reports.

    Attributes
    ----------
    model_fit : FitSummary
    """

    model_fit: FitSummary


class PortfolioAllocationPipeline(Parameters):
    """Weights from a model, then postprocessors from left to right.

    Parameters
    ----------
    model : PortfolioModel
    postprocessors : sequence of PortfolioPostprocessor, default ()
    """

    def __init__(
        self, model: PortfolioModel, *, postprocessors: Sequence[PortfolioPostprocessor] = ()
    ) -> None:
        self.model = model
        self.postprocessors = tuple(postprocessors)

    def __repr__(self) -> str:
        """Show the parts."""
        return f"{type(self).__name__}({self.model!r}, postprocessors={self.postprocessors!r})"

    def fit(
        self,
        batch: PortfolioSequenceBatch,
        *,
        validation_batch: PortfolioSequenceBatch | None = None,
    ) -> PortfolioPipelineFitResult:
        """Fit the model.

        Parameters
        ----------
        batch, validation_batch : PortfolioSequenceBatch
            As the model takes them.

        Returns
        -------
        PortfolioPipelineFitResult
        """
        return PortfolioPipelineFitResult(self.model.fit(batch, validation_batch=validation_batch))

    def predict(
        self, batch: PortfolioSequenceBatch, *, checkpoint: int | None = None
    ) -> PortfolioPrediction:
        """Choose weights and make them obey.

        Parameters
        ----------
        batch : PortfolioSequenceBatch
        checkpoint : int, optional
            Of the model; its default where None.

        Returns
        -------
        PortfolioPrediction
            The model's weights, and what the postprocessors made of them.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            When the checkpoint is not available, or no weights obey.
        """
        raw = self.model.predict(batch, checkpoint=checkpoint)
        processed = raw
        for postprocessor in self.postprocessors:
            processed = postprocessor.transform(batch, processed)
        return PortfolioPrediction(raw, processed)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the model and the postprocessors into one file, whole or not at all.

        Raises
        ------
        RuntimeError
            Before a fit.
        TypeError
            When a part is not of this package.
        OSError
            When the target cannot be written; what was there stays.
        """
        after = {f"postprocessor {i}": part for i, part in enumerate(self.postprocessors)}
        return bundle.save(path, self._model_type(), {"model": self.model} | after)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str | None = None) -> Self:
        """Read what `save` wrote; the predictions are the same bit for bit.

        Parameters
        ----------
        path : path-like
        device : str, optional
            Instead of the stored one.

        Raises
        ------
        FileNotFoundError
            When there is no such file.
        ValueError
            When the file is damaged, of another class, or not understood in full.
        """
        parts = bundle.load(path, cls._model_type(), device=device)
        names = [f"postprocessor {i}" for i in range(len(parts) - 1)]
        if parts.keys() != {"model", *names}:
            raise ValueError(
                f"cannot load {path}: an allocation pipeline holds a model and postprocessors; "
                f"got {sorted(parts)}"
            )
        return cls(parts["model"], postprocessors=[parts[name] for name in names])

    @classmethod
    def _model_type(cls) -> str:
        return f"ml4t.models.{cls.__name__}"
