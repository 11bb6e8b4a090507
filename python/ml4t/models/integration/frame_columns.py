"""Columns of an output frame, compact until rows are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml4t.models.integration.timestamps import (
    UNITS,
    Dtype,
    common_dtype,
    plain,
    to_ticks,
)


@dataclass(frozen=True, slots=True)
class Values:
    """Numbers or bools, one per row.

    Attributes
    ----------
    array : ndarray, shape (rows,)
    nullable : bool, default False
        NaN stands for no value.
    """

    array: NDArray[Any]
    nullable: bool = False

    def __len__(self) -> int:
        return int(self.array.size)

    def to_list(self) -> list[Any]:
        """Return Python numbers, None for no value."""
        values: list[Any] = self.array.tolist()
        return [None if value != value else value for value in values] if self.nullable else values

    def to_polars(self, pl: Any, name: str) -> Any:
        """Build the polars Series."""
        series = pl.Series(name, np.ascontiguousarray(self.array))
        return series.fill_nan(None) if self.nullable else series


@dataclass(frozen=True, slots=True)
class Labels:
    """A few labels, repeated: row r is ``labels[codes[r]]``.

    Attributes
    ----------
    labels : sequence
    codes : ndarray of int, shape (rows,)
    dtype : tuple, optional
        Column type, where labels alone do not determine it.
    """

    labels: Sequence[Any]
    codes: NDArray[np.integer[Any]]
    dtype: Dtype | None = None

    def __len__(self) -> int:
        return int(self.codes.size)

    def to_list(self) -> list[Any]:
        """Repeat the labels."""
        return list(map(self.labels.__getitem__, self.codes.tolist()))

    def to_polars(self, pl: Any, name: str) -> Any:
        """Build the polars Series; its type stays when there is no row."""
        return series_of(pl, name, self.labels, self.dtype).gather(self.codes)


@dataclass(frozen=True, slots=True)
class Given:
    """Values of rows that the caller passes."""

    values: list[Any]

    def __len__(self) -> int:
        return len(self.values)

    def to_list(self) -> list[Any]:
        """Return the values."""
        return self.values

    def to_polars(self, pl: Any, name: str) -> Any:
        """Build the polars Series."""
        return series_of(pl, name, self.values, None)


AnyColumn = Values | Labels | Given


def series_of(pl: Any, name: str, values: Sequence[Any], dtype: Dtype | None) -> Any:
    """Build a polars Series of labels, with unit and time zone kept.

    Parameters
    ----------
    pl : module
        polars.
    name : str
    values : sequence
    dtype : tuple, optional
        Used when the labels fit it; by default the type of the labels.
    """
    labels = [plain(value) for value in values]
    present = [label for label in labels if label is not None]
    if present and all(isinstance(label, datetime) for label in present):
        return _moments(pl, name, labels, present)
    if dtype is None and present and all(isinstance(label, str) for label in present):
        dtype = common_dtype(present)
    if dtype is None:
        return pl.Series(name, labels, strict=False)
    wanted = getattr(pl, str(dtype[0]))
    if dtype[0] == "Enum":
        wanted = wanted(list(dtype[1:]))
    elif len(dtype) > 1:
        wanted = wanted(*dtype[1:])
    try:
        return pl.Series(name, labels, dtype=wanted)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        return pl.Series(name, labels, strict=False)


def _moments(pl: Any, name: str, labels: list[Any], present: list[datetime]) -> Any:
    dtype = common_dtype(present)
    unit = next(known for known in UNITS if dtype is not None and known == dtype[1])
    zone = dtype[2] if dtype is not None else None
    ticks: Any = to_ticks(present, unit)
    if len(present) < len(labels):
        counted = iter(ticks.tolist())
        ticks = [None if label is None else next(counted) for label in labels]
    return pl.Series(name, ticks, dtype=pl.Int64).cast(pl.Datetime(unit, zone))
