"""Checks of arguments: what, the rule, and what was got.

Each function returns the normalised value, so that a check reads as an assignment. Text where a
number is wanted raises `TypeError`; every other breach raises `ValueError`. A message starts with
the name that the caller knows the value by.
"""

from __future__ import annotations

import math
import numbers
import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


MOST = 2**63 - 1
"""No count is larger: neither an array nor a loop could be so long."""

_NOT_FINITE = "not finite"
NAN_IS_MISSING: Mapping[str, str] = {_NOT_FINITE: "nan"}
"""Metadata of a field of a fit in which NaN marks what is missing."""
NOT_FINITE_IS_A_RESULT: Mapping[str, str] = {_NOT_FINITE: "nan, inf"}
"""Metadata of a field of a fit that may be infinite or NaN, as a condition number may."""


def require_int(
    name: str, value: object, *, at_least: int | None = None, at_most: int | None = None
) -> int:
    """Return `value` as an int; NumPy integers are integers, bools and floats are not.

    With a lower bound it is a count, which has an upper bound as well: `at_most`, or 2**63 - 1.
    """
    rule = "must be an integer" if at_least is None else f"must be an integer >= {at_least}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        _refuse(name, rule, value)
    number = int(value)
    if at_least is not None and number < at_least:
        _refuse(name, rule, value)
    if at_most is not None and number > at_most:
        _refuse(name, f"{rule} and <= {at_most}", value)
    if at_least is not None and number > MOST and at_most is None:
        _refuse(name, f"{rule} and < 2**63", value)
    return number


def require_seed(name: str, value: object) -> int:
    """Return `value` as an int of 64 bits, with or without sign."""
    number = require_int(name, value)
    if not -(2**63) <= number < 2**64:
        _refuse(name, "must fit 64 bits: an integer >= -2**63 and < 2**64", value)
    return number


def require_real(
    name: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> float:
    """Return `value` as a finite float within the given bounds; bools are not numbers."""
    bounds = (("> ", above), (">= ", at_least), ("< ", below), ("<= ", at_most))
    rule = "must be a finite number" + " and".join(
        f" {sign}{bound:g}" for sign, bound in bounds if bound is not None
    )
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        _refuse(name, rule, value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    within = (
        math.isfinite(number)
        and (above is None or number > above)
        and (at_least is None or number >= at_least)
        and (below is None or number < below)
        and (at_most is None or number <= at_most)
    )
    if not within:
        _refuse(name, rule, value)
    return number


def require_bool(name: str, value: object) -> bool:
    """Return `value` as a bool; only Python's and NumPy's bools are bools."""
    if not isinstance(value, (bool, np.bool_)):
        _refuse(name, "must be True or False", value)
    return bool(value)


def require_text(name: str, value: object) -> str:
    """Return `value` when it is text that is not empty."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text; got {reprlib.repr(value)}")
    if not value:
        raise ValueError(f"{name} must not be empty; got the empty text")
    return value


def require_items(name: str, value: object) -> tuple[Any, ...]:
    """Return the entries of a list, tuple or other iterable; one text is no list of texts."""
    single = isinstance(value, (str, bytes, Mapping))
    if single or not isinstance(value, Iterable) or hasattr(value, "iloc"):
        raise TypeError(f"{name} must be a sequence; got {type(value).__name__}")
    return tuple(value)


def require_names(name: str, value: object) -> tuple[str, ...]:
    """Return names as a tuple of text."""
    if isinstance(value, str):
        raise TypeError(f"{name} must be a sequence of names; got the text {value!r}")
    return tuple(
        require_text(f"{name} entry {i}", x) for i, x in enumerate(require_items(name, value))
    )


def require_methods(name: str, value: T, *methods: str) -> T:
    """Return `value` when it has the methods of its role."""
    missing = [method for method in methods if not callable(getattr(value, method, None))]
    if missing:
        raise TypeError(f"{name} must have {missing[0]}(); got {type(value).__name__}")
    return value


def require_mapping(name: str, value: object) -> Mapping[Any, Any]:
    """Return `value` when it is a mapping."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping; got {reprlib.repr(value)}")
    return value


def require_path(name: str, value: object) -> str:
    """Return the text of a path."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path; got {reprlib.repr(value)}")
    path: object = os.fspath(value)
    if not isinstance(path, str):
        raise TypeError(f"{name} must be a path of text; got {reprlib.repr(path)}")
    return path


def require_one_of(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """Return `value` when it is one of the `allowed` words."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {reprlib.repr(value)}")
    return value


