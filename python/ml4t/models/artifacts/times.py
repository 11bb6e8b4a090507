"""Labels of dates to JSON and back: equal labels after a round trip, units and instants kept.

| value                                  | JSON                                             |
|----------------------------------------|--------------------------------------------------|
| numpy.datetime64, numpy.timedelta64    | `{"datetime64": [n, dtype]}`                     |
| date                                   | `{"date": iso}`                                  |
| time, timedelta                        | `{"time": iso}`, `{"timedelta": microseconds}`   |
| datetime, naive, ZoneInfo or an offset | `{"datetime": [iso, zone, fold]}`                |
| Timestamp                              | `{"timestamp": [n, unit, zone]}`                 |
| pandas.Timestamp, of any other library | the same with its class: `[n, unit, zone, name]` |
| pandas.Period                          | `{"period": [n, frequency]}`                     |
| Category                               | `{"category": [rank, categories]}`               |
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from importlib import import_module
from types import NoneType
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np

from ml4t.models.types.instants import Category, instant
from ml4t.models.types.timestamp import (
    UNITS,
    Timestamp,
    from_ticks,
    nanoseconds,
    to_ticks,
    zone_of,
)

JSON: TypeAlias = Any

KINDS: dict[str, type] = {
    "datetime64": np.datetime64,
    "timedelta64": np.timedelta64,
    **dict.fromkeys(("date", "datetime", "timestamp", "period"), date),
    "time": time,
    "timedelta": timedelta,
    "category": str,
}
"""Tags of labels, and the type of a field that may hold one."""


def pack(value: Any) -> JSON | None:
    """Turn a label into JSON; None when it is no label of time."""
    if isinstance(value, Category):
        return {"category": [value.rank, list(value.categories)]}
    if isinstance(value, (np.datetime64, np.timedelta64)):
        kind = "datetime64" if isinstance(value, np.datetime64) else "timedelta64"
        return {kind: [int(value.astype(np.int64)), value.dtype.name]}
    if isinstance(value, datetime):
        return _pack_moment(value)
    if isinstance(value, date):
        return {"date": value.isoformat()}
    if type(value) is time and value.tzinfo is None:
        return {"time": value.isoformat()}
    if isinstance(value, timedelta):
        if getattr(value, "nanoseconds", 0):  # of pandas
            nanoseconds_of: Any = instant(value)[1]
            return {"timedelta64": [nanoseconds_of, "timedelta64[ns]"]}
        return {"timedelta": value // timedelta(microseconds=1)}
    if _of_pandas(value, "Period"):
        return {"period": [int(value.ordinal), value.freqstr]}
    return None


def unpack(data: JSON) -> Any:
    """Read what `pack` wrote.

    Raises
    ------
    ValueError
        When it is not well formed.
    """
    ((tag, part),) = data.items()
    try:
        return _READERS[tag](part)
    except ImportError as error:
        raise ValueError(f"a {tag} needs pandas: {error}") from error
    except (AttributeError, LookupError, TypeError, ValueError, OSError, OverflowError) as error:
        raise ValueError(f"a {tag} that cannot be read; {error}") from error


def time_dtype(name: Any, stored: np.dtype[Any], where: str) -> np.dtype[Any]:
    """Read a dtype of time over int64."""
    known = re.fullmatch(r"(datetime|timedelta)64(\[[0-9]*[a-zA-Z]+\])?", str(name))
    if known is None or stored != np.int64:
        raise ValueError(f"{where} must have a dtype of time over int64; got {name!r}, {stored}")
    try:
        return np.dtype(known[0])
    except TypeError as error:
        raise ValueError(f"{where} must have a dtype of time; got {name!r}") from error


def _pack_moment(value: datetime) -> JSON:
    plain = type(value) is datetime
    if plain and isinstance(value.tzinfo, (ZoneInfo, timezone, NoneType)):
        zone = value.tzinfo.key if isinstance(value.tzinfo, ZoneInfo) else None
        local = value.replace(tzinfo=None) if zone else value
        return {"datetime": [local.isoformat(), zone, value.fold]}
    unit = getattr(value, "unit", "us")
    unit = unit if unit in UNITS else "ms" if unit == "s" else "ns"
    ticks = nanoseconds(value) // {"ms": 1_000_000, "us": 1_000, "ns": 1}[unit]
    packed = [ticks, unit, _zone_name(value)]
    if _of_pandas(value, "Timestamp"):
        packed.append(str(getattr(value, "unit", "ns")))
    return {"timestamp": packed}


def _zone_name(value: datetime) -> str | None:
    """Name a zone; one without a name is its offset at this moment."""
    zone, offset = value.tzinfo, value.utcoffset()
    if zone is None or offset is None:
        return None
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)
    if isinstance(name, str):
        return name
    seconds = int(offset.total_seconds())
    sign, seconds = ("-", -seconds) if seconds < 0 else ("+", seconds)
    text = f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}"
    return f"{text}:{seconds % 60:02d}" if seconds % 60 else text


def _of_pandas(value: Any, name: str) -> bool:
    kind = type(value)
    return kind.__name__ == name and kind.__module__.split(".")[0] == "pandas"


def _moment(part: list[Any]) -> datetime:
    iso, zone, fold = part
    moment = datetime.fromisoformat(iso).replace(fold=fold)
    return moment if zone is None else moment.replace(tzinfo=ZoneInfo(zone))


def _timestamp(part: list[Any]) -> datetime:
    ticks, unit, name, *pandas_unit = part
    zone: tzinfo | None = None if name is None else zone_of(name)
    if unit not in UNITS or len(pandas_unit) > 1:
        raise ValueError(f"unit must be one of {UNITS}; got {unit!r}")
    (moment,) = from_ticks(np.array([ticks], dtype=np.int64), unit, zone)
    if not pandas_unit:
        return moment if isinstance(moment, Timestamp) else Timestamp.of(moment, unit)
    try:
        pandas = import_module("pandas")
    except ImportError:
        return moment
    whole = pandas.Timestamp(int(to_ticks([moment], unit)[0]), unit=unit, tz=zone)
    timestamp: datetime = whole.as_unit(pandas_unit[0])
    return timestamp


def _period(part: list[Any]) -> Any:
    ordinal, frequency = part
    return import_module("pandas").Period(ordinal=ordinal, freq=frequency)


def _category(part: list[Any]) -> Category:
    rank, categories = part
    texts = tuple(categories)
    if type(rank) is not int or rank < 0 or not all(isinstance(one, str) for one in texts):
        raise ValueError(f"a rank among texts; got {rank!r}")
    return Category(texts, rank)


def _ticks(part: list[Any]) -> Any:
    count, name = part
    ticks = np.array(count, dtype=np.int64)
    return ticks.view(time_dtype(name, ticks.dtype, "it"))[()]


_READERS: dict[str, Any] = {
    "datetime64": _ticks,
    "timedelta64": _ticks,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda part: timedelta(microseconds=part),
    "datetime": _moment,
    "timestamp": _timestamp,
    "period": _period,
    "category": _category,
}
