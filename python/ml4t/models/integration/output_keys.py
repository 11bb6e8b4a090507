"""Names and types of the key columns of output frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ml4t.models.integration.frame_columns import AnyColumn, Given, Labels
from ml4t.models.integration.frame_reader import column_names, column_types, has_columns
from ml4t.models.integration.key_codes import CATEGORICALS, INTEGERS, type_of
from ml4t.models.integration.schema import (
    declared_keys,
    require_schema,
    resolve_dataset_schema,
)
from ml4t.models.integration.timestamps import Dtype, align, common_dtype, plain
from ml4t.models.types.arrays import asset_id
from ml4t.models.types.base import same_value

FLOATS = ("Float32", "Float64")


@dataclass(frozen=True, slots=True)
class FrameKeys:
    """Names and types of the key columns.

    Attributes
    ----------
    timestamp, entity : str
        Column names.
    timestamp_dtype, entity_dtype : tuple, optional
        Column types to restate labels in; None leaves them as they are.
    """

    timestamp: str = "timestamp"
    entity: str = "asset"
    timestamp_dtype: Dtype | None = None
    entity_dtype: Dtype | None = None

    @classmethod
    def find(
        cls, *, feed_spec: Any = None, prices: Any = None, metadata: Mapping[str, Any] | None = None
    ) -> FrameKeys:
        """Resolve names by feed spec, price frame, metadata of the result, then defaults.

        A column of the price frame that the metadata names precedes the candidates.

        Parameters
        ----------
        feed_spec : mapping or object, optional
            Names key columns as in `resolve_dataset_schema`; such as the metadata of a batch.
        prices : frame or path of a Parquet file, optional
            Its schema is read, none of its rows.
        metadata : mapping, optional
            Only `timestamp_col` and `entity_col` in it name columns.

        Raises
        ------
        TypeError
            When `feed_spec` cannot describe columns, or `prices` is no frame.
        FileNotFoundError
            When the path names no file.
        ValueError
            When the ids of the prices are neither text nor numbers.
        """
        given = metadata or {}
        named = {key: given[key] for key in ("timestamp_col", "entity_col") if key in given}
        types: dict[str, Dtype | None] = {**_types(given), **_types(feed_spec)}
        declared = declared_keys(require_schema("feed_spec", feed_spec))
        table = require_prices("prices", prices)
        if table is not None:
            present = column_names(table)
            known = {key: name for key, name in named.items() if name in present}
            keys = resolve_dataset_schema(table, schema={**known, **declared})
            named = {**named, **keys.metadata}
            kinds = column_types(table, keys.metadata.values())
            timestamp = type_of(kinds.get(keys.timestamp_col))
            entity = _entity_type(keys.entity_col, kinds.get(keys.entity_col))
            types["timestamp_dtype"] = timestamp or types.get("timestamp_dtype")
            types["entity_dtype"] = entity or types.get("entity_dtype")
        named = {**named, **declared}
        return cls(
            str(named.get("timestamp_col", "timestamp")),
            str(named.get("entity_col", "asset")),
            types.get("timestamp_dtype"),
            types.get("entity_dtype"),
        )

    def put_on(
        self, columns: Mapping[str, AnyColumn], metadata: Mapping[str, Any]
    ) -> dict[str, AnyColumn]:
        """Rename and restate the key columns of a frame that was made without these keys.

        Parameters
        ----------
        columns : mapping
            Of the frame; `metadata` names its keys, by default `timestamp` and `asset`.
        metadata : mapping
            Of the frame.
        """
        own = FrameKeys.find(metadata=metadata)
        made = dict(columns)
        if self.timestamp_dtype is not None and own.timestamp in made:
            made[own.timestamp] = _restated(made[own.timestamp], self.times)
        if self.entity_dtype is not None and own.entity in made:
            made[own.entity] = _restated(made[own.entity], self.assets)
        names = {own.timestamp: self.timestamp, own.entity: self.entity}
        # A frame that has a column of the wanted name already keeps both as they are.
        names = {old: new for old, new in names.items() if new not in made}
        return {names.get(name, name): column for name, column in made.items()}

    def times(self, labels: Sequence[Any]) -> tuple[list[Any], Dtype | None]:
        """Restate labels of dates in the price frame's type, where that names the same dates."""
        if not len(labels):
            return [], self.timestamp_dtype or ("Int64",)
        if self.timestamp_dtype is None:
            # tolist would turn nanoseconds into integers; every other NumPy scalar is a number.
            return [one if isinstance(one, np.datetime64) else plain(one) for one in labels], None
        restated = align([plain(label) for label in labels], self.timestamp_dtype)
        whole = self.timestamp_dtype[0] in INTEGERS and common_dtype(restated) == ("Int64",)
        return restated, self.timestamp_dtype if whole else None

    def assets(self, ids: Sequence[Any]) -> tuple[list[Any], Dtype]:
        """Restate ids of assets: numbers where the frame has numbers."""
        dtype = self.entity_dtype or ("String",)
        texts = [_text(self.entity, one) for one in ids]
        if dtype[0] in (*INTEGERS, *FLOATS):
            numbers = [_integer(one) for one in texts]
            if None in numbers:
                return list(texts), ("String",)
            whole = dtype[0] in INTEGERS
            return [one if whole else float(one or 0) for one in numbers], dtype
        return list(texts), dtype if dtype[0] in CATEGORICALS else ("String",)


