"""Match of the rows of signals with the rows of prices."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml4t.models.integration.frame_columns import AnyColumn, Labels
from ml4t.models.integration.frame_reader import Column, column_names, read_columns
from ml4t.models.integration.grid import by_id
from ml4t.models.integration.key_codes import code
from ml4t.models.types.instants import instant

if TYPE_CHECKING:
    from ml4t.models.integration.output_keys import FrameKeys


@dataclass(frozen=True, slots=True)
class _Key:
    """A key column as codes into its distinct labels.

    Attributes
    ----------
    labels : tuple
    codes : ndarray of int64, shape (rows,)
    """

    labels: tuple[Any, ...]
    codes: NDArray[np.int64]

    @classmethod
    def of(cls, labels: Sequence[Any], codes: NDArray[Any]) -> _Key:
        """Return equal labels, such as the dates of overlapping windows, one code."""
        number: dict[Hashable, int] = {}
        first = [number.setdefault(_name(label), len(number)) for label in labels]
        kept = dict(zip(reversed(first), reversed(labels), strict=True))
        distinct = tuple(kept[one] for one in range(len(number)))
        return cls(distinct, np.asarray(first, dtype=np.int64)[codes.astype(np.int64)])

    def places_in(self, other: _Key) -> NDArray[np.int64]:
        """Return the codes of the other column; -1 for labels that it lacks."""
        number = {_name(label): place for place, label in enumerate(other.labels)}
        places = [number.get(_name(label), -1) for label in self.labels]
        return np.asarray(places, dtype=np.int64)[self.codes]


def require_unique_keys(columns: Mapping[str, AnyColumn], keys: FrameKeys) -> None:
    """Reject signals with several rows per date and asset, or context with several per date.

    Raises
    ------
    ValueError
        Naming the key. A data feed has one value per key; windows over the same dates are passed
        one by one.
    """
    ours = _keys_of(columns, keys)
    if not ours or not len(ours[0].codes):
        return
    rows = _numbered([one.codes for one in ours], [len(one.labels) for one in ours])
    distinct, where, counts = np.unique(rows, return_index=True, return_counts=True)
    if len(distinct) == len(rows):
        return
    at = int(where[counts > 1].min())
    raise ValueError(
        "a data feed loads one row per date and asset; got "
        f"{int(counts[distinct == rows[at]][0])} for {_shown(ours, at)}. Windows over the same "
        "dates are passed one by one"
    )


def warn_without_match(columns: Mapping[str, AnyColumn], prices: Any, keys: FrameKeys) -> None:
    """Warn when no row of the signals has the keys of a row of the prices."""
    ours = _keys_of(columns, keys)
    names = [keys.timestamp, keys.entity][: len(ours)]
    if not ours or not len(ours[0].codes) or not set(names) <= set(column_names(prices)):
        return
    theirs = list(_keys_of_prices(prices, names))
    sizes = [len(one.labels) for one in theirs]
    places = [mine.places_in(other) for mine, other in zip(ours, theirs, strict=True)]
    known = np.all([place >= 0 for place in places], axis=0)
    matched = _numbered([place[known] for place in places], sizes)
    if np.isin(matched, _numbered([one.codes for one in theirs], sizes)).any():
        return
    warnings.warn(
        f"no row of the signals matches a row of the prices on {names}: the signals have "
        f"{_shown(ours, 0)}, the prices {_shown(theirs, 0)}. Nothing would be traded: give both "
        "the same dates and ids",
        UserWarning,
        stacklevel=4,
    )


def _keys_of(columns: Mapping[str, AnyColumn], keys: FrameKeys) -> list[_Key]:
    """Read dates and, in a long frame, ids; nothing from a frame without dates."""
    parts: list[_Key] = []
    for name in (keys.timestamp, keys.entity):
        column = columns.get(name)
        if isinstance(column, Labels):
            parts.append(_Key.of(column.labels, column.codes))
        elif column is not None:
            coded = code(Column(name, column.to_list()))
            parts.append(_Key.of(coded.labels, coded.codes))
        elif not parts:
            return []
    return parts


def _keys_of_prices(prices: Any, names: Sequence[str]) -> Iterator[_Key]:
    """Read the keys of the prices, without rows in which one is missing."""
    columns = read_columns(prices, names)
    missing = np.any([_is_null(columns[name]) for name in names], axis=0)
    for place, name in enumerate(names):
        data = columns[name].data
        if missing.any():
            kept = np.flatnonzero(~missing)
            data = [data[row] for row in kept.tolist()] if isinstance(data, list) else data[kept]
        coded = code(Column(name, data))
        coded = by_id(name, coded) if place else coded
        yield _Key.of(coded.labels, coded.codes)


def _is_null(column: Column) -> NDArray[np.bool_]:
    data = column.data
    if isinstance(data, np.ndarray) and data.dtype.kind == "M":
        return np.isnat(data)
    if isinstance(data, (list, np.ndarray)):
        return np.array([one is None for one in data], dtype=bool)
    return np.asarray(data.is_null().to_numpy(), dtype=bool)


def _numbered(columns: Sequence[NDArray[np.int64]], sizes: Sequence[int]) -> NDArray[np.int64]:
    """Return one number per row, the same for the same keys."""
    rows = columns[0]
    for column, size in zip(columns[1:], sizes[1:], strict=True):
        rows = rows * size + column
    return rows


def _shown(keys: Sequence[_Key], row: int) -> str:
    if not len(keys[0].codes):
        return "no row"
    return "(" + ", ".join(str(one.labels[one.codes[row]]) for one in keys) + ")"


def _name(label: Any) -> Hashable:
    """Ids are compared by their text, dates by their instant."""
    whole = type(label) is int or (isinstance(label, float) and label.is_integer())
    return ("text", str(int(label))) if whole else instant(label)
