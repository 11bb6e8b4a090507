"""Models, forecasters and mappers joined into one fit and one forecast."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from ml4t.models.checks import require_items, require_mapping, require_methods
from ml4t.models.lifecycle import pipeline_file
from ml4t.models.lifecycle.parameters import Parameters
from ml4t.models.lifecycle.rollback import restored_on_failure
from ml4t.models.types import (
    FitSummary,
    LatentFactorPrediction,
    LatentFactorState,
    PortfolioPrediction,
    PortfolioSequenceBatch,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

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
    """Summaries of `LatentFactorForecastPipeline.fit`.

    Attributes
    ----------
    structural_fit : FitSummary
        Of the latent factor model.
    factor_forecast_fit : FitSummary
        Of the forecaster, on the model's default checkpoint.
    mapper_fit : FitSummary, optional
        Of the mapper, likewise, where it learns.
    """

    structural_fit: FitSummary
    factor_forecast_fit: FitSummary
    mapper_fit: FitSummary | None = None


class LatentFactorForecastPipeline(Parameters):
    """Realised factors from a model, premia from a forecaster, expected returns from a mapper.

    Parameters
    ----------
    model : LatentFactorModel
    forecaster : FactorForecaster
        Fitted on the factors of the training batch; for a model with checkpoints, once for each of
        them, so that a prediction at a checkpoint uses the premia of that checkpoint's factors.
    mapper : AssetMapper
        Fitted on the same factors, if it has a `fit`.

    Notes
    -----
    The `context_features` of the batch go into the state that forecaster and
    mapper see.
    """

    def __init__(
        self, model: LatentFactorModel, forecaster: FactorForecaster, mapper: AssetMapper
    ) -> None:
        self.model = require_methods("model", model, "extract")
        self.forecaster = require_methods("forecaster", forecaster, "predict")
        self.mapper = require_methods("mapper", mapper, "predict")
        self._at_checkpoint: dict[Any, tuple[FactorForecaster, AssetMapper]] = {}

    def __repr__(self) -> str:
        """Show the parts."""
        return f"{type(self).__name__}({self.model!r}, {self.forecaster!r}, {self.mapper!r})"

    def fit(
        self,
        batch: PanelBatch,
        *,
        validation_batch: PanelBatch | None = None,
        observed_factors: NDArray[Any] | None = None,
        start: Mapping[str, Any] | None = None,
    ) -> PipelineFitResult:
        """Fit the model, realise its factors on the same batch, fit the forecaster on them.

        Parameters
        ----------
        batch : PersistentPanelBatch or CrossSectionBatch
            What the model learns from.
        validation_batch : same kind, optional
            For models that validate.
        observed_factors : array_like, shape (T, M), optional
            For models that take them (`IPCAModel`); their premia are forecast like the others.
        start : mapping, optional
            Further keyword arguments of the model's fit, such as its `continued_from` gives.

        Returns
        -------
        PipelineFitResult

        Raises
        ------
        ValueError
            When the model does not take what is given. A failure leaves every part as it was.
        """
        given = _options(self.model.fit, validation_batch=validation_batch, **_start(start))
        observed = _options(self.model.fit, observed_factors=observed_factors)
        with restored_on_failure(self, self.model, self.forecaster, self.mapper):
            structural, state = self._fit_extract(batch, given, observed)
            result = PipelineFitResult(structural, *_fit_both(self.forecaster, self.mapper, state))
            at_checkpoint: dict[Any, tuple[FactorForecaster, AssetMapper]] = {}
            for checkpoint in self.model.available_checkpoints:
                state = self._extract(batch, checkpoint, **observed)
                at_checkpoint[checkpoint] = copy.copy(self.forecaster), copy.copy(self.mapper)
                _fit_both(*at_checkpoint[checkpoint], state)
            self._at_checkpoint = at_checkpoint
        return result

    def fit_forecast(
        self, state: LatentFactorState, structural_fit: FitSummary
    ) -> PipelineFitResult:
        """Fit the forecaster and mapper of a model that is fitted and has no checkpoints.

        Parameters
        ----------
        state : LatentFactorState
            What the model extracts from its training batch.
        structural_fit : FitSummary
            Summary of its fit, passed on.

        Returns
        -------
        PipelineFitResult

        Raises
        ------
        ValueError
            When the state lacks what a part needs. A failure leaves the parts as they were.
        """
        with restored_on_failure(self, self.forecaster, self.mapper):
            at_checkpoint = _fit_both(self.forecaster, self.mapper, state)
            self._at_checkpoint = {}
        return PipelineFitResult(structural_fit, *at_checkpoint)

    def predict(
        self,
        batch: PanelBatch,
        *,
        checkpoint: int | None = None,
        observed_factors: NDArray[Any] | None = None,
    ) -> LatentFactorPrediction:
        """Forecast the returns of the dates of `batch`.

        Parameters
        ----------
        batch : PersistentPanelBatch or CrossSectionBatch
            Returns are not needed.
        checkpoint : int, optional
            Of the model; its default where None.
        observed_factors : array_like, shape (T, M), optional
            Of these dates, where known: realised factors need them, forecasts do not.

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
        observed = _options(self.model.extract, observed_factors=observed_factors)
        state = self._extract(batch, checkpoint, **observed)
        forecaster, mapper = self._at_checkpoint.get(checkpoint, (self.forecaster, self.mapper))
        premia = forecaster.predict(state)
        return LatentFactorPrediction(state, premia, mapper.predict(state, premia))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write all parts into one file, whole or not at all.

        Raises
        ------
        RuntimeError
            Before a fit.
        TypeError
            When a part is not of this package.
        OSError
            When the target cannot be written; an existing file stays.
        """
        parts = {"model": self.model, "forecaster": self.forecaster, "mapper": self.mapper}
        for key, (forecaster, mapper) in self._at_checkpoint.items():
            parts |= {f"forecaster at {key}": forecaster, f"mapper at {key}": mapper}
        return pipeline_file.save(path, _model_type(type(self)), parts)

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
        families = {"model": "latent_factors", "forecaster": "forecasters", "mapper": "mappers"}
        parts = pipeline_file.load(path, _model_type(cls), families, device=device)
        try:
            pipeline = cls(parts.pop("model"), parts.pop("forecaster"), parts.pop("mapper"))
            pipeline._at_checkpoint = {
                key: (
                    parts.pop(f"forecaster at {key}"),
                    # Files from before mappers could learn have one for all.
                    parts.pop(f"mapper at {key}", pipeline.mapper),
                )
                for key in pipeline.model.available_checkpoints
            }
        except KeyError as error:
            raise ValueError(f"cannot load {path}: the part {error} is missing") from error
        if parts:
            raise ValueError(f"cannot load {path}: {min(parts)!r} is no part of a pipeline")
        return pipeline

    def _fit_extract(
        self, batch: PanelBatch, given: Mapping[str, Any], observed: Mapping[str, Any]
    ) -> tuple[FitSummary, LatentFactorState]:
        """Fit the model, and give what forecaster and mapper learn from."""
        fit_extract = getattr(self.model, "fit_extract", None)
        if fit_extract is None:
            summary = self.model.fit(batch, **given, **observed)
            return summary, self._extract(batch, None, **observed)
        summary, state = fit_extract(batch, **given, **observed)
        return summary, _with_context(state, batch)

    def _extract(
        self, batch: PanelBatch, checkpoint: int | None, **observed: Any
    ) -> LatentFactorState:
        state = self.model.extract(batch, checkpoint=checkpoint, **observed)
        return _with_context(state, batch)


def _with_context(state: LatentFactorState, batch: PanelBatch) -> LatentFactorState:
    """Add the context of the batch's dates, unless the state has some."""
    context = getattr(batch, "context_features", None)
    if context is None or state.context_features is not None:
        return state
    return replace(state, context_features=context)


