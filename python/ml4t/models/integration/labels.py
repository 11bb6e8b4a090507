"""Labels of periods: from column values to Python objects and back, nothing lost.

A label is what a batch carries in `timestamps`: a `datetime` (aware when the column has a time
zone), a `date`, an integer or a text. Python's `datetime` ends at microseconds and knows no unit:
columns in milliseconds or nanoseconds give `Timestamp`, a `datetime` that remembers both.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, Literal, SupportsIndex, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

Unit: TypeAlias = Literal["ms", "us", "ns"]
Dtype: TypeAlias = tuple[str | None, ...]
"""A column type by its polars name and arguments, such as ``("Datetime", "ns", "UTC")``."""

NAIVE_EPOCH = datetime(1970, 1, 1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
FINENESS: dict[str, int] = {"s": 0, "ms": 0, "us": 1, "ns": 2}
UNITS: tuple[Unit, ...] = ("ms", "us", "ns")


class Timestamp(datetime):
    """A `datetime` that remembers the unit of its column, and its nanoseconds.

    Attributes
    ----------
    unit : {"ms", "us", "ns"}
        Unit of the column that it came from.
    nanosecond : int
        0 to 999, beyond the microseconds that a `datetime` holds.
    """

    __slots__ = ("nanosecond", "unit")
    unit: Unit
    nanosecond: int

    def __new__(
        cls, *args: Any, unit: Unit = "us", nanosecond: int = 0, **kwargs: Any
    ) -> Timestamp:
        """Take what `datetime` takes, and the two attributes by name."""
        self = super().__new__(cls, *args, **kwargs)
        self.unit = unit
        self.nanosecond = nanosecond
        return self

    @classmethod
    def of(cls, moment: datetime, unit: Unit, nanosecond: int = 0) -> Timestamp:
        """Give a `datetime` a unit."""
        fields = (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)
        return cls(
            *fields,
            moment.microsecond,
            moment.tzinfo,
            fold=moment.fold,
            unit=unit,
            nanosecond=nanosecond,
        )

    def isoformat(self, sep: str = "T", timespec: str = "auto") -> str:
        """Write ISO 8601, with nine decimals where there are nanoseconds."""
        text = super().isoformat(sep, timespec)
        if not self.nanosecond or timespec != "auto":
            return text
        cut = 26  # YYYY-MM-DDTHH:MM:SS.ffffff
        whole = super().isoformat(sep, "microseconds")
        return f"{whole[:cut]}{self.nanosecond:03d}{whole[cut:]}"

    def __str__(self) -> str:
        return self.isoformat(" ")

    def __repr__(self) -> str:
        return f"Timestamp({self.isoformat()!r}, unit={self.unit!r})"

    def __hash__(self) -> int:
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        same = super().__eq__(other)
        return same is True and self.nanosecond == getattr(other, "nanosecond", 0)

    def __ne__(self, other: object) -> bool:
        return not self == other  # datetime's own would not see nanoseconds

    def __lt__(self, other: date) -> bool:
        return _compare(self, other, operator.lt)

    def __le__(self, other: date) -> bool:
        return _compare(self, other, operator.le)

    def __gt__(self, other: date) -> bool:
        return _compare(self, other, operator.gt)

    def __ge__(self, other: date) -> bool:
        return _compare(self, other, operator.ge)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        plain = datetime.combine(self.date(), self.timetz())
        return Timestamp.of, (plain, self.unit, self.nanosecond)


def _compare(one: Timestamp, other: date, rule: Callable[[Any, Any], bool]) -> bool:
    if datetime.__eq__(one, other) is True:
        return rule(one.nanosecond, getattr(other, "nanosecond", 0))
    plain = datetime.combine(one.date(), one.timetz())
    return rule(plain, other)


def zone_of(name: str) -> tzinfo:
    """Find a time zone by its IANA name or by an offset such as ``+05:30``."""
    if name in ("UTC", "Z"):
        return ZoneInfo("UTC")
    offset = name.removeprefix("UTC")
    if offset[:1] in ("+", "-"):
        found = datetime.strptime(offset, "%z").tzinfo
        if found is not None:
            return found
    return ZoneInfo(name)


def zone_name(zone: tzinfo | None) -> str | None:
    """Name a zone as polars knows it; a bare offset has no such name and becomes UTC."""
    if zone is None:
        return None
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)
    return str(name) if name else "UTC"


def from_ticks(ticks: NDArray[np.int64], unit: Unit, zone: tzinfo | None) -> list[datetime]:
    """Turn counts of `unit` since 1970 (UTC when there is a zone) into labels."""
    return [_moment(int(tick), unit, zone) for tick in ticks.tolist()]


def _moment(tick: int, unit: Unit, zone: tzinfo | None) -> datetime:
    rest = 0
    if unit == "ns":
        tick, rest = divmod(tick, 1000)
    elif unit == "ms":
        tick *= 1000
    since = timedelta(microseconds=tick)
    moment = NAIVE_EPOCH + since if zone is None else (EPOCH + since).astimezone(zone)
    return moment if unit == "us" else Timestamp.of(moment, unit, rest)


def to_ticks(moments: Iterable[datetime], unit: Unit) -> NDArray[np.int64]:
    """Count `unit` since 1970, in UTC for labels with a zone; the inverse of `from_ticks`."""
    return np.array([_tick(moment, unit) for moment in moments], dtype=np.int64)


def _tick(moment: datetime, unit: Unit) -> int:
    # A zone-aware difference through UTC sees the fold of an ambiguous hour.
    if moment.tzinfo is None:
        since = datetime.combine(moment.date(), moment.time()) - NAIVE_EPOCH
    else:
        since = datetime.combine(moment.date(), moment.timetz()).astimezone(UTC) - EPOCH
    microseconds = since // MICROSECOND
    if unit == "ns":
        return microseconds * 1000 + int(getattr(moment, "nanosecond", 0))
    return microseconds if unit == "us" else microseconds // 1000


def plain(value: Any) -> Any:
    """Turn a scalar of NumPy or Arrow into its label; everything else is a label already."""
    if isinstance(value, np.datetime64):
        unit = np.datetime_data(value.dtype)[0]
        if unit in ("Y", "M", "W", "D"):
            return value.astype("datetime64[D]").item()
        known: Unit = unit if unit in UNITS else "ms" if unit in ("h", "m", "s") else "ns"
        ticks = value.astype(f"datetime64[{known}]").astype(np.int64)
        return _moment(int(ticks), known, None)
    if isinstance(value, np.generic):
        return value.item()
    return value.as_py() if hasattr(value, "as_py") else value


def common_dtype(labels: Sequence[Any]) -> Dtype | None:
    """Say which column type holds all of the labels; None when no single one does.

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
    return ("String",) if all(isinstance(label, str) for label in labels) else None


def require_one_zone(name: str, moments: Iterable[datetime]) -> tzinfo | None:
    """Return the zone that all moments share; refuse a mixture."""
    zones = {str(moment.tzinfo): moment.tzinfo for moment in moments}
    if len(zones) > 1:
        raise ValueError(
            f"{name} must have one time zone; got mixed time zones "
            f"{sorted(zones)} (None: no zone); convert the column to one zone first"
        )
    return next(iter(zones.values()), None)


def align(labels: Sequence[Any], dtype: Dtype | None) -> list[Any]:
    """Restate labels in a column type that says the same moments, else leave them as they are.

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
