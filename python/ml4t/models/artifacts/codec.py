"""Records to JSON and arrays, and back.

Writing looks at the values, reading at the type hints: a file has values, the class has their
types. No name in a file ever chooses the code that runs.

| value                            | JSON                                             |
|----------------------------------|--------------------------------------------------|
| None, bool, int, finite float, str, list | as they are                              |
| NaN, infinities                  | `{"float": "nan"}`, `"inf"`, `"-inf"`            |
| tuple                            | `{"tuple": [...]}`                               |
| dict with any plain keys         | `{"dict": [[key, value], ...]}`                  |
| frozen dataclass                 | `{"record": "PCAFit", "fields": {...}}`          |
| array of numbers or bools        | `{"array": name}`, the array beside              |
| array of datetime64, timedelta64 | the same with `"dtype": "datetime64[ns]"`        |
| labels of time                   | see `artifacts.times`                            |
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import date, datetime
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from ml4t.models.artifacts import times
from ml4t.models.types.arrays import BoolArray, FloatArray, IntArray

JSON: TypeAlias = Any
Arrays: TypeAlias = dict[str, NDArray[Any]]

# Annotations are often imported for the type checker alone; these are what they mean.
_WORDS = {
    "np": np,
    "NDArray": NDArray,
    "FloatArray": FloatArray,
    "BoolArray": BoolArray,
    "IntArray": IntArray,
    "Any": Any,
    "Mapping": Mapping,
    "Sequence": Sequence,
}
_PLAIN = (NoneType, bool, int, float, str)


def pack(value: object, name: str) -> tuple[JSON, Arrays]:
    """Turn a value into JSON and the arrays it refers to.

    Parameters
    ----------
    value : object
        A frozen dataclass or any value of the table above.
    name : str
        What the value is called; arrays get it as the first part of their names.

    Raises
    ------
    TypeError
        Naming the part that no file can hold.
    """
    arrays: Arrays = {}
    return _write(value, name, arrays), arrays


def unpack(data: JSON, hint: Any, arrays: Mapping[str, NDArray[Any]], name: str) -> Any:
    """Turn JSON and exactly the arrays it refers to into a value of type `hint`.

    Raises
    ------
    ValueError
        When anything is missing, left over, of another type than `hint` says, or refused by the
        class that it belongs to.
    """
    reader = _Reader(arrays)
    try:
        value = reader.read(data, hint, name)
    except RecursionError as error:
        raise ValueError(f"{name} must not be nested that deep") from error
    if left := sorted(arrays.keys() - reader.used):
        raise ValueError(f"{name} must use every array; {left[0]!r} is left over")
    return value


def settled(value: Any) -> Any:
    """Give a record its own arrays: contiguous in C order, shared with nobody, read-only.

    A fit is a value: what the caller does to the training data later cannot change it, and it has
    the same memory layout, hence the same rounding, before a round trip and after.
    """
    if isinstance(value, np.ndarray):
        flags = value.flags
        if value.base is None and flags.c_contiguous and not flags.writeable:
            return value
        array = np.array(value, order="C", subok=False)
        array.flags.writeable = False
        return array
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return type(value)(map(settled, value))
    if type(value) is dict:
        return {key: settled(one) for key, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: settled(getattr(value, field.name)) for field in _parts(type(value))}
        return type(value)(**parts)
    return value


def _parts(record: type) -> tuple[Field[Any], ...]:
    return tuple(field for field in fields(record) if field.init)


def _write(value: Any, where: str, arrays: Arrays) -> JSON:
    moment = times.pack(value)
    if moment is not None:
        return moment
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        return number if math.isfinite(number) else {"float": repr(number)}
    if isinstance(value, np.ndarray):
        return _write_array(value, where, arrays)
    if isinstance(value, tuple):
        return {"tuple": [_write(one, f"{where}.{i}", arrays) for i, one in enumerate(value)]}
    if isinstance(value, list):
        return [_write(one, f"{where}.{i}", arrays) for i, one in enumerate(value)]
    if isinstance(value, Mapping):
        return {"dict": [_write_pair(pair, where, arrays) for pair in value.items()]}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {
            field.name: _write(getattr(value, field.name), f"{where}.{field.name}", arrays)
            for field in _parts(type(value))
        }
        return {"record": type(value).__name__, "fields": parts}
    raise TypeError(f"{where} must be of a kind that a file can hold; got {type(value).__name__}")


def _write_pair(pair: tuple[Any, Any], where: str, arrays: Arrays) -> JSON:
    key, value = pair
    return [_write(key, f"{where} key", {}), _write(value, f"{where}.{key}", arrays)]


def _write_array(array: NDArray[Any], where: str, arrays: Arrays) -> JSON:
    name = where
    while name in arrays:  # of {1: array, "1": array}
        name += "'"
    stored: JSON = {"array": name}
    if array.dtype.kind in "mM":
        stored["dtype"] = array.dtype.name
        array = array.astype(array.dtype.newbyteorder("=")).view(np.int64)
    elif array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(f"{where} must hold plain numbers or bools; got dtype {array.dtype}")
    arrays[name] = array
    return stored


class _Reader:
    """Reads one value and remembers which arrays it used."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = arrays
        self.used: set[str] = set()

    def read(self, data: JSON, hint: Any, where: str) -> Any:
        if isinstance(data, _PLAIN):
            _member(hint, type(data), where, data)
            return data
        if isinstance(data, list):
            (item,) = get_args(_member(hint, list, where)) or (Any,)
            return [self.read(one, item, f"{where}.{i}") for i, one in enumerate(data)]
        tag = next(iter(data), None)
        reader = self._READERS.get(tag)
        if reader is None:
            raise ValueError(f"{where} must be a value of a known kind; got {tag!r}")
        return reader(self, data, hint, where)

    def _float(self, data: JSON, hint: Any, where: str) -> float:
        _member(hint, float, where)
        _require(data, where, "float")
        if data["float"] not in ("nan", "inf", "-inf"):
            raise ValueError(f"{where} must be nan, inf or -inf; got {data['float']!r}")
        return float(data["float"])

    def _tuple(self, data: JSON, hint: Any, where: str) -> tuple[Any, ...]:
        items = _require(data, where, "tuple", list)
        wanted = get_args(_member(hint, tuple, where)) or (Any, ...)
        if len(wanted) == 2 and wanted[1] is ...:
            wanted = (wanted[0],) * len(items)
        if len(wanted) != len(items):
            raise ValueError(f"{where} must have {len(wanted)} items; got {len(items)}")
        parts = enumerate(zip(items, wanted, strict=True))
        return tuple(self.read(one, kind, f"{where}.{i}") for i, (one, kind) in parts)

    def _dict(self, data: JSON, hint: Any, where: str) -> dict[Any, Any]:
        pairs = _require(data, where, "dict", list)
        key_hint, value_hint = get_args(_member(hint, dict, where)) or (Any, Any)
        items: dict[Any, Any] = {}
        for pair in pairs:
            if not isinstance(pair, list) or len(pair) != 2:
                raise ValueError(f"{where} must hold pairs of a key and a value")
            key = self.read(pair[0], key_hint, f"{where} key")
            try:
                known = key in items
            except TypeError as error:
                raise ValueError(f"{where} must have plain keys; {error}") from error
            if known:
                raise ValueError(f"{where} must hold every key once; got {key!r} again")
            items[key] = self.read(pair[1], value_hint, f"{where}.{key}")
        return items

    def _array(self, data: JSON, hint: Any, where: str) -> NDArray[Any]:
        _member(hint, np.ndarray, where)
        also = ("dtype",) if "dtype" in data else ()
        name = _require(data, where, "array", str, also=also)
        if name not in self.arrays or name in self.used:
            why = "taken already" if name in self.used else "missing"
            raise ValueError(f"{where} must have an array of its own; {name!r} is {why}")
        self.used.add(name)
        array = self.arrays[name]
        if "dtype" in data:
            array = array.view(times.time_dtype(data["dtype"], array.dtype, where))
        wanted = _scalar_types(hint)
        if not issubclass(array.dtype.type, wanted):
            names = " or ".join(one.__name__ for one in wanted)
            raise ValueError(f"{where} must hold {names}; got dtype {array.dtype}")
        return array

    def _record(self, data: JSON, hint: Any, where: str) -> Any:
        given = _require(data, where, "record", str, also=("fields",))
        record = _member(hint, object, where, given)
        parts = data["fields"]
        if not isinstance(parts, dict):
            raise ValueError(f"{where} must have named fields; got {type(parts).__name__}")
        known = {field.name: field for field in _parts(record)}
        if extra := sorted(parts.keys() - known.keys()):
            raise ValueError(f"{where} must be a {given}, which has no field {extra[0]!r}")
        for name, field in known.items():
            needed = field.default is MISSING and field.default_factory is MISSING
            if needed and name not in parts:
                raise ValueError(f"{where}.{name} is missing")
        hints = _hints(record)
        values = {
            name: self.read(part, hints[name], f"{where}.{name}") for name, part in parts.items()
        }
        try:
            return record(**values)
        except Exception as error:
            raise ValueError(f"{where} is not a valid {given}: {error}") from error

    def _time(self, data: JSON, hint: Any, where: str) -> Any:
        (tag,) = data if len(data) == 1 else ("",)
        if tag not in times.KINDS:
            raise ValueError(f"{where} must be a well-formed label of time")
        _member(hint, times.KINDS[tag], where)
        try:
            return times.unpack(data)
        except ValueError as error:
            raise ValueError(f"{where} must be a moment in time; {error}") from error

    _READERS: Mapping[Any, Any] = {
        "float": _float,
        "tuple": _tuple,
        "dict": _dict,
        "array": _array,
        "record": _record,
        **dict.fromkeys(times.KINDS, _time),
    }


