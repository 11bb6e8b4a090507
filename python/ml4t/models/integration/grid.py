"""Rows of a long frame laid out on the grid of dates and assets.

The cell of row r is ``t(r) * N + i(r)``. Values travel in blocks of rows small enough for the
cache: each column of a block is converted, then whole rows are written to their cells, so that
neither the columns nor the tensor exist twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml4t.models.integration.key_codes import Coded, code
from ml4t.models.types.arrays import asset_id
from ml4t.models.types.instants import UNORDERED, declared, in_time

if TYPE_CHECKING:
    from ml4t.models.integration.frame_reader import Column
    from ml4t.models.integration.timestamps import Dtype

BLOCK = 8192
"""Rows per block: 20 columns of float64 are 1.3 MB."""

SAME = 1e-12
"""Largest difference of values that must be constant, relative to the first or to 1."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Cell of each row of a long frame.

    Attributes
    ----------
    timestamps : tuple of length T
        Ascending.
    asset_ids : tuple of str, length N
        In order of first appearance when rows are sorted by (timestamp, text of the asset).
    cells : ndarray of int64, shape (rows,)
        Flat index into (T, N).
    mask : ndarray of bool, shape (T, N)
        True where a row exists.
    timestamp_dtype, entity_dtype : tuple, optional
        Types of the key columns.
    """

    timestamps: tuple[Any, ...]
    asset_ids: tuple[str, ...]
    cells: NDArray[np.int64]
    mask: NDArray[np.bool_]
    timestamp_dtype: Dtype | None
    entity_dtype: Dtype | None

    @property
    def shape(self) -> tuple[int, int]:
        """(T, N)."""
        return len(self.timestamps), len(self.asset_ids)


def lay_out(timestamps: Column, entities: Column) -> Grid:
    """Sort, number and check the keys.

    Raises
    ------
    ValueError
        When a key is missing or duplicated, or timestamps have no order.
    """
    times = _sorted_times(timestamps.name, code(timestamps))
    assets = by_id(entities.name, code(entities))
    n_dates, n_assets = len(times.labels), len(assets.labels)
    first = np.full(n_assets, n_dates, dtype=np.int64)
    np.minimum.at(first, assets.codes, times.codes)
    # Labels are in order of their text; a stable sort by first date keeps that among equals.
    assets = assets.sorted_by(np.argsort(first, kind="stable").tolist())
    cells = times.codes * n_assets + assets.codes
    mask = np.zeros(n_dates * n_assets, dtype=bool)
    mask[cells] = True
    if int(np.count_nonzero(mask)) != cells.size:
        _reject_duplicate(cells, times, assets)
    return Grid(
        times.labels,
        assets.labels,
        cells,
        mask.reshape(n_dates, n_assets),
        times.dtype,
        assets.dtype,
    )


def scatter(columns: Sequence[Column], grid: Grid, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Put columns on the grid.

    Parameters
    ----------
    columns : sequence of L columns
    grid : Grid
    dtype : float32 or float64

    Returns
    -------
    ndarray, shape (T, N, L)
        NaN where no row exists and where a value is not a finite number.
    """
    n_dates, n_assets = grid.shape
    tensor = np.full((n_dates * n_assets, len(columns)), np.nan, dtype=dtype)
    rows = grid.cells.size
    block = np.empty((min(BLOCK, rows), len(columns)), dtype=dtype)
    for start in range(0, rows, BLOCK):
        stop = min(start + BLOCK, rows)
        part = block[: stop - start]
        for place, column in enumerate(columns):
            part[:, place] = column.floats(start, stop, dtype)
        part[~np.isfinite(part)] = np.nan
        tensor[grid.cells[start:stop]] = part
    return tensor.reshape(n_dates, n_assets, len(columns))


