"""Weights under exposures, caps and a turnover budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ml4t.models import _core
from ml4t.models.kernels._arrays import float64s, mask_bytes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def normalize_weights(
    scores: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    gross: float,
    net: float,
    cap: float | None = None,
    groups: tuple[ArrayLike, float] | None = None,
) -> NDArray[np.float64]:
    """Weights of given exposures, every date on its own.

    Without a cap the demeaned scores are scaled to a long side of mass (gross + net) / 2 and a
    short side of mass (gross - net) / 2. Scores that differ by no more than rounding are constant:
    the later assets share the long mass, the earlier ones the short, in proportion of the masses.
    With a cap the result is the Euclidean-nearest point to the scores that has both masses and
    `|w| <= cap`, exactly in O(N log N): of equal scores the later asset counts as the higher,
    and of two equally near splits into longs and shorts the one with more longs is taken.

    Parameters
    ----------
    scores : array_like, shape (B, T, N)
    mask : array_like of bool, shape (B, T, N), optional
        Scores of cells where it is false are not used; their weight is 0.
    gross, net : float
        Sum of absolute weights, sum of weights; fractions of capital.
    cap : float, optional
        Largest absolute weight.
    groups : (array_like of int of shape (N,), float), optional
        Group of every asset, and the most that the longs, and likewise the shorts, of one group may
        sum to. Where an asset is wanted on both sides, a search chooses the sides: all are tried up
        to eight assets, beyond them those of the nearest point without group caps and what single
        flips make of them; the point is the nearest for its sides.

    Returns
    -------
    ndarray of float64, shape (B, T, N)
        Dates without an available asset are 0.

    Raises
    ------
    ValueError
        When an available score is not finite, or no book has the exposures.
    """
    return _core.normalize_weights(
        float64s("weights", scores, 3),
        None if mask is None else mask_bytes("mask", mask, 3),
        (float(gross), float(net), None if cap is None else float(cap)),
        _groups(groups),
    )


def walk_within_turnover(
    wanted: ArrayLike,
    mask: ArrayLike | None = None,
    previous: ArrayLike | None = None,
    *,
    limits: tuple[float, float, float | None],
    turnover_limit: float,
    groups: tuple[ArrayLike, float] | None = None,
) -> NDArray[np.float64]:
    """Follow wanted books through time within a turnover budget.

    Every date gives the book nearest to the wanted one among those with sum |x - p| <= the limit,
    |x| <= cap and the exposures, p being the book of the date before without the assets that are
    gone. If no book within the budget has the exposures, its long and its short mass lie on the
    straight line from those of p to their targets, as far as the budget reaches.

    Turnover and caps always hold, and so do the exposures when a book within the budget has them
    (under group caps: when the search reaches one). The problem is convex once every asset is on a
    side, and is then solved exactly. Up to ten assets, all combinations of sides are tried, so that
    the book is the nearest of all. Beyond, a search chooses the sides: assets stay where they are
    held, those most wanted on the other side flip, as many as is best, then single ones, and up to
    32 assets pairs, while the book gets better. On random books of up to ten assets this search
    misses the nearest in less than one case of two hundred.

    Parameters
    ----------
    wanted : array_like, shape (B, T, N)
        Output of `normalize_weights` under the same limits and groups.
    mask : array_like of bool, shape (B, T, N), optional
    previous : array_like, shape (B, N), optional
        Books before the first date; flat when left out.
    limits : (gross, net, cap or None)
    turnover_limit : float
        Largest sum of absolute changes of a date; assets that leave the universe do not count.
    groups : (array_like of int of shape (N,), float), optional
        As in `normalize_weights`.

    Returns
    -------
    ndarray of float64, shape (B, T, N)

    Raises
    ------
    ValueError
        When the limit is negative or not finite, an available wanted weight is not finite, or the
        previous book lies above a cap by more than the budget.
    """
    gross, net, cap = limits
    return _core.walk_within_turnover(
        float64s("weights", wanted, 3),
        None if mask is None else mask_bytes("mask", mask, 3),
        None if previous is None else float64s("previous_weights", previous, 2),
        (float(gross), float(net), None if cap is None else float(cap)),
        _groups(groups),
        float(turnover_limit),
    )


def _groups(groups: tuple[ArrayLike, float] | None) -> tuple[NDArray[np.int64], float] | None:
    if groups is None:
        return None
    ids, cap = groups
    group_of = np.asarray(ids, dtype=np.int64)
    if group_of.ndim != 1:
        raise ValueError(f"group_ids must have 1 dimension; got shape {group_of.shape}")
    return np.ascontiguousarray(group_of), float(cap)
