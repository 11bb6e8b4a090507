"""Column types of date labels, and labels restated in another type.

A label is an entry of `timestamps` of a batch: a `datetime` (aware when the column has a time
zone), a `date`, an integer or a text; see `types.timestamp`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, tzinfo
from typing import Any, TypeAlias

from ml4t.models.types.timestamp import (
    FINENESS,
    UNITS,
    Timestamp,
    Unit,
    from_ticks,
    plain,
    to_ticks,
    zone_name,
    zone_of,
)

__all__ = [
    "UNITS",
    "Dtype",
    "Timestamp",
    "Unit",
    "align",
    "common_dtype",
    "from_ticks",
    "plain",
    "require_one_zone",
    "to_ticks",
    "zone_name",
    "zone_of",
]

Dtype: TypeAlias = tuple[str | None, ...]
"""A column type by its polars name and arguments, such as ``("Datetime", "ns", "UTC")``."""


def common_dtype(labels: Sequence[Any]) -> Dtype | None:
    """Return the column type that holds all labels; None when no single one does.

    Raises
    ------
    ValueError
        When some labels have a time zone and others none, or another one.
    """
    if not labels:
        return None
    if all(isinstance(label, datetime) for label in labels):
        zone = require_one_zone("timestamps", labels)
        finest = max(FINENESS.get(getattr(label, "unit", "us"), 1) for label in labels)
        return ("Datetime", UNITS[finest], zone_name(zone))
    if all(isinstance(label, date) and not isinstance(label, datetime) for label in labels):
        return ("Date",)
    if all(isinstance(label, int) and not isinstance(label, bool) for label in labels):
        return ("Int64",)
    if not all(isinstance(label, str) for label in labels):
        return None
    declared = {getattr(label, "categories", None) for label in labels}
    categories = declared.pop() if len(declared) == 1 else None
    return ("String",) if categories is None else ("Enum", *categories)


def require_one_zone(name: str, moments: Iterable[datetime]) -> tzinfo | None:
    """Return the zone that all moments share; reject a mixture."""
    zones = {str(moment.tzinfo): moment.tzinfo for moment in moments}
    if len(zones) > 1:
        raise ValueError(
            f"{name} must have one time zone; got mixed time zones "
            f"{sorted(zones)} (None: no zone); convert the column to one zone first"
        )
    return next(iter(zones.values()), None)


def align(labels: Sequence[Any], dtype: Dtype | None) -> list[Any]:
    """Restate labels in a column type that names the same moments, else return them as they are.

    Units change, zones change among labels that have one, a date becomes its midnight and back.
    A moment without a zone is never given one.
    """
    own = common_dtype(labels)
    if own is None or dtype is None or own == dtype:
        return list(labels)
    if own[0] == "Date" and dtype[0] == "Datetime" and dtype[2] is None:
        return [_with_unit(datetime(d.year, d.month, d.day), dtype[1]) for d in labels]
    if own[0] != "Datetime":
        return list(labels)
    if dtype == ("Date",) and own[2] is None and all(_is_midnight(label) for label in labels):
        return [label.date() for label in labels]
    if dtype[0] != "Datetime" or (own[2] is None) != (dtype[2] is None):
        return list(labels)
    ticks = to_ticks(labels, "ns")
    unit = next(known for known in UNITS if known == dtype[1])
    step = {"ns": 1, "us": 1000, "ms": 1_000_000}[unit]
    if (ticks % step).any():
        return list(labels)
    return list(from_ticks(ticks // step, unit, None if dtype[2] is None else zone_of(dtype[2])))


def _with_unit(moment: datetime, unit: str | None) -> datetime:
    return (
        moment if unit not in ("ms", "ns") else Timestamp.of(moment, "ms" if unit == "ms" else "ns")
    )


def _is_midnight(moment: datetime) -> bool:
    return moment.timetz() == datetime.min.timetz() and not getattr(moment, "nanosecond", 0)
