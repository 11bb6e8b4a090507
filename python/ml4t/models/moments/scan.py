"""Moments of a long frame, block by block.

Where rows are in order of date, a block is some whole dates. The rows of a date that two files
share are joined, so that every date is ranked and summed whole, as in memory. Where rows are in no
order, a block has part of each date; dates are sums over blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml4t.models.checks import require_bool, require_names, require_one_of, require_text
from ml4t.models.kernels import Moments, row_moments
from ml4t.models.moments.blocks import MOST_BLOCKS, Block, Source, block_rows, opened, polars
from ml4t.models.moments.dated import Dated, PairwiseSum
from ml4t.models.moments.key_columns import TIMESTAMP_CANDIDATES, resolve_column
from ml4t.models.panel.imputation import POLICIES, fill_with_median
from ml4t.models.panel.ranks import cross_sectional_ranks
from ml4t.models.parallel import Executor, in_order, require_no_fork
from ml4t.models.progress import counting
from ml4t.models.types.arrays import EXACT
from ml4t.models.types.instants import UNORDERED, declared, in_time, instant, require_one_kind
from ml4t.models.types.timestamp import from_ticks, zone_of

if TYPE_CHECKING:
    import polars as pl


_TEXT = ("String", "Categorical", "Enum", "Null")
CUT_ROWS = 1 << 14
"""A cut date with more rows than this is summed in parts where possible."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Columns to read, and the treatment of gaps.

    Attributes
    ----------
    features : tuple of str
    returns : str
    timestamp : str or None
        None until the columns of the source are known.
    entity : str or None
    rank : bool
    missing : {"skip", "median"}
    """

    features: tuple[str, ...]
    returns: str
    timestamp: str | None
    entity: str | None
    rank: bool
    missing: str = "skip"

    @classmethod
    def of(
        cls,
        feature_cols: Sequence[str],
        return_col: str,
        *,
        timestamp_col: str | None,
        entity_col: str | None,
        rank: bool,
        missing: str,
    ) -> Plan:
        """Check the arguments of a scan that do not depend on the source."""
        features = require_names("feature_cols", feature_cols)
        keys = {"timestamp_col": timestamp_col, "entity_col": entity_col}
        for argument, name in {"return_col": return_col, **keys}.items():
            if argument == "return_col" or name is not None:
                require_text(argument, name)
        if not features or len(set(features)) != len(features):
            raise ValueError(f"feature_cols must be unique, at least one; got {features}")
        if clash := [one for one in features if one in (return_col, timestamp_col, entity_col)]:
            raise ValueError(f"feature_cols must be columns of their own; got {clash}")
        require_one_of("missing", missing, POLICIES)
        rank = require_bool("rank", rank)
        return cls(features, return_col, timestamp_col, entity_col, rank, missing)

    @property
    def whole_dates(self) -> str:
        """Name the setting that needs all rows of a date at once; empty without one."""
        if self.rank:
            return "rank=True"
        return "missing='median'" if self.missing == "median" else ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Everything that is read."""
        keys = (self.timestamp, self.entity, self.returns)
        return (*(key for key in keys if key is not None), *self.features)

    def resolved(self, schemas: Mapping[str, Mapping[str, Any]]) -> Plan:
        """Resolve the columns in every file, and reject types that hold no numbers."""
        plan = self
        for where, schema in schemas.items():
            named = resolve_column("timestamp", plan.timestamp, TIMESTAMP_CANDIDATES, [*schema])
            plan = replace(plan, timestamp=named)
            if len(set(plan.columns)) != len(plan.columns):
                raise ValueError(f"columns must have one role each; got {plan.columns}")
            if missing := [name for name in plan.columns if name not in schema]:
                raise KeyError(f"columns {missing} not found in {where}; it has {[*schema]}")
            for name in (plan.returns, *plan.features):
                if not (schema[name].is_numeric() or str(schema[name]) in ("Boolean", "Null")):
                    raise ValueError(
                        f"column {name!r} must be numeric; got {schema[name]} in {where}. Parse it "
                        "first, or leave it out"
                    )
            if plan.entity is not None and not _holds_ids(schema[plan.entity]):
                raise ValueError(
                    f"column {plan.entity!r} must hold text or integers; got "
                    f"{schema[plan.entity]} in {where}"
                )
        return plan


