"""Rows of a lazy frame a part at a time, where a part costs no more than its own rows.

Polars' engine reads ahead by row groups and threads: some GiB of wide files.
A slice, or a range of dates, that polars pushes into the scan of Parquet files needs none of that.
Whatever the plan, `LazyFrame.slice` and `LazyFrame.filter` give its rows; the plan that polars
explains decides about cost alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

_MOST_FILES = 64
"""The search for a part in more files costs as much as a read."""

_SCAN = re.compile(r"Parquet SCAN \[.*?(?:, \.\.\. (\d+) other sources?)?\]")
_SLICE = re.compile(r"SLICE: (?:Positive \{ offset: \d+, len: \d+ \}|\(\d+, \d+\))")
_SELECTION = re.compile(r"SELECTION: .*")
# Nothing else may follow a scan: no filter, no join, no function that sees other rows.
_ROW_BY_ROW = re.compile(
    r"PROJECT (?:\*|\d+)/\d+ COLUMNS|ESTIMATED ROWS: \d+|simple π \d+/\d+ \[.*\]"
    r"|SELECT \[.*\](?: FROM)?|WITH_COLUMNS:|\[.*\]|RENAME"
)
_COMPARED = re.compile(r"U?Int\d+|Date|String|Datetime\(time_unit='[mu]s', time_zone=None\)")
_PYTHON = re.compile(r"\b(?:python_udf|map\w*|apply\w*)\(")


def slices_are_cheap(frame: pl.LazyFrame) -> bool:
    """Return whether a slice reads its own rows of a few local Parquet files, and no others.

    True where polars pushes a slice into the only scan of the plan. A line of the plan that is
    not known, or a function of the user's, makes the result False.

    Parameters
    ----------
    frame : polars LazyFrame
    """
    return _lines_of_a_scan(frame.slice(1, 1), _SLICE) == 1


def ranges_of_dates(
    frame: pl.LazyFrame, key: str, n_rows: int, most: int
) -> list[tuple[int, pl.LazyFrame]]:
    """Cut a frame into ranges of whole dates, where it is in order and a range reads little else.

    Possible where polars pushes a filter by date into the only scan of the plan, whose statistics
    then select the row groups. The column of dates is read here, and the number of rows by date
    kept.

    Parameters
    ----------
    frame : polars LazyFrame
    key : str
        The column of dates.
    n_rows, most : int
        Rows of a range of several dates, and of any range.

    Returns
    -------
    list of (int, polars LazyFrame)
        Number of rows, and the rows; empty where the frame is not to be read in this way.
    """
    column, dates = frame.select(key), import_module("polars").col(key)
    kind = column.collect_schema()[key]
    # Dates computed by a window do not count: polars 1.10 filters before it.
    if not _COMPARED.fullmatch(str(kind)) or has_windows(column):
        return []
    if _lines_of_a_scan(frame.filter(dates >= dates), _SELECTION) != 1:
        return []
    sizes = _rows_of_dates(column)
    if not sizes or max(sizes.values()) > most:
        return []
    lit = partial(import_module("polars").lit, dtype=kind)
    return [
        (size, frame.filter((dates >= lit(first)) & (dates <= lit(last))))
        for first, last, size in _together(sizes, n_rows)
    ]


def _lines_of_a_scan(frame: pl.LazyFrame, what: re.Pattern[str]) -> int | None:
    """Count such lines of a plan that scans a few local files and goes row by row; else None."""
    lines = [line.strip() for line in frame.explain().splitlines()]
    others = [line for line in lines if not what.fullmatch(line)]
    scans = [scan for line in others if (scan := _SCAN.fullmatch(line))]
    known = all(_SCAN.fullmatch(line) or _ROW_BY_ROW.fullmatch(line) for line in others)
    if not known or len(scans) != 1 or int(scans[0][1] or 0) >= _MOST_FILES:
        return None
    text = "\n".join(lines)
    return None if "://" in text or _PYTHON.search(text) else len(lines) - len(others)


def _rows_of_dates(column: pl.LazyFrame) -> dict[Any, int]:
    """Count the rows of each date, in order; nothing where dates are missing or not in order."""
    # An old polars cannot stream to Python.
    stream = getattr(column, "collect_batches", lambda: [column.collect()])
    sizes: dict[Any, int] = {}
    latest = None
    for batch in stream():
        dates = batch.to_series()
        if dates.is_empty():
            continue
        if dates.null_count() or not dates.is_sorted() or (sizes and dates[0] < latest):
            return {}
        runs = dates.rle().struct
        for date, size in zip(runs.field("value"), runs.field("len"), strict=True):
            sizes[date] = sizes.get(date, 0) + size
        latest = dates[-1]
    return sizes


def _together(sizes: Mapping[Any, int], n_rows: int) -> Iterator[tuple[Any, Any, int]]:
    """Yield the first date, the last and the rows of as many dates as fit into a block."""
    dates: list[Any] = []
    total = 0
    for date, size in sizes.items():
        if dates and total + size > n_rows:
            yield dates[0], dates[-1], total
            dates, total = [], 0
        dates.append(date)
        total += size
    yield dates[0], dates[-1], total


def has_windows(frame: pl.LazyFrame) -> bool:
    """Return whether a column depends on other rows, perhaps at random: it is read once.

    Parameters
    ----------
    frame : polars LazyFrame
    """
    return ".over(" in frame.explain()
