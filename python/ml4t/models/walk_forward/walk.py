"""All folds of a walk, in sequence or on workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ml4t.models.checks import require_bool, require_int, require_path, window_named
from ml4t.models.integration.result_frame import frame_of
from ml4t.models.lifecycle.parameters import Parameters
from ml4t.models.panel.masks import observed_columns
from ml4t.models.parallel import Executor, in_order, require_no_fork
from ml4t.models.pipelines import PortfolioAllocationPipeline
from ml4t.models.progress import counting
from ml4t.models.types.base import Record
from ml4t.models.types.window_dates import windows_of
from ml4t.models.walk_forward.factor_alignment import Alignment, aligned, matched
from ml4t.models.walk_forward.fold import Course, Outcome, estimator_of, loadings, work_fold
from ml4t.models.walk_forward.fold_store import FoldStore
from ml4t.models.walk_forward.postprocessing import one_book
from ml4t.models.walk_forward.schedule import Fold, schedule
from ml4t.models.walk_forward.spans import Data, joined, labelled, require_data, with_key_names

if TYPE_CHECKING:
    import os

    import numpy as np
    from numpy.typing import NDArray

    from ml4t.models.integration.surfaces import ResultsFrame


CHAIN = 16
"""Folds in a row of which each starts from the one before; the first starts cold, so that a worker
needs no other."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class WalkForwardFold(Record):
    """One estimation of a walk.

    Attributes
    ----------
    fold : Fold
        Positions of the dates it was trained on, and of those it predicted.
    summary : FitSummary, or what the pipeline's fit returns
    model : estimator or pipeline
        Fitted; its factors are in its own order and signs.
    alignment : Alignment or None
        Which turns them into those of the folds before; None for models without factors.
    """

    fold: Fold
    summary: Any
    model: Any
    alignment: Alignment | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class WalkForwardResult(Record):
    """Out-of-sample predictions of a walk.

    Attributes
    ----------
    result : object
        The family's own: `LatentFactorPrediction` of a pipeline, `LatentFactorState` of a latent
        factor model, and so on, for all dates from the first predicted one to the end. Realised
        factors in it are of the date, by loadings from before it.
    folds : tuple of WalkForwardFold
    """

    result: Any
    folds: tuple[WalkForwardFold, ...]

    @property
    def summaries(self) -> tuple[Any, ...]:
        """Summaries of all fits."""
        return tuple(fold.summary for fold in self.folds)

    @property
    def models(self) -> tuple[Any, ...]:
        """The fitted models."""
        return tuple(fold.model for fold in self.folds)

    def frame(self, *, constants: Mapping[str, Any] | None = None) -> ResultsFrame:
        """Put the forecasts, signals or weights into one long frame.

        Parameters
        ----------
        constants : mapping, optional
            Columns that say the same in every row.

        Returns
        -------
        PredictionsFrame or WeightsFrame
            As the functions of `ml4t.models.integration` make them.

        Raises
        ------
        TypeError
            When the result holds none: factor models predict through a pipeline.
        """
        return frame_of(self.result, constants=constants)


