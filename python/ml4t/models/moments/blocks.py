"""Long frames as blocks of rows: polars frames, lazy frames, Parquet files.

Blocks end where dates end, so that a date is summed and ranked whole, where it is read. How a
source is cut depends on the source and the number of columns alone.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

from ml4t.models.moments.lazy_plans import has_windows, ranges_of_dates, slices_are_cheap
from ml4t.models.types.instants import instant

if TYPE_CHECKING:
    import polars as pl

Source: TypeAlias = (
    "pl.DataFrame | pl.LazyFrame | str | os.PathLike[str] | Sequence[str | os.PathLike[str]]"
)

BLOCK_BYTES = 1 << 27
"""Size of a block in float64, at most (128 MiB)."""

_MOST_ROWS = 1 << 20
MOST_BLOCKS = 4
"""A date with more rows than this many blocks is cut, which bounds memory."""
_AT_A_TIME = 24
"""Columns that are read at a time."""
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")


def polars() -> Any:
    """Import polars with the first frame."""
    return import_module("polars")


def block_rows(n_columns: int) -> int:
    """Rows of a block: a power of two, since row groups often have as many."""
    rows = max(BLOCK_BYTES // (8 * n_columns), 1)
    return min(1 << (rows.bit_length() - 1), _MOST_ROWS)


@dataclass(frozen=True, slots=True)
class FileRows:
    """Some rows of a Parquet file, not yet read.

    Attributes
    ----------
    path : str
    first : int
        Position of the first row in the file.
    n_rows : int
    cut : (bool, bool)
        Whether other blocks may hold rows of the first date before these, of the last date after.
    """

    path: str
    first: int
    n_rows: int
    cut: tuple[bool, bool]

    def read(self, columns: Sequence[str]) -> pl.DataFrame:
        """Read these rows of some columns, and no others."""
        with _naming(self.path):
            return _collected(_lazy(self.path).slice(self.first, self.n_rows), columns)


@dataclass(frozen=True, slots=True)
class FrameRows:
    """Some rows of a frame in memory.

    Attributes
    ----------
    frame : polars DataFrame
    first : int
        Position of the first row in the whole.
    cut : (bool, bool)
        As in `FileRows`.
    """

    frame: pl.DataFrame
    first: int
    cut: tuple[bool, bool]

    def read(self, columns: Sequence[str]) -> pl.DataFrame:
        """Take some columns."""
        return self.frame.select(columns)


@dataclass(frozen=True, slots=True)
class PlanRows:
    """Some rows of a lazy frame, not yet read.

    Attributes
    ----------
    rows : polars LazyFrame
        The columns that are wanted, and no others.
    first, n_rows : int
    cut : (bool, bool)
        As in `FileRows`.
    at_once : bool
        Whether all columns must be of one run of the plan.
    """

    rows: pl.LazyFrame
    first: int
    n_rows: int
    cut: tuple[bool, bool]
    at_once: bool

    def read(self, columns: Sequence[str]) -> pl.DataFrame:
        """Read these rows of some columns, and no others."""
        rows = self.rows.select(columns)
        frame = rows.collect() if self.at_once else _collected(rows, columns)
        if len(frame) != self.n_rows:
            raise ValueError(
                "source must give the same rows whenever it is read; from row "
                f"{self.first} it gave {self.n_rows} rows, then {len(frame)}"
            )
        return frame

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as rows: a worker may lack the files of the plan."""
        return FrameRows, (self.read(self.rows.collect_schema().names()), self.first, self.cut)


Block: TypeAlias = FileRows | FrameRows | PlanRows