def require_shape(
    name: str, expected: tuple[int, ...], got: tuple[int, ...], *, axes: str | None = None
) -> None:
    """Reject a shape other than the `expected` one; `axes` says it in letters, as in "(T, K)"."""
    if tuple(got) == tuple(expected):
        return
    if axes is None:
        raise ValueError(f"{name} must have shape {tuple(expected)}; got {tuple(got)}")
    raise ValueError(f"{name} must have shape {axes}: expected {tuple(expected)}, got {tuple(got)}")


def require_type(name: str, value: object, *types: type[T]) -> T:
    """Return `value` when it is an instance of one of `types`, else raise `TypeError`."""
    if not isinstance(value, types):
        wanted = " or ".join(kind.__name__ for kind in types)
        raise TypeError(f"{name} must be a {wanted}; got {type(value).__name__}")
    return value


def require_finite(name: str, value: object, *, allowed: str = "") -> None:
    """Raise `FloatingPointError` at the first number in a record that is not finite.

    Parameters
    ----------
    name : str
        What the message calls the value; parts are named after fields, keys and positions.
    value : object
        Numbers, arrays, tuples, lists, mappings and dataclasses of them; anything else passes.
    allowed : str, default ""
        "nan" or "nan, inf"; fields of dataclasses declare it as their metadata.
    """
    if isinstance(value, (float, np.floating, np.ndarray)):
        _require_finite_numbers(name, np.asarray(value), allowed)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            require_finite(f"{name}.{key}", part, allowed=allowed)
    elif isinstance(value, (tuple, list)):
        for position, part in enumerate(value):
            require_finite(f"{name}.{position}", part, allowed=allowed)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            part = getattr(value, field.name)
            require_finite(
                f"{name}.{field.name}", part, allowed=field.metadata.get(_NOT_FINITE, allowed)
            )


def _require_finite_numbers(name: str, array: np.ndarray[Any, Any], allowed: str) -> None:
    if array.dtype.kind not in "fc":
        return
    fine = np.isfinite(array)
    if fine.all():
        return
    if "nan" in allowed:
        fine |= np.isnan(array)
    if "inf" in allowed or fine.all():
        return
    bad = np.argwhere(~fine)
    where = f" at {tuple(bad[0].tolist())}" if array.ndim else ""
    many = f" ({len(bad)} of {array.size} values are not)" if array.ndim else ""
    raise FloatingPointError(
        f"{name} is not finite; got {array[tuple(bad[0])]}{where}{many}. Inputs of another scale "
        "or double precision may help; an earlier fit is kept"
    )


def listed(names: Sequence[str], most: int = 10) -> str:
    """Write names, the first of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@contextmanager
def window_named(start: int, stop: int) -> Iterator[None]:
    """Add the window of dates to an error."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the window of dates {start} to {stop - 1}")
        raise


def _refuse(name: str, rule: str, value: object) -> NoReturn:
    error = TypeError if isinstance(value, (str, bytes)) else ValueError
    raise error(f"{name} {rule}; got {reprlib.repr(value)}")


def truth_values(array: NDArray[Any]) -> NDArray[Any]:
    """Bools of the bytes 0 and 1, copied only where one has another byte; what is no bool as it is.

    NumPy and PyTorch compare, negate and add up bools by their bytes.
    """
    if array.dtype != np.bool_ or array.view(np.uint8).max(initial=0) <= 1:
        return array
    plain: NDArray[np.bool_] = array.view(np.uint8) != 0
    return plain
