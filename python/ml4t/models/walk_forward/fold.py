"""One fold: estimate on its window, predict each date from what was known before it.

No date is predicted with its own return at hand. Every prediction gets a batch of its own that
ends with that date and in which the returns of the date, and of as many before it as the gap says,
are missing; realised factors are added to the result afterwards, from a second extraction.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml4t.models.pipelines import (
    LatentFactorForecastPipeline,
    PipelineFitResult,
    PortfolioAllocationPipeline,
)
from ml4t.models.types import (
    CrossSectionBatch,
    LatentFactorPrediction,
    LatentFactorState,
    PortfolioSequenceBatch,
    StochasticDiscountFactorState,
)
from ml4t.models.walk_forward import hooks, universe
from ml4t.models.walk_forward.spans import Data, date_named, hidden, joined, labelled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ml4t.models.walk_forward.schedule import Fold


@dataclass(frozen=True, slots=True)
class Course:
    """Arguments that all folds share.

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
        """Ask the estimator what its estimations need of the data."""
        estimator = estimator_of(model)
        if observed is not None:
            hooks.require_observed(estimator)
        training = hooks.training_data(estimator, data)
        return cls(model, training, data, warm_start, observed=observed)

    def observed_span(self, start: int, stop: int) -> dict[str, Any]:
        """Give the observed factors of these dates as a keyword argument, where there are any."""
        return {} if self.observed is None else {"observed_factors": self.observed[start:stop]}

    def part(self, start: int, stop: int) -> Course:
        """Cut a course, for workers that need not see the rest."""
        training, data = self.training.slice(start, stop), self.data.slice(start, stop)
        windows = {
            (first - start, last - start): fitted
            for (first, last), fitted in self.fitted.items()
            if start <= first and last <= stop
        }
        observed = None if self.observed is None else self.observed[start:stop]
        return replace(self, training=training, data=data, fitted=windows, observed=observed)

    def with_windows(self, folds: Sequence[Fold]) -> Course:
        """Fit all windows together, where a model can and warm starts are wanted."""
        estimator = estimator_of(self.model)
        fit_windows = getattr(estimator, "fit_windows", None)
        if not self.warm_start or fit_windows is None:
            return self
        groups: dict[tuple[int, ...] | None, list[tuple[int, int]]] = {}
        for fold in folds:
            window = (fold.train_start, fold.train_stop)
            columns = universe.taking_part(estimator, self.training, *window)
            key = None if columns is None else tuple(columns.tolist())
            groups.setdefault(key, []).append(window)
        fitted: dict[tuple[int, int], tuple[Any, Any]] = {}
        for key, windows in groups.items():
            panel: Any = self.training
            if key is not None:
                panel = universe.narrowed(panel, np.array(key))
            fitted |= dict(zip(windows, fit_windows(panel, windows), strict=True))
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
    """Result of a fold.

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
    parts = _predictions(model, course, fold)
    result = _with_realised(model, course, fold, joined(parts))
    return Outcome(fold, model, summary, labelled(result, (), ()))


def loadings(outcome: Outcome, course: Course, fold: Fold) -> NDArray[Any] | None:
    """Give loadings (rows, K) by which factors are recognised; None for a model without factors.

    Gamma where there is one, else the exposures at the last date of the window of `fold`; NaN for
    assets that the outcome left out.
    """
    own, columns = course.of_window(outcome.fold)
    date = hidden(own.data.slice(fold.train_stop - 1, fold.train_stop), 1)
    reference = hooks.reference_loadings(estimator_of(outcome.model), date)
    if columns is None or reference is None:
        return reference
    data: Any = course.data
    whole = np.full((data.n_assets, reference.shape[1]), np.nan)
    whole[columns] = reference
    return whole


def _fit(model: Any, course: Course, fold: Fold, previous: Any) -> Any:
    estimator, before = estimator_of(model), estimator_of(previous)
    window: Any = course.training.slice(fold.train_start, fold.train_stop)
    options = hooks.continued(estimator, before)
    observed = course.observed_span(fold.train_start, fold.train_stop)
    if estimator is model:
        return model.fit(window, **options, **observed)
    if type(course.training) is type(course.data):
        return model.fit(window, **observed, **({"start": options} if options else {}))
    summary, state = estimator.fit_extract(window, **options, **observed)
    return model.fit_forecast(_with_context(state, course, fold), summary)


def _completed(
    model: LatentFactorForecastPipeline, course: Course, fold: Fold, summary: Any
) -> PipelineFitResult:
    """Fit the forecaster and mapper of a pipeline whose model is fitted."""
    window = course.training.slice(fold.train_start, fold.train_stop)
    observed = course.observed_span(fold.train_start, fold.train_stop)
    state = model.model.extract(window, **observed)
    return model.fit_forecast(_with_context(state, course, fold), summary)


def _with_context(state: LatentFactorState, course: Course, fold: Fold) -> LatentFactorState:
    """Add the context of the dates, which moments do not have and the data may."""
    context = getattr(course.data, "context_features", None)
    if context is not None:
        context = context[fold.train_start : fold.train_stop]
    return replace(state, context_features=context)


def _predictions(model: Any, course: Course, fold: Fold) -> list[Any]:
    """Predict the dates of a fold, each in a batch that ends with it.

    A causal estimator predicts them in one pass: the dates after one have no influence on it. Where
    that raises, the dates are predicted one by one, and the error names its date.
    """
    dates = range(fold.predict_start, fold.predict_stop)
    if hooks.is_causal(estimator_of(model)) and not isinstance(model, LatentFactorForecastPipeline):
        try:
            return [_predicted(model, course, fold, dates)]
        except ValueError:
            pass
    return [_predicted(model, course, fold, range(date, date + 1)) for date in dates]


def _predicted(model: Any, course: Course, fold: Fold, dates: range) -> Any:
    """Predict dates in a batch that ends with them and lacks their returns."""
    data, estimator = course.data, estimator_of(model)
    # What carries a state through time starts where its training did, all else after it; a model
    # that sees each date alone need not predict any other.
    first = fold.train_start if _carries(estimator, data) else fold.train_stop
    if isinstance(data, PortfolioSequenceBatch) and hooks.sees_each_date_alone(estimator):
        first = dates.start
    n_hidden = len(dates) + fold.predict_start - fold.train_stop
    known = hidden(data.slice(first, dates.stop), n_hidden)
    if isinstance(model, PortfolioAllocationPipeline):
        model = PortfolioAllocationPipeline(model.model)  # the walk has one book, made later
    with date_named(data, dates.start):
        answer = model.predict(known) if hasattr(model, "predict") else model.extract(known)
    return answer.slice(dates.start - first, dates.stop - first)


def _carries(estimator: Any, data: Data) -> bool:
    """Whether the output of a date may depend on the dates before it."""
    if hooks.sees_each_date_alone(estimator):
        return False
    if isinstance(data, CrossSectionBatch):
        return data.context_features is not None
    return isinstance(data, PortfolioSequenceBatch)


def _with_realised(model: Any, course: Course, fold: Fold, result: Any) -> Any:
    """Add realised factors and discount factors, which only judge a prediction."""
    state = result.state if isinstance(result, LatentFactorPrediction) else result
    if not isinstance(state, (LatentFactorState, StochasticDiscountFactorState)):
        return result
    first = fold.train_start if _carries(estimator_of(model), course.data) else fold.predict_start
    observed = course.observed_span(first, fold.predict_stop)
    realised = estimator_of(model).extract(course.data.slice(first, fold.predict_stop), **observed)
    realised = realised.slice(fold.predict_start - first, fold.predict_stop - first)
    if isinstance(state, StochasticDiscountFactorState):
        return replace(state, sdf_values=realised.sdf_values)
    state = replace(state, factor_returns=realised.factor_returns)
    return replace(result, state=state) if isinstance(result, LatentFactorPrediction) else state