@dataclass(frozen=True, slots=True, eq=False)
class Day:
    """Rows of one date, perhaps not all.

    Attributes
    ----------
    label : object
    characteristics : ndarray, shape (rows, L)
    returns : ndarray of float64, shape (rows,)
    assets : polars Series or None
    """

    label: Any
    characteristics: NDArray[Any]
    returns: NDArray[np.float64]
    assets: pl.Series | None


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Moments and open dates of a block.

    Attributes
    ----------
    n_rows : int
    first, last : Day or None
        Dates that other blocks may continue; `last` is None where there is one date.
    body : Dated
        The other dates, or all of a block that is not in order.
    """

    n_rows: int
    first: Day | None
    body: Dated
    last: Day | None


def scan(source: Source, plan: Plan, *, executor: Executor | None, progress: bool) -> Dated:
    """Take the moments of a source; see `CharacteristicMoments.scan`."""
    require_no_fork(executor, "polars")
    table = opened(source, distributed=executor is not None)
    plan = plan.resolved(table.schemas)
    n_rows = block_rows(len(plan.columns))
    blocks = table.blocks(plan.columns, n_rows)
    assembly = _Assembly(plan, MOST_BLOCKS * n_rows)
    shown = require_bool("progress", progress)
    with counting("moments", unit="rows", total=table.n_rows, shown=shown) as count:
        for piece in _pieces(executor, blocks, plan, table.ahead):
            assembly.take(piece)
            count(piece.n_rows)
    return assembly.total()


def _pieces(
    executor: Executor | None, blocks: Iterator[Block], plan: Plan, ahead: int
) -> Iterator[Piece]:
    if executor is not None:
        yield from in_order(executor, read_piece, blocks, plan, ahead=ahead)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="ml4t-read") as reader:
        # One block is read while another is worked off.
        for block, frame in in_order(reader, _read, blocks, plan, ahead=2):
            yield _worked_off(block, frame, plan)


def _read(block: Block, plan: Plan) -> tuple[Block, pl.DataFrame]:
    return block, block.read(plan.columns)


def read_piece(block: Block, plan: Plan) -> Piece:
    """Read a block and work it off; where it runs is the executor's business."""
    return _worked_off(*_read(block, plan), plan)


def _worked_off(block: Block, frame: pl.DataFrame, plan: Plan) -> Piece:
    key = str(plan.timestamp)
    times = _labels_column(frame[key], block.first)
    n_instruments = 1 + len(plan.features)
    if frame.is_empty():
        return Piece(0, None, Dated((), Moments.zeros(0, n_instruments)), None)
    ordered = times.is_sorted()
    if not ordered:
        if plan.whole_dates:
            raise ValueError(
                f"{plan.whole_dates} needs rows in order of {key!r}; they are not, in the block at "
                f"row {block.first}: sort the source first, or rank before the scan"
            )
        frame = frame.with_columns(times).sort(key, maintain_order=True)
        times = frame[key]
    if plan.entity is not None:
        frame = frame.with_columns(_ids(frame[plan.entity], block.first))
        _reject_duplicates(frame.select(key, plan.entity), plan.entity)
    runs = times.rle().struct
    labels, sizes = _labels(runs.field("value")), runs.field("len").to_numpy()
    ends = np.concatenate([[0], sizes.cumsum(dtype=np.int64)])
    z, r = _numbers(frame, plan.features), _numbers(frame, (plan.returns,), double=True)[:, 0]
    assets = None if plan.entity is None else frame[plan.entity]

    def cut(i: int) -> Day | None:
        start, stop = int(ends[i]), int(ends[i + 1])
        if not ordered or (stop - start > CUT_ROWS and not plan.whole_dates and assets is None):
            return None
        named = None if assets is None else assets[start:stop]
        # Copies: rows of the edges alone outlive the block.
        return Day(labels[i], z[start:stop].copy(), r[start:stop].copy(), named)

    first = cut(0) if block.cut[0] or (block.cut[1] and len(labels) == 1) else None
    last = cut(len(labels) - 1) if block.cut[1] and len(labels) > 1 else None
    begin, end = int(first is not None), len(labels) - (last is not None)
    inner = slice(ends[begin], ends[end])
    body = _moments(
        plan, labels[begin:end], z[inner], r[inner], ends[begin : end + 1] - ends[begin]
    )
    return Piece(len(r), first, body, last)


class _Assembly:
    """Sum of pieces in the order of the source."""

    def __init__(self, plan: Plan, most_rows: int) -> None:
        self._plan = plan
        self._most_rows = most_rows
        self._open: list[Day] = []
        self._sum = PairwiseSum()
        self._latest: Any = None

    def take(self, piece: Piece) -> None:
        """Add the next block."""
        if piece.first is not None:
            self._continue(piece.first)
        if piece.body.labels:
            self._close()
            self._add(piece.body)
        if piece.last is not None:
            self._continue(piece.last)

    def total(self) -> Dated:
        """Return the moments of all dates."""
        self._close()
        return self._sum.total(1 + len(self._plan.features))

    def _continue(self, day: Day) -> None:
        """Add rows to the open date, or close it and open another."""
        if self._open and instant(self._open[0].label) != instant(day.label):
            self._close()
        self._open.append(day)
        # A date larger than some blocks is summed in parts, unless a setting needs it whole.
        if (
            not self._plan.whole_dates
            and sum(len(one.returns) for one in self._open) > self._most_rows
        ):
            self._close()

    def _close(self) -> None:
        if not self._open:
            return
        days, self._open = self._open, []
        if self._plan.entity is not None:
            _reject_duplicates(_joined_assets(days), self._plan.entity)
        z = np.concatenate([day.characteristics for day in days])
        r = np.concatenate([day.returns for day in days])
        ends = np.array([0, len(r)])
        self._add(_moments(self._plan, [days[0].label], z, r, ends))

    def _add(self, dates: Dated) -> None:
        if not dates.labels:
            return
        if self._plan.whole_dates:
            self._require_later(dates.labels[0])
            self._latest = dates.labels[-1]
        self._sum.add(dates)

    def _require_later(self, label: Any) -> None:
        if self._latest is None:
            return
        require_one_kind("timestamps", [self._latest], [label])
        latest, now = in_time("timestamps must be", (self._latest, label))
        if not latest < now:
            raise ValueError(
                f"{self._plan.whole_dates} needs rows in order of {self._plan.timestamp!r}, across "
                f"files as well; got {label} after {self._latest}"
            )