def _restated(
    column: AnyColumn, restate: Callable[[Sequence[Any]], tuple[list[Any], Dtype | None]]
) -> AnyColumn:
    if not isinstance(column, (Labels, Given)):
        return column
    given = list(column.labels if isinstance(column, Labels) else column.values)
    labels, dtype = restate(given)
    same = common_dtype(labels) == common_dtype(given) and same_value(given, labels)
    if isinstance(column, Given):
        return column if same else Labels(labels, np.arange(len(labels)), dtype)
    if same and column.dtype == dtype:
        return column
    return Labels(labels, column.codes, dtype)


def require_prices(name: str, prices: Any) -> Any:
    """Return a frame whose schema can be read: the frame, or a scan of the Parquet file."""
    if isinstance(prices, (str, os.PathLike)) and not Path(prices).is_file():
        raise FileNotFoundError(
            f"{name} must be a frame or the path of a file; there is no file {prices}"
        )
    table = open_prices(prices)
    if table is None and prices is not None and not isinstance(prices, (str, os.PathLike)):
        raise TypeError(
            f"{name} must be a frame or the path of a Parquet file; got {type(prices).__name__}"
        )
    return table


def open_prices(prices: Any) -> Any:
    """Return a frame whose schema can be read; None for another object, or a path without a file.

    Raises
    ------
    ValueError
        When a file is not readable as Parquet.
    """
    if isinstance(prices, (str, os.PathLike)):
        if not Path(prices).is_file():
            return None
        import narwhals as nw  # noqa: PLC0415 - with the first frame

        try:
            table = nw.scan_parquet(os.fspath(prices), backend="polars")
            table.collect_schema()
        except ImportError:
            return None
        except Exception as error:
            raise ValueError(f"cannot read {os.fspath(prices)} as Parquet: {error}") from error
        return table
    return prices if prices is not None and has_columns(prices) else None


def _entity_type(name: str, dtype: Any) -> Dtype | None:
    """Translate the type of ids; floats, which a merge makes of integers, stay floats."""
    import narwhals as nw  # noqa: PLC0415 - with the first frame

    if dtype == nw.Boolean:
        raise ValueError(f"column {name!r} must hold text or integers; got {dtype}")
    known = type(dtype).__name__
    return (known,) if known in FLOATS else type_of(dtype)


def _text(name: str, value: Any) -> str:
    text = asset_id(value)
    if text is None:
        raise ValueError(
            f"column {name!r} must hold text or integers; got {value!r} ({type(value).__name__})"
        )
    return text


def _types(source: Any) -> dict[str, Dtype]:
    if not isinstance(source, Mapping):
        return {}
    names = ("timestamp_dtype", "entity_dtype")
    return {name: tuple(source[name]) for name in names if source.get(name)}


def _integer(text: str) -> int | None:
    try:
        number = int(text)
    except ValueError:
        return None
    return number if str(number) == text else None
