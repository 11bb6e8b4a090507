"""What a backtest must know about a price frame, as a plain mapping.

With ml4t-specs installed its `FeedSpec` reads the schema; without, a reader of the same fields.
Either way only what the schema says is taken from it, so that both give the same mapping.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Final, Self, TypeAlias

from ml4t.models.checks import require_text
from ml4t.models.integration.output_keys import open_prices
from ml4t.models.integration.schema import (
    NEUTRAL,
    get,
    require_schema,
    resolve_dataset_schema,
    unsaid_fields,
)


class Unset(Enum):
    """An argument that was not given, where None means something."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET
Calendar: TypeAlias = str | Unset | None

COLUMN_ALIASES: dict[str, tuple[str, ...]] = {
    "timestamp_col": ("timestamp_col", "time_col", "datetime_col"),
    "entity_col": ("entity_col", "symbol_col", "ticker_col", "asset_col", "group_col"),
    **{
        name: (name,)
        for name in (
            "price_col",
            "open_col",
            "high_col",
            "low_col",
            "close_col",
            "volume_col",
            "vwap_col",
            "bid_col",
            "ask_col",
            "mid_col",
            "bid_size_col",
            "ask_size_col",
        )
    },
}
SEMANTICS_ALIASES: dict[str, tuple[str, ...]] = {
    "data_frequency": ("data_frequency", "frequency"),
    **{
        name: (name,)
        for name in (
            "calendar",
            "timezone",
            "bar_type",
            "timestamp_semantics",
            "session_start_time",
            "time_contract_version",
            "bar_grid_anchor",
            "bar_label",
            "partial_bar_policy",
        )
    },
}
DEFAULTS = {
    key: NEUTRAL[key]
    for key in ("timestamp_col", "entity_col", "open_col", "high_col", "low_col", "volume_col")
}
_ABSENT = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedColumns:
    """The arguments that describe a price frame; None says nothing.

    Attributes
    ----------
    timestamp_col, entity_col, price_col, open_col, high_col, low_col, close_col, volume_col : str
    bid_col, ask_col, mid_col, bid_size_col, ask_size_col : str
        Names of columns.
    calendar : str or None
        An exchange calendar, None for none; not given, the schema's.
    timezone, data_frequency, bar_type, timestamp_semantics, session_start_time : str
        What the timestamps mean.
    """

    timestamp_col: str | None = None
    entity_col: str | None = None
    price_col: str | None = None
    open_col: str | None = None
    high_col: str | None = None
    low_col: str | None = None
    close_col: str | None = None
    volume_col: str | None = None
    bid_col: str | None = None
    ask_col: str | None = None
    mid_col: str | None = None
    bid_size_col: str | None = None
    ask_size_col: str | None = None
    calendar: Calendar = UNSET
    timezone: str | None = None
    data_frequency: Any = None
    bar_type: str | None = None
    timestamp_semantics: Any = None
    session_start_time: str | None = None

    def __post_init__(self) -> None:
        """Refuse names that are no text, and a calendar that is neither a name nor None."""
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name.endswith("_col") and value is not None:
                require_text(one.name, value)
        if self.calendar is UNSET or self.calendar is None:
            return
        if not isinstance(self.calendar, str) or not self.calendar.strip():
            raise ValueError(f"calendar must be a non-empty name or None; got {self.calendar!r}")

    @classmethod
    def among(cls, arguments: Mapping[str, Any]) -> Self:
        """Pick the fields of this record out of the arguments of a wide function."""
        return cls(**{one.name: arguments[one.name] for one in fields(cls)})

    def resolve(self, frame: Any, schema: Any) -> dict[str, Any]:
        """Join schema, frame, arguments and defaults; see `resolve_feed_spec_mapping`."""
        mapping = read_schema(require_schema("schema", schema))
        said = {
            one.name: _plain(getattr(self, one.name))
            for one in fields(self)
            if one.name != "calendar" and getattr(self, one.name) is not None
        }
        table = open_prices(frame)
        if table is not None:
            keys = resolve_dataset_schema(
                table,
                schema=schema,
                timestamp_col=self.timestamp_col,
                entity_col=self.entity_col,
            )
            said |= keys.metadata
        mapping |= said
        if self.calendar is not UNSET:
            mapping |= {"calendar": self.calendar, "time_contract_version": 2}
        if "price_col" not in said and "close_col" in said:
            mapping["price_col"] = said["close_col"]
        mapping.setdefault("price_col", mapping.get("close_col", "close"))
        mapping.setdefault("close_col", mapping["price_col"])
        return {**DEFAULTS, **mapping}


def read_schema(schema: Any) -> dict[str, Any]:
    """Read what a schema says about a feed, by ml4t-specs where it is installed.

    Parameters
    ----------
    schema : mapping or object, optional
        Flat fields, or sections `schema` and `semantics`; a non-None `metadata` of an object wins.

    Raises
    ------
    ValueError
        When a calendar, or with ml4t-specs any field, has a value that cannot be.
    """
    if schema is None:
        return {}
    said = _read(schema)
    spec = _by_specs(schema) if said else None
    if spec is not None:
        # The specification fills in defaults; those that nobody asked for are not the schema's.
        said = {
            name: _single(value)
            for name, value in spec.items()
            if name in said or (value is not None and name not in _spec_defaults())
        }
    disabled = said.get("time_contract_version") == 2 and said.get("calendar", "") is None
    said = {name: value for name, value in said.items() if value is not None}
    return {**said, "calendar": None} if disabled else said


def _read(source: Any) -> dict[str, Any]:
    unsaid = unsaid_fields(source)
    if not isinstance(source, Mapping):
        metadata = getattr(source, "metadata", None)
        if metadata is not None:
            return _read(metadata)
        to_dict = getattr(source, "to_dict", None)
        if callable(to_dict) and not hasattr(source, "columns"):
            source = {key: value for key, value in to_dict().items() if key not in unsaid}
    schema, semantics = get(source, "schema", _ABSENT), get(source, "semantics", _ABSENT)
    said: dict[str, Any] = {}
    if schema is not _ABSENT and not callable(schema):
        said |= _pick(schema, COLUMN_ALIASES)
    if semantics is not _ABSENT and not callable(semantics):
        said |= _pick(semantics, SEMANTICS_ALIASES)
    return said | _pick(source, {**COLUMN_ALIASES, **SEMANTICS_ALIASES})


def _pick(source: Any, aliases: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    unsaid = unsaid_fields(source)
    for name, words in aliases.items():
        if name in unsaid:
            continue
        values = (get(source, word, _ABSENT) for word in words)
        value = next((one for one in values if one is not _ABSENT), _ABSENT)
        if value is not _ABSENT and getattr(value, "name", "") != "UNSET":
            found[name] = _plain(_single(value))
    return found


def _single(value: Any) -> Any:
    """Take the entity out of a list of one."""
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _by_specs(schema: Any) -> dict[str, Any] | None:
    spec = _feed_spec()
    if spec is None:
        return None
    found: dict[str, Any] = spec.from_any(schema).to_dict()
    return found


def _spec_defaults() -> dict[str, Any]:
    spec = _feed_spec()
    return {} if spec is None else {k: v for k, v in spec().to_dict().items() if v is not None}


def _feed_spec() -> Any:
    try:
        return importlib.import_module("ml4t.specs.market_data").FeedSpec
    except ModuleNotFoundError as error:
        if error.name in ("ml4t.specs", "ml4t.specs.market_data"):
            return None
        raise
