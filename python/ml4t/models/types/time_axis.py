"""Records with dates: slice, select and concatenate along time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from ml4t.models.checks import require_int, require_items
from ml4t.models.types.base import Record, same_value
from ml4t.models.types.instants import instant, require_ascending
from ml4t.models.types.window_dates import windows_of, with_windows

# Joined by rules of their own, or taken from the last part.
_FREE = {"timestamps", "metadata", "checkpoint_epoch", "checkpoint_step"}


class DatedRecord(Record):
    """Base of the batches, states and results that have dates.

    A subclass names the axis of time of every array that has one in `time_axes`; a record without
    such arrays consists of dated records. `len(record)` is the number of dates T.
    """

    __slots__ = ()
    time_axes: ClassVar[Mapping[str, int]] = {}
    # A record is not iterable, and no array.
    __iter__: ClassVar[None] = None
    __contains__: ClassVar[None] = None

    def __len__(self) -> int:
        return n_dates_of(self)

    def __bool__(self) -> bool:
        return True

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Reject a record where an array belongs."""
        del args, kwargs
        raise TypeError(f"{type(self).__name__} is a record of arrays, not an array")

    def slice(self, start: int | None = None, stop: int | None = None) -> Self:
        """Take the dates from position `start` up to `stop`, as Python slices do; no copy.

        Fields without an axis of time stay: `prev_weights` is then the book before the first date
        of the slice.

        Parameters
        ----------
        start, stop : int, optional
            Positions; negative ones count from the end.
        """
        for name, value in (("start", start), ("stop", stop)):
            if value is not None:
                require_int(name, value)
        taken: Self = along_time(self, slice(start, stop))
        return taken

    def __getitem__(self, dates: Any) -> Self:
        """Take dates; the axis of time stays, also for a single one.

        Parameters
        ----------
        dates : slice, int, array of int or bool, label, or sequence of labels
            Integers are positions and booleans mark dates. Anything else is looked up among the
            `timestamps`.

        Raises
        ------
        IndexError
            When a position lies outside the dates.
        KeyError
            When a label is not among the timestamps.
        """
        at = positions(dates, len(self), getattr(self, "timestamps", ()))
        taken: Self = along_time(self, at)
        return taken

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Join records of successive dates.

        Parameters
        ----------
        parts : sequence of records of this class
            All with the same assets and names, and with the same optional arrays. `metadata` and
            checkpoints come from the last, `prev_weights` from the first.

        Raises
        ------
        TypeError
            When a part is of another class.
        ValueError
            When there is no part, or parts disagree.
        """
        listed = list(require_items("parts", parts))
        for i, part in enumerate(listed):
            if type(part) is not cls:
                raise TypeError(
                    f"parts must be of class {cls.__name__}; got {type(part).__name__} at {i}"
                )
        if not listed:
            raise ValueError(f"parts must hold one {cls.__name__} or more; got none")
        whole: Self = concatenated(listed)
        return whole


def along_time(record: Any, dates: slice | NDArray[np.intp]) -> Any:
    """Take dates of a record by a slice (views) or by positions (copies)."""
    changes: dict[str, Any] = {}
    for name, part in _dated_fields(record):
        if isinstance(part, DatedRecord):
            changes[name] = along_time(part, dates)
        elif part is not None:
            changes[name] = part[(slice(None),) * record.time_axes[name] + (dates,)]
    if len(getattr(record, "timestamps", ())):
        changes["timestamps"] = labels_at(record.timestamps, dates)
    if windows := windows_of(record):
        cut = [labels_at(one, dates) for one in windows]
        changes["metadata"] = with_windows(record.metadata, cut)
    return replace(record, **changes)


def concatenated(parts: Sequence[Any]) -> Any:
    """Join records of one class that agree in all fields without an axis of time."""
    first, last = parts[0], parts[-1]
    changes: dict[str, Any] = {}
    for name, _ in _dated_fields(last):
        values = [getattr(part, name) for part in parts]
        missing = [value is None for value in values]
        if isinstance(values[0], DatedRecord):
            changes[name] = concatenated(values)
        elif any(missing) and not all(missing):
            raise ValueError(
                f"{name} must be given in all parts or in none; part {missing.index(True)} has none"
            )
        elif not all(missing):
            changes[name] = np.concatenate(values, axis=last.time_axes[name])
    for field in fields(last):
        if field.name in changes or field.name in _FREE or field.name in last.time_axes:
            continue
        value = getattr(last, field.name)
        if field.name == "prev_weights":
            changes[field.name] = first.prev_weights
        elif not all(same_value(getattr(part, field.name), value) for part in parts):
            raise ValueError(f"{field.name} must be the same in all parts")
    if hasattr(last, "timestamps"):
        changes["timestamps"] = _joined_labels(parts)
    if windows_of(last):
        listed = [windows_of(part) for part in parts]
        whole = [sum(one, ()) for one in zip(*listed, strict=True)] if all(listed) else []
        changes["metadata"] = with_windows(last.metadata, whole)
    return replace(last, **changes)


def n_dates_of(record: Any) -> int:
    """Count the dates of a record."""
    n_periods = getattr(record, "n_periods", None)
    if n_periods is not None:
        return int(n_periods)
    name, part = next((name, part) for name, part in _dated_fields(record) if part is not None)
    return len(part) if isinstance(part, DatedRecord) else int(part.shape[record.time_axes[name]])


def positions(dates: Any, n_dates: int, timestamps: Any) -> slice | NDArray[np.intp]:
    """Convert the argument of `record[dates]` to a slice or positions."""
    if isinstance(dates, slice):
        return dates
    array = np.asarray(dates) if isinstance(dates, (int, list, np.ndarray, np.integer)) else None
    if array is None or array.dtype.kind not in "iub":
        return _positions_of_labels(dates, timestamps)
    if array.dtype == np.bool_:
        if array.shape != (n_dates,):
            raise IndexError(f"a mask of dates must have shape ({n_dates},); got {array.shape}")
        return np.flatnonzero(array)
    at = np.atleast_1d(array).astype(np.intp)
    outside = (at < -n_dates) | (at >= n_dates)
    if at.ndim != 1 or outside.any():
        where = f"position {at[outside][0]}" if at.ndim == 1 else f"shape {at.shape}"
        raise IndexError(f"dates must be positions among {n_dates} dates; got {where}")
    return at


def labels_at(timestamps: Any, dates: slice | NDArray[np.intp]) -> Any:
    """Take labels at a slice or at positions, in the type they have."""
    if isinstance(dates, slice) or hasattr(timestamps, "__array__"):
        return timestamps[dates]
    return tuple(timestamps[at] for at in dates.tolist())


def _positions_of_labels(dates: Any, timestamps: Any) -> NDArray[np.intp]:
    one = isinstance(dates, (str, bytes)) or not hasattr(dates, "__len__")
    wanted = [dates] if one else list(dates)
    place = {instant(label): at for at, label in enumerate(timestamps)}
    absent = [label for label in wanted if instant(label) not in place]
    if absent:
        raise KeyError(f"dates must be among the {len(place)} timestamps; {absent[0]!r} is not")
    return np.array([place[instant(label)] for label in wanted], dtype=np.intp)


def _joined_labels(parts: Sequence[Any]) -> Any:
    counts = [len(part.timestamps) > 0 for part in parts if len(part)]
    if not any(counts):
        return ()
    if not all(counts):
        raise ValueError(
            f"timestamps must be given in all parts or in none; part {counts.index(False)} has none"
        )
    joined = tuple(label for part in parts for label in part.timestamps)
    require_ascending("timestamps of the parts", joined, opaque=True)
    return joined


def _dated_fields(record: Any) -> list[tuple[str, Any]]:
    """List the fields with an axis of time; in a record of records all of them."""
    if record.time_axes:
        return [(name, getattr(record, name)) for name in record.time_axes]
    return [(field.name, getattr(record, field.name)) for field in fields(record)]
