"""The one book of a walk: postprocessors pass its dates once, from fold to fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models.portfolio.base import available
from ml4t.models.walk_forward.spans import date_named, hidden, joined

if TYPE_CHECKING:
    from ml4t.models.types import PortfolioWeightsResult
    from ml4t.models.walk_forward.fold import Course, Outcome


class _Stage:
    """One postprocessor of the pipeline on its way through the dates."""

    def __init__(self, book: PortfolioWeightsResult, scores: PortfolioWeightsResult) -> None:
        self.book, self._scores = book, scores

    def step(
        self, known: Any, scores: PortfolioWeightsResult, postprocessor: Any
    ) -> PortfolioWeightsResult:
        """Make the book of the last date of `known` from its scores and all before it."""
        last = known.n_periods - 1
        if getattr(postprocessor, "needs_only_last_book", False):
            previous = self.book.weights[:, -1]
            now = replace(known.slice(last, last + 1), prev_weights=previous, returns=None)
            self.book = postprocessor.transform(now, scores)
        else:
            self._scores = joined([self._scores, scores])
            self.book = postprocessor.transform(known, self._scores).slice(last, last + 1)
        return self.book


def one_book(
    course: Course, outcomes: Sequence[Outcome], weights: PortfolioWeightsResult
) -> PortfolioWeightsResult:
    """Apply postprocessors once to all dates: a fold alone has no book before it.

    The book before the first predicted date is that of the first fold's model. A
    date before it that allows no prediction or no book, and need not have one, has none.
    """
    fold, pipeline = outcomes[0].fold, outcomes[0].model
    start, first = fold.train_start, fold.predict_start
    data, scores = _made_before(
        course.data, start, first, lambda data, a, b: pipeline.model.predict(data.slice(a, b))
    )
    stages: list[_Stage] = []
    for postprocessor in pipeline.postprocessors:

        def transformed(
            data: Any, a: int, b: int, step: Any = postprocessor, given: Any = scores
        ) -> Any:
            n_hidden = b - fold.train_stop if (a, b) == (start, first) else 0
            known = hidden(data.slice(a, b), n_hidden)
            return step.transform(known, given.slice(a - start, b - start))

        data, book_before = _made_before(data, start, first, transformed)
        stages.append(_Stage(book_before, scores))
        scores = book_before
    book: PortfolioWeightsResult = joined(list(_books(data, outcomes, weights, stages)))
    return book


def _made_before(
    data: Any, start: int, stop: int, make: Callable[[Any, int, int], Any]
) -> tuple[Any, Any]:
    """Make something of the dates from `start` to `stop`, those masked at which it cannot be made.

    Returns the data, masked where necessary, and the result.
    """
    try:
        return data, make(data, start, stop)
    except ValueError:
        mask = np.array(available(data))
    for date in range(start, stop):
        try:
            make(data, date, date + 1)
        except ValueError:
            mask[:, date] = False
    data = replace(data, mask=mask)
    return data, make(data, start, stop)


def _books(
    data: Any,
    outcomes: Sequence[Outcome],
    weights: PortfolioWeightsResult,
    stages: Sequence[_Stage],
) -> Iterator[PortfolioWeightsResult]:
    start, first = outcomes[0].fold.train_start, outcomes[0].fold.predict_start
    for outcome in outcomes:
        fold = outcome.fold
        for date in range(fold.predict_start, fold.predict_stop):
            known = data.slice(start, date + 1)
            known = hidden(known, 1 + fold.predict_start - fold.train_stop)
            book = weights.slice(date - first, date - first + 1)
            with date_named(data, date):
                for stage, postprocessor in zip(stages, outcome.model.postprocessors, strict=True):
                    book = stage.step(known, book, postprocessor)
            yield book