def _model_type(kind: type) -> str:
    return f"ml4t.models.{kind.__name__}"


def _start(start: Any) -> dict[str, Any]:
    """Take the arguments of a model's fit that say where to start from."""
    return {} if start is None else dict(require_mapping("start", start))


def _options(method: Any, **given: Any) -> dict[str, Any]:
    """Keep the arguments that are given, or refuse one that a model's method does not take."""
    options = {name: value for name, value in given.items() if value is not None}
    for name in options.keys() - inspect.signature(method).parameters.keys():
        raise ValueError(
            f"{type(method.__self__).__name__}.{method.__name__}() does not accept {name}"
        )
    return options


def _fit_both(
    forecaster: FactorForecaster, mapper: AssetMapper, state: LatentFactorState
) -> tuple[FitSummary, FitSummary | None]:
    """Fit a forecaster, and a mapper if it learns."""
    learn = getattr(mapper, "fit", None)
    return forecaster.fit(state), None if learn is None else learn(state)


@dataclass(slots=True)
class PortfolioPipelineFitResult:
    """Summary of `PortfolioAllocationPipeline.fit`.

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
        self.model = require_methods("model", model, "predict")
        self.postprocessors = tuple(
            require_methods(f"postprocessors entry {i}", one, "transform")
            for i, one in enumerate(require_items("postprocessors", postprocessors))
        )

    def __repr__(self) -> str:
        """Show the parts."""
        return f"{type(self).__name__}({self.model!r}, postprocessors={self.postprocessors!r})"

    def fit(
        self,
        batch: PortfolioSequenceBatch,
        *,
        validation_batch: PortfolioSequenceBatch | None = None,
        start: Mapping[str, Any] | None = None,
    ) -> PortfolioPipelineFitResult:
        """Fit the model.

        Parameters
        ----------
        batch, validation_batch : PortfolioSequenceBatch
            As the model takes them.
        start : mapping, optional
            Further keyword arguments of the model's fit, such as its `continued_from` gives.

        Returns
        -------
        PortfolioPipelineFitResult
        """
        given = _options(self.model.fit, validation_batch=validation_batch, **_start(start))
        return PortfolioPipelineFitResult(self.model.fit(batch, **given))

    def predict(
        self, batch: PortfolioSequenceBatch, *, checkpoint: int | None = None
    ) -> PortfolioPrediction:
        """Predict weights, and postprocess them.

        Parameters
        ----------
        batch : PortfolioSequenceBatch
        checkpoint : int, optional
            Of the model; its default where None.

        Returns
        -------
        PortfolioPrediction
            The model's weights, and the postprocessed ones.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            When the checkpoint is not available, or no weights satisfy the constraints.
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
            When the target cannot be written; an existing file stays.
        """
        after = {f"postprocessor {i}": part for i, part in enumerate(self.postprocessors)}
        return pipeline_file.save(path, _model_type(type(self)), {"model": self.model} | after)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str | None = None) -> Self:
        """Read what `save` wrote; arguments and errors of `LatentFactorForecastPipeline.load`."""
        families = {"model": "portfolio", "postprocessor": "portfolio"}
        parts = pipeline_file.load(path, _model_type(cls), families, device=device)
        names = [f"postprocessor {i}" for i in range(len(parts) - 1)]
        if parts.keys() != {"model", *names}:
            raise ValueError(
                f"cannot load {path}: an allocation pipeline holds a model and postprocessors; "
                f"got {sorted(parts)}"
            )
        postprocessors = [parts[name] for name in names]
        if not all(hasattr(one, "transform") for one in postprocessors):
            raise ValueError(f"cannot load {path}: a postprocessor must have transform")
        return cls(parts["model"], postprocessors=postprocessors)
