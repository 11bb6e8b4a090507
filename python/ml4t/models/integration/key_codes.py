"""Key columns as integer codes into labels."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml4t.models.integration.timestamps import (
    UNITS,
    Dtype,
    Unit,
    from_ticks,
    plain,
    require_one_zone,
    to_ticks,
    zone_name,
    zone_of,
)

if TYPE_CHECKING:
    import narwhals as nw

    from ml4t.models.integration.frame_reader import Column

INTEGERS = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
CATEGORICALS = ("Categorical", "Enum")
FIRST_DAY = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Coded:
    """A key column as codes into its distinct labels.

    Attributes
    ----------
    labels : tuple
        Distinct values, in no particular order.
    codes : ndarray of int64, shape (rows,)
        `labels[codes[r]]` is row r.
    dtype : tuple, optional
        Type of the column, where labels alone do not determine it.
    """

    labels: tuple[Any, ...]
    codes: NDArray[np.int64]
    dtype: Dtype | None

    def sorted_by(self, order: Sequence[int]) -> Coded:
        """Put the labels in the given order and renumber the rows."""
        place = np.empty(len(order), dtype=np.int64)
        place[np.asarray(order, dtype=np.int64)] = np.arange(len(order))
        return Coded(tuple(self.labels[i] for i in order), place[self.codes], self.dtype)


def code(column: Column) -> Coded:
    """Return numbers to the distinct values of a key column.

    Raises
    ------
    ValueError
        When a value is missing or unhashable, or the column mixes time zones.
    """
    import narwhals as nw  # noqa: PLC0415 - with the first frame

    data = column.data
    if isinstance(data, nw.Series):
        _require_no_null(column.name, data.is_null().to_numpy())
        return _code_series(column, data)
    if isinstance(data, np.ndarray) and data.dtype.kind == "M":
        _require_no_null(column.name, np.isnat(data))
        return _code_datetime64(data)
    if isinstance(data, np.ndarray) and data.dtype.kind in "iu":
        return _code_integers(data, (data.dtype.name.replace("i", "I").replace("u", "U"),))
    return _code_objects(column.name, data.tolist() if isinstance(data, np.ndarray) else data)


def type_of(dtype: Any) -> Dtype | None:
    """Translate a narwhals or pandas type to the name and arguments of the polars type."""
    import narwhals as nw  # noqa: PLC0415 - with the first frame

    if isinstance(dtype, nw.Datetime):
        return ("Datetime", _unit(dtype.time_unit), dtype.time_zone)
    zone = getattr(dtype, "tz", None)
    if isinstance(zone, tzinfo):  # pandas; narwhals does not support all of its zones
        return ("Datetime", _unit(dtype.unit), zone_name(zone))
    name = type(dtype).__name__
    if isinstance(dtype, nw.Enum):
        return ("Enum", *dtype.categories)
    if name in CATEGORICALS:
        return ("Categorical",)
    return (name,) if name in (*INTEGERS, "Date", "String") else None


def _unit(name: str) -> Unit:
    """Find the unit that holds a column of unit `name`; polars has no seconds."""
    return next((known for known in UNITS if known == name), "ms" if name in "hms" else "ns")


def _code_series(column: Column, data: nw.Series[Any]) -> Coded:
    import narwhals as nw  # noqa: PLC0415 - with the first frame

    dtype = data.dtype
    native_type: Any = getattr(data.to_native(), "dtype", None)
    if isinstance(getattr(native_type, "tz", None), tzinfo):
        unit = _unit(native_type.unit)
        ticks = data.to_native().to_numpy(dtype=f"datetime64[{unit}]").astype(np.int64)
        return _code_ticks(ticks, unit, native_type.tz, type_of(native_type))
    if isinstance(dtype, nw.Datetime):
        unit = _unit(dtype.time_unit)
        zone = None if dtype.time_zone is None else zone_of(dtype.time_zone)
        return _code_ticks(data.dt.timestamp(unit).to_numpy(), unit, zone, type_of(dtype))
    if _is_polars(data) and dtype == nw.Date:
        return _code_days(data)
    if dtype.is_integer() and type_of(dtype) is not None:
        return _code_integers(data.to_numpy(), type_of(dtype))
    if _is_polars(data) and (dtype == nw.String or type(dtype).__name__ in CATEGORICALS):
        return _code_text(data, type_of(dtype))
    coded = _code_objects(column.name, column.to_list())
    return Coded(coded.labels, coded.codes, _declared(data) or type_of(dtype) or coded.dtype)


def _declared(data: nw.Series[Any]) -> Dtype | None:
    """Read the categories of a dictionary of Arrow that declares their order."""
    native: Any = data.to_native()
    if not getattr(getattr(native, "type", None), "ordered", False):
        return None
    chunks = native.unify_dictionaries().chunks
    return ("Enum", *(chunks[0].dictionary.to_pylist() if chunks else ()))


def _is_polars(data: nw.Series[Any]) -> bool:
    return bool(data.implementation.is_polars())


def _code_days(data: nw.Series[Any]) -> Coded:
    days, codes = _unique(data.to_native().to_physical().to_numpy())
    return Coded(
        tuple(date.fromordinal(FIRST_DAY + day) for day in days.tolist()), codes, ("Date",)
    )


def _code_text(data: nw.Series[Any], dtype: Dtype | None) -> Coded:
    native = data.to_native().alias("value")
    labels = native.unique(maintain_order=True)
    numbered = labels.to_frame().with_row_index("code")
    joined = native.to_frame().join(numbered, on="value", how="left", maintain_order="left")
    return Coded(tuple(labels.to_list()), joined["code"].to_numpy().astype(np.int64), dtype)


def _code_datetime64(data: NDArray[np.datetime64]) -> Coded:
    unit = np.datetime_data(data.dtype)[0]
    if unit in ("Y", "M", "W", "D"):
        days, codes = _unique(data.astype("datetime64[D]"))
        return Coded(tuple(days.tolist()), codes, ("Date",))
    known = _unit(unit)
    ticks = data.astype(f"datetime64[{known}]").astype(np.int64)
    return _code_ticks(ticks, known, None, ("Datetime", known, None))


def _code_integers(values: NDArray[Any], dtype: Dtype | None) -> Coded:
    labels, codes = _unique(values)
    return Coded(tuple(labels.tolist()), codes, dtype)


def _code_ticks(ticks: NDArray[Any], unit: Unit, zone: tzinfo | None, dtype: Dtype | None) -> Coded:
    distinct, codes = _unique(ticks.astype(np.int64, copy=False))
    return Coded(tuple(from_ticks(distinct, unit, zone)), codes, dtype)


def _unique(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Find sorted distinct values and codes; without a sort when the rows are sorted already."""
    if values.size and bool((values[1:] >= values[:-1]).all()):
        steps = np.concatenate(([True], values[1:] != values[:-1]))
        return values[steps], np.cumsum(steps, dtype=np.int64) - 1
    distinct, codes = np.unique(values, return_inverse=True)
    return distinct, codes.astype(np.int64, copy=False)


