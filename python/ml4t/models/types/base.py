"""Equality, pickling and a short repr of every batch and result."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml4t.models.types.instants import instant

_SHORT = reprlib.Repr()
_SHORT.maxdict, _SHORT.maxtuple, _SHORT.maxlist, _SHORT.maxstring = 12, 4, 4, 80


class Record:
    """Base of the frozen dataclasses that hold arrays.

    Two records are equal when they are of one class and every field holds the same values: arrays
    by dtype, shape and content with NaN equal to NaN, so that comparing never raises. Records are
    not hashable. A subclass is a `dataclass(frozen=True, slots=True, eq=False, repr=False)`.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(same_value(_field(self, f.name), _field(other, f.name)) for f in _fields(self))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = (f"{f.name}={_show(_field(self, f.name))}" for f in _fields(self))
        return f"{type(self).__name__}({', '.join(shown)})"

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        # Through the constructor: NumPy forgets on the way that an array was read-only.
        return type(self), tuple(_field(self, f.name) for f in _fields(self))

    def _hold(self, **values: object) -> None:
        """Set fields of a frozen record while it is being built."""
        for name, value in values.items():
            object.__setattr__(self, name, value)


def same_value(left: object, right: object) -> bool:
    """Return whether two field values agree; never raises on arrays, tables or NaN."""
    if left is right:
        return True
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return _same_array(left, right)
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(
            same_value(left[key], right[key]) for key in left
        )
    if isinstance(left, (list, tuple)) and type(left) is type(right):
        return len(left) == len(right) and all(map(same_value, left, right))
    if isinstance(left, datetime) and isinstance(right, datetime):
        return instant(left) == instant(right)  # Python compares one zone by the wall clock
    if _is_nan(left) or _is_nan(right):
        return _is_nan(left) and _is_nan(right)
    return _same_other(left, right)


def _same_array(left: NDArray[Any], right: NDArray[Any]) -> bool:
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if left.dtype.kind == "O":
        return all(map(same_value, left.ravel(), right.ravel()))
    return np.array_equal(left, right, equal_nan=left.dtype.kind in "fcmM")


def _same_other(left: object, right: object) -> bool:
    try:
        if _is_column(left) or _is_column(right):
            # Their == answers per element, warns or raises.
            return type(left) is type(right) and _same_array(np.asarray(left), np.asarray(right))
        return bool(left == right)
    except (TypeError, ValueError, RuntimeError):
        return False


def _is_column(value: object) -> bool:
    """Recognise an index, a series, a table or a tensor."""
    return hasattr(value, "__array__") and not isinstance(value, (np.generic, Record))


def _is_nan(value: object) -> bool:
    return isinstance(value, (float, np.generic)) and bool(value != value)


def _fields(record: Record) -> tuple[Any, ...]:
    return fields(record)  # type: ignore[arg-type]


def _field(record: Record, name: str) -> Any:
    return getattr(record, name)


def _show(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"<{value.dtype} {value.shape}>"
    return repr(value) if isinstance(value, Record) else _SHORT.repr(value)