def _hints(record: type) -> dict[str, Any]:
    try:
        return get_type_hints(record, localns=_WORDS)
    except NameError as error:
        message = f"{record.__name__} must import at run time what its fields are; {error}"
        raise TypeError(message) from error


def _require(
    data: JSON, where: str, tag: str, kind: type = object, *, also: tuple[str, ...] = ()
) -> Any:
    if data.keys() != {tag, *also} or not isinstance(data[tag], kind):
        raise ValueError(f"{where} must be a well-formed {tag}")
    return data[tag]


def _member(hint: Any, kind: type, where: str, value: Any = None) -> Any:
    """Return the member of the union `hint` that accepts `kind`; raise `ValueError` otherwise."""
    for one in _alternatives(hint):
        if _accepts(one, kind, value):
            return one
    raise ValueError(
        f"{where} must be {getattr(hint, '__name__', hint)}; got {_name_of(kind, value)}"
    )


def _alternatives(hint: Any) -> tuple[Any, ...]:
    named = getattr(get_origin(hint) or hint, "__value__", None)
    if named is not None:  # `type` alias, as NDArray is from NumPy 2.5 on
        return _alternatives(named[get_args(hint)] if get_args(hint) else named)
    if get_origin(hint) in (Union, UnionType):
        return tuple(one for part in get_args(hint) for one in _alternatives(part))
    return (hint,)


