"""Whether the rows of a lazy frame can be read a slice at a time, at no more than their own cost.

Polars' engine reads ahead of whom it streams to, by row groups and threads: some GiB of wide files.
A slice that polars pushes into the scan of a Parquet file needs none of that. Whatever the plan,
`LazyFrame.slice` gives its rows; what polars says it would do decides about cost alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_MOST_FILES = 64
"""A slice of more files costs as much for finding its first row as for reading it."""

_SCAN = re.compile(r"Parquet SCAN \[.*?(?:, \.\.\. (\d+) other sources?)?\]")
_SLICE = re.compile(r"SLICE: (?:Positive \{ offset: \d+, len: \d+ \}|\(\d+, \d+\))")
# Nothing here changes which rows there are, nor looks at other rows.
_ROW_BY_ROW = re.compile(
    r"PROJECT (?:\*|\d+)/\d+ COLUMNS|ESTIMATED ROWS: \d+|simple π \d+/\d+ \[.*\]"
    r"|SELECT \[.*\](?: FROM)?|WITH_COLUMNS:|\[.*\]|RENAME"
)
_PYTHON = re.compile(r"\b(?:python_udf|map\w*|apply\w*)\(")


def slices_are_cheap(frame: pl.LazyFrame) -> bool:
    """Say whether a slice reads its own rows of few local Parquet files, and no others.

    So it is where polars pushes a slice into the only scan of the plan, and all that comes after
    goes row by row. A line of the plan that is not known, a filter, a join or a function of the
    user's make the answer no.

    Parameters
    ----------
    frame : polars LazyFrame
    """
    lines = [line.strip() for line in frame.slice(1, 1).explain().splitlines()]
    scans = [found for line in lines if (found := _SCAN.fullmatch(line))]
    slices = [line for line in lines if _SLICE.fullmatch(line)]
    others = [line for line in lines if not (_SCAN.fullmatch(line) or _SLICE.fullmatch(line))]
    if len(scans) != 1 or len(slices) != 1 or not all(map(_ROW_BY_ROW.fullmatch, others)):
        return False
    text = "\n".join(lines)
    return int(scans[0][1] or 0) < _MOST_FILES and "://" not in text and not _PYTHON.search(text)
