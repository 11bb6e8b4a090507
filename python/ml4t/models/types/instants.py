"""Order, equality and hash of labels of dates.

Python compares datetimes of one time zone by the wall clock, so that two instants of the hour at
the end of daylight saving are equal to it; and it compares text by letters. Here a moment is its
instant, text is a date only in a form of ISO 8601 whose letters sort as time does, and a category
has the place that its column declares.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import date, datetime, time, timedelta
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from ml4t.models.types.timestamp import (
    FIRST_DAY,
    MICROSECOND,
    Timestamp,
    from_ticks,
    nanoseconds,
    zone_of,
)

Instant: TypeAlias = tuple[str, Hashable]

DAY = 86_400 * 10**9
# Nanoseconds of a unit of NumPy as numerator and denominator.
_RATIO = {"W": (7 * DAY, 1), "D": (DAY, 1), "h": (3_600 * 10**9, 1), "m": (60 * 10**9, 1)}
_RATIO |= {unit: (10 ** (9 - 3 * i), 1) for i, unit in enumerate(("s", "ms", "us", "ns"))}
_RATIO |= {unit: (1, 10 ** (3 * i)) for i, unit in enumerate(("ps", "fs", "as"), start=1)}

_DAY = r"\d{4}(?:-\d\d(?:-\d\d)?|\d{4}|-?W\d\d(?:-?\d)?|-?\d{3})?"
_TIME = r"\d\d(?::?\d\d(?::?\d\d(?:[.,]\d+)?)?)?"
_ISO = re.compile(rf"({_DAY})(?:([T ])({_TIME})(Z|[+-]\d\d(?::?\d\d)?)?)?", re.ASCII)
PARSE = (
    'parse it first: pl.col("date").str.to_date("%m/%d/%Y") or '
    'pd.to_datetime(frame["date"], format="%m/%d/%Y"), with the format of the text'
)
UNORDERED = (
    "must have an order in time; got categories without one: cast them to dates or to text in "
    "ISO 8601 (pl.String, astype(str)), or declare their order (pl.Enum, "
    "pandas.CategoricalDtype(..., ordered=True))"
)


class Category(str):
    """The text of an ordered category, with its place among the categories of its column.

    Attributes
    ----------
    categories : tuple of str
        In the order that the column declares.
    rank : int
        Position of this one.
    """

    __slots__ = ("categories", "rank")
    categories: tuple[str, ...]
    rank: int

    def __new__(cls, categories: tuple[str, ...], rank: int) -> Category:
        """Take the category of a rank."""
        self = super().__new__(cls, categories[rank])
        self.categories = categories
        self.rank = rank
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Category, (self.categories, self.rank)


def instant(label: Any) -> Instant:
    """Return a hashable key of a date: equal for labels of one date, in any time zone.

    A date is its midnight, 1 is 1.0, a category its text. Fold and nanoseconds count.
    """
    if hasattr(label, "as_py"):
        label = label.as_py()
    if is_missing(label):
        return "missing", None
    if isinstance(label, str):
        return "text", str(label)
    if isinstance(label, datetime):
        return "instant" if label.tzinfo is not None else "local", nanoseconds(label)
    if isinstance(label, date):
        return "local", (label.toordinal() - FIRST_DAY) * DAY
    if isinstance(label, (np.datetime64, np.timedelta64)):
        return _numpy_time(label)
    if isinstance(label, timedelta):
        return "duration", label // MICROSECOND * 1_000 + int(getattr(label, "nanoseconds", 0))
    if isinstance(label, Real) and not isinstance(label, (bool, np.bool_)):
        number: Any = label.item() if isinstance(label, np.generic) else label
        return "number", number
    if isinstance(label, tuple):
        return "tuple", tuple(map(instant, label))
    if hasattr(label, "freqstr") and hasattr(label, "ordinal"):
        return f"period of {label.freqstr}", label.ordinal
    return type(label).__name__, label


def listed(timestamps: Iterable[Any]) -> list[Any]:
    """List labels as Python objects, of Arrow as well.

    Nanoseconds of polars stay, and so does the order that a column of categories declares.
    """
    kind: Any = getattr(timestamps, "dtype", None)
    if getattr(kind, "ordered", False) or str(kind).startswith("Enum"):
        labels = declared(list(kind.categories))
        return [labels.get(one, one) for one in timestamps]
    if str(kind).startswith("Datetime(time_unit='ns'"):
        zone = None if kind.time_zone is None else zone_of(kind.time_zone)
        ticks: Any = timestamps
        return list(from_ticks(ticks.to_physical().to_numpy(), "ns", zone))
    return [one.as_py() if hasattr(one, "as_py") else one for one in timestamps]


def is_missing(label: Any) -> bool:
    """Recognise None, NaN, NaT and pandas.NA."""
    if label is None:
        return True
    try:
        return bool(label != label)
    except (TypeError, ValueError):
        return True  # pandas.NA has no truth value


def first_difference(one: Iterable[Any], other: Iterable[Any]) -> int | None:
    """Find the first position at which two sequences of as many labels name different dates."""
    both = zip(one, other, strict=True)
    return next((at for at, (a, b) in enumerate(both) if instant(a) != instant(b)), None)


def in_time(
    subject: str, labels: Sequence[Any], *, at: Callable[[int], str] = "date {}".format
) -> list[Any]:
    """Return the places of labels in time, which sort as the dates do.

    Parameters
    ----------
    subject : str
        Begin of a message, such as "timestamps must be".
    labels : sequence
    at : callable
        Names the position of a label.

    Raises
    ------
    ValueError
        When a label is missing, two are not of one kind, or text is not ISO 8601 of one form.
    """
    plain = _places_of_one_type(labels)
    if plain is not None:
        return plain
    places: list[Any] = []
    first: Any = None
    for number, label in enumerate(labels):
        kind, place = instant(label)
        if kind == "missing":
            raise ValueError(f"{subject} present for every date; got {label!r} at {at(number)}")
        if kind == "local" and isinstance(label, date) and not isinstance(label, datetime):
            kind = "date"
        first = first or (kind, label)
        if kind != first[0]:
            raise ValueError(
                f"{subject} of one kind; got {first[1]!r} at {at(0)} and {label!r} at {at(number)}"
            )
        places.append(place)
    if first is not None and first[0] == "text":
        return _text_in_time(subject, labels, at)
    try:
        hash(tuple(places[:1]))
        sorted(places[:2])
    except TypeError as error:
        raise ValueError(f"{subject} of one kind that has an order; got {error}") from error
    return places


def require_ascending(name: str, timestamps: Iterable[Any], *, opaque: bool = False) -> None:
    """Reject labels that do not strictly ascend in time.

    Parameters
    ----------
    name : str
    timestamps : iterable
    opaque : bool, default False
        Whether labels without an order, such as text that is no date, pass.

    Raises
    ------
    ValueError
        Naming the position and both labels; see `in_time` for the others.
    """
    labels = listed(timestamps)
    if _plainly_ascend(labels) or (opaque and not all(map(_has_order, labels))):
        return
    if not opaque and _is_unordered(timestamps):
        raise ValueError(f"{name} {UNORDERED}")
    for at, (one, later) in enumerate(pairwise(in_time(f"{name} must be", labels)), start=1):
        if not one < later:
            raise ValueError(
                f"{name} must ascend; got {labels[at]} after {labels[at - 1]} at date {at}"
            )


def require_one_kind(name: str, one: Sequence[Any], other: Sequence[Any]) -> None:
    """Reject two sides without a common order, such as dates and text."""
    try:
        in_time("labels must be", (one[0], other[0]))
    except ValueError as error:
        raise ValueError(
            f"{name} must be of one kind on both sides; got {one[0]!r} and {other[0]!r}: {error}"
        ) from error


def _is_unordered(timestamps: Any) -> bool:
    """Recognise categories without an order: of pandas, polars or Arrow."""
    kind = getattr(timestamps, "dtype", getattr(timestamps, "type", None))
    return getattr(kind, "ordered", None) is False or str(kind).startswith("Categorical")


def _places_of_one_type(labels: Sequence[Any]) -> list[Any] | None:
    """Return the places of many plain labels at once; None for other labels."""
    kinds = set(map(type, labels))
    if kinds == {int}:
        return list(labels)
    if kinds == {date}:
        return [(label.toordinal() - FIRST_DAY) * DAY for label in labels]
    moments = bool(kinds) and kinds <= {datetime, Timestamp}
    if moments and len({label.tzinfo is None for label in labels}) == 1:
        return list(map(nanoseconds, labels))
    return None


def _plainly_ascend(labels: Sequence[Any]) -> bool:
    """Return whether labels ascend, of kinds that Python and NumPy compare by instant."""
    kinds = set(map(type, labels))
    kind = kinds.pop() if len(kinds) == 1 else object
    known = kind in (int, float, date) or issubclass(kind, np.datetime64)
    known = known or (kind.__name__, kind.__module__[:6]) == ("Timestamp", "pandas")
    if not known and not (kind is datetime and all(label.tzinfo is None for label in labels)):
        return False
    try:
        return all(map(operator.lt, labels, labels[1:]))
    except TypeError:  # with and without a time zone
        return False


def _numpy_time(label: np.datetime64 | np.timedelta64) -> Instant:
    unit, step = np.datetime_data(label.dtype)
    kind = "local" if isinstance(label, np.datetime64) else "duration"
    if unit in ("Y", "M"):
        if kind == "duration":
            months = 12 if unit == "Y" else 1
            return "duration in months", int(label.astype(np.int64)) * step * months
        label, unit, step = label.astype("datetime64[D]"), "D", 1
    count = int(label.astype(np.int64)) * step
    up, down = _RATIO.get(unit, (1, 1))
    return kind, count * up if down == 1 else Fraction(count, down)


def _has_order(label: Any) -> bool:
    kind, place = instant(label)
    if kind == "text":
        return isinstance(label, Category) or iso_form(str(place)) is not None
    return kind in ("missing", "instant", "local", "number", "duration") or "period" in kind


def _text_in_time(subject: str, labels: Sequence[Any], at: Callable[[int], str]) -> list[Any]:
    if all(isinstance(label, Category) for label in labels):
        if any(label.categories != labels[0].categories for label in labels):
            raise ValueError(f"{subject} of one kind; got categories of two columns")
        return [label.rank for label in labels]
    texts = [str(instant(label)[1]) for label in labels]
    forms = [iso_form(text) for text in texts]
    if None in forms:
        number = forms.index(None)
        raise ValueError(
            f"{subject} in ISO 8601 where they are text, such as '2020-01-15'; got "
            f"{texts[number]!r} at {at(number)}; {PARSE}"
        )
    number = next((i for i, form in enumerate(forms) if form != forms[0]), 0)
    if number:
        raise ValueError(
            f"{subject} of one form where they are text, since only then letters sort as dates do; "
            f"got {texts[0]!r} at {at(0)} and {texts[number]!r} at {at(number)}; {PARSE}"
        )
    return texts


def declared(categories: Sequence[Any]) -> dict[Any, Any]:
    """Map the categories of an ordered column to labels that sort as the column declares."""
    try:
        require_ascending("categories", categories)
    except ValueError:
        texts = tuple(map(str, categories))
        return {one: Category(texts, rank) for rank, one in enumerate(categories)}
    return {one: one for one in categories}


@lru_cache(maxsize=1 << 16)
def iso_form(text: str) -> str | None:
    """Return the form of ISO 8601 of a text; None when it is no date of the calendar.

    Texts of one form sort as their dates do: as many digits, the same signs, the same offset.
    """
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    day, between, clock, zone = match.groups(default="")
    try:
        _require_day(day)
        if clock:
            time.fromisoformat(re.sub(r"[.,]\d+", "", clock))
    except ValueError:
        return None
    return re.sub(r"\d", "0", day + between + clock) + zone


def _require_day(text: str) -> None:
    """Raise `ValueError` when a text of digits and signs is no date."""
    digits = text.replace("-", "")
    if "W" in text or len(digits) == 8:
        date.fromisoformat(text)
        return
    year = date(int(digits[:4]), 1, 1)
    if len(digits) == 6:
        year.replace(month=int(digits[4:]))
    elif len(digits) == 7:
        day = int(digits[4:])
        if day < 1 or (year + timedelta(days=day - 1)).year != year.year:
            raise ValueError(f"no day {day} in {year.year}")
