"""Long frames, one row per date and asset, into batches.

Rows may come in any order. Timestamps ascend in the batch; assets come in order of first
appearance when rows are sorted by (timestamp, text of the asset), so that a later entrant has a
later column. Values that are not finite numbers become NaN. Time is linear in rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ml4t.models.integration.grid import shared_by_date
from ml4t.models.integration.long_frame import LongFrame, listed, one_name
from ml4t.models.integration.schema import ResolvedDatasetSchema, resolve_dataset_schema
from ml4t.models.integration.windows import Windows, portfolio_sequence_batch_from_long_frame
from ml4t.models.types import CrossSectionBatch, PersistentPanelBatch

__all__ = [
    "ResolvedDatasetSchema",
    "Windows",
    "cross_section_batch_from_long_frame",
    "persistent_panel_batch_from_long_frame",
    "portfolio_sequence_batch_from_long_frame",
    "resolve_dataset_schema",
]


def persistent_panel_batch_from_long_frame(
    frame: Any,
    *,
    schema: Any = None,
    return_col: str | None = None,
    feature_cols: Sequence[str] = (),
    timestamp_col: str | None = None,
    entity_col: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    context_cols: Sequence[str] = (),
) -> PersistentPanelBatch:
    """Turn a long frame into a panel; without returns and features it holds labels only.

    Parameters
    ----------
    frame : mapping of columns, or polars (eager, lazy), pandas or pyarrow frame
        A lazy frame is collected once, with the columns named here only.
    schema : mapping or object, optional
        Names the key columns; see `resolve_dataset_schema`.
    return_col : str, optional
        Simple returns per period, as fractions.
    feature_cols : sequence of str
        The L characteristics, in this order.
    timestamp_col, entity_col : str, optional
    metadata : mapping, optional
        Metadata of the batch, to which the names of the key columns are added.
    context_cols : sequence of str
        The Q columns that all assets of a date share, to 1e-12.

    Returns
    -------
    PersistentPanelBatch
        `returns` (T, N), `characteristics` (T, N, L), `context_features` (T, Q): float32 when all
        value columns are, else float64.

    Raises
    ------
    ValueError
        When key columns are missing, hold missing values or mix time zones, a
        (timestamp, entity) pair is given twice, or a context column varies within a date.
    KeyError
        When a value column is missing.
    """
    long, shared = _read(
        frame, schema, timestamp_col, entity_col, feature_cols, return_col, context_cols, metadata
    )
    names = shared["feature_names"]
    return PersistentPanelBatch(characteristics=long.tensor(names) if names else None, **shared)


def cross_section_batch_from_long_frame(
    frame: Any,
    *,
    schema: Any = None,
    feature_cols: Sequence[str],
    return_col: str | None = None,
    context_cols: Sequence[str] = (),
    timestamp_col: str | None = None,
    entity_col: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> CrossSectionBatch:
    """Turn a long frame into one cross-section of characteristics per date.

    Parameters
    ----------
    frame : mapping of columns, or polars (eager, lazy), pandas or pyarrow frame
        A lazy frame is collected once, with the columns named here only.
    schema : mapping or object, optional
        Names the key columns; see `resolve_dataset_schema`.
    feature_cols : sequence of str
        The L characteristics, in this order.
    return_col : str, optional
        Simple returns per period, as fractions.
    context_cols : sequence of str
        The Q columns that all assets of a date share, to 1e-12.
    timestamp_col, entity_col : str, optional
    metadata : mapping, optional
        Metadata of the batch, to which the names of the key columns are added.

    Returns
    -------
    CrossSectionBatch
        `characteristics` (T, N, L), `returns` (T, N), `context_features` (T, Q): float32 when all
        value columns are, else float64. `mask` (T, N) is True where a row exists.

    Raises
    ------
    ValueError
        When key columns are missing, hold missing values or mix time zones, a
        (timestamp, entity) pair is given twice, or a context column varies within a date.
    KeyError
        When a value column is missing.
    """
    long, shared = _read(
        frame, schema, timestamp_col, entity_col, feature_cols, return_col, context_cols, metadata
    )
    return CrossSectionBatch(long.tensor(shared["feature_names"]), mask=long.grid.mask, **shared)


def _read(
    frame: Any,
    schema: Any,
    timestamp_col: str | None,
    entity_col: str | None,
    feature_cols: Sequence[str],
    return_col: str | None,
    context_cols: Sequence[str],
    metadata: Mapping[str, Any] | None,
) -> tuple[LongFrame, dict[str, Any]]:
    """Read a frame, and the fields that both kinds of batch have."""
    keys = resolve_dataset_schema(
        frame, schema=schema, timestamp_col=timestamp_col, entity_col=entity_col
    )
    features = listed("feature_cols", feature_cols)
    context = listed("context_cols", context_cols)
    returns = one_name("return_col", return_col)
    long = LongFrame.read(frame, keys, [*features, *returns, *context])
    by_date = [shared_by_date(long.columns[name], long.grid, long.dtype) for name in context]
    return long, {
        "returns": long.panel(return_col),
        "context_features": np.stack(by_date, axis=1) if by_date else None,
        "timestamps": long.grid.timestamps,
        "asset_ids": long.grid.asset_ids,
        "metadata": long.metadata(metadata),
        "feature_names": tuple(features),
        "context_names": tuple(context),
    }