class WalkForward(Parameters):
    """Walk-forward re-estimation; every date is predicted from what was known before it.

    Parameters
    ----------
    model : estimator or pipeline
        Copied for every estimation; the one passed stays as it is.
    min_periods : int
        Dates before the first prediction (and the gap).
    window : int, optional
        Dates in an estimation, at most; by default all so far.
    refit_every : int, default 1
        Dates that share an estimation.
    gap : int, default 0
        Dates between an estimation and what it predicts, and whose returns a prediction does not
        see: periods by which returns overlap.
    warm_start : bool, default True
        Begin an estimation where the last one ended, for models that gain by it: PCA and RP-PCA by
        fitting windows that follow closely from one Gram matrix; others where they have a method
        `continued_from(model)` that gives keyword arguments for `fit`, as all networks have. IPCA
        starts from its data, which takes as long. Every 16th fold starts cold. No bit of an
        estimate comes from dates after its window.
    executor : object with submit(function, *arguments), optional
        Works on several folds at a time; with `warm_start` on chains of 16. The bits are the same
        with any number of workers, and without. Start processes by spawn: torch hangs in forked
        ones.
    progress : bool, default False
        Show a bar of folds (tqdm).

    Examples
    --------
    >>> import numpy as np
    >>> from ml4t.models import PCAConfig, PCAModel, PersistentPanelBatch, WalkForward
    >>> returns = 0.01 + 0.05 * np.random.default_rng(0).standard_normal((24, 5))
    >>> walk = WalkForward(PCAModel(PCAConfig(n_factors=1)), min_periods=12, refit_every=6)
    >>> walked = walk.run(PersistentPanelBatch(returns))
    >>> walked.result.factor_returns.shape, len(walked.folds)
    ((12, 1), 2)
    """

    def __init__(
        self,
        model: Any,
        *,
        min_periods: int,
        window: int | None = None,
        refit_every: int = 1,
        gap: int = 0,
        warm_start: bool = True,
        executor: Executor | None = None,
        progress: bool = False,
    ) -> None:
        self.model = model
        self.min_periods = require_int("min_periods", min_periods, at_least=1)
        self.window = None if window is None else require_int("window", window, at_least=1)
        self.refit_every = require_int("refit_every", refit_every, at_least=1)
        self.gap = require_int("gap", gap, at_least=0)
        self.warm_start = require_bool("warm_start", warm_start)
        self.executor = executor
        self.progress = require_bool("progress", progress)

    def run(
        self,
        data: Data,
        *,
        observed_factors: NDArray[Any] | None = None,
        folder: str | os.PathLike[str] | None = None,
    ) -> WalkForwardResult:
        """Walk through the dates of `data`.

        Parameters
        ----------
        data : batch that the model takes, or CharacteristicMoments for IPCA
            Dates in order of time. From moments there are factors, and no exposures of assets.
        observed_factors : array_like, shape (T, M), optional
            Return per period, for IPCA: each estimation gets those of its window. They are as
            little known ahead as returns, so that predictions never see those of their dates, and
            forecasters go on from the end of the window; realised factors do see them.
        folder : path-like, optional
            Where folds are kept as they are done; a run that was interrupted goes on from there,
            and ends with the same bits.

        Returns
        -------
        WalkForwardResult

        Raises
        ------
        TypeError
            When `data` is no batch, or there is a folder and the model cannot be saved.
        ValueError
            When no date is left to predict, the folder belongs to another run, observed factors are
            not finite, of other dates or of no use to the model, or a network is to be trained in
            forked processes; whatever the model raises.
        """
        require_data(data)
        if folder is not None:
            require_path("folder", folder)
        library = getattr(estimator_of(self.model), "needs_spawn", None)
        if library is not None:
            require_no_fork(self.executor, library)
        folds = schedule(
            data.n_periods,
            min_periods=self.min_periods,
            window=self.window,
            refit_every=self.refit_every,
            gap=self.gap,
        )
        observed = _observed(observed_factors, data.n_periods)
        course = Course.of(self.model, data, warm_start=self.warm_start, observed=observed)
        store = None if folder is None else FoldStore(folder, course, folds)
        done: list[Outcome] = []
        with counting("folds", unit="folds", total=len(folds), shown=self.progress) as count:
            for outcome in self._outcomes(course, folds, store):
                done.append(outcome)
                count(1)
        return _result(course, done)

    def _outcomes(
        self, course: Course, folds: Sequence[Fold], store: FoldStore | None
    ) -> Iterator[Outcome]:
        """Yield folds in order, the stored ones first."""
        n_done, last = 0, None
        while store is not None and n_done < len(folds):
            stored = store.read(n_done)
            if stored is None:
                break
            n_done, last = n_done + 1, stored
            yield stored
        if n_done == len(folds):
            return
        # Of every fold, those that are done as well: what a window starts from changes rounding.
        course = course.with_windows(folds)
        fresh = self._fresh(course, folds, n_done, None if last is None else last.model)
        for number, outcome in enumerate(fresh, start=n_done):
            if store is not None:
                store.write(number, outcome)
            yield outcome

    def _fresh(
        self, course: Course, folds: Sequence[Fold], n_done: int, previous: Any
    ) -> Iterator[Outcome]:
        length = CHAIN if self.warm_start else 1
        if self.executor is None:
            for number, fold in enumerate(folds[n_done:], start=n_done):
                with window_named(fold.train_start, fold.train_stop):
                    outcome = work_fold(course, fold, previous if number % length else None)
                previous = outcome.model
                yield outcome
            return
        # A chain that was interrupted is done again from where it started, so that every fold has
        # the predecessor that it would have had.
        first = n_done - n_done % length
        chains = [
            (course.part(chain[0].train_start, chain[-1].predict_stop), tuple(chain))
            for chain in (folds[i : i + length] for i in range(first, len(folds), length))
        ]
        number = first
        for outcomes in in_order(self.executor, work_chain, chains, ahead=64):
            for outcome in outcomes:
                if number >= n_done:
                    yield outcome
                number += 1


