"""Labels of columns in milliseconds or nanoseconds, and counts of time since 1970.

Python's `datetime` ends at microseconds, has no unit, and compares labels of one time zone by the
wall clock: the two passes of the hour at the end of daylight saving are equal to it. Columns with a
time zone, in milliseconds or in nanoseconds give `Timestamp`, a `datetime` that has a unit and
compares by instant.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, Literal, SupportsIndex, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

Unit: TypeAlias = Literal["ms", "us", "ns"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAIVE_EPOCH = datetime(1970, 1, 1)
FIRST_DAY = date(1970, 1, 1).toordinal()
MICROSECOND = timedelta(microseconds=1)
FINENESS: dict[str, int] = {"s": 0, "ms": 0, "us": 1, "ns": 2}
UNITS: tuple[Unit, ...] = ("ms", "us", "ns")


class Timestamp(datetime):
    """A `datetime` with the unit of its column, and nanoseconds.

    Attributes
    ----------
    unit : {"ms", "us", "ns"}
        Unit of the column.
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
        """Return a `datetime` a unit."""
        fields = (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)
        return cls(
            *fields,
            moment.microsecond,
            moment.tzinfo,
            fold=moment.fold,
            unit=unit,
            nanosecond=nanosecond,
        )

    def _plain(self) -> datetime:
        return datetime.combine(self.date(), self.timetz())

    def replace(self, *fields: Any, **named: Any) -> Timestamp:
        """Change fields as `datetime.replace` does; unit and nanoseconds stay."""
        return Timestamp.of(self._plain().replace(*fields, **named), self.unit, self.nanosecond)

    def astimezone(self, tz: tzinfo | None = None) -> Timestamp:
        """Return the same instant in another zone; unit and nanoseconds stay."""
        return Timestamp.of(self._plain().astimezone(tz), self.unit, self.nanosecond)

    def isoformat(self, sep: str = "T", timespec: str = "auto") -> str:
        """Write ISO 8601, with nine decimals for nanoseconds."""
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
        moment = self._plain()
        return hash(moment if self.tzinfo is None else moment.astimezone(UTC))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, datetime) or (self.tzinfo is None) != (other.tzinfo is None):
            return False
        return nanoseconds(self) == nanoseconds(other)

    def __ne__(self, other: object) -> bool:
        return not self == other  # datetime's own would not see nanoseconds

    def __lt__(self, other: date) -> bool:
        return self._since(other) < 0

    def __le__(self, other: date) -> bool:
        return self._since(other) <= 0

    def __gt__(self, other: date) -> bool:
        return self._since(other) > 0

    def __ge__(self, other: date) -> bool:
        return self._since(other) >= 0

    def _since(self, other: date) -> int:
        """Count nanoseconds since another moment."""
        if not isinstance(other, datetime) or (self.tzinfo is None) != (other.tzinfo is None):
            raise TypeError(
                f"{self!r} and {other!r} have no order: only one has a time zone, or a time"
            )
        return nanoseconds(self) - nanoseconds(other)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return Timestamp.of, (self._plain(), self.unit, self.nanosecond)


def nanoseconds(moment: datetime) -> int:
    """Count nanoseconds since 1970: of the instant with a zone, else of the wall clock.

    The fold of a repeated hour counts.
    """
    seconds = (moment.toordinal() - FIRST_DAY) * 86_400
    seconds += moment.hour * 3_600 + moment.minute * 60 + moment.second
    count = seconds * 1_000_000 + moment.microsecond
    offset = moment.utcoffset()
    if offset is not None:
        count -= offset // MICROSECOND
    return count * 1_000 + int(getattr(moment, "nanosecond", 0))


def zone_of(name: str) -> tzinfo:
    """Find a time zone by its IANA name or by an offset such as ``+05:30``."""
    if name in ("UTC", "Z"):
        return ZoneInfo("UTC")
    offset = name.removeprefix("UTC")
    if offset[:1] in ("+", "-"):
        zone = datetime.strptime(offset, "%z").tzinfo
        if zone is not None:
            return zone
    return ZoneInfo(name)


def zone_name(zone: tzinfo | None) -> str | None:
    """Return the polars name of a zone; an offset without a name becomes UTC."""
    if zone is None:
        return None
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)
    return str(name) if name else "UTC"


def from_ticks(ticks: NDArray[np.int64], unit: Unit, zone: tzinfo | None) -> list[datetime]:
    """Turn counts of `unit` since 1970 (UTC for labels with a zone) into labels."""
    return [_moment(int(tick), unit, zone) for tick in ticks.tolist()]


def _moment(tick: int, unit: Unit, zone: tzinfo | None) -> datetime:
    rest = 0
    if unit == "ns":
        tick, rest = divmod(tick, 1000)
    elif unit == "ms":
        tick *= 1000
    since = timedelta(microseconds=tick)
    moment = NAIVE_EPOCH + since if zone is None else (EPOCH + since).astimezone(zone)
    # A plain datetime compares by the wall clock of its zone.
    return moment if unit == "us" and zone is None else Timestamp.of(moment, unit, rest)


def to_ticks(moments: Iterable[datetime], unit: Unit) -> NDArray[np.int64]:
    """Count `unit` since 1970, in UTC for labels with a zone; the inverse of `from_ticks`."""
    return np.array([_tick(moment, unit) for moment in moments], dtype=np.int64)


_TICK = {"ms": 1_000_000, "us": 1_000, "ns": 1}


def _tick(moment: datetime, unit: Unit) -> int:
    return nanoseconds(moment) // _TICK[unit]


def plain(value: Any) -> Any:
    """Turn a scalar of NumPy or Arrow into its label; other values are labels."""
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
