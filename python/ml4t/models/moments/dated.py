"""Moments with the dates they are of: put side by side, added up, in an order that is fixed.

Labels ascend and are unique. Adding two sets adds where both know a date and copies elsewhere, so
that dates that nobody shares keep their bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml4t.models.kernels import Moments
from ml4t.models.types.instants import in_time, require_one_kind


@dataclass(frozen=True, slots=True, eq=False)
class Dated:
    """Moments and the labels of their dates.

    Attributes
    ----------
    labels : tuple of length T
        Ascending.
    moments : Moments
        Of T dates.
    """

    labels: tuple[Any, ...]
    moments: Moments

    def select(self, dates: slice | NDArray[np.intp]) -> Dated:
        """Take some dates, in ascending order; a slice is a view."""
        positions = range(len(self.labels))[dates] if isinstance(dates, slice) else dates
        labels = tuple(self.labels[position] for position in positions) if self.labels else ()
        return Dated(labels, _each(lambda array: array[dates], self.moments))

    def followed_by(self, later: Dated) -> Dated:
        """Put the dates of `later` after these."""
        moments = _each(lambda *arrays: np.concatenate(arrays), self.moments, later.moments)
        return Dated(self.labels + later.labels, moments)


def merged(one: Dated, other: Dated) -> Dated:
    """Add moments of disjoint sets of rows, date by date.

    Raises
    ------
    ValueError
        When labels of the two cannot be ordered among each other.
    """
    if not one.labels or not other.labels:
        return one if one.labels else other
    require_one_kind("timestamps", one.labels, other.labels)
    ends = one.labels[0], one.labels[-1], other.labels[0], other.labels[-1]
    first, last, other_first, other_last = in_time("timestamps must be", ends)
    if last < other_first:
        return one.followed_by(other)
    if other_last < first:
        return other.followed_by(one)
    places = [in_time("timestamps must be", side.labels) for side in (one, other)]
    label_at = dict(zip(places[1], other.labels, strict=True))
    label_at |= dict(zip(places[0], one.labels, strict=True))
    ascending = sorted(label_at)
    labels = tuple(label_at[place] for place in ascending)
    position = {place: at for at, place in enumerate(ascending)}
    rows = [[position[place] for place in side] for side in places]

    def add(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
        total = np.zeros((len(labels), *left.shape[1:]), dtype=left.dtype)
        total[rows[0]] = left
        total[rows[1]] += right
        return total

    return Dated(labels, _each(add, one.moments, other.moments))


class PairwiseSum:
    """Adds up any number of parts in pairs, pairs of pairs, and so on, in the order they come.

    The grouping depends on the number of parts alone, hence so do the bits; rounding grows with
    the logarithm of that number, and so does what is held.
    """

    def __init__(self) -> None:
        self._held: list[tuple[int, Dated]] = []

    def add(self, part: Dated) -> None:
        """Take the next part."""
        level = 0
        while self._held and self._held[-1][0] == level:
            part = merged(self._held.pop()[1], part)
            level += 1
        self._held.append((level, part))

    def total(self, n_instruments: int) -> Dated:
        """Add up what was taken; no date at all when that was nothing."""
        if not self._held:
            return nothing(n_instruments)
        total = self._held[-1][1]
        for _, part in reversed(self._held[:-1]):
            total = merged(part, total)
        return total


def nothing(n_instruments: int) -> Dated:
    """Moments of no date."""
    pairs = n_instruments * (n_instruments + 1) // 2
    return Dated(
        (),
        Moments(
            np.zeros(0, dtype=np.uint32),
            np.zeros((0, pairs)),
            np.zeros((0, n_instruments)),
            np.zeros(0),
        ),
    )


def _each(rule: Callable[..., NDArray[Any]], *moments: Moments) -> Moments:
    """Apply a rule to each array of the moments."""
    return Moments(
        n_assets=rule(*(one.n_assets for one in moments)),
        gram=rule(*(one.gram for one in moments)),
        cross=rule(*(one.cross for one in moments)),
        return_squares=rule(*(one.return_squares for one in moments)),
    )
