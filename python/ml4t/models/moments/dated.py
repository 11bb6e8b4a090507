"""Moments with the labels of their dates: joined along time and added, in a fixed order.

Labels ascend and are unique. A sum of two sets adds the dates of both and copies the dates of one,
so that dates of one set keep their bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ml4t.models.kernels import Moments
from ml4t.models.types.instants import in_time, require_one_kind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
        return Dated(labels, self.moments.select(dates))

    def followed_by(self, later: Dated) -> Dated:
        """Put the dates of `later` after these."""
        moments = Moments.concatenate((self.moments, later.moments))
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

    total = Moments.zeros(len(labels), one.moments.cross.shape[1])
    sides: Any = zip(total.arrays, one.moments.arrays, other.moments.arrays, strict=True)
    for summed, left, right in sides:
        summed[rows[0]] = left
        summed[rows[1]] += right
    return Dated(labels, total)


class PairwiseSum:
    """Sum of any number of parts in pairs, pairs of pairs, and so on, in their order.

    The grouping, hence every bit, depends on the number of parts alone; rounding and memory grow
    with the logarithm of that number.
    """

    def __init__(self) -> None:
        self._levels: list[tuple[int, Dated]] = []

    def add(self, part: Dated) -> None:
        """Add the next part."""
        level = 0
        while self._levels and self._levels[-1][0] == level:
            part = merged(self._levels.pop()[1], part)
            level += 1
        self._levels.append((level, part))

    def total(self, n_instruments: int) -> Dated:
        """Return the sum; without parts it has no date."""
        if not self._levels:
            return Dated((), Moments.zeros(0, n_instruments))
        total = self._levels[-1][1]
        for _, part in reversed(self._levels[:-1]):
            total = merged(part, total)
        return total
