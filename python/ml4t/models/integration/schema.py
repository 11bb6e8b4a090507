"""Key columns of a long frame: those of the date and the asset of a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ml4t.models.checks import require_names, require_text
from ml4t.models.integration.frame_reader import column_names, has_columns
from ml4t.models.moments.key_columns import (
    ENTITY_CANDIDATES,
    TIMESTAMP_CANDIDATES,
    resolve_column,
)

# Columns of a price frame and the words that name them in a schema.
COLUMN_ALIASES: dict[str, tuple[str, ...]] = {
    "timestamp_col": ("timestamp_col", "time_col", "datetime_col"),
    "entity_col": ("entity_col", "symbol_col", "ticker_col", "asset_col", "group_col"),
    **{
        f"{name}_col": (f"{name}_col",)
        for name in (
            *("price", "open", "high", "low", "close", "volume", "vwap"),
            *("bid", "ask", "mid", "bid_size", "ask_size"),
        )
    },
}
# A dataset schema names its key columns by further words.
KEY_ALIASES: dict[str, tuple[str, ...]] = {
    "timestamp_col": (*COLUMN_ALIASES["timestamp_col"], "date_col", "timestamp"),
    "entity_col": (*COLUMN_ALIASES["entity_col"], "symbol", "ticker", "asset"),
}

# Defaults of a feed.
NEUTRAL = {
    "timestamp_col": "timestamp",
    "entity_col": "asset",
    **{f"{name}_col": name for name in ("open", "high", "low", "close", "volume")},
    "price_col": "close",
    "time_contract_version": 1,
}
SECTIONS = ("metadata", "schema", "semantics", "to_dict")


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
    """Resolve the key columns: by argument, by schema, or the first candidate in the frame.

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
    for argument, named in (("timestamp_col", timestamp_col), ("entity_col", entity_col)):
        if named is not None:
            require_text(argument, named)
    declared = declared_keys(require_schema("schema", schema))
    timestamp_candidates = require_names("timestamp_candidates", timestamp_candidates)
    entity_candidates = require_names("entity_candidates", entity_candidates)
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


def require_schema(name: str, schema: Any) -> Any:
    """Return a schema: a mapping, an object with fields of a schema, or None.

    Raises
    ------
    TypeError
        When it is something else, such as the path of a schema, or a column name is no text.
    """
    keys = [word for words in KEY_ALIASES.values() for word in words]
    words = (*keys, *NEUTRAL, *SECTIONS)
    mapping = schema is None or isinstance(schema, Mapping)
    plain = isinstance(schema, (str, bytes, type)) or (not mapping and has_columns(schema))
    if plain or not (mapping or any(hasattr(schema, word) for word in words)):
        raise TypeError(
            f"{name} must be a mapping or an object that names columns, such as "
            f"{{'timestamp_col': 'date'}}; got {type(schema).__name__}"
        )
    for key in keys:
        value = single(entry(schema, key))
        if key.endswith("_col") and value is not None and not isinstance(value, str):
            raise TypeError(f"{name}: {key} must be the name of a column; got {value!r}")
    return schema


def declared_keys(schema: Any) -> dict[str, str]:
    """Read the key columns that a schema declares."""
    if schema is None:
        return {}
    metadata = entry(schema, "metadata")
    if metadata is not None:
        return declared_keys(metadata)
    nested = entry(schema, "schema")
    if callable(nested):  # a method of that name is no section
        nested = None
    declared = _flat_keys(schema)
    return declared if nested is None else {**declared, **_flat_keys(nested)}


def _flat_keys(schema: Any) -> dict[str, str]:
    declared: dict[str, str] = {}
    defaults = default_fields(schema)
    for key, words in KEY_ALIASES.items():
        values = [single(entry(schema, word)) for word in words if word not in defaults]
        names = [value for value in values if isinstance(value, str) and value]
        if names:
            declared[key] = names[0]
    return declared


def default_fields(schema: Any) -> set[str]:
    """Return the fields of a specification at their defaults, which declare nothing.

    Only defaults that would be assumed anyway: "close" for the price, not a class's own "settle".
    """
    if not dataclasses.is_dataclass(schema) or isinstance(schema, type):
        return set()
    return {
        one.name
        for one in dataclasses.fields(schema)
        if one.name in NEUTRAL
        and one.default == NEUTRAL[one.name]
        and getattr(schema, one.name, None) == one.default
    }


def entry(source: Any, key: str, default: Any = None) -> Any:
    """Return an entry of a mapping, or an attribute of any other object."""
    if isinstance(source, Mapping):
        return source.get(key, default)
    return getattr(source, key, default)


def single(value: Any) -> Any:
    """Return the item of a list of one; a feed spec may list its entity column."""
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value
