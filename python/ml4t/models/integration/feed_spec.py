"""Description of a price frame for a backtest, as a plain mapping.

With ml4t-specs installed its `FeedSpec` reads the schema; without, a reader of the same fields.
Both read only the declared fields, so that both give the same mapping.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, TypeAlias, TypedDict, TypeVar, cast

from ml4t.models.checks import require_text
from ml4t.models.integration.output_keys import open_prices
from ml4t.models.integration.schema import (
    COLUMN_ALIASES,
    NEUTRAL,
    default_fields,
    entry,
    require_schema,
    resolve_dataset_schema,
    single,
)


class Unset(Enum):
    """Default of an argument for which None is a value."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET
Calendar: TypeAlias = str | Unset | None

SEMANTICS_ALIASES: dict[str, tuple[str, ...]] = {
    "data_frequency": ("data_frequency", "frequency"),
    **{
        name: (name,)
        for name in (
            *("calendar", "timezone", "bar_type", "timestamp_semantics", "session_start_time"),
            *("time_contract_version", "bar_grid_anchor", "bar_label", "partial_bar_policy"),
        )
    },
}
DEFAULTS = {
    key: NEUTRAL[key]
    for key in ("timestamp_col", "entity_col", "open_col", "high_col", "low_col", "volume_col")
}
_ABSENT = object()


class FeedOptions(TypedDict, total=False):
    """Columns of a price frame and the meaning of its timestamps; None declares nothing.

    Attributes
    ----------
    timestamp_col, entity_col, price_col, open_col, high_col, low_col, close_col, volume_col : str
    bid_col, ask_col, mid_col, bid_size_col, ask_size_col : str
        Names of columns.
    calendar : str or None
        An exchange calendar, None for none; by default the schema's.
    timezone, data_frequency, bar_type, timestamp_semantics, session_start_time : str
        Meaning of the timestamps.
    """

    timestamp_col: str | None
    entity_col: str | None
    price_col: str | None
    open_col: str | None
    high_col: str | None
    low_col: str | None
    close_col: str | None
    volume_col: str | None
    bid_col: str | None
    ask_col: str | None
    mid_col: str | None
    bid_size_col: str | None
    ask_size_col: str | None
    calendar: Calendar
    timezone: str | None
    data_frequency: Any
    bar_type: str | None
    timestamp_semantics: Any
    session_start_time: str | None


Function = TypeVar("Function", bound=Callable[..., Any])


def with_feed_options(function: Function) -> Function:
    """Return a function of ``**feed`` the signature that lists the names of `FeedOptions`."""
    own = inspect.signature(function)
    named = [one for one in own.parameters.values() if one.kind is not one.VAR_KEYWORD]
    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=UNSET if name == "calendar" else None,
            annotation=kind,
        )
        for name, kind in FeedOptions.__annotations__.items()
    ]
    setattr(function, "__signature__", own.replace(parameters=[*named, *options]))  # noqa: B010
    return function


def checked(feed: FeedOptions) -> FeedOptions:
    """Return the options that are given.

    Raises
    ------
    TypeError
        When an option is unknown, or the name of a column is no text.
    ValueError
        When `calendar` is neither a name nor None.
    """
    for name, value in feed.items():
        if name not in FeedOptions.__annotations__:
            options = ", ".join(FeedOptions.__annotations__)
            raise TypeError(f"unexpected keyword argument {name!r}; a feed has {options}")
        if name.endswith("_col") and value is not None:
            require_text(name, value)
    calendar = feed.get("calendar", UNSET)
    named = isinstance(calendar, str) and bool(calendar.strip())
    if not (named or calendar is UNSET or calendar is None):
        raise ValueError(f"calendar must be a non-empty name or None; got {calendar!r}")
    given = {
        name: _plain(value)
        for name, value in feed.items()
        if value is not UNSET and (value is not None or name == "calendar")
    }
    return cast("FeedOptions", given)


def feed_mapping(frame: Any, schema: Any, feed: FeedOptions) -> dict[str, Any]:
    """Join schema, frame, options and defaults; see `resolve_feed_spec_mapping`."""
    options: dict[str, Any] = {**checked(feed)}
    mapping = read_schema(require_schema("schema", schema))
    table = open_prices(frame)
    if table is not None:
        keys = resolve_dataset_schema(
            table,
            schema=schema,
            timestamp_col=options.get("timestamp_col"),
            entity_col=options.get("entity_col"),
        )
        options |= keys.metadata
    if "calendar" in options:
        options["time_contract_version"] = 2
    mapping |= options
    if "price_col" not in options and "close_col" in options:
        mapping["price_col"] = options["close_col"]
    mapping.setdefault("price_col", mapping.get("close_col", "close"))
    mapping.setdefault("close_col", mapping["price_col"])
    return {**DEFAULTS, **mapping}


def read_schema(schema: Any) -> dict[str, Any]:
    """Read the fields of a feed from a schema, by ml4t-specs where it is installed.

    Parameters
    ----------
    schema : mapping or object, optional
        Flat fields, or sections `schema` and `semantics`; a non-None `metadata` of an object wins.

    Raises
    ------
    ValueError
        When a calendar, or with ml4t-specs any field, has an invalid value.
    """
    if schema is None:
        return {}
    declared = _read(schema)
    spec = _by_specs(schema) if declared else None
    if spec is not None:
        # The specification fills in defaults, which the schema does not declare.
        declared = {
            name: single(value)
            for name, value in spec.items()
            if name in declared or (value is not None and name not in _spec_defaults())
        }
    disabled = declared.get("time_contract_version") == 2 and declared.get("calendar", "") is None
    declared = {name: value for name, value in declared.items() if value is not None}
    return {**declared, "calendar": None} if disabled else declared


def _read(source: Any) -> dict[str, Any]:
    defaults = default_fields(source)
    if not isinstance(source, Mapping):
        metadata = getattr(source, "metadata", None)
        if metadata is not None:
            return _read(metadata)
        to_dict = getattr(source, "to_dict", None)
        if callable(to_dict) and not hasattr(source, "columns"):
            source = {key: value for key, value in to_dict().items() if key not in defaults}
    schema, semantics = entry(source, "schema", _ABSENT), entry(source, "semantics", _ABSENT)
    declared: dict[str, Any] = {}
    if schema is not _ABSENT and not callable(schema):
        declared |= _pick(schema, COLUMN_ALIASES)
    if semantics is not _ABSENT and not callable(semantics):
        declared |= _pick(semantics, SEMANTICS_ALIASES)
    return declared | _pick(source, {**COLUMN_ALIASES, **SEMANTICS_ALIASES})


def _pick(source: Any, aliases: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    picked: dict[str, Any] = {}
    defaults = default_fields(source)
    for name, words in aliases.items():
        if name in defaults:
            continue
        values = (entry(source, word, _ABSENT) for word in words)
        value = next((one for one in values if one is not _ABSENT), _ABSENT)
        if value is not _ABSENT and getattr(value, "name", "") != "UNSET":
            picked[name] = _plain(single(value))
    return picked


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _by_specs(schema: Any) -> dict[str, Any] | None:
    spec = _feed_spec()
    if spec is None:
        return None
    mapping: dict[str, Any] = spec.from_any(schema).to_dict()
    return mapping


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