def work_chain(task: tuple[Course, tuple[Fold, ...]]) -> list[Outcome]:
    """Work on folds in a row, on a course that was cut to their dates."""
    course, folds = task
    origin, previous, outcomes = folds[0].train_start, None, []
    for fold in folds:
        with window_named(fold.train_start, fold.train_stop):
            outcome = work_fold(course, fold.moved(-origin), previous)
        previous = outcome.model
        outcomes.append(replace(outcome, fold=fold))
    return outcomes


def _observed(given: NDArray[Any] | None, n_periods: int) -> NDArray[np.float64] | None:
    return None if given is None else observed_columns(given, n_periods)


def _result(course: Course, outcomes: Sequence[Outcome]) -> WalkForwardResult:
    alignments = _alignments(course, outcomes)
    parts = [
        outcome.result if alignment is None else aligned(outcome.result, alignment)
        for outcome, alignment in zip(outcomes, alignments, strict=True)
    ]
    data: Any = course.data
    first, last = outcomes[0].fold.predict_start, outcomes[-1].fold.predict_stop
    predicted = data.slice(first, last)
    whole = joined(parts)
    if isinstance(course.model, PortfolioAllocationPipeline):
        whole = replace(whole, processed_weights=one_book(course, outcomes, whole.raw_weights))
    whole = labelled(
        whole, predicted.timestamps, getattr(data, "asset_ids", ()), windows_of(predicted)
    )
    whole = with_key_names(whole, getattr(data, "metadata", {}))
    folds = tuple(
        WalkForwardFold(outcome.fold, outcome.summary, outcome.model, alignment)
        for outcome, alignment in zip(outcomes, alignments, strict=True)
    )
    return WalkForwardResult(whole, folds)


def _alignments(course: Course, outcomes: Sequence[Outcome]) -> list[Alignment | None]:
    """Match the factors of every fold with the aligned ones of the fold before."""
    alignments: list[Alignment | None] = []
    before: tuple[Outcome, Alignment] | None = None
    for outcome in outcomes:
        current = loadings(outcome, course, outcome.fold)
        if current is None:
            alignments.append(None)
            continue
        n_latent = _n_latent(outcome.model, current)
        alignment = Alignment(tuple(range(n_latent)), (1,) * n_latent)
        if before is not None:
            earlier = loadings(before[0], course, outcome.fold)
            if earlier is not None:
                reference = before[1].apply(earlier)[:, :n_latent]
                alignment = matched(reference, current[:, :n_latent])
        alignments.append(alignment)
        before = (outcome, alignment)
    return alignments


def _n_latent(model: Any, reference: NDArray[Any]) -> int:
    return int(min(estimator_of(model).config.n_factors, reference.shape[1]))