def _name_of(kind: type, value: Any) -> str:
    return str(value) if kind is object else kind.__name__


def _accepts(hint: Any, kind: type, value: Any) -> bool:
    origin = get_origin(hint) or hint
    if kind is object:
        return is_dataclass(origin) and getattr(origin, "__name__", None) == value
    if origin in (Any, object) or getattr(origin, "_is_protocol", False):
        return True
    if origin is Literal:
        return any(type(one) is kind and one == value for one in get_args(hint))
    if kind is int:
        return origin in (int, float)
    if kind is NoneType:
        return origin in (None, NoneType)
    if kind is date:
        return origin in (date, datetime)
    return isinstance(origin, type) and (origin is kind or (kind is dict and origin is Mapping))


def _scalar_types(hint: Any) -> tuple[type, ...]:
    """Find what an array hint wants to hold: np.float64 of NDArray[np.float64] | None."""
    scalars: list[type] = []
    for one in _alternatives(hint):
        parts = get_args(one)
        if (get_origin(one) or one) is np.ndarray and len(parts) == 2:
            scalars += [
                get_origin(of) or of for kind in get_args(parts[1]) for of in _alternatives(kind)
            ]
    # Any is a class from Python 3.11 on.
    kinds = (one if isinstance(one, type) and one is not Any else np.generic for one in scalars)
    return tuple(kinds) or (np.generic,)
