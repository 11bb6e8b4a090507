"""Long frames into windows of portfolio features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml4t.models.checks import require_int, require_items
from ml4t.models.integration.grid import Grid, by_id, shared_by_asset
from ml4t.models.integration.key_codes import INTEGERS, Coded, code
from ml4t.models.integration.long_frame import LongFrame, listed, one_name
from ml4t.models.integration.schema import resolve_dataset_schema
from ml4t.models.types import PortfolioSequenceBatch
from ml4t.models.types.arrays import as_integers
from ml4t.models.types.window_dates import WINDOW_TIMESTAMPS


@dataclass(frozen=True, slots=True)
class Windows:
    """How the dates of a panel are cut into windows.

    Attributes
    ----------
    length : int
        Dates per window, T.
    step : int, default 1
        Dates from one window's start to the next one's.
    """

    length: int
    step: int = 1

    def __post_init__(self) -> None:
        """Check the settings."""
        require_int("length", self.length, at_least=1)
        require_int("step", self.step, at_least=1)

    def starts(self, n_dates: int) -> range:
        """List the first date of each window.

        The last window ends at the last date; dates that fill no window are left out at the start.
        """
        if n_dates < self.length:
            raise ValueError(
                f"windows of length {self.length} need as many dates; the frame has {n_dates}"
            )
        return range((n_dates - self.length) % self.step, n_dates - self.length + 1, self.step)


def portfolio_sequence_batch_from_long_frame(
    frame: Any,
    *,
    feature_cols: Sequence[str],
    return_col: str | None = None,
    vol_scale_col: str | None = None,
    group_col: str | None = None,
    cost_col: str | None = None,
    windows: Windows | tuple[int, int] | None = None,
    schema: Any = None,
    timestamp_col: str | None = None,
    entity_col: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> PortfolioSequenceBatch:
    """Turn a long frame into windows; see `cross_section_batch_from_long_frame` for the rest.

    Parameters
    ----------
    feature_cols : sequence of str
        The F features, in this order.
    return_col, vol_scale_col : str, optional
        Forward returns (simple, per period, as fractions) and the scale of positions.
    group_col : str, optional
        The same in all rows of an asset. Integers stay; other labels are numbered by their text
        and listed in `metadata["group_labels"]`, which numbers another frame's groups alike.
    cost_col : str, optional
        Proportional cost of trading an asset, as a fraction, the same in all its rows to 1e-12.
    windows : Windows or (length, step), optional
        All dates in one window by default. The last window ends at the last date.

    Returns
    -------
    PortfolioSequenceBatch
        Windows are views of one panel: overlap costs no memory. `mask` is True where a row exists.
        Several windows have their dates in `metadata["window_timestamps"]`, (B, T).

    Raises
    ------
    ValueError
        When dates do not fill a window, or a group or cost varies within an asset.
    """
    keys = resolve_dataset_schema(
        frame, schema=schema, timestamp_col=timestamp_col, entity_col=entity_col
    )
    features = listed("feature_cols", feature_cols)
    panels = [
        *one_name("return_col", return_col),
        *one_name("vol_scale_col", vol_scale_col),
        *one_name("cost_col", cost_col),
    ]
    one_name("group_col", group_col)
    long = LongFrame.read(frame, keys, [*features, *panels], label=group_col)
    merged = long.metadata(metadata)
    cut = _Cut.of(windows, long.grid, merged)
    return PortfolioSequenceBatch(
        features=cut.cut(long.tensor(features)),
        returns=cut.optional(long.panel(return_col)),
        vol_scale=cut.optional(long.panel(vol_scale_col)),
        mask=cut.cut(long.grid.mask),
        group_ids=_groups(long, group_col, merged),
        costs=_costs(long, cost_col),
        timestamps=cut.timestamps,
        asset_ids=long.grid.asset_ids,
        metadata=merged,
        feature_names=tuple(features),
    )


@dataclass(frozen=True, slots=True)
class _Cut:
    """Windows of one panel."""

    starts: range
    length: int
    timestamps: tuple[Any, ...]

    @classmethod
    def of(
        cls, windows: Windows | tuple[int, int] | None, grid: Grid, metadata: dict[str, Any]
    ) -> _Cut:
        n_dates = len(grid.timestamps)
        if windows is None:
            return cls(range(1), n_dates, grid.timestamps)
        rule = windows
        if not isinstance(rule, Windows):
            pair = require_items("windows", rule)
            if len(pair) not in (1, 2):
                raise ValueError(f"windows must be (length, step); got {len(pair)} entries")
            rule = Windows(*(require_int("windows entry", one, at_least=1) for one in pair))
        starts = rule.starts(n_dates)
        dates = tuple(grid.timestamps[start : start + rule.length] for start in starts)
        if len(dates) > 1:
            metadata[WINDOW_TIMESTAMPS] = dates
            return cls(starts, rule.length, ())
        return cls(starts, rule.length, dates[0])

    def cut(self, panel: NDArray[Any]) -> NDArray[Any]:
        """Cut (T, N, ...) into (B, length, N, ...) without a copy."""
        if self.length == 0:
            return panel[None]
        view = np.lib.stride_tricks.sliding_window_view(panel, self.length, axis=0)
        chosen = view[self.starts.start : self.starts.stop : self.starts.step]
        return np.moveaxis(chosen, -1, 1)

    def optional(self, panel: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if panel is None else self.cut(panel)


def _costs(long: LongFrame, name: str | None) -> NDArray[Any] | None:
    if name is None:
        return None
    costs = shared_by_asset(long.columns[name], long.grid, np.dtype(np.float64))
    missing = ~np.isfinite(costs)
    if missing.any():
        asset = long.grid.asset_ids[int(missing.argmax())]
        raise ValueError(f"column {name!r} must give every asset a cost; got none for {asset!r}")
    return costs


def _groups(
    long: LongFrame, name: str | None, metadata: dict[str, Any]
) -> NDArray[np.int64] | None:
    """Find the group of each asset, shape (N,)."""
    if name is None:
        return None
    coded, grid = by_id(name, code(long.columns[name])), long.grid
    n_assets = len(grid.asset_ids)
    assets = grid.cells % n_assets if n_assets else grid.cells
    group = np.zeros(n_assets, dtype=np.int64)
    group[assets] = coded.codes
    differ = group[assets] != coded.codes
    if differ.any():
        asset = grid.asset_ids[int(assets[differ.argmax()])]
        raise ValueError(f"column {name!r} must be constant within entity; {asset!r} changes")
    numbers = _numbers(name, coded, metadata)
    return numbers[group]


def _numbers(name: str, coded: Coded, metadata: dict[str, Any]) -> NDArray[np.int64]:
    """Return integers as they are, other labels their place among the known."""
    texts = coded.labels
    if coded.dtype is not None and coded.dtype[0] in INTEGERS and "group_labels" not in metadata:
        return as_integers(f"column {name!r}", [int(text) for text in texts])
    known = [str(one) for one in metadata.setdefault("group_labels", texts)]
    number = {text: place for place, text in enumerate(known)}
    unseen = sorted(set(texts) - set(known))
    if unseen:
        raise ValueError(f"column {name!r} has groups {unseen} that group_labels does not list")
    return np.array([number[text] for text in texts], dtype=np.int64)
