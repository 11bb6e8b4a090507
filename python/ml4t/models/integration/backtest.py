"""Results to the inputs of a backtest's data feed; the backtest itself is never imported.

Callers name the columns of their prices one by one: `FeedOptions` lists the names, for all
functions.
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from ml4t.models.checks import require_bool, require_mapping, require_path
from ml4t.models.integration.feed_spec import FeedOptions, feed_mapping, with_feed_options
from ml4t.models.integration.output_keys import FrameKeys, open_prices, require_prices
from ml4t.models.integration.price_match import require_unique_keys, warn_without_match
from ml4t.models.integration.surfaces import (
    ResultsFrame,
    context_frame_from_weights,
    predictions_frame_from_asset_forecast,
    predictions_frame_from_asset_signal,
    weights_frame_from_asset_weights,
)

if TYPE_CHECKING:
    from ml4t.models.types import (
        AssetForecastResult,
        AssetSignalResult,
        AssetWeightsResult,
        PortfolioWeightsResult,
    )

# Types that are no table.
_NO_FRAMES = (str, bytes, os.PathLike, numbers.Number, Sequence, Set, np.ndarray, ResultsFrame)

__all__ = [
    "BacktestDataFeedInputs",
    "backtest_datafeed_inputs",
    "backtest_inputs_from_asset_forecast",
    "backtest_inputs_from_asset_signal",
    "backtest_inputs_from_weights",
    "resolve_feed_spec_mapping",
]


@dataclass(frozen=True)
class BacktestDataFeedInputs:
    """Arguments of `ml4t.backtest.DataFeed`.

    Attributes
    ----------
    feed_spec : dict
        See `resolve_feed_spec_mapping`.
    prices_frame : frame, optional
    prices_path : path, optional
        Exactly one of the two.
    signals, context : ResultsFrame, optional
    metadata : dict

    Raises
    ------
    ValueError
        Without a price source, or with both.
    TypeError
        When a part has another type than a feed takes.
    """

    feed_spec: Mapping[str, Any]
    prices_frame: Any = None
    prices_path: str | os.PathLike[str] | None = None
    signals: ResultsFrame | None = None
    context: ResultsFrame | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Require one price source, and parts of types that a feed takes."""
        if self.prices_frame is None and self.prices_path is None:
            raise ValueError("give prices_frame or prices_path; got neither")
        if self.prices_frame is not None and self.prices_path is not None:
            raise ValueError("give prices_frame or prices_path, not both")
        require_mapping("feed_spec", self.feed_spec)
        require_mapping("metadata", self.metadata)
        if self.prices_path is not None:
            require_path("prices_path", self.prices_path)
        for name, table in (("signals", self.signals), ("context", self.context)):
            if table is not None and not callable(getattr(table, "to_polars", None)):
                raise TypeError(f"{name} must be a ResultsFrame; got {type(table).__name__}")
        if isinstance(self.prices_frame, _NO_FRAMES):
            raise TypeError(
                f"prices_frame must be a frame; got {type(self.prices_frame).__name__}. "
                "The path of a Parquet file is given as prices_path"
            )

    def to_datafeed_kwargs(self) -> dict[str, Any]:
        """Return the keyword arguments of `ml4t.backtest.DataFeed` that apply.

        Returns
        -------
        dict
            `feed_spec` (a copy), `prices_df` (the same object) or `prices_path` (text),
            `signals_df` and `context_df` (polars).
        """
        given: dict[str, Any] = {"feed_spec": dict(self.feed_spec)}
        if self.prices_frame is not None:
            given["prices_df"] = self.prices_frame
        if self.prices_path is not None:
            given["prices_path"] = str(self.prices_path)
        if self.signals is not None:
            given["signals_df"] = self.signals.to_polars()
        if self.context is not None:
            given["context_df"] = self.context.to_polars()
        return given


@with_feed_options
def resolve_feed_spec_mapping(
    frame: Any = None,
    *,
    schema: Any = None,
    **feed: Unpack[FeedOptions],
) -> dict[str, Any]:
    """Describe a price frame as a plain, JSON-serialisable mapping.

    Parameters
    ----------
    frame : frame or path of a Parquet file, optional
        Must have the key columns; any other object is ignored.
    schema : mapping or object, optional
        Declares what the arguments leave open; read by ml4t-specs where that is installed.
    calendar : str or None, optional
        None means no calendar; by default the schema's.
    timestamp_col, ..., session_start_time : optional
        See `FeedOptions`.

    Raises
    ------
    ValueError
        When a key column is not in the frame, or `calendar` is not a name.
    TypeError
        When `schema` cannot describe columns, or `frame` can be no table.
    FileNotFoundError
        When `frame` is the path of no file.
    """
    if isinstance(frame, _NO_FRAMES):
        require_prices("frame", frame)
    return feed_mapping(frame, schema, feed)


@with_feed_options
def backtest_datafeed_inputs(
    *,
    prices_frame: Any = None,
    prices_path: str | os.PathLike[str] | None = None,
    signals: ResultsFrame | None = None,
    context: ResultsFrame | None = None,
    schema: Any = None,
    metadata: Mapping[str, Any] | None = None,
    **feed: Unpack[FeedOptions],
) -> BacktestDataFeedInputs:
    """Join prices, signals and context for a data feed.

    Parameters
    ----------
    prices_frame : frame, optional
    prices_path : path of a Parquet file, optional
    signals, context : ResultsFrame, optional
        Their key columns are renamed to those of the prices and restated in their types.
    schema, timestamp_col, ..., session_start_time : optional
        See `resolve_feed_spec_mapping`.
    metadata : mapping, optional
        Gains `signal_frame_type`.

    Raises
    ------
    ValueError
        Without a price source, with both, or when a key column is missing.
    """
    return _Handoff.of(prices_frame, prices_path, schema, feed).inputs(signals, context, metadata)


