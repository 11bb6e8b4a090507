"""Reader of frames: names, types and columns.

narwhals reads polars (eager and lazy), pandas, pyarrow and the other libraries that it supports; a
mapping of columns and any object with `columns` and `frame[name]` are read as they are.
"""

from __future__ import annotations

import math
import reprlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ml4t.models.types.arrays import is_number

if TYPE_CHECKING:
    import narwhals as nw


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a frame.

    Attributes
    ----------
    name : str
    data : narwhals Series, one-dimensional ndarray or list
    """

    name: str
    data: Any

    def __len__(self) -> int:
        return len(self.data)

    @property
    def dtype(self) -> Any:
        """The narwhals type or NumPy dtype; None for a list."""
        return getattr(self.data, "dtype", None)

    def is_single(self) -> bool:
        """Return whether the column holds float32."""
        import narwhals as nw  # noqa: PLC0415 - with the first frame

        # No equality: numpy reads every class, nw.Float32 too, as its type of objects.
        kind = self.dtype
        return isinstance(kind, nw.Float32) or (isinstance(kind, np.dtype) and kind == np.float32)

    def to_list(self) -> list[Any]:
        """Return Python objects; a null is None."""
        data = self.data
        return list(data) if isinstance(data, list) else list(data.to_list())

    def numeric(self) -> Column:
        """Return a column whose cells are numbers; missing and infinite cells stay so.

        Booleans are 0 and 1, decimals and integers the nearest float; text that states a number is
        read. Other cells become NaN, with a warning.

        Raises
        ------
        ValueError
            When no cell holds a number and some hold text, dates or durations.
        """
        import narwhals as nw  # noqa: PLC0415 - with the first frame

        data, kind = self.data, self.dtype
        if isinstance(data, nw.Series):
            if kind.is_numeric() or kind == nw.Boolean:
                return self
            if (kind.is_temporal() or kind.is_nested()) and not data.is_null().all():
                self._reject(f"its type is {kind}")
        elif isinstance(data, np.ndarray) and data.dtype.kind in "biuf":
            return self
        values = list(data) if isinstance(data, np.ndarray) else self.to_list()
        numbers = [_number(value) for value in values]
        unreadable = [row for row, number in enumerate(numbers) if number is None]
        if unreadable:
            shown = ", ".join(f"{reprlib.repr(values[row])} at row {row}" for row in unreadable[:3])
            count = f"{len(unreadable)} of {len(values)} cells do not: {shown}"
            if all(number is None or math.isnan(number) for number in numbers):
                self._reject(count)
            warnings.warn(
                f"column {self.name!r} must hold numbers; {count}. They become NaN",
                UserWarning,
                stacklevel=2,
            )
        floats = [np.nan if number is None else number for number in numbers]
        return Column(self.name, np.array(floats, dtype=np.float64))

    def _reject(self, why: str) -> NoReturn:
        raise ValueError(
            f"column {self.name!r} must hold numbers; {why}. Convert it first, or leave it out"
        )

    def floats(self, start: int, stop: int, dtype: DTypeLike) -> NDArray[np.floating[Any]]:
        """Return rows `start` to `stop` of a numeric column as floats; null is NaN."""
        import narwhals as nw  # noqa: PLC0415 - with the first frame

        part = self.data[start:stop]
        if isinstance(part, nw.Series):
            if part.dtype == nw.Decimal:
                part = part.cast(nw.Float64)
            # Arrow casts no integer beyond 2**53 to float; NumPy takes the nearest.
            part = part.to_numpy()
            if part.dtype == object:
                part = np.array([_number(one) for one in part], dtype=np.float64)
        return np.asarray(part).astype(dtype, copy=False)


def _number(value: Any) -> float | None:
    """Read a cell: NaN where it is missing, None where it holds no number."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return np.nan
    if not (isinstance(value, str) or is_number(type(value))):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def has_columns(frame: object) -> bool:
    """Return whether columns can be read from it."""
    if isinstance(frame, Mapping) or _narwhals(frame) is not None:
        return True
    return hasattr(frame, "columns") and hasattr(frame, "__getitem__")


