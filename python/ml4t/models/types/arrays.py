"""From what callers have to what batches and results hold.

Every array that leaves here is a read-only view. A float32, float64, bool or int64 array is viewed
where it lies: no copy, and the caller's own array stays writable.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping, Set, Sized
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.floating[Any]]
BoolArray: TypeAlias = NDArray[np.bool_]
IntArray: TypeAlias = NDArray[np.int64]


class Timestamps(Protocol):
    """Labels of periods: a tuple, a list, an array, an index. What they are is the caller's."""

    def __len__(self) -> int:
        """Count the periods."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Walk through the labels in order of time."""
        ...

    def __getitem__(self, key: Any, /) -> Any:
        """Give the label of one period, or of several."""
        ...


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Look at the same memory without the right to write."""
    view = array.view()
    view.flags.writeable = False
    return view


def as_floats(name: str, value: object, axes: str) -> FloatArray:
    """Take a float array whose axes are the letters of `axes`, such as "T N".

    Parameters
    ----------
    name : str
        What the caller calls it.
    value : array_like
        float32 and float64 stay as they are, everything else real becomes float64. Masked entries
        of a masked array become NaN.
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
            array = _without_na(value, array).astype(np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{name} must hold real numbers; {error}") from error
    return read_only(array)


def _without_na(value: Any, array: NDArray[Any]) -> NDArray[Any]:
    """Read NaN where pandas has a missing value of its own, which no float can be made of."""
    if array.dtype.kind != "O" or type(value).__module__.split(".")[0] != "pandas":
        return array
    found: NDArray[Any] = value.to_numpy(dtype=np.float64, na_value=np.nan)
    return found


def as_bools(name: str, value: object) -> BoolArray:
    """Take an array of bools, or of nothing but 0 and 1, of any rank."""
    array = _array(name, value)
    if array.dtype != np.bool_:
        array = _exactly(name, array, np.dtype(np.bool_), "True and False, or 0 and 1")
    return read_only(array)


def as_integers(name: str, value: object) -> IntArray:
    """Take an array of integers as int64, of any rank; 1.0 is an integer, 1.5 and NaN are not."""
    array = _array(name, value)
    if array.dtype != np.int64:
        array = _exactly(name, array, np.dtype(np.int64), "integers")
    return read_only(array)


def as_timestamps(value: Any) -> Timestamps:
    """Take labels of periods as they are; only that they can be counted matters."""
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
        raise ValueError(f"{argument} must be unique; {twice!r} comes twice")
    if len(names) not in (0, count):
        raise ValueError(f"{argument} length mismatch: expected {count}, got {len(names)}")
    return names


def require_label_counts(
    timestamps: Timestamps, n_periods: int, ids: tuple[str, ...] = (), n_assets: int = 0
) -> None:
    """Refuse labels that are there but are not as many as what they label."""
    if len(timestamps) not in (0, n_periods):
        raise ValueError(f"timestamps length mismatch: expected {n_periods}, got {len(timestamps)}")
    if len(ids) not in (0, n_assets):
        raise ValueError(f"asset_ids length mismatch: expected {n_assets}, got {len(ids)}")


def require_agreement(what: str, expected: tuple[int, ...], got: tuple[int, ...]) -> None:
    """Refuse two shapes that differ; `what` says which arrays, on which axes."""
    if expected != got:
        raise ValueError(f"{what}: expected {expected}, got {got}")


def _require_sequence(name: str, value: object) -> None:
    """Refuse what has no length, no order, or more than one axis."""
    no_sequence = isinstance(value, (str, bytes, Set, Mapping)) or not isinstance(value, Sized)
    if no_sequence or (isinstance(value, np.ndarray) and value.ndim != 1):
        shape = f" of shape {value.shape}" if isinstance(value, np.ndarray) else ""
        raise ValueError(f"{name} must be a sequence; got {type(value).__name__}{shape}")


def _asset_id(position: int, value: object) -> str:
    if isinstance(value, str):
        if value:
            return str.__str__(value)
        raise ValueError(f"asset_ids must be non-empty; position {position} is the empty text")
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return str(int(value))
    raise ValueError(
        f"asset_ids must be text or integers; got {type(value).__name__} at position {position}"
    )


def _array(name: str, value: Any) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be an array; {error}") from error
    if array.dtype.kind not in "biufO":
        raise ValueError(f"{name} must hold real numbers; got dtype {array.dtype}")
    return array


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