@with_feed_options
def backtest_inputs_from_asset_forecast(
    forecast: AssetForecastResult,
    *,
    prices_frame: Any = None,
    prices_path: str | os.PathLike[str] | None = None,
    schema: Any = None,
    constants: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    **feed: Unpack[FeedOptions],
) -> BacktestDataFeedInputs:
    """Convert a forecast to signals of a backtest.

    Parameters
    ----------
    forecast : AssetForecastResult
    constants : mapping, optional
        Columns with one value for every row of the signals.
    prices_frame, ..., metadata : optional
        See `backtest_datafeed_inputs`.
    """
    handoff = _Handoff.of(prices_frame, prices_path, schema, feed)
    frame = predictions_frame_from_asset_forecast(forecast, constants=constants, **handoff.keys)
    return handoff.inputs(frame, None, metadata)


@with_feed_options
def backtest_inputs_from_asset_signal(
    signal: AssetSignalResult,
    *,
    prices_frame: Any = None,
    prices_path: str | os.PathLike[str] | None = None,
    schema: Any = None,
    constants: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    **feed: Unpack[FeedOptions],
) -> BacktestDataFeedInputs:
    """Convert signals to signals of a backtest.

    Parameters
    ----------
    signal : AssetSignalResult
    constants : mapping, optional
        Columns with one value for every row of the signals.
    prices_frame, ..., metadata : optional
        See `backtest_datafeed_inputs`.
    """
    handoff = _Handoff.of(prices_frame, prices_path, schema, feed)
    frame = predictions_frame_from_asset_signal(signal, constants=constants, **handoff.keys)
    return handoff.inputs(frame, None, metadata)


@with_feed_options
def backtest_inputs_from_weights(
    weights: AssetWeightsResult | PortfolioWeightsResult,
    *,
    as_context: bool = False,
    context_prefix: str = "w_",
    prices_frame: Any = None,
    prices_path: str | os.PathLike[str] | None = None,
    schema: Any = None,
    constants: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    **feed: Unpack[FeedOptions],
) -> BacktestDataFeedInputs:
    """Convert weights to signals or a wide context of a backtest.

    Parameters
    ----------
    weights : AssetWeightsResult or PortfolioWeightsResult
        Several windows can be signals only.
    as_context : bool, default False
        One column `{context_prefix}{asset}` per asset instead of rows of signals.
    constants : mapping, optional
        Columns with one value for every row.
    prices_frame, ..., metadata : optional
        See `backtest_datafeed_inputs`.

    Raises
    ------
    ValueError
        When several windows are to be context.
    """
    handoff = _Handoff.of(prices_frame, prices_path, schema, feed)
    if require_bool("as_context", as_context):
        context = context_frame_from_weights(
            weights, prefix=context_prefix, constants=constants, **handoff.keys
        )
        return handoff.inputs(None, context, metadata)
    signals = weights_frame_from_asset_weights(weights, constants=constants, **handoff.keys)
    return handoff.inputs(signals, None, metadata)


@dataclass(frozen=True, slots=True)
class _Handoff:
    """The price side of a hand-off, resolved."""

    prices_frame: Any
    prices_path: str | os.PathLike[str] | None
    feed_spec: dict[str, Any]

    @classmethod
    def of(
        cls,
        frame: Any,
        path: str | os.PathLike[str] | None,
        schema: Any,
        feed: FeedOptions,
    ) -> _Handoff:
        # Reject no price source, or two, before anything is read.
        BacktestDataFeedInputs({}, frame, path)
        source = path if frame is None else frame
        return cls(frame, path, feed_mapping(source, schema, feed))

    @property
    def table(self) -> Any:
        """The prices as a frame whose schema can be read; None for a path without a file."""
        return open_prices(self.prices_path if self.prices_frame is None else self.prices_frame)

    @property
    def keys(self) -> dict[str, Any]:
        """Arguments of the functions of `surfaces` that name key columns."""
        return {"feed_spec": self.feed_spec, "prices": self.table}

    def inputs(
        self,
        signals: ResultsFrame | None,
        context: ResultsFrame | None,
        metadata: Mapping[str, Any] | None,
    ) -> BacktestDataFeedInputs:
        inputs = BacktestDataFeedInputs(
            self.feed_spec, self.prices_frame, self.prices_path, signals, context
        )
        merged = {} if metadata is None else dict(require_mapping("metadata", metadata))
        if signals is not None:
            merged["signal_frame_type"] = signals.metadata.get("frame_type")
        return replace(
            inputs, signals=self._joined(signals), context=self._joined(context), metadata=merged
        )

    def _joined(self, frame: ResultsFrame | None) -> ResultsFrame | None:
        """Restate the keys in names and types of the prices; warn where no row matches."""
        if not isinstance(frame, ResultsFrame):
            return frame
        table, keys = self.table, FrameKeys.find(**self.keys)
        renamed = frame.with_keys(keys)
        columns = renamed.as_columns()
        require_unique_keys(columns, keys)
        if table is not None:
            warn_without_match(columns, table, keys)
        return renamed