def column_names(frame: Any) -> tuple[str, ...]:
    """List the columns; of a lazy frame by its schema.

    Raises
    ------
    TypeError
        When it is not a frame.
    """
    if isinstance(frame, Mapping):
        return tuple(frame)
    known = _narwhals(frame)
    if known is not None:
        return tuple(known.collect_schema().names())
    if has_columns(frame):
        return tuple(frame.columns)
    raise TypeError(
        "frame must be a mapping of columns, a polars, pandas or pyarrow frame, or an object with "
        f"columns and frame[name]; got {type(frame).__name__}"
    )


def column_types(frame: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return types without reading rows; empty for a frame that narwhals does not support."""
    import narwhals as nw  # noqa: PLC0415 - with the first frame

    known = None if isinstance(frame, Mapping) else _narwhals(frame)
    if known is None:
        return {}
    schema = known.collect_schema()
    types = {name: schema[name] for name in names if name in schema}
    if isinstance(known, nw.DataFrame) and known.implementation.is_pandas():
        native = known.to_native()
        # pandas has time zones that narwhals does not pass on.
        types = {name: _zoned(native[name].dtype) or kind for name, kind in types.items()}
    return types


def read_columns(frame: Any, names: Sequence[str]) -> dict[str, Column]:
    """Read the columns named, and no others; a lazy frame is collected here, once.

    Raises
    ------
    KeyError
        When the frame lacks a column.
    ValueError
        When columns differ in length or are not one-dimensional.
    """
    import narwhals as nw  # noqa: PLC0415 - with the first frame

    present = set(column_names(frame))
    wanted = tuple(dict.fromkeys(names))
    missing = [name for name in wanted if name not in present]
    if missing:
        raise KeyError(
            f"columns {missing} not found in the frame; it has {sorted(map(str, present))}"
        )
    known = None if isinstance(frame, Mapping) else _narwhals(frame)
    if known is None:
        columns = {name: Column(name, _column_data(name, frame[name])) for name in wanted}
    else:
        table = known.select(*wanted)
        if isinstance(table, nw.LazyFrame):
            table = table.collect()
        columns = {name: Column(name, table[name]) for name in wanted}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns must have the same length; got {lengths}")
    return columns


def _narwhals(frame: Any) -> nw.DataFrame[Any] | nw.LazyFrame[Any] | None:
    import narwhals as nw  # noqa: PLC0415 - with the first frame

    if _is_one_chunk(frame) and hasattr(frame, "columns"):
        frame = import_module("pyarrow").table(frame)
    native: Any = nw.from_native(frame, pass_through=True)
    return native if isinstance(native, (nw.DataFrame, nw.LazyFrame)) else None


def _is_one_chunk(data: Any) -> bool:
    """Return whether it is a record batch or array of Arrow; narwhals supports tables of chunks."""
    return hasattr(data, "__arrow_c_array__")


def _zoned(dtype: Any) -> Any:
    return dtype if getattr(dtype, "tz", None) is not None else None


def _column_data(name: str, values: Any) -> Any:
    import narwhals as nw  # noqa: PLC0415 - with the first frame

    if _is_one_chunk(values):
        values = import_module("pyarrow").chunked_array([values])
    if hasattr(values, "categories") and hasattr(values, "ordered"):  # of pandas, no Series
        values = import_module("pandas").Series(values)
    known: Any = nw.from_native(values, series_only=True, pass_through=True)
    if isinstance(known, nw.Series) or isinstance(values, list):
        return known
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    if not isinstance(values, np.ndarray):
        return _listed(name, values)
    if isinstance(values, np.ma.MaskedArray):
        return list(values.tolist())  # None for what is masked
    if values.ndim != 1:
        raise ValueError(f"column {name!r} must be one-dimensional; got shape {values.shape}")
    return values


def _listed(name: str, values: Any) -> list[Any]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ValueError(f"column {name!r} must be a sequence; got {type(values).__name__}")
    return list(values)
