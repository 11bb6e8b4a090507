"""Frames where an array is expected: their columns, and the labels on their axes.

A wide frame has one row per date and, where the second axis is that of assets, one column per
asset. pandas, polars and Arrow are recognised by their attributes, so that none is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml4t.models.types.instants import instant, listed

TIME_NAMES = frozenset(("timestamp", "datetime", "date", "time"))
_FLOATS = frozenset(("float32", "float64", "Float32", "Float64", "float", "double"))


def is_frame(value: Any) -> bool:
    """Return whether a value is a table of pandas, polars or Arrow."""
    if hasattr(value, "iloc"):
        return hasattr(value, "columns")
    return hasattr(value, "get_columns") or hasattr(value, "column_names")


def columns_of(frame: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the label and the values of each column."""
    if hasattr(frame, "iloc"):
        for place, label in enumerate(frame.columns):
            yield label, frame.iloc[:, place]
    elif hasattr(frame, "get_columns"):
        yield from zip(frame.columns, frame.get_columns(), strict=True)
    else:
        yield from zip(frame.column_names, frame.columns, strict=True)


def as_one_block(frame: Any) -> NDArray[Any] | None:
    """View a frame of nothing but floats where it lies; None for every other frame."""
    types = frame.schema.types if hasattr(frame, "column_names") else frame.dtypes
    if not {str(one) for one in types} <= _FLOATS:
        return None
    whole = np.asarray(frame)
    return whole if whole.dtype in (np.float32, np.float64) else None


def column_error(name: str, frame: Any, label: Any, got: str) -> ValueError:
    """Return the error of a column that holds no numbers, with the next step."""
    indexed = f"frame.set_index({label!r}) makes dates of it"
    beside = "give its values as timestamps= and drop it"
    step = indexed if hasattr(frame, "iloc") else beside
    return ValueError(
        f"{name} must hold real numbers; column {label!r} holds {got}. "
        f"If it names the dates, {step}; if it names assets, the frame is long, and "
        "persistent_panel_batch_from_long_frame reads it"
    )


def axis_labels(name: str, value: Any, axes: str) -> dict[str, Any]:
    """Take the labels that a frame or series has for its dates (T) and assets (N).

    Numbering names nothing and is left out: 0, 1, 2 and so on, and the `column_0` of polars.

    Raises
    ------
    ValueError
        When rows or columns have labels of several levels, or a column of numbers has a name
        of dates.
    """
    letters = axes.split()
    labels: dict[str, Any] = {}
    rows = getattr(value, "index", None)
    if hasattr(value, "iloc") and rows is not None and letters[0] in "TN":
        _require_one_level(name, "index", rows)
        if not _is_numbering(rows):
            labels[letters[0]] = rows
    if is_frame(value) and letters[1:] == ["N"]:
        columns = value.column_names if hasattr(value, "column_names") else value.columns
        _require_one_level(name, "columns", columns)
        for label in columns:
            if isinstance(label, str) and label.casefold() in TIME_NAMES:
                raise column_error(name, value, label, "values under a name of dates")
        if not _is_numbering(columns):
            labels["N"] = columns
    return labels


def same_times(one: Iterable[Any], other: Iterable[Any]) -> int | None:
    """Find the first position where two sequences of labels name different dates.

    Labels of two kinds, a text and a date, are not compared.
    """
    for position, (left, right) in enumerate(zip(listed(one), listed(other), strict=False)):
        ours, theirs = instant(left), instant(right)
        if ours[0] == theirs[0] and ours != theirs:
            return position
    return None


def _require_one_level(name: str, what: str, labels: Any) -> None:
    if getattr(labels, "nlevels", 1) > 1:
        raise ValueError(
            f"{name} must be a frame with one row per date and one column per asset; its {what} "
            f"has {labels.nlevels} levels. persistent_panel_batch_from_long_frame reads a long "
            "frame: call frame.reset_index() first"
        )


def _is_numbering(labels: Any) -> bool:
    listed = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    numbers = list(range(len(listed)))
    if all(type(one) is int for one in listed):
        return listed == numbers
    return listed == [f"column_{one}" for one in numbers]