def _moments(
    plan: Plan,
    labels: Sequence[Any],
    characteristics: NDArray[Any],
    returns: NDArray[np.float64],
    ends: NDArray[np.int64],
) -> Dated:
    """Moments of rows sorted by date; those of date t are `ends[t]:ends[t + 1]`."""
    if plan.whole_dates:
        change = cross_sectional_ranks if plan.rank else fill_with_median
        changed = np.empty(
            characteristics.shape, np.float64 if plan.rank else characteristics.dtype
        )
        for start, stop in pairwise(ends):
            changed[start:stop] = change(characteristics[start:stop])
        characteristics = changed
    return Dated(tuple(labels), row_moments(characteristics, returns, ends))


def _numbers(frame: pl.DataFrame, names: Sequence[str], *, double: bool = False) -> NDArray[Any]:
    """Take columns as one array (rows, columns) in C order: float32 if all of them are."""
    pl = polars()
    chosen = frame.select(names)
    single = not double and all(kind == pl.Float32 for kind in chosen.dtypes)
    cast = chosen.cast(pl.Float32 if single else pl.Float64)
    array: NDArray[Any] = cast.to_numpy(order="c")
    return array


def _labels_column(times: pl.Series, first: int) -> pl.Series:
    """Reject rows without a date, and types that name no date or lose part of it."""
    if times.null_count():
        row = first + int(times.is_null().arg_max() or 0)
        raise ValueError(
            f"column {times.name!r} must name every row; got a missing one at row {row}"
        )
    kind = times.dtype
    if str(kind).startswith("Categorical"):
        raise ValueError(f"column {times.name!r} {UNORDERED}")
    ordered = str(kind) == "String" or str(kind).startswith("Enum")
    if not (kind.is_temporal() or kind.is_integer() or ordered):
        raise ValueError(f"column {times.name!r} must hold dates, integers or text; got {kind}")
    if str(kind) == "String":
        texts = times.unique(maintain_order=True)
        in_time(
            f"column {times.name!r} must hold timestamps",
            texts.to_list(),
            at=lambda number: f"row {first + int((times == texts[number]).arg_max() or 0)}",
        )
    return times


def _labels(times: pl.Series) -> list[Any]:
    """Return the labels of dates, with unit, time zone and declared order."""
    kind: Any = times.dtype
    if str(kind).startswith("Datetime"):
        zone = None if kind.time_zone is None else zone_of(kind.time_zone)
        return list(from_ticks(times.to_physical().to_numpy(), kind.time_unit, zone))
    if str(kind).startswith("Enum"):
        labels = declared(kind.categories.to_list())
        return [labels[text] for text in times.to_list()]
    return times.to_list()


def _holds_ids(kind: Any) -> bool:
    return kind.is_integer() or kind.is_float() or str(kind).startswith(_TEXT)


def _ids(assets: pl.Series, first: int) -> pl.Series:
    """Convert whole floats to integers, and reject others."""
    if not assets.dtype.is_float():
        return assets
    whole = assets.is_finite() & (assets.floor() == assets) & (assets.abs() < EXACT)
    if assets.null_count() or not whole.all():
        at = int((whole.fill_null(value=False)).arg_min() or 0)
        raise ValueError(
            f"column {assets.name!r} must hold text or integers; got {assets[at]} "
            f"at row {first + at}"
        )
    return assets.cast(polars().Int64)


def _reject_duplicates(keys: pl.DataFrame, entity: str) -> None:
    repeated = keys.is_duplicated()
    if repeated.any():
        label, asset = keys.row(int(repeated.arg_max() or 0))
        raise ValueError(f"Duplicate (timestamp, entity) rows: ({label}, {asset!r}), by {entity!r}")


def _joined_assets(days: Sequence[Day]) -> pl.DataFrame:
    parts = [day.assets.to_frame("entity") for day in days if day.assets is not None]
    # Files may hold names as categories and as text, numbers in several widths.
    assets = polars().concat(parts, how="vertical_relaxed")
    keys: pl.DataFrame = assets.select(polars().lit(str(days[0].label)).alias("date"), "entity")
    return keys
