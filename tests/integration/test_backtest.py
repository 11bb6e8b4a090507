"""The hand-off to a backtest, without one: mappings, inputs, refusals."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import inspect
import json

import numpy as np
import polars as pl
import pytest

from ml4t.models.integration import (
    BacktestDataFeedInputs,
    backtest_datafeed_inputs,
    backtest_inputs_from_asset_forecast,
    backtest_inputs_from_asset_signal,
    backtest_inputs_from_weights,
    predictions_frame_from_asset_forecast,
    resolve_feed_spec_mapping,
    weights_frame_from_asset_weights,
)
from ml4t.models.types import (
    AssetForecastResult,
    AssetSignalResult,
    AssetWeightsResult,
    PortfolioWeightsResult,
)

DATES = (dt.date(2024, 1, 1), dt.date(2024, 1, 2))
PRICES = pl.DataFrame(
    {"date": [*DATES, *DATES], "ticker": ["a", "a", "b", "b"], "close": [1.0, 2.0, 3.0, 4.0]}
)
FORECAST = AssetForecastResult(np.array([[0.1, np.nan], [0.2, 0.3]]), DATES, ("a", "b"))
SIGNAL = AssetSignalResult(np.ones((2, 2)), DATES, ("a", "b"))
WEIGHTS = AssetWeightsResult(np.array([[0.5, -0.5], [np.nan, 1.0]]), DATES, ("a", "b"))
BARE = {
    "timestamp_col": "timestamp",
    "entity_col": "asset",
    "price_col": "close",
    "open_col": "open",
    "high_col": "high",
    "low_col": "low",
    "close_col": "close",
    "volume_col": "volume",
}
COLUMNS = [
    *("timestamp_col", "entity_col", "price_col", "open_col", "high_col", "low_col", "close_col"),
    *("volume_col", "bid_col", "ask_col", "mid_col", "bid_size_col", "ask_size_col"),
    *("calendar", "timezone", "data_frequency", "bar_type", "timestamp_semantics"),
    "session_start_time",
]


# --- the mapping


def test_nothing_said_means_the_defaults_exactly():
    assert resolve_feed_spec_mapping(object()) == BARE
    assert resolve_feed_spec_mapping() == BARE


def test_key_columns_are_found_in_the_frame():
    for frame in (PRICES, PRICES.lazy(), PRICES.to_pandas(), PRICES.to_dict()):
        mapping = resolve_feed_spec_mapping(frame)
        assert mapping == {**BARE, "timestamp_col": "date", "entity_col": "ticker"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timestamp_col": "missing"}, "timestamp column 'missing' .*not found"),
        ({"schema": {"entity_col": "missing"}}, "entity column 'missing' .*not found"),
    ],
)
def test_key_columns_that_are_not_in_the_frame_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        resolve_feed_spec_mapping(PRICES, **options)
    with pytest.raises(ValueError, match="Could not resolve an entity"):
        resolve_feed_spec_mapping({"date": []})


@pytest.mark.parametrize(
    ("schema", "options", "price", "close"),
    [
        (None, {}, "close", "close"),
        (None, {"close_col": "px"}, "px", "px"),
        (None, {"price_col": "mid"}, "mid", "mid"),
        (None, {"price_col": "mid", "close_col": "px"}, "mid", "px"),
        ({"close_col": "px"}, {}, "px", "px"),
        ({"close_col": "px"}, {"price_col": "mid"}, "mid", "px"),
        ({"price_col": "mid", "close_col": "px"}, {"close_col": "c"}, "c", "c"),
    ],
)
def test_price_follows_close(schema, options, price, close):
    mapping = resolve_feed_spec_mapping(None, schema=schema, **options)
    assert (mapping["price_col"], mapping["close_col"]) == (price, close)


class Told:
    """A schema as an object."""

    def __init__(self, **fields):
        self.__dict__.update(fields)


@pytest.mark.parametrize(
    "schema",
    [
        {"time_col": "t", "symbol_col": "e", "frequency": "1d", "calendar": "NYSE"},
        {
            "schema": {"datetime_col": "t", "ticker_col": "e"},
            "semantics": {"data_frequency": "1d", "calendar": "NYSE"},
        },
        Told(
            schema=Told(timestamp_col="t", asset_col="e"),
            semantics=Told(data_frequency="1d", calendar="NYSE"),
        ),
        Told(
            metadata={"timestamp_col": "t", "group_col": "e", "frequency": "1d", "calendar": "NYSE"}
        ),
    ],
)
def test_schemas_of_every_shape_are_read(schema):
    wanted = {"timestamp_col": "t", "entity_col": "e", "data_frequency": "1d", "calendar": "NYSE"}
    assert resolve_feed_spec_mapping(None, schema=schema) == {**BARE, **wanted}


def test_arguments_win_over_the_schema():
    schema = {"timezone": "UTC", "bid_col": "bid", "open_col": "o"}
    before = copy.deepcopy(schema)
    mapping = resolve_feed_spec_mapping(None, schema=schema, timezone="CET", open_col="first")
    assert (mapping["timezone"], mapping["bid_col"], mapping["open_col"]) == ("CET", "bid", "first")
    assert schema == before


def test_a_calendar_that_is_given_says_so():
    schema = {"calendar": "NYSE"}
    assert resolve_feed_spec_mapping(None, schema=schema) == {**BARE, **schema}
    off = resolve_feed_spec_mapping(None, schema=schema, calendar=None)
    assert off == {**BARE, "calendar": None, "time_contract_version": 2}
    other = resolve_feed_spec_mapping(None, schema=schema, calendar="CME")
    assert other == {**BARE, "calendar": "CME", "time_contract_version": 2}
    kept = resolve_feed_spec_mapping(None, schema=off)
    assert kept == off
    assert json.loads(json.dumps(off)) == off


@pytest.mark.parametrize("bad", ["", " ", False, 42])
def test_a_calendar_that_is_no_name_is_refused(bad):
    with pytest.raises(ValueError, match="calendar must be a non-empty name or None; got"):
        resolve_feed_spec_mapping(None, calendar=bad)


@pytest.mark.parametrize(
    "function",
    [
        resolve_feed_spec_mapping,
        backtest_datafeed_inputs,
        backtest_inputs_from_asset_forecast,
        backtest_inputs_from_asset_signal,
        backtest_inputs_from_weights,
    ],
)
def test_every_function_takes_the_same_columns(function):
    parameters = inspect.signature(function).parameters
    assert [name for name in parameters if name in COLUMNS] == COLUMNS
    assert all(parameters[name].default is None for name in COLUMNS if name != "calendar")


# --- the inputs


def test_exactly_one_price_source_is_asked_for():
    with pytest.raises(ValueError, match="prices_frame or prices_path"):
        BacktestDataFeedInputs({})
    with pytest.raises(ValueError, match="not both"):
        BacktestDataFeedInputs({}, PRICES, "prices.parquet")
    with pytest.raises(ValueError, match="prices_frame or prices_path"):
        backtest_inputs_from_asset_forecast(FORECAST)
    with pytest.raises(ValueError, match="not both"):
        backtest_inputs_from_weights(WEIGHTS, prices_frame=PRICES, prices_path="p.parquet")


def test_keyword_arguments_of_the_feed_are_those_that_apply():
    frame = predictions_frame_from_asset_forecast(FORECAST)
    context = weights_frame_from_asset_weights(WEIGHTS)
    inputs = BacktestDataFeedInputs({"a": 1}, PRICES, None, frame, context)
    given = inputs.to_datafeed_kwargs()
    assert sorted(given) == ["context_df", "feed_spec", "prices_df", "signals_df"]
    assert given["prices_df"] is PRICES
    assert given["feed_spec"] == {"a": 1}
    assert given["feed_spec"] is not inputs.feed_spec
    assert given["signals_df"].equals(frame.to_polars())
    given = BacktestDataFeedInputs({}, prices_path="p.parquet").to_datafeed_kwargs()
    assert given == {"feed_spec": {}, "prices_path": "p.parquet"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        inputs.signals = None


def test_a_forecast_is_handed_over_under_the_prices_names():
    inputs = backtest_inputs_from_asset_forecast(
        FORECAST, prices_frame=PRICES, constants={"run": 1}, metadata={"k": 1}
    )
    assert inputs.signals.columns == ("date", "ticker", "prediction_value", "run")
    assert (inputs.feed_spec["timestamp_col"], inputs.feed_spec["entity_col"]) == ("date", "ticker")
    assert inputs.metadata == {"k": 1, "signal_frame_type": "prediction"}
    assert inputs.context is None


def test_a_price_file_names_the_keys(tmp_path):
    path = tmp_path / "prices.parquet"
    PRICES.write_parquet(path)
    inputs = backtest_inputs_from_asset_signal(SIGNAL, prices_path=path)
    assert inputs.signals.columns == ("date", "ticker", "prediction_value")
    assert inputs.to_datafeed_kwargs()["prices_path"] == str(path)
    # One that is not there yet cannot.
    inputs = backtest_inputs_from_asset_signal(SIGNAL, prices_path=tmp_path / "later.parquet")
    assert inputs.signals.columns == ("timestamp", "asset", "prediction_value")


def test_weights_are_signals_or_context():
    inputs = backtest_inputs_from_weights(WEIGHTS, prices_frame=PRICES)
    assert inputs.signals.columns == ("date", "ticker", "weight", "selected")
    assert inputs.metadata == {"signal_frame_type": "weight"}
    assert inputs.context is None
    inputs = backtest_inputs_from_weights(
        WEIGHTS, as_context=True, context_prefix="c_", prices_frame=PRICES
    )
    assert inputs.context.columns == ("date", "c_a", "c_b")
    assert inputs.context.rows[1] == (DATES[1], 0.0, 1.0)
    assert inputs.signals is None
    assert inputs.metadata == {}


def test_several_windows_can_be_signals_and_not_context():
    windows = PortfolioWeightsResult(np.ones((2, 2, 2)), 1, DATES, ("a", "b"))
    inputs = backtest_inputs_from_weights(windows, prices_frame=PRICES)
    assert inputs.signals.columns[2] == "batch_id"
    assert inputs.signals.n_rows == 8
    with pytest.raises(ValueError, match="requires a single portfolio-weight batch"):
        backtest_inputs_from_weights(windows, as_context=True, prices_frame=PRICES)


def test_frames_that_are_given_are_renamed_only_when_needed():
    frame = predictions_frame_from_asset_forecast(FORECAST)
    inputs = backtest_datafeed_inputs(prices_frame=PRICES, signals=frame, context=None)
    assert inputs.signals.columns == ("date", "ticker", "prediction_value")
    assert inputs.signals.metadata == frame.metadata
    same = backtest_datafeed_inputs(prices_frame=object(), signals=frame)
    assert same.signals is frame
    assert same.metadata == {"signal_frame_type": "prediction"}


def test_frames_that_are_given_take_the_types_of_the_prices_keys():
    bare = AssetForecastResult(np.ones((1, 2)), (dt.datetime(2024, 1, 1),), ("7", "8"))
    prices = pl.DataFrame(
        {"date": [dt.date(2024, 1, 1)] * 2, "security": [7, 8], "close": [1.0, 2.0]},
        schema_overrides={"security": pl.Int32},
    )
    frame = predictions_frame_from_asset_forecast(bare)
    signals = backtest_datafeed_inputs(prices_frame=prices, signals=frame).signals.to_polars()
    keys = ["date", "security"]
    assert signals.select(keys).equals(prices.select(keys))


def test_frames_are_renamed_from_the_keys_that_their_metadata_names():
    named = AssetForecastResult(
        np.ones((1, 1)), (1,), ("a",), {"timestamp_col": "when", "entity_col": "who"}
    )
    frame = predictions_frame_from_asset_forecast(named)
    signals = backtest_datafeed_inputs(prices_frame=PRICES, signals=frame).signals
    assert signals.columns == ("date", "ticker", "prediction_value")
