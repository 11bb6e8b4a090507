"""One fold: estimate on its window, predict each date from what was known before it.

No date is predicted in the sight of its own return. Every prediction gets a batch of its own that
ends with that date and in which the returns of the date, and of as many before it as the embargo
says, are missing; realised factors are added to the result afterwards, from a second extraction.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml4t.models.latent_factors import IPCAModel
from ml4t.models.latent_factors.base import BaseLatentFactorModel, StablePanelModel
from ml4t.models.moments.characteristic_moments import CharacteristicMoments
from ml4t.models.pipelines import (
    LatentFactorForecastPipeline,
    PipelineFitResult,
    PortfolioAllocationPipeline,
)
from ml4t.models.types import (
    CrossSectionBatch,
    LatentFactorPrediction,
    LatentFactorState,
    PersistentPanelBatch,
    PortfolioSequenceBatch,
    StochasticDiscountFactorState,
)
from ml4t.models.walk_forward import universe
from ml4t.models.walk_forward.spans import Data, date_named, hidden, joined, labelled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ml4t.models.walk_forward.schedule import Fold


@dataclass(frozen=True, slots=True)
class Course:
    """What all folds share.

    Attributes
    ----------
    model : estimator or pipeline
        Copied for every fold.
    training : Data
        What estimations are cut from: the data, or its moments where they are enough.
    data : Data
        What is predicted.
    warm_start : bool
    fitted : dict
        Estimators and their summaries by window, where all windows were fitted together.
    observed : ndarray, shape (T, M), or None
        Observed factors of IPCA, return per period.
    """

    model: Any
    training: Data
    data: Data
    warm_start: bool
    fitted: dict[tuple[int, int], tuple[Any, Any]] = field(default_factory=dict)
    observed: NDArray[np.float64] | None = None

    @classmethod
    def of(
        cls,
        model: Any,
        data: Data,
        *,
        warm_start: bool,
        observed: NDArray[np.float64] | None = None,
    ) -> Course:
        """Take the moments once if the model needs no more."""
        training: Data = data
        estimator = estimator_of(model)
        if isinstance(estimator, IPCAModel) and isinstance(data, CrossSectionBatch):
            unnamed = replace(data, timestamps=())
            config = estimator.config
            training = CharacteristicMoments.from_batch(
                unnamed, dtype=config.dtype, missing=config.missing
            )
        if observed is not None and not isinstance(estimator, IPCAModel):
            raise ValueError(
                f"observed_factors must be None: {type(estimator).__name__} takes none; IPCA does"
            )
        return cls(model, training, data, warm_start, observed=observed)

    def observed_span(self, start: int, stop: int) -> dict[str, Any]:
        """Give the observed factors of these dates as a keyword argument, where there are any."""
        return {} if self.observed is None else {"observed_factors": self.observed[start:stop]}

    def part(self, start: int, stop: int) -> Course:
        """Cut a course, for workers that need not see the rest."""
        training, data = self.training.slice(start, stop), self.data.slice(start, stop)
        fitted = {
            (first - start, last - start): found
            for (first, last), found in self.fitted.items()
            if start <= first and last <= stop
        }
        observed = None if self.observed is None else self.observed[start:stop]
        return replace(self, training=training, data=data, fitted=fitted, observed=observed)

    def with_windows(self, folds: Sequence[Fold]) -> Course:
        """Fit all windows together, where a model can and warm starts are wanted."""
        estimator = estimator_of(self.model)
        if not (self.warm_start and isinstance(estimator, StablePanelModel)):
            return self
        if not isinstance(self.training, PersistentPanelBatch):
            return self  # and let the model refuse it
        groups: dict[tuple[int, ...] | None, list[tuple[int, int]]] = {}
        for fold in folds:
            window = (fold.train_start, fold.train_stop)
            columns = universe.taking_part(estimator, self.training, *window)
            key = None if columns is None else tuple(columns.tolist())
            groups.setdefault(key, []).append(window)
        fitted: dict[tuple[int, int], tuple[Any, Any]] = {}
        for key, windows in groups.items():
            panel = self.training
            if key is not None:
                panel = universe.narrowed(panel, np.array(key))
            fitted |= dict(zip(windows, estimator.fit_windows(panel, windows), strict=True))
        return replace(self, fitted=fitted)

    def of_window(self, fold: Fold) -> tuple[Course, NDArray[np.intp] | None]:
        """Give the course of the assets that take part in a fold, and their columns (or None)."""
        window = (fold.train_start, fold.train_stop)
        columns = universe.taking_part(estimator_of(self.model), self.training, *window)
        if columns is None:
            return self, None
        training: Any = self.training
        data: Any = self.data
        training, data = (universe.narrowed(panel, columns) for panel in (training, data))
        return replace(self, training=training, data=data), columns


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a fold gave.

    Attributes
    ----------
    fold : Fold
    model : estimator or pipeline
        Fitted.
    summary : FitSummary or fit result of the pipeline
    result : object
        For the dates of the fold, without labels, factors as the fit made them.
    """

    fold: Fold
    model: Any
    summary: Any
    result: Any


def estimator_of(model: Any) -> Any:
    """Find the estimator inside a pipeline."""
    pipelines = (LatentFactorForecastPipeline, PortfolioAllocationPipeline)
    return model.model if isinstance(model, pipelines) else model


def work_fold(course: Course, fold: Fold, previous: Any) -> Outcome:
    """Fit a copy of the model on the fold's window and predict the fold's dates."""
    own, columns = course.of_window(fold)
    outcome = _worked(own, fold, previous)
    if columns is None:
        return outcome
    data: Any = course.data
    return replace(
        outcome,
        summary=universe.noted(outcome.summary, data, columns),
        result=universe.widened(outcome.result, columns, data.n_assets),
    )