def _collected(rows: pl.LazyFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Read some columns at a time: of each of them, polars holds the whole row group."""
    groups = [columns[i : i + _AT_A_TIME] for i in range(0, len(columns), _AT_A_TIME)]
    parts = [rows.select(group).collect() for group in groups]
    whole: pl.DataFrame = polars().concat(parts, how="horizontal")
    return whole


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and blocks of a source, not yet read.

    Attributes
    ----------
    schemas : dict of str to mapping
        Types of the columns, by file; one entry under "the frame" where there are no files.
    n_rows : int or None
        None where it needs a read.
    blocks : callable
        `blocks(columns, n)` yields the rows in order: whole dates, which the first column names,
        of n rows together at most, or one date that is larger.
    ahead : int
        Blocks in flight at a time: many of files, few of rows in memory.
    """

    schemas: Mapping[str, Mapping[str, Any]]
    n_rows: int | None
    blocks: Callable[[Sequence[str], int], Iterator[Block]]
    ahead: int


def opened(source: Source, *, distributed: bool = False) -> Table:
    """Open a source: columns, types, number of rows.

    Parameters
    ----------
    source : as in `CharacteristicMoments.scan`
    distributed : bool, default False
        Whether workers read the blocks; the dates that files share are then read first.

    Raises
    ------
    FileNotFoundError
        When a path names no file.
    ValueError
        When a file is named twice, or is not readable as Parquet.
    TypeError
        When `source` has another type.
    """
    pl = polars()
    if isinstance(source, pl.DataFrame):
        return Table({"the frame": source.schema}, source.height, _of_frame(source), 64)
    if isinstance(source, pl.LazyFrame):
        return Table({"the frame": source.collect_schema()}, None, _of_lazy_frame(source), 8)
    files = _files(source)
    schemas, sizes = {}, {}
    for path in files:
        with _naming(path):
            schemas[path] = _lazy(path).collect_schema()
            sizes[path] = int(_lazy(path).select(pl.len()).collect().item())
    return Table(schemas, sum(sizes.values()), _of_files(sizes, distributed=distributed), 4096)


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Name the file that polars cannot read."""
    try:
        yield
    except polars().exceptions.PolarsError as error:
        raise ValueError(f"cannot read {path}: {error}") from error


def _lazy(path: str) -> pl.LazyFrame:
    rows: pl.LazyFrame = polars().scan_parquet(path, glob=False)
    named = {name: text for name, text in map(_split, Path(path).parent.parts) if name}
    if not named:
        return rows
    own = rows.collect_schema()
    return rows.with_columns(
        _literal(name, text) for name, text in named.items() if name not in own
    )


def _split(folder: str) -> tuple[str, str]:
    """Split ``date=2001-01-31``, the folder name of partitioned data; empty for other names."""
    name, sign, text = folder.partition("=")
    return (name, unquote(text)) if sign else ("", "")


def _literal(name: str, text: str) -> pl.Expr:
    """Column of the value in a folder name: an integer, a date, or text."""
    value: int | date | str | None = text
    if text == NO_VALUE:
        value = None
    elif WHOLE.fullmatch(text):
        value = int(text)
    else:
        with contextlib.suppress(ValueError):
            value = date.fromisoformat(text) if text.count("-") == 2 else text
    column: pl.Expr = polars().lit(value).alias(name)
    return column


def _files(source: Any) -> list[str]:
    if isinstance(source, (str, os.PathLike)):
        return _expanded(os.fspath(source))
    if not isinstance(source, Sequence) or not all(
        isinstance(one, (str, os.PathLike)) for one in source
    ):
        raise TypeError(
            "source must be a polars frame or lazy frame, or the path, glob, folder or list of "
            f"paths of Parquet files; got {type(source).__name__}"
        )
    files = [path for one in source for path in _expanded(os.fspath(one))]
    real = {path if "://" in path else os.path.realpath(path) for path in files}
    if len(real) != len(files):
        raise ValueError("source must name every file once; a file appears twice")
    if not files:
        raise FileNotFoundError("source must name at least one Parquet file; got an empty list")
    return files


def _expanded(path: str) -> list[str]:
    """List the files of a folder or pattern, without those that are hidden below it."""
    if "://" in path or Path(path).is_file():
        return [path]
    folder = Path(path).is_dir()
    pattern = str(Path(glob.escape(path)) / "**" / "*.parquet") if folder else _pattern(path)
    matched = sorted(glob.glob(pattern, recursive=True), key=_by_number)  # noqa: PTH207 - absolute
    shown = [one for one in matched if not _is_hidden(one, pattern)]
    files: dict[str, None] = {}  # in order; a pattern may match a folder and what is in it
    for one in shown:
        if not Path(one).is_dir():
            files[one] = None
        elif not folder:
            files |= dict.fromkeys(_expanded(one))
    if not files:
        hidden = f" ({len(matched)} hidden: names that begin with _ or .)" if matched else ""
        raise FileNotFoundError(f"source must name Parquet files; {path!r} names none{hidden}")
    return list(files)


def _is_hidden(path: str, pattern: str) -> bool:
    """Return whether a wildcard matches a name such as `_temporary`, `_delta_log` or `.crc`.

    Writers keep their notes under names that begin with _ or a dot. A name that is spelled out in
    the pattern is wanted.
    """
    spelled = [part for part in Path(pattern).parts if part.startswith(("_", "."))]
    fixed = sum(
        1 for _ in itertools.takewhile(lambda part: not _is_magic(part), Path(pattern).parts)
    )
    return any(
        part.startswith(("_", ".")) and not any(fnmatch.fnmatch(part, one) for one in spelled)
        for part in Path(path).parts[fixed:]
    )


def _is_magic(part: str) -> bool:
    return any(sign in re.sub(r"\[.\]", "", part) for sign in "*?[")


def _pattern(path: str) -> str:
    """Take the folders that exist under a pattern by their names: ``run[1]/*.parquet``."""
    real = next((one for one in Path(path).parents if one.is_dir()), Path())
    rest = str(Path(path).relative_to(real))
    return rest if real == Path() else str(Path(glob.escape(str(real))) / rest)


def _by_number(path: str) -> list[str | int]:
    """Order ``month=10`` after ``month=9``."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", path)]


def _of_frame(frame: pl.DataFrame) -> Callable[[Sequence[str], int], Iterator[Block]]:
    def blocks(columns: Sequence[str], n_rows: int) -> Iterator[Block]:
        dates = frame[columns[0]]
        for first, stop, cut in _whole_dates(dates.slice, n_rows, frame.height):
            yield FrameRows(frame.slice(first, stop - first), first, cut)

    return blocks


def _of_files(
    sizes: Mapping[str, int], *, distributed: bool
) -> Callable[[Sequence[str], int], Iterator[Block]]:
    def blocks(columns: Sequence[str], n_rows: int) -> Iterator[Block]:
        def dates(path: str, first: int, n: int) -> pl.Series:
            return FileRows(path, first, n, (False, False)).read(columns[:1]).to_series()

        paths = [path for path, size in sizes.items() if size]
        ends = [_ends(path, columns[0]) if distributed else (None, None) for path in paths]
        following = [*ends[1:], (None, None)][: len(ends)]
        # Ends that are not read count as equal: they may be of one date.
        shared = False  # Whether the file before ends with the date that this one begins with.
        for path, (_, last), (then, _) in zip(paths, ends, following, strict=True):
            size, continues = sizes[path], instant(last) == instant(then)
            for first, stop, (before, after) in _whole_dates(partial(dates, path), n_rows, size):
                earlier = before or (first == 0 and shared)
                later = after or (stop == size and continues)
                yield FileRows(path, first, stop - first, (earlier, later))
            shared = continues

    return blocks


def _ends(path: str, key: str) -> tuple[Any, Any]:
    """Read the first and the last date of a file."""
    with _naming(path):
        column = _lazy(path).select(key)
        first, last = polars().concat([column.head(1), column.tail(1)]).collect().to_series()
    return first, last


def _of_lazy_frame(frame: pl.LazyFrame) -> Callable[[Sequence[str], int], Iterator[Block]]:
    def blocks(columns: Sequence[str], n_rows: int) -> Iterator[Block]:
        wanted = frame.select(columns)
        if slices_are_cheap(wanted):
            yield from _by_slices(wanted, columns[0], n_rows)
            return
        first, at_once = 0, has_windows(wanted)
        for size, rows in ranges_of_dates(wanted, columns[0], n_rows, MOST_BLOCKS * n_rows):
            yield PlanRows(rows, first, size, (False, False), at_once)
            first += size
        if first:
            return
        if not hasattr(wanted, "collect_batches"):  # an old polars cannot stream to Python
            yield from _of_frame(wanted.collect())(columns, n_rows)
            return
        concat = polars().concat
        pending: pl.DataFrame = polars().DataFrame(schema=wanted.collect_schema())
        batches = wanted.collect_batches(chunk_size=n_rows, maintain_order=True)

        def dates(_first: int, n: int) -> pl.Series:
            nonlocal pending
            while pending.height < n and (batch := next(batches, None)) is not None:
                pending = concat([pending, batch])
            return pending[columns[0]].slice(0, n)

        for first, stop, cut in _whole_dates(dates, n_rows, None):
            yield FrameRows(pending.slice(0, stop - first), first, cut)
            pending = pending.slice(stop - first)

    return blocks


def _by_slices(frame: pl.LazyFrame, key: str, n_rows: int) -> Iterator[Block]:
    def dates(first: int, n: int) -> pl.Series:
        return frame.select(key).slice(first, n).collect().to_series()

    for first, stop, cut in _whole_dates(dates, n_rows, None):
        yield PlanRows(frame.slice(first, stop - first), first, stop - first, cut, at_once=False)


def _whole_dates(
    dates: Callable[[int, int], pl.Series], n_rows: int, size: int | None
) -> Iterator[tuple[int, int, tuple[bool, bool]]]:
    """Yield where blocks begin and end, and whether either end cuts a date.

    Parameters
    ----------
    dates : callable
        `dates(first, n)` gives the dates of at most n rows.
    n_rows : int
    size : int or None
        Number of rows, where it is known.
    """
    first, before = 0, False
    while first != size:
        stop, after = _end_of_block(dates, first, n_rows, size)
        if stop == first:
            return
        yield first, stop, (before, after)
        first, before = stop, after


def _end_of_block(
    dates: Callable[[int, int], pl.Series], first: int, n_rows: int, size: int | None
) -> tuple[int, bool]:
    if size is not None and size - first <= n_rows:
        return size, False
    near = dates(first, n_rows + 1)
    if len(near) <= n_rows:
        return first + len(near), False
    runs = near.rle().struct.field("len")
    if len(runs) > 1:  # the last run includes the row beyond the block
        return first + len(near) - int(runs[-1]), False
    most = MOST_BLOCKS * n_rows
    run = int(dates(first, most + 1).rle().struct.field("len")[0])
    return (first + run, False) if run <= most else (first + n_rows, True)
