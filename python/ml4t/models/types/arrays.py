"""Conversion of arguments to the arrays and labels of batches and results.

Every array is returned as a read-only view. A float32, float64, bool or int64 array is viewed
in place: no copy, and the caller's array stays writable. Bools with another byte than 0 or
1 are copied: elsewhere a bool is one of the two.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Set, Sized
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from ml4t.models.checks import truth_values
from ml4t.models.types import wide

FloatArray: TypeAlias = NDArray[np.floating[Any]]
BoolArray: TypeAlias = NDArray[np.bool_]
IntArray: TypeAlias = NDArray[np.int64]

EXACT = 2.0**53
"""Below it every integer is a float, and no two are the same one."""


class Timestamps(Protocol):
    """Labels of dates of any kind: a tuple, a list, an array, an index."""

    def __len__(self) -> int:
        """Count the dates."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Walk through the labels in order of time."""
        ...

    def __getitem__(self, key: Any, /) -> Any:
        """Return the label of one date, or of several."""
        ...


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view."""
    view = array.view()
    view.flags.writeable = False
    return view


def as_floats(name: str, value: object, axes: str) -> FloatArray:
    """Take a float array whose axes are the letters of `axes`, such as "T N".

    Parameters
    ----------
    name : str
        Name of the argument.
    value : array_like or frame
        float32 and float64 stay as they are, everything else real becomes float64: booleans,
        integers (beyond 2**53 the nearest float), decimals. Masked entries of a masked array
        become NaN. Text, dates and durations are no numbers.
    axes : str
        One letter per axis.

    Returns
    -------
    ndarray of float32 or float64
        Read-only.

    Raises
    ------
    ValueError
        When the rank is wrong or the entries are not real numbers.
    """
    array = as_float_array(name, value)
    letters = axes.split()
    if array.ndim != len(letters):
        raise ValueError(
            f"{name} must be {len(letters)}D; got shape {array.shape}: "
            f"{name} must have shape {_letters(letters)}"
        )
    return array


def as_optional_floats(name: str, value: object, axes: str) -> FloatArray | None:
    """Like `as_floats`; None stays None."""
    return None if value is None else as_floats(name, value, axes)


def as_float_array(name: str, value: Any) -> FloatArray:
    """Like `as_floats`, of any rank."""
    if isinstance(value, np.ma.MaskedArray):
        value = np.ma.filled(value if value.dtype.kind == "f" else value.astype(float), np.nan)
    array = _array(name, value)
    if array.dtype not in (np.float32, np.float64):
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{name} must hold real numbers; {error}") from error
    return read_only(array)


def as_bools(name: str, value: object) -> BoolArray:
    """Take an array of bools, or of nothing but 0 and 1, of any rank."""
    array = truth_values(_array(name, value))
    if array.dtype != np.bool_:
        array = _exactly(name, array, np.dtype(np.bool_), "True and False, or 0 and 1")
    return read_only(array)


def as_integers(name: str, value: object) -> IntArray:
    """Take integers as int64, of any rank; 1.0 is an integer; 1.5, NaN and True are not."""
    array = _array(name, value)
    bools = array.dtype == np.bool_ or (
        array.dtype == object and any(isinstance(one, (bool, np.bool_)) for one in array.flat)
    )
    if bools:
        raise ValueError(f"{name} must hold integers; got True and False")
    if array.dtype != np.int64:
        array = _exactly(name, array, np.dtype(np.int64), "integers")
    return read_only(array)


def as_timestamps(value: Any) -> Timestamps:
    """Check that labels of dates are a sequence, and return them as they are."""
    if value is None:
        return ()
    _require_sequence("timestamps", value)
    if len(value) == 0:
        return ()  # an empty array has no truth value
    return read_only(value) if isinstance(value, np.ndarray) else cast("Timestamps", value)


def as_asset_ids(value: Any) -> tuple[str, ...]:
    """Take unique, non-empty names of assets; integers become text, as in a long frame.

    The messages give positions, never identifiers.
    """
    if value is None:
        return ()
    _require_sequence("asset_ids", value)
    # Python's own scalars at once; iterating makes one scalar of NumPy or Arrow each.
    listed = getattr(value, "to_pylist", None) or getattr(value, "tolist", None)
    ids = tuple(value if listed is None else listed())
    if set(map(type, ids)) != {str} or not all(ids):
        ids = tuple(_asset_id(position, one) for position, one in enumerate(ids))
    if len(set(ids)) != len(ids):
        first: dict[str, int] = {}
        again = next(i for i, one in enumerate(ids) if first.setdefault(one, i) != i)
        raise ValueError(
            f"asset_ids must be unique; positions {first[ids[again]]} and {again} hold the same id"
        )
    return ids


def as_names(argument: str, value: Any, count: int) -> tuple[str, ...]:
    """Take unique names of `count` columns, or none at all."""
    if value is None:
        return ()
    _require_sequence(argument, value)
    names = tuple(value)
    for position, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise ValueError(
                f"{argument} must be non-empty texts; got {name!r} at position {position}"
            )
    if len(set(names)) != len(names):
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise ValueError(f"{argument} must be unique; {twice!r} appears twice")
    if len(names) not in (0, count):
        raise ValueError(f"{argument} length mismatch: expected {count}, got {len(names)}")
    return names


def with_frame_labels(
    timestamps: Any, asset_ids: Any, given: Mapping[str, tuple[Any, str]]
) -> tuple[Timestamps, tuple[str, ...]]:
    """Take the labels of a record from its arguments, or from the frames among its arrays.

    Parameters
    ----------
    timestamps, asset_ids : sequence, optional
        Arguments of the record.
    given : mapping of str to (array_like or frame, axes)
        Array arguments. The index of a pandas frame names dates, columns of a
        frame of any kind name assets, where the axes are those of dates and assets.

    Raises
    ------
    ValueError
        When two sources of the same labels disagree: a date or asset would get another's numbers.
    """
    times, ids = as_timestamps(timestamps), as_asset_ids(asset_ids)
    whose_times, whose_ids = "timestamps", "asset_ids"
    for name, (value, axes) in given.items():
        if value is None or isinstance(value, np.ndarray):
            continue
        labels = wide.axis_labels(name, value, axes)
        own_times = as_timestamps(labels.get("T"))
        if not len(times):
            times, whose_times = own_times, name
        elif len(own_times) == len(times) and (at := wide.same_times(times, own_times)) is not None:
            raise ValueError(
                f"{whose_times} and {name} must name the same dates; position {at} differs. "
                f"Align the frames, or pass {name}.to_numpy()"
            )
        named = _ids_of_frame(name, labels.get("N"))
        if not ids:
            ids, whose_ids = named, name
        elif len(named) == len(ids) and named != ids:
            at = next(i for i, one in enumerate(named) if one != ids[i])
            raise ValueError(
                f"{whose_ids} and {name} must name the same assets in the same order; position "
                f"{at} differs. Reorder the columns, or pass {name}.to_numpy()"
            )
    return times, ids


def _ids_of_frame(name: str, labels: Any) -> tuple[str, ...]:
    try:
        return as_asset_ids(labels)
    except ValueError as error:
        raise ValueError(
            f"{name} must have one column per asset and one row per date; {error} of its columns"
        ) from error


def require_label_counts(
    timestamps: Timestamps, n_periods: int, ids: tuple[str, ...] = (), n_assets: int = 0
) -> None:
    """Reject labels whose number is not that of the dates or assets."""
    if len(timestamps) not in (0, n_periods):
        raise ValueError(f"timestamps length mismatch: expected {n_periods}, got {len(timestamps)}")
    if len(ids) not in (0, n_assets):
        raise ValueError(f"asset_ids length mismatch: expected {n_assets}, got {len(ids)}")


def require_agreement(what: str, expected: tuple[int, ...], got: tuple[int, ...]) -> None:
    """Reject two shapes that differ; `what` names the arrays and axes."""
    if expected != got:
        raise ValueError(f"{what}: expected {expected}, got {got}")


def _require_sequence(name: str, value: object) -> None:
    """Reject objects without length or order, or with several axes."""
    no_sequence = (
        isinstance(value, (str, bytes, Set, Mapping))
        or not isinstance(value, Sized)
        or not isinstance(value, Iterable)
    )
    if no_sequence or (isinstance(value, np.ndarray) and value.ndim != 1):
        shape = f" of shape {value.shape}" if isinstance(value, np.ndarray) else ""
        raise ValueError(f"{name} must be a sequence; got {type(value).__name__}{shape}")


def asset_id(value: object) -> str | None:
    """Return the text of an asset's id: text as it is, an integer in digits, 10001.0 as "10001".

    None for everything else: bools, 1.5, NaN, and floats from 2**53 on, where they skip integers.
    """
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (bool, np.bool_, np.timedelta64)):
        return None
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if (
        isinstance(value, (float, np.floating))
        and abs(float(value)) < EXACT
        and value == math.floor(value)
    ):
        return str(int(value))
    return None


def _asset_id(position: int, value: object) -> str:
    text = asset_id(value)
    if text:
        return text
    if text is not None:
        raise ValueError(f"asset_ids must be non-empty; position {position} is the empty text")
    raise ValueError(
        f"asset_ids must be text or integers; got {type(value).__name__} at position {position}"
    )


def _array(name: str, value: Any) -> NDArray[Any]:
    """Make an array of numbers or of objects that are numbers; None is a missing one."""
    if hasattr(value, "collect") and not hasattr(value, "__array__"):
        raise ValueError(f"{name} must be an array; got a {type(value).__name__}: collect() it")
    if wide.is_frame(value):
        return _of_frame(name, value)
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be an array; {error}") from error
    if type(value).__module__.split(".")[0] == "pandas" and array.dtype == object:
        array = _without_na(array)
    if got := _no_numbers(array):
        raise ValueError(f"{name} must hold real numbers; got {got}")
    return array


def _of_frame(name: str, frame: Any) -> NDArray[Any]:
    whole = wide.as_one_block(frame)
    if whole is not None:
        return whole
    parts = []
    for label, column in wide.columns_of(frame):
        part = np.asarray(column)
        part = _without_na(part) if part.dtype == object else part
        if got := _no_numbers(part):
            raise wide.column_error(name, frame, label, got)
        parts.append(part)
    return np.stack(parts, axis=1) if parts else np.empty((len(frame), 0))


def _without_na(array: NDArray[Any]) -> NDArray[Any]:
    """Put None where pandas has a missing value of its own, which no float can be made of."""
    missing = [type(one).__name__ == "NAType" for one in array.flat]
    if not any(missing):
        return array
    without = array.copy()
    without[np.reshape(missing, array.shape)] = None
    return without


def _no_numbers(array: NDArray[Any]) -> str:
    """Describe the cells of an array that are no numbers; empty without one."""
    if array.dtype.kind in "biuf":
        return ""
    if array.dtype != object:
        return f"dtype {array.dtype}"
    kinds = set(map(type, array.flat))
    others = tuple(kind for kind in kinds if not is_number(kind))
    if not others:
        return ""
    places = [i for i, one in np.ndenumerate(array) if type(one) in others]
    first, count = places[0], f"; {len(places)} such cells in all" if len(places) > 1 else ""
    at = f" at {first if len(first) > 1 else f'row {first[0]}'}" if first else ""
    return f"{reprlib.repr(array[first])} ({type(array[first]).__name__}){at}{count}"


def is_number(kind: type) -> bool:
    """Return whether values of a type are real numbers, or None, which is a missing one.

    Text, dates and durations are none, though NumPy makes floats of their digits and ticks.
    """
    if issubclass(
        kind, (str, bytes, np.datetime64, np.timedelta64, np.complexfloating, np.ndarray)
    ):
        return False
    return kind is type(None) or hasattr(kind, "__float__") or hasattr(kind, "__index__")


def _exactly(name: str, array: NDArray[Any], dtype: np.dtype[Any], rule: str) -> NDArray[Any]:
    """Convert only if nothing is lost; the first entry that would be is named."""
    try:
        with np.errstate(invalid="ignore"):
            converted = array.astype(dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must hold {rule}; {error}") from error
    lost = np.argwhere(np.asarray(array != converted, dtype=bool))
    if lost.size:
        where = tuple(int(i) for i in lost[0])
        got = reprlib.repr(array[where].item() if array.dtype != object else array[where])
        raise ValueError(f"{name} must hold {rule}; got {got} at {where}")
    return converted


def _letters(letters: list[str]) -> str:
    return f"({letters[0]},)" if len(letters) == 1 else f"({', '.join(letters)})"
