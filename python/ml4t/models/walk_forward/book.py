"""The one book that a walk holds: postprocessors go through its dates once, from fold to fold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ml4t.models.walk_forward.spans import hidden, joined

if TYPE_CHECKING:
    from ml4t.models.types import PortfolioWeightsResult
    from ml4t.models.walk_forward.refit import Course, Outcome


class _Stage:
    """One postprocessor of the pipeline on its way through the dates."""

    def __init__(self, known: Any, scores: PortfolioWeightsResult, postprocessor: Any) -> None:
        self.book: PortfolioWeightsResult = postprocessor.transform(known, scores)
        self._scores = scores

    def step(
        self, known: Any, scores: PortfolioWeightsResult, postprocessor: Any
    ) -> PortfolioWeightsResult:
        """Make the book of the last date of `known` from its scores and all before it."""
        last = known.n_periods - 1
        if getattr(postprocessor, "needs_only_last_book", False):
            held = self.book.weights[:, -1]
            now = replace(known.slice(last, last + 1), prev_weights=held, returns=None)
            self.book = postprocessor.transform(now, scores)
        else:
            self._scores = joined([self._scores, scores])
            self.book = postprocessor.transform(known, self._scores).slice(last, last + 1)
        return self.book


def one_book(
    course: Course, outcomes: Sequence[Outcome], weights: PortfolioWeightsResult
) -> PortfolioWeightsResult:
    """Let postprocessors walk once through all dates: a fold does not know the book before it.

    Before the first predicted date stands the book that the first fold's model would have held.
    """
    start, first = outcomes[0].fold.train_start, outcomes[0].fold.predict_start
    before = course.data.slice(start, first)
    scores = outcomes[0].model.model.predict(before)
    before = hidden(before, first - outcomes[0].fold.train_stop)
    stages: list[_Stage] = []
    for postprocessor in outcomes[0].model.postprocessors:
        stages.append(_Stage(before, scores, postprocessor))
        scores = stages[-1].book
    whole: PortfolioWeightsResult = joined(list(_books(course, outcomes, weights, stages)))
    return whole


def _books(
    course: Course,
    outcomes: Sequence[Outcome],
    weights: PortfolioWeightsResult,
    stages: Sequence[_Stage],
) -> Iterator[PortfolioWeightsResult]:
    start, first = outcomes[0].fold.train_start, outcomes[0].fold.predict_start
    for outcome in outcomes:
        fold = outcome.fold
        for date in range(fold.predict_start, fold.predict_stop):
            known = course.data.slice(start, date + 1)
            known = hidden(known, 1 + fold.predict_start - fold.train_stop)
            book = weights.slice(date - first, date - first + 1)
            for stage, postprocessor in zip(stages, outcome.model.postprocessors, strict=True):
                book = stage.step(known, book, postprocessor)
            yield book
