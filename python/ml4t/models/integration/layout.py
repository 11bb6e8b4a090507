"""Arrays of results as columns of long and wide frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml4t.models.checks import require_mapping, require_real
from ml4t.models.integration.frame_columns import AnyColumn, Given, Labels, Values
from ml4t.models.types.arrays import as_float_array
from ml4t.models.types.base import same_value
from ml4t.models.types.instants import first_difference
from ml4t.models.types.window_dates import WINDOW_TIMESTAMPS, window_dates

if TYPE_CHECKING:
    from ml4t.models.integration.output_keys import FrameKeys

OUTCOME = "realized_return"
ROLES = {"expected_returns": "forecast", "signal_values": "signal", "weights": "weights"}


@dataclass(frozen=True, slots=True)
class Surface:
    """Values of a result with their labels.

    Attributes
    ----------
    values : ndarray, shape (B, T, N)
        B is 1 for everything but windows of a portfolio.
    timestamps : sequence of length T, or of B sequences of length T
    asset_ids : sequence of str, length N
    metadata : dict
        Of the result.
    """

    values: NDArray[Any]
    timestamps: Sequence[Any]
    asset_ids: Sequence[str]
    metadata: dict[str, Any]

    @classmethod
    def of(cls, result: Any, field: str) -> Surface:
        """Read the field of a result; missing labels are numbered."""
        if not hasattr(result, field):
            name = ROLES.get(field, "result")
            raise TypeError(f"{name}: result must have {field}; got {type(result).__name__}")
        values = np.asarray(getattr(result, field))
        windows = values if values.ndim == 3 else values[None]
        n_windows, n_dates, n_assets = windows.shape
        metadata = dict(result.metadata)
        timestamps = _dates_of(result, n_windows, n_dates) or (range(n_dates) if n_dates else ())
        metadata.pop(WINDOW_TIMESTAMPS, None)
        ids = result.asset_ids or [f"asset_{place}" for place in range(n_assets)]
        return cls(windows, timestamps, ids, metadata)

    @property
    def shape(self) -> tuple[int, ...]:
        """(B, T, N)."""
        return self.values.shape


def _dates_of(labelled: Any, n_windows: int, n_dates: int) -> list[Any]:
    """List the dates of a batch or result, those of several windows in sequence."""
    if len(labelled.timestamps):
        return list(labelled.timestamps)
    windows = window_dates(labelled.metadata, n_windows, n_dates)
    return [label for one in windows for label in one]


def long_columns(
    surface: Surface,
    value: str,
    keys: FrameKeys,
    *,
    selected_threshold: float | None = None,
    outcomes: Any = None,
) -> dict[str, AnyColumn]:
    """Lay out one row per window, date and asset with a finite value, in this order.

    Parameters
    ----------
    surface : Surface
    value : str
        Name of the value column.
    keys : FrameKeys
    selected_threshold : float, optional
        Adds `selected`: whether the value lies farther from 0.
    outcomes : ndarray of shape (T, N), or a batch, optional
        Realised returns of the same cells; adds `realized_return`, null where not finite.
    """
    n_windows, n_dates, n_assets = surface.shape
    flat = surface.values.reshape(-1)
    finite = np.isfinite(flat)
    # polars indexes by uint32, at half the memory.
    counts = np.count_nonzero(finite.reshape(n_windows * n_dates, n_assets), axis=1)
    rows = np.repeat(np.arange(counts.size, dtype=np.uint32), counts)
    assets = np.tile(np.arange(n_assets, dtype=np.uint32), counts.size)
    times, time_type = keys.times(surface.timestamps)
    ids, id_type = keys.assets(surface.asset_ids)
    kept = flat
    if rows.size < flat.size:
        assets, kept = assets[finite], flat[finite]
    columns: dict[str, AnyColumn] = {
        keys.timestamp: Labels(
            times, rows % np.uint32(len(times) or 1) if n_windows > 1 else rows, time_type
        ),
        keys.entity: Labels(ids, assets, id_type),
    }
    if n_windows > 1:
        columns["batch_id"] = Values((rows // n_dates).astype(np.int64))
    columns[value] = Values(kept)
    if selected_threshold is not None:
        threshold = require_real("selected_threshold", selected_threshold)
        columns["selected"] = Values(np.abs(kept) > threshold)
    if outcomes is not None:
        columns[OUTCOME] = Values(_outcomes(outcomes, surface)[finite], nullable=True)
    return columns


def wide_columns(surface: Surface, prefix: str, keys: FrameKeys) -> dict[str, AnyColumn]:
    """Lay out one row per date with one column per asset; cells that are not finite are 0.

    Raises
    ------
    ValueError
        When there are several windows, or an asset's column has the name of the timestamp.
    """
    if surface.shape[0] != 1:
        raise ValueError(
            f"context requires a single portfolio-weight batch; got {surface.shape[0]} windows"
        )
    values = np.nan_to_num(surface.values[0], nan=0.0, posinf=0.0, neginf=0.0)
    times, time_type = keys.times(surface.timestamps)
    dates = Labels(times, np.arange(len(values)), time_type)
    columns: dict[str, AnyColumn] = {keys.timestamp: dates}
    for place, asset in enumerate(surface.asset_ids):
        add(columns, f"{prefix}{asset}", Values(values[:, place]))
    return columns


def add_constants(
    columns: dict[str, AnyColumn], constants: Mapping[str, Any] | None
) -> dict[str, AnyColumn]:
    """Append columns with one value for every row."""
    rows = len(next(iter(columns.values())))
    given = {} if constants is None else require_mapping("constants", constants)
    for name, value in given.items():
        add(columns, name, Labels([value], np.zeros(rows, dtype=np.uint32)))
    return columns


def add(columns: dict[str, AnyColumn], name: str, column: AnyColumn) -> None:
    """Append a column under a new name."""
    if name in columns:
        raise ValueError(f"columns must be unique; got {name!r} twice for one frame")
    columns[name] = column


def concatenate(parts: Sequence[Mapping[str, AnyColumn]]) -> dict[str, AnyColumn]:
    """Concatenate frames of the same columns."""
    for part in parts[1:]:
        if tuple(part) != tuple(parts[0]):
            raise ValueError(
                f"results must give the same columns; got {list(parts[0])} and {list(part)}"
            )
    return {name: _join([part[name] for part in parts]) for name in parts[0]}


def _join(parts: list[AnyColumn]) -> AnyColumn:
    values = [part for part in parts if isinstance(part, Values)]
    if len(values) == len(parts):
        return Values(np.concatenate([part.array for part in values]), values[0].nullable)
    labels = [part for part in parts if isinstance(part, Labels)]
    if len(labels) < len(parts):
        return Given([value for part in parts for value in part.to_list()])
    first = labels[0]
    if all(same_value(list(part.labels), list(first.labels)) for part in labels):
        return Labels(first.labels, np.concatenate([part.codes for part in labels]), first.dtype)
    offsets = np.cumsum([0, *(len(part.labels) for part in labels)])
    codes = [part.codes + offset for part, offset in zip(labels, offsets[:-1], strict=True)]
    return Labels(
        [one for part in labels for one in part.labels], np.concatenate(codes), first.dtype
    )


def _require_same_labels(outcomes: Any, surface: Surface) -> None:
    """Reject a batch of other assets or dates; missing labels match any."""
    if outcomes.returns is None:
        raise ValueError("outcomes must hold returns; the batch has none")
    if len(outcomes.asset_ids) and tuple(outcomes.asset_ids) != tuple(surface.asset_ids):
        raise ValueError("outcomes must have the asset_ids of the result, in the same order")
    theirs, ours = _dates_of(outcomes, *surface.shape[:2]), list(surface.timestamps)
    if isinstance(surface.timestamps, range) or len(theirs) != len(ours):
        return
    at = first_difference(theirs, ours)
    if at is not None:
        raise ValueError(
            f"outcomes must have the timestamps of the result; got {theirs[at]} for {ours[at]} "
            f"at date {at}"
        )


def _outcomes(outcomes: Any, surface: Surface) -> NDArray[Any]:
    """Read realised returns as a flat array aligned with the surface."""
    returns = outcomes
    if hasattr(outcomes, "returns"):
        _require_same_labels(outcomes, surface)
        returns = outcomes.returns
    array = as_float_array("outcomes", returns)
    windows = array if array.ndim == 3 else array[None]
    if windows.shape != surface.shape:
        expected = surface.shape if surface.shape[0] > 1 else surface.shape[1:]
        raise ValueError(f"outcomes must have shape {expected}; got {array.shape}")
    flat = windows.reshape(-1)
    return np.where(np.isfinite(flat), flat, np.nan)
