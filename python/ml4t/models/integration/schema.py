"""Which columns name the period and the entity of a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ml4t.models.integration.door import column_names
from ml4t.models.panel.key_columns import (
    ENTITY_CANDIDATES,
    TIMESTAMP_CANDIDATES,
    resolve_column,
)

TIMESTAMP_KEYS = ("timestamp_col", "time_col", "datetime_col", "date_col", "timestamp")
ENTITY_KEYS = (
    "entity_col",
    "symbol_col",
    "ticker_col",
    "asset_col",
    "group_col",
    "symbol",
    "ticker",
    "asset",
)


@dataclass(frozen=True, slots=True)
class ResolvedDatasetSchema:
    """The key columns of a long frame.

    Attributes
    ----------
    timestamp_col, entity_col : str
    metadata : dict
        The two names again, under `timestamp_col` and `entity_col`; batches carry it.
    """

    timestamp_col: str
    entity_col: str
    metadata: dict[str, Any] = field(default_factory=dict)


def resolve_dataset_schema(
    frame: Any,
    *,
    schema: Any = None,
    timestamp_col: str | None = None,
    entity_col: str | None = None,
    timestamp_candidates: tuple[str, ...] = TIMESTAMP_CANDIDATES,
    entity_candidates: tuple[str, ...] = ENTITY_CANDIDATES,
) -> ResolvedDatasetSchema:
    """Find the key columns: an argument first, then the schema, then the first candidate there.

    Parameters
    ----------
    frame : mapping of columns, or polars, pandas or pyarrow frame
        Only its column names are read.
    schema : mapping or object, optional
        Names columns under `timestamp_col` or `entity_col` and their aliases, flat, in a nested
        `schema`, or in its `metadata`, which wins.
    timestamp_col, entity_col : str, optional
    timestamp_candidates, entity_candidates : tuple of str
        Tried in order when nothing names the column.

    Raises
    ------
    ValueError
        When a named column is not in the frame, or no candidate is.
    TypeError
        When `frame` is not a frame.
    """
    names = column_names(frame)
    declared = declared_keys(schema)
    timestamp = resolve_column(
        "timestamp", timestamp_col or declared.get("timestamp_col"), timestamp_candidates, names
    )
    entity = resolve_column(
        "entity", entity_col or declared.get("entity_col"), entity_candidates, names
    )
    if timestamp == entity:
        raise ValueError(f"timestamp and entity must be two columns; got {timestamp!r} for both")
    keys = {"timestamp_col": timestamp, "entity_col": entity}
    return ResolvedDatasetSchema(timestamp, entity, keys)


def declared_keys(schema: Any) -> dict[str, str]:
    """Read what a schema says about key columns; only what it says."""
    if schema is None:
        return {}
    metadata = _get(schema, "metadata")
    if metadata is not None:
        return declared_keys(metadata)
    nested = _get(schema, "schema")
    if callable(nested):  # a method of that name is no section
        nested = None
    declared = _flat_keys(schema)
    return declared if nested is None else {**declared, **_flat_keys(nested)}


def _flat_keys(schema: Any) -> dict[str, str]:
    found = {
        "timestamp_col": _first_name(schema, TIMESTAMP_KEYS),
        "entity_col": _first_name(schema, ENTITY_KEYS),
    }
    return {key: name for key, name in found.items() if name is not None}


def _first_name(schema: Any, keys: tuple[str, ...]) -> str | None:
    for key in keys:
        value = _get(schema, key)
        if isinstance(value, (list, tuple)) and len(value) == 1:
            value = value[0]  # a feed spec may hold the entity as a list of one
        if isinstance(value, str) and value:
            return value
    return None


def _get(source: Any, key: str) -> Any:
    return source.get(key) if isinstance(source, Mapping) else getattr(source, key, None)