def _worked(course: Course, fold: Fold, previous: Any) -> Outcome:
    model = copy.deepcopy(course.model)
    known = course.fitted.get((fold.train_start, fold.train_stop))
    if known is None:
        summary = _fit(model, course, fold, previous if course.warm_start else None)
    elif estimator_of(model) is model:
        model, summary = known
    else:
        model.model, summary = known
        summary = _completed(model, course, fold, summary)
    parts = [
        _predicted(model, course, fold, date)
        for date in range(fold.predict_start, fold.predict_stop)
    ]
    result = _with_realised(model, course, fold, joined(parts))
    return Outcome(fold, model, summary, labelled(result, (), ()))


def loadings(outcome: Outcome, course: Course, fold: Fold) -> NDArray[Any] | None:
    """Give loadings (rows, K) by which factors are recognised; None for a model without factors.

    Gamma where there is one, else the exposures at the last date of the window of `fold`; NaN for
    assets that the outcome left out.
    """
    model = outcome.model
    estimator = estimator_of(model)
    if isinstance(estimator, IPCAModel):
        return estimator.gamma
    if not hasattr(getattr(estimator, "config", None), "n_factors"):
        return None
    own, columns = course.of_window(outcome.fold)
    found = exposures_at(model, own, fold.train_stop - 1)
    if columns is None or found is None:
        return found
    whole = np.full((course.data.n_assets, found.shape[1]), np.nan)
    whole[columns] = found
    return whole


def exposures_at(model: Any, course: Course, date: int) -> NDArray[Any] | None:
    """Exposures (N, K) of one date, where the model extracts any."""
    state = estimator_of(model).extract(hidden(course.data.slice(date, date + 1), 1))
    return state.asset_betas[0] if isinstance(state, LatentFactorState) else None


def _fit(model: Any, course: Course, fold: Fold, previous: Any) -> Any:
    estimator, before = estimator_of(model), estimator_of(previous)
    window: Any = course.training.slice(fold.train_start, fold.train_stop)
    options = {} if before is None else _continued(estimator, before)
    options |= course.observed_span(fold.train_start, fold.train_stop)
    if estimator is model:
        return model.fit(window, **options)
    if not isinstance(estimator, IPCAModel):
        return model.fit(window, **({"start": options} if options else {}))
    return _completed(model, course, fold, estimator.fit(window, **options))


def _completed(
    model: LatentFactorForecastPipeline, course: Course, fold: Fold, summary: Any
) -> PipelineFitResult:
    """Fit what stands behind the fitted estimator of a pipeline."""
    window = course.training.slice(fold.train_start, fold.train_stop)
    # Moments know nothing of the context of their dates; the batch they came from does.
    context = getattr(course.data, "context_features", None)
    if context is not None:
        context = context[fold.train_start : fold.train_stop]
    observed = course.observed_span(fold.train_start, fold.train_stop)
    state = replace(model.model.extract(window, **observed), context_features=context)
    return model.fit_forecast(state, summary)


def _continued(estimator: Any, before: Any) -> dict[str, Any]:
    """Ask an estimator how its fit goes on from a former one; most begin anew."""
    if isinstance(before, IPCAModel):
        fit = before._fitted("a warm start")
        return {"start": np.hstack([fit.gamma, fit.gamma_observed])}
    continues = getattr(estimator, "continued_from", None)
    options: dict[str, Any] = {} if continues is None else continues(before)
    return options


def _predicted(model: Any, course: Course, fold: Fold, date: int) -> Any:
    """Predict one date in a batch in which its return is missing."""
    data = course.data
    # What carries a state through time starts where its training did, all else after it; a model
    # that sees each date alone need not predict any other.
    first = fold.train_start if _carries(model, data) else fold.train_stop
    if getattr(estimator_of(model), "sees_each_date_alone", False):
        first = date
    known = hidden(data.slice(first, date + 1), 1 + fold.predict_start - fold.train_stop)
    if isinstance(model, PortfolioAllocationPipeline):
        model = PortfolioAllocationPipeline(model.model)  # the walk holds one book, made later
    with date_named(data, date):
        answer = model.predict(known) if hasattr(model, "predict") else model.extract(known)
    return answer.slice(date - first, date - first + 1)


def _carries(model: Any, data: Data) -> bool:
    """Say whether a model may read a date in the light of those before it."""
    if isinstance(data, CrossSectionBatch):
        # Latent factor models of this package see every date for itself.
        latent = isinstance(estimator_of(model), BaseLatentFactorModel)
        return data.context_features is not None and not latent
    alone = getattr(estimator_of(model), "sees_each_date_alone", False)
    return isinstance(data, PortfolioSequenceBatch) and not alone


def _with_realised(model: Any, course: Course, fold: Fold, result: Any) -> Any:
    """Add realised factors and discount factors, which only judge a prediction."""
    state = result.state if isinstance(result, LatentFactorPrediction) else result
    if not isinstance(state, (LatentFactorState, StochasticDiscountFactorState)):
        return result
    first = fold.train_start if _carries(model, course.data) else fold.predict_start
    observed = course.observed_span(first, fold.predict_stop)
    seen = estimator_of(model).extract(course.data.slice(first, fold.predict_stop), **observed)
    seen = seen.slice(fold.predict_start - first, fold.predict_stop - first)
    if isinstance(state, StochasticDiscountFactorState):
        return replace(state, sdf_values=seen.sdf_values)
    state = replace(state, factor_returns=seen.factor_returns)
    return replace(result, state=state) if isinstance(result, LatentFactorPrediction) else state