def _code_objects(name: str, values: list[Any]) -> Coded:
    for row, value in enumerate(values):  # in a table True and 1 are one
        if isinstance(value, (bool, np.bool_)):
            raise ValueError(
                f"column {name!r} must hold text or integers, or dates; got {value!r} at row {row}"
            )
    try:
        table: dict[Hashable, int] = {
            value: number for number, value in enumerate(dict.fromkeys(values))
        }
    except TypeError as error:
        raise ValueError(
            f"column {name!r} must hold values that can be compared; {error}"
        ) from error
    for value in table:
        if value is None or _is_nan(value):
            at = next(row for row, one in enumerate(values) if one is value or _is_nan(one))
            _reject_null(name, at)
    labels = [plain(value) for value in table]
    if labels and all(isinstance(label, datetime) for label in labels):
        require_one_zone(f"column {name!r}", labels)
        if any(value.fold for value in values):
            return _code_folded(values)
    codes = np.fromiter(map(table.__getitem__, values), np.int64, len(values))
    integers = all(isinstance(label, int) and not isinstance(label, bool) for label in labels)
    return Coded(tuple(labels), codes, ("Int64",) if labels and integers else None)


def _code_folded(values: list[datetime]) -> Coded:
    """Code by instant: == takes the two passes of a repeated hour as one."""
    _, where, codes = np.unique(to_ticks(values, "ns"), return_index=True, return_inverse=True)
    return Coded(tuple(values[i] for i in where), codes.astype(np.int64, copy=False), None)


def _is_nan(value: object) -> bool:
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        return True  # pandas.NA has no truth value


def _require_no_null(name: str, null: NDArray[np.bool_]) -> None:
    if null.any():
        _reject_null(name, int(np.argmax(null)))


def _reject_null(name: str, row: int) -> None:
    raise ValueError(f"column {name!r} must name every row; got a missing value at row {row}")