def shared_by_date(column: Column, grid: Grid, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Take the one value that all rows of a date share.

    Returns
    -------
    ndarray, shape (T,)
        The first finite value by text of the asset; NaN without one.

    Raises
    ------
    ValueError
        When the finite values of a date differ.
    """
    ids = grid.asset_ids
    by_text = sorted(range(len(ids)), key=ids.__getitem__)
    values = scatter([column], grid, dtype)[:, by_text, 0]
    shared, bad = _first_of_each(values)
    if bad is not None:
        raise ValueError(
            f"context column {column.name!r} must be constant within timestamp; got "
            f"{_range(values[bad])} at {grid.timestamps[bad]}"
        )
    return shared


def shared_by_asset(column: Column, grid: Grid, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Take the one value that all rows of an asset share, shape (N,); see `shared_by_date`."""
    values = scatter([column], grid, dtype)[:, :, 0].T
    shared, bad = _first_of_each(values)
    if bad is not None:
        raise ValueError(
            f"column {column.name!r} must be constant within entity; got "
            f"{_range(values[bad])} for {grid.asset_ids[bad]!r}"
        )
    return shared


def _first_of_each(values: NDArray[Any]) -> tuple[NDArray[Any], int | None]:
    """Find the first finite value of each row, and the first row whose values differ."""
    if values.size == 0:
        return np.full(len(values), np.nan, dtype=values.dtype), None
    finite = np.isfinite(values)
    first = values[np.arange(len(values)), finite.argmax(axis=1)]
    # NaN compares as not greater: absent cells agree with any value.
    gap = np.abs(values - first[:, None]) > SAME * np.maximum(1.0, np.abs(first))[:, None]
    differ = gap.any(axis=1)
    return first, int(differ.argmax()) if differ.any() else None


def _range(values: NDArray[Any]) -> str:
    return f"values from {np.nanmin(values):.17g} to {np.nanmax(values):.17g}"


def _sorted_times(name: str, coded: Coded) -> Coded:
    """Put the dates in order of time, by instant or in the order that the column declares."""
    kind = coded.dtype[0] if coded.dtype else None
    if kind == "Categorical":
        raise ValueError(f"column {name!r} {UNORDERED}")
    if kind == "Enum" and coded.dtype is not None:
        labels = declared(coded.dtype[1:])
        coded = replace(coded, labels=tuple(labels[label] for label in coded.labels))
    places = in_time(
        f"column {name!r} must hold timestamps",
        coded.labels,
        at=lambda number: f"row {int((coded.codes == number).argmax())}",
    )
    return coded.sorted_by(sorted(range(len(places)), key=places.__getitem__))


def by_id(name: str, coded: Coded) -> Coded:
    """Name assets by their ids, in order of the text; 1, 1.0 and "1" are one asset.

    Raises
    ------
    ValueError
        When a label is neither text nor an integer.
    """
    texts = []
    for number, label in enumerate(coded.labels):
        text = asset_id(label)
        if not text:
            row = int(np.argmax(coded.codes == number))
            raise ValueError(
                f"column {name!r} must hold text or integers; got {label!r} "
                f"({type(label).__name__}) at row {row}"
            )
        texts.append(text)
    names = sorted(set(texts))
    number_of = {text: place for place, text in enumerate(names)}
    place = np.array([number_of[text] for text in texts], dtype=np.int64)
    dtype = coded.dtype
    if dtype is None and texts and not any(isinstance(label, str) for label in coded.labels):
        dtype = ("Int64",)  # of floats that are integers
    return Coded(tuple(names), place[coded.codes], dtype)


def _reject_duplicate(cells: NDArray[np.int64], times: Coded, assets: Coded) -> None:
    order = np.argsort(cells, kind="stable")
    again = np.flatnonzero(cells[order][1:] == cells[order][:-1])
    first, second = (int(row) for row in order[again[0] : again[0] + 2])
    raise ValueError(
        f"Duplicate (timestamp, entity) rows: ({times.labels[times.codes[first]]}, "
        f"{assets.labels[assets.codes[first]]!r}) at rows {first} and {second}; "
        f"{again.size} in all"
    )
