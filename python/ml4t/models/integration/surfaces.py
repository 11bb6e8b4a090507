"""Results as frames: predictions, signals, weights, context; and their artifact directory.

A frame keeps its columns compact; rows of Python objects exist only once someone asks for them.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Self, TypeAlias

from ml4t.models.artifacts import disk
from ml4t.models.checks import require_items, require_names, require_path, require_text
from ml4t.models.integration.frame_columns import AnyColumn, Given
from ml4t.models.integration.layout import Surface, add_constants, long_columns, wide_columns
from ml4t.models.integration.output_keys import FrameKeys
from ml4t.models.integration.publish import publish, write_manifest, write_spec
from ml4t.models.types import (
    AssetForecastResult,
    AssetSignalResult,
    AssetWeightsResult,
    FitRunRecord,
    PortfolioWeightsResult,
)

AnyPath: TypeAlias = str | os.PathLike[str]
AnyWeights: TypeAlias = AssetWeightsResult | PortfolioWeightsResult

MISSING_POLARS = "polars is needed to write frames; install ml4t-models[integration]"


def import_module(name: str) -> Any:
    """Import an optional package."""
    return importlib.import_module(name)


@dataclass(frozen=True)
class ResultsFrame:
    """A table of results.

    Attributes
    ----------
    columns : tuple of str
    rows : tuple of tuple
        One tuple per row, of Python objects; built when first read.
    metadata : dict
        `frame_type` and the metadata of the result.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Reject rows that do not fit the columns."""
        names = require_names("columns", self.columns)
        object.__setattr__(self, "columns", names)
        object.__setattr__(self, "rows", _rows(self.rows))
        if len(set(names)) != len(names):
            raise ValueError(f"columns must be unique; got {list(names)}")
        for number, row in enumerate(self.rows):
            if len(row) != len(names):
                raise ValueError(
                    f"rows must have {len(names)} values, one per column; "
                    f"row {number} has {len(row)}"
                )

    @classmethod
    def from_columns(cls, columns: Mapping[str, AnyColumn], metadata: Mapping[str, Any]) -> Self:
        """Make a frame of compact columns of equal length; its rows are not built."""
        frame = object.__new__(cls)
        object.__setattr__(frame, "columns", tuple(columns))
        object.__setattr__(frame, "metadata", dict(metadata))
        object.__setattr__(frame, "_compact", dict(columns))
        return frame

    def __getattr__(self, name: str) -> Any:
        # `rows` are built at their first use.
        compact = self.__dict__.get("_compact")
        if name != "rows" or compact is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        rows = tuple(zip(*(column.to_list() for column in compact.values()), strict=True))
        object.__setattr__(self, "rows", rows)
        return rows

    @property
    def n_rows(self) -> int:
        """Number of rows, counted without building them."""
        compact = self.__dict__.get("_compact")
        return len(next(iter(compact.values()))) if compact else len(self.rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(columns={self.columns!r}, n_rows={self.n_rows})"

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one dict per row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def to_columnar(self) -> dict[str, list[Any]]:
        """Return one list of Python objects per column."""
        return {name: column.to_list() for name, column in self._columns()}

    def to_polars(self) -> Any:
        """Return a polars DataFrame; time zones, units and the schema of an empty frame stay.

        Raises
        ------
        ImportError
            Without polars.
        """
        try:
            pl = import_module("polars")
        except ImportError as error:
            raise ImportError(MISSING_POLARS) from error
        return pl.DataFrame([column.to_polars(pl, name) for name, column in self._columns()])

    def write_parquet(self, path: AnyPath, *, compression: str = "zstd") -> Path:
        """Write a Parquet file whole, or keep an earlier file; its folder is created.

        Parameters
        ----------
        path : path
        compression : str, default "zstd"
            As polars names it.

        Returns
        -------
        Path
            Where it was written.

        Raises
        ------
        ImportError
            Without polars.
        ValueError
            When a column holds objects that Parquet has no type for.
        OSError
            When the target cannot be written; an earlier file stays.
        """
        table = self.to_polars()
        for column in table:
            if str(column.dtype) == "Object":
                raise ValueError(
                    f"column {column.name!r} must hold what Parquet has a type for; "
                    f"got {type(column[0]).__name__}"
                )
        content = BytesIO()
        table.write_parquet(content, compression=compression)
        return disk.write_whole(path, content.getbuffer())

    def with_keys(self, keys: FrameKeys) -> Self:
        """Give the key columns the names and types of `keys`."""
        given = dict(self._columns())
        made = keys.put_on(given, self.metadata)
        same = list(made) == list(given) and all(made[name] is given[name] for name in given)
        return self if same else self.from_columns(made, self.metadata)

    def as_columns(self) -> dict[str, AnyColumn]:
        """Return the compact columns, without rows."""
        return dict(self._columns())

    def _columns(self) -> Iterator[tuple[str, AnyColumn]]:
        compact = self.__dict__.get("_compact")
        if compact is not None:
            yield from compact.items()
            return
        for place, name in enumerate(self.columns):
            yield name, Given([row[place] for row in self.rows])


def _rows(rows: Any) -> tuple[tuple[Any, ...], ...]:
    return tuple(
        require_items(f"rows entry {i}", x) for i, x in enumerate(require_items("rows", rows))
    )


class PredictionsFrame(ResultsFrame):
    """Predictions, long: one row per date and asset."""


class SignalsFrame(ResultsFrame):
    """Signals to trade on, long: one row per date and asset."""


class WeightsFrame(ResultsFrame):
    """Portfolio weights, long: one row per date and asset."""


class ContextFrame(ResultsFrame):
    """Values shared by the assets of a date, wide: one row per date."""


def predictions_frame_from_asset_forecast(
    forecast: AssetForecastResult,
    *,
    constants: Mapping[str, Any] | None = None,
    outcomes: Any = None,
    feed_spec: Any = None,
    prices: Any = None,
) -> PredictionsFrame:
    """Turn expected returns into a long frame; cells that are not finite are left out.

    Parameters
    ----------
    forecast : AssetForecastResult
    constants : mapping, optional
        Columns with one value for every row.
    outcomes : ndarray of shape (T, N), or a batch with returns, optional
        Realised returns of the same dates and assets, as `realized_return`, so that a diagnosis can
        compute information coefficients; null where missing.
    feed_spec : mapping or object, optional
        Names the key columns (the metadata of a batch will do).
    prices : frame or path of a Parquet file, optional
        Key columns get the names and types of this frame.

    Returns
    -------
    PredictionsFrame
        Columns timestamp, asset, prediction_value, [realized_return], *constants.
    """
    surface = Surface.of(forecast, "expected_returns")
    keys = FrameKeys.find(feed_spec=feed_spec, prices=prices, metadata=surface.metadata)
    return _predictions(surface, keys, constants, outcomes)


def predictions_frame_from_asset_signal(
    signal: AssetSignalResult,
    *,
    constants: Mapping[str, Any] | None = None,
    outcomes: Any = None,
    feed_spec: Any = None,
    prices: Any = None,
) -> PredictionsFrame:
    """Turn signals into a predictions frame; see `predictions_frame_from_asset_forecast`."""
    surface = Surface.of(signal, "signal_values")
    keys = FrameKeys.find(feed_spec=feed_spec, prices=prices, metadata=surface.metadata)
    return _predictions(surface, keys, constants, outcomes)


def signals_frame_from_asset_weights(
    weights: AnyWeights,
    *,
    constants: Mapping[str, Any] | None = None,
    selected_threshold: float = 1e-9,
    feed_spec: Any = None,
    prices: Any = None,
) -> SignalsFrame:
    """Turn weights into a long frame of signals; cells that are not finite are left out.

    Parameters
    ----------
    weights : AssetWeightsResult or PortfolioWeightsResult
    constants : mapping, optional
        Columns with one value for every row.
    selected_threshold : float, default 1e-9
        `selected` is True where the weight lies farther from 0.
    feed_spec, prices : optional
        Name the key columns; see `predictions_frame_from_asset_forecast`.

    Returns
    -------
    SignalsFrame
        Columns timestamp, asset, [batch_id], signal_value, selected, *constants.
    """
    surface = Surface.of(weights, "weights")
    keys = FrameKeys.find(feed_spec=feed_spec, prices=prices, metadata=surface.metadata)
    columns = long_columns(surface, "signal_value", keys, selected_threshold=selected_threshold)
    metadata = _weights_metadata("signal", weights, surface)
    return SignalsFrame.from_columns(add_constants(columns, constants), metadata)


def weights_frame_from_asset_weights(
    weights: AnyWeights,
    *,
    constants: Mapping[str, Any] | None = None,
    selected_threshold: float = 1e-9,
    feed_spec: Any = None,
    prices: Any = None,
) -> WeightsFrame:
    """Turn weights into a long frame with `weight`; see `signals_frame_from_asset_weights`."""
    surface = Surface.of(weights, "weights")
    keys = FrameKeys.find(feed_spec=feed_spec, prices=prices, metadata=surface.metadata)
    columns = long_columns(surface, "weight", keys, selected_threshold=selected_threshold)
    metadata = _weights_metadata("weight", weights, surface)
    return WeightsFrame.from_columns(add_constants(columns, constants), metadata)


# One weight matrix or windows of them, by shape.
signals_frame_from_portfolio_weights = signals_frame_from_asset_weights
weights_frame_from_portfolio_weights = weights_frame_from_asset_weights


def context_frame_from_weights(
    weights: AnyWeights,
    *,
    prefix: str = "w_",
    constants: Mapping[str, Any] | None = None,
    feed_spec: Any = None,
    prices: Any = None,
) -> ContextFrame:
    """Turn weights into a wide frame, one column per asset; cells that are not finite are 0.

    Parameters
    ----------
    weights : AssetWeightsResult or PortfolioWeightsResult
        Windows of a portfolio must be one.
    prefix : str, default "w_"
        Before the asset's id in the name of its column.
    constants : mapping, optional
        Columns with one value for every row.
    feed_spec, prices : optional
        Name the key column; see `predictions_frame_from_asset_forecast`.

    Returns
    -------
    ContextFrame
        Columns timestamp, {prefix}{asset}..., *constants.

    Raises
    ------
    ValueError
        When there are several windows.
    """
    surface = Surface.of(weights, "weights")
    keys = FrameKeys.find(feed_spec=feed_spec, prices=prices, metadata=surface.metadata)
    columns = wide_columns(surface, prefix, keys)
    metadata = _weights_metadata("context", weights, surface)
    return ContextFrame.from_columns(add_constants(columns, constants), metadata)


def write_backtest_frames(
    artifact_dir: AnyPath,
    *,
    predictions: ResultsFrame | None = None,
    weights: ResultsFrame | None = None,
    compression: str = "zstd",
    fit_record: FitRunRecord | None = None,
) -> dict[str, Path]:
    """Publish frames as one generation of a directory: whole or not at all.

    Parameters
    ----------
    artifact_dir : path
        Holds `predictions.parquet`, `weights.parquet` and `manifest.json` afterwards, and the files
        of others that were there before. Files of an earlier generation are removed.
    predictions, weights : ResultsFrame, optional
    compression : str, default "zstd"
        As polars names it.
    fit_record : FitRunRecord, optional
        Of the fit behind the frames: adds a JSON beside each Parquet file with its model,
        configuration, data and checkpoint.

    Returns
    -------
    dict of str to Path
        Where each Parquet file is.

    Raises
    ------
    ValueError
        When `artifact_dir` is a file.
    TypeError
        When `predictions` or `weights` is no frame.
    OSError
        When a file cannot be written; the earlier generation is untouched.
    """
    require_path("artifact_dir", artifact_dir)
    require_text("compression", compression)
    frames = {
        name: frame
        for name, frame in (("predictions", predictions), ("weights", weights))
        if frame is not None
    }

    for name, frame in frames.items():
        if not callable(getattr(frame, "write_parquet", None)):
            raise TypeError(f"{name} must be a ResultsFrame; got {type(frame).__name__}")

    def write(staging: Path) -> None:
        for name, frame in frames.items():
            path = staging / f"{name}.parquet"
            frame.write_parquet(path, compression=compression)
            if not path.is_file():
                raise OSError(f"writer did not create {path.name}")
            if fit_record is not None:
                write_spec(
                    path,
                    fit_record,
                    columns=frame.columns,
                    n_rows=frame.n_rows,
                    metadata=frame.metadata,
                )
        write_manifest(staging, [f"{name}.parquet" for name in frames])

    publish(Path(artifact_dir), write)
    return {name: Path(artifact_dir) / f"{name}.parquet" for name in frames}


def _predictions(
    surface: Surface, keys: FrameKeys, constants: Mapping[str, Any] | None, outcomes: Any
) -> PredictionsFrame:
    columns = long_columns(surface, "prediction_value", keys, outcomes=outcomes)
    metadata = {"frame_type": "prediction", **surface.metadata}
    return PredictionsFrame.from_columns(add_constants(columns, constants), metadata)


def _weights_metadata(kind: str, weights: AnyWeights, surface: Surface) -> dict[str, Any]:
    metadata = {"frame_type": kind, **surface.metadata}
    step = getattr(weights, "checkpoint_step", None)
    return metadata if step is None else {**metadata, "checkpoint_step": step}
