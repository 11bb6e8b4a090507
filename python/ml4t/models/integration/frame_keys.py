"""What the key columns of an emitted frame are called, and of which type they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ml4t.models.integration.columns import AnyColumn, Labels
from ml4t.models.integration.door import column_names, column_types, has_columns
from ml4t.models.integration.keys import CATEGORICALS, INTEGERS, type_of
from ml4t.models.integration.labels import Dtype, align, common_dtype, plain
from ml4t.models.integration.schema import declared_keys, resolve_dataset_schema


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
        """Ask the feed spec, then the price frame, then the result's metadata, then the defaults.

        Of a price frame's columns, one that the metadata names is the key before its candidates.

        Parameters
        ----------
        feed_spec : mapping or object, optional
            Names key columns as in `resolve_dataset_schema`; the metadata of a batch will do.
        prices : frame or path of a Parquet file, optional
            Its schema is read, none of its rows. What is not a frame is passed over.
        metadata : mapping, optional
            Only `timestamp_col` and `entity_col` in it name columns.
        """
        held = metadata or {}
        named = {key: held[key] for key in ("timestamp_col", "entity_col") if key in held}
        types: dict[str, Dtype | None] = {**_types(held), **_types(feed_spec)}
        declared = declared_keys(feed_spec)
        table = open_prices(prices)
        if table is not None:
            present = column_names(table)
            known = {key: name for key, name in named.items() if name in present}
            keys = resolve_dataset_schema(table, schema={**known, **declared})
            named = {**named, **keys.metadata}
            seen = column_types(table, keys.metadata.values())
            timestamp, entity = (
                type_of(seen.get(name)) for name in (keys.timestamp_col, keys.entity_col)
            )
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
            Of the frame; its keys are called as `metadata` says, else `timestamp` and `asset`.
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
        """Restate labels of periods in the price frame's type, where that says the same."""
        if not len(labels):
            return [], self.timestamp_dtype or ("Int64",)
        if self.timestamp_dtype is None:
            # tolist would turn nanoseconds into integers; every other NumPy scalar is a number.
            return [one if isinstance(one, np.datetime64) else plain(one) for one in labels], None
        restated = align([plain(label) for label in labels], self.timestamp_dtype)
        whole = self.timestamp_dtype[0] in INTEGERS and common_dtype(restated) == ("Int64",)
        return restated, self.timestamp_dtype if whole else None

    def assets(self, ids: Sequence[str]) -> tuple[list[Any], Dtype]:
        """Restate ids of assets: integers again where the frame had integers."""
        dtype = self.entity_dtype or ("String",)
        if dtype[0] in INTEGERS:
            numbers = [_integer(one) for one in ids]
            return (list(ids), ("String",)) if None in numbers else (numbers, dtype)
        return list(ids), dtype if dtype[0] in CATEGORICALS else ("String",)


def _restated(
    column: AnyColumn, restate: Callable[[Sequence[Any]], tuple[list[Any], Dtype | None]]
) -> AnyColumn:
    if not isinstance(column, Labels):
        return column
    labels, dtype = restate(column.labels)
    if (list(column.labels), column.dtype) == (labels, dtype):
        return column
    return Labels(labels, column.codes, dtype)


def open_prices(prices: Any) -> Any:
    """Give a frame whose schema can be read: the frame, a scan of the file, or None."""
    if isinstance(prices, (str, Path)):
        if not Path(prices).is_file():
            return None
        import narwhals as nw  # noqa: PLC0415 - with the first frame

        try:
            return nw.scan_parquet(str(prices), backend="polars")
        except ImportError:
            return None
    return prices if prices is not None and has_columns(prices) else None


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
