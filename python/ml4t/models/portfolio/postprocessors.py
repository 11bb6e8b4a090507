"""Constraints on weights: exposures, caps, turnover, volatility."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from ml4t.models.checks import require_int, require_real, require_shape, require_type
from ml4t.models.kernels import normalize_weights, walk_within_turnover
from ml4t.models.portfolio.base import available, require_order
from ml4t.models.types import PortfolioSequenceBatch, PortfolioWeightsResult
from ml4t.models.types.instants import first_difference
from ml4t.models.types.window_dates import fitting_dates

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def normalize_cross_sectional_weights(
    weights: ArrayLike,
    *,
    mask: ArrayLike | None,
    gross_exposure: float,
    net_exposure: float,
    max_abs_weight: float | None,
) -> NDArray[np.float64]:
    """Give every date's scores the exposures; see `kernels.normalize_weights`.

    Parameters
    ----------
    weights : array_like, shape (B, T, N)
        Scores; those at masked cells are not used.
    mask : array_like of bool, shape (B, T, N), or None
    gross_exposure, net_exposure : float
        Sum of absolute weights, sum of weights.
    max_abs_weight : float or None

    Returns
    -------
    ndarray of float64, shape (B, T, N)

    Raises
    ------
    ValueError
        "infeasible portfolio constraints" when no portfolio meets them; when an available score is
        not finite.
    """
    return normalize_weights(
        weights, mask, gross=gross_exposure, net=net_exposure, cap=max_abs_weight
    )


def apply_turnover_limit(
    weights: ArrayLike,
    *,
    previous_weights: ArrayLike | None,
    mask: ArrayLike | None,
    turnover_limit: float,
) -> NDArray[np.float64]:
    """Walk towards the weights, every date by at most the limit, in a straight line.

    The change is scaled, without regard to exposures. `WeightConstraintPostprocessor`
    finds the nearest book with the exposures instead.

    Parameters
    ----------
    weights : array_like, shape (B, T, N)
        Weights at masked cells are not used.
    previous_weights : array_like, shape (B, N), or None
        Books before the first date; flat when None.
    mask : array_like of bool, shape (B, T, N), or None
    turnover_limit : float
        Largest sum of absolute changes of a date; 0 holds the book. What leaves the universe is
        dropped and not counted.

    Returns
    -------
    ndarray of float64, shape (B, T, N)

    Raises
    ------
    ValueError
        When the limit is negative or not finite, or shapes disagree.
    """
    limit = require_real("turnover_limit", turnover_limit, at_least=0.0)
    wanted = np.array(weights, dtype=np.float64)
    n_windows, n_dates, n_assets = wanted.shape
    book = np.zeros((n_windows, n_assets))
    if previous_weights is not None:
        book = np.asarray(previous_weights, dtype=np.float64)
        require_shape("previous_weights", (n_windows, n_assets), book.shape)
    if mask is not None:
        tradable = np.asarray(mask, dtype=bool)
        require_shape("mask", wanted.shape, tradable.shape)
        wanted = np.where(tradable, wanted, 0.0)
    for date in range(n_dates):
        if mask is not None:
            book = np.where(tradable[:, date], book, 0.0)
        change = wanted[:, date] - book
        turnover = np.abs(change).sum(axis=1, keepdims=True)
        share = np.minimum(1.0, limit / np.maximum(turnover, np.finfo(float).tiny))
        book = np.where(turnover <= limit, wanted[:, date], book + share * change)
        wanted[:, date] = book
    return wanted


class _Settings:
    """A postprocessor is nothing but its settings; so it is saved within a pipeline."""

    __slots__ = ()

    @property
    def config(self) -> Self:
        """The settings: the object itself."""
        return self


@dataclass(frozen=True, slots=True)
class WeightConstraintPostprocessor(_Settings):
    """Exposures, caps and a turnover budget that hold exactly.

    Every date's weights are replaced by the nearest ones that meet the constraints (without a cap:
    by the demeaned weights, scaled). With a turnover budget the books follow in order of time, from
    the batch's `prev_weights`: turnover and caps are never exceeded, the exposures hold
    whenever a book within the budget has them, and are approached otherwise.

    Attributes
    ----------
    gross_exposure : float, default 1.0
        Sum of absolute weights.
    net_exposure : float, default 0.0
        Sum of weights.
    max_abs_weight : float, optional
    turnover_limit : float, optional
        Largest sum of absolute changes from one date to the next.
    max_group_weight : float, optional
        Most that the longs, and likewise the shorts, of one group may sum to; needs the batch's
        `group_ids`.
    """

    config_type: ClassVar[type]
    # A book needs its date and the book before: `WalkForward` need not start over at each date.
    needs_only_last_book: ClassVar[bool] = True

    gross_exposure: float = 1.0
    net_exposure: float = 0.0
    max_abs_weight: float | None = None
    turnover_limit: float | None = None
    _: KW_ONLY
    max_group_weight: float | None = None

    def transform(
        self, batch: PortfolioSequenceBatch, weights: PortfolioWeightsResult
    ) -> PortfolioWeightsResult:
        """Impose the constraints.

        Parameters
        ----------
        batch : PortfolioSequenceBatch
            Its mask, its previous weights and its groups count.
        weights : PortfolioWeightsResult
            Weights (B, T, N), or any scores.

        Returns
        -------
        PortfolioWeightsResult

        Raises
        ------
        ValueError
            When no portfolio meets the constraints, naming window and date.
        """
        _require_match(batch, weights)
        groups = self._groups(batch)
        constrained = normalize_weights(
            weights.weights,
            batch.mask,
            gross=self.gross_exposure,
            net=self.net_exposure,
            cap=self.max_abs_weight,
            groups=groups,
        )
        if self.turnover_limit is not None:
            constrained = walk_within_turnover(
                constrained,
                batch.mask,
                batch.prev_weights,
                limits=(self.gross_exposure, self.net_exposure, self.max_abs_weight),
                turnover_limit=self.turnover_limit,
                groups=groups,
            )
        return _replaced(weights, constrained, "weight_constraints")

    def _groups(self, batch: PortfolioSequenceBatch) -> tuple[NDArray[np.int64], float] | None:
        if self.max_group_weight is None:
            return None
        if batch.group_ids is None:
            raise ValueError("max_group_weight requires group_ids; the batch has none")
        return batch.group_ids, self.max_group_weight


@dataclass(frozen=True, slots=True)
class VolatilityTargetPostprocessor(_Settings):
    r"""Scale every date's book to a volatility.

    The book of date t is valued at the returns of earlier dates of its window,
    :math:`x_s = \sum_i w_{ti} r_{si},\ s < t`; its volatility is the root of their exponentially
    weighted mean square. Returns of date t and later are never read. A slot that is masked or
    without a finite return at s has no part in :math:`x_s`, and a date without any known return is
    no observation.

    Attributes
    ----------
    target_volatility : float, default 0.1
        Per year.
    half_life : float, default 20.0
        Periods after which a return weighs half.
    min_periods : int, default 10
        Dates with fewer earlier periods with a known return in their window keep their weights.
    max_scale : float, default 3.0
        Largest factor.
    annualization_factor : float, default 252.0
        Periods per year.
    """

    config_type: ClassVar[type]

    target_volatility: float = 0.1
    half_life: float = 20.0
    min_periods: int = 10
    max_scale: float = 3.0
    annualization_factor: float = 252.0

    def __post_init__(self) -> None:
        """Raise `ValueError` for impossible settings."""
        require_int("min_periods", self.min_periods, at_least=1)
        for name in ("target_volatility", "half_life", "max_scale", "annualization_factor"):
            require_real(name, getattr(self, name), above=0.0)

    def transform(
        self, batch: PortfolioSequenceBatch, weights: PortfolioWeightsResult
    ) -> PortfolioWeightsResult:
        """Give weights at the target.

        Parameters
        ----------
        batch : PortfolioSequenceBatch
            With returns; missing ones are not read.
        weights : PortfolioWeightsResult

        Returns
        -------
        PortfolioWeightsResult

        Raises
        ------
        ValueError
            When the batch has no returns.
        """
        _require_match(batch, weights)
        if batch.returns is None:
            raise ValueError("VolatilityTargetPostprocessor requires returns; the batch has none")
        tradable = available(batch)
        book = np.ascontiguousarray(np.where(tradable, weights.weights, 0.0))
        # The return of the last date comes after every decision.
        known = np.ascontiguousarray(tradable & np.isfinite(batch.returns))
        past = np.ascontiguousarray(np.where(known, batch.returns, 0.0))
        value = np.einsum("btn,bsn->bts", book, past)
        age = np.arange(batch.n_periods)[:, None] - np.arange(batch.n_periods)[None, :]
        dated: NDArray[np.bool_] = np.any(known, axis=2, keepdims=True)
        counted = (age > 0) & dated.transpose(0, 2, 1)
        decay = np.where(counted, 0.5 ** (np.maximum(age, 0) / self.half_life), 0.0)
        total = np.maximum(decay.sum(axis=2), np.finfo(float).tiny)
        variance = (decay * np.where(counted, value, 0.0) ** 2).sum(axis=2) / total
        volatility = np.sqrt(self.annualization_factor * variance)
        enough = (counted.sum(axis=2) >= self.min_periods) & (volatility > 0.0)
        with np.errstate(divide="ignore"):
            scale = np.where(enough, self.target_volatility / volatility, 1.0)
        return _replaced(
            weights, book * np.minimum(scale, self.max_scale)[..., None], "volatility_target"
        )


WeightConstraintPostprocessor.config_type = WeightConstraintPostprocessor
VolatilityTargetPostprocessor.config_type = VolatilityTargetPostprocessor


def _require_match(batch: PortfolioSequenceBatch, weights: PortfolioWeightsResult) -> None:
    require_type("batch", batch, PortfolioSequenceBatch)
    require_type("weights", weights, PortfolioWeightsResult)
    require_shape("weights", batch.features.shape[:3], weights.weights.shape, axes="(B, T, N)")
    require_order(batch)
    windows = [fitting_dates(one.metadata, *weights.weights.shape[:2]) for one in (batch, weights)]
    labels = {
        "asset_ids": (batch.asset_ids, weights.asset_ids),
        "timestamps": (list(batch.timestamps), list(weights.timestamps)),
        "window_timestamps": tuple([label for one in dates for label in one] for dates in windows),
    }
    for name, (ours, theirs) in labels.items():
        at = first_difference(ours, theirs) if ours and theirs else None
        if at is not None:
            raise ValueError(
                f"weights must have the {name} of the batch, in the same order; got "
                f"{theirs[at]!r} for {ours[at]!r} at position {at}"
            )


def _replaced(
    result: PortfolioWeightsResult, weights: NDArray[np.float64], name: str
) -> PortfolioWeightsResult:
    metadata = result.metadata | {"postprocessor": name}
    return replace(result, weights=weights, metadata=metadata)
