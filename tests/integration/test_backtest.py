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

from integration.long_frames import FORMS
from ml4t.models.integration import (
    BacktestDataFeedInputs,
    ResultsFrame,
    backtest_datafeed_inputs,
    backtest_inputs_from_asset_forecast,
    backtest_inputs_from_asset_signal,
    backtest_inputs_from_weights,
    predictions_frame_from_asset_forecast,
    resolve_dataset_schema,
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


def test_without_options_the_mapping_is_the_defaults():
    assert resolve_feed_spec_mapping(object()) == BARE
    assert resolve_feed_spec_mapping() == BARE


def test_key_columns_are_those_of_the_frame():
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
def test_key_columns_that_are_not_in_the_frame_are_rejected(options, words):
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


class Schema:
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
        Schema(
            schema=Schema(timestamp_col="t", asset_col="e"),
            semantics=Schema(data_frequency="1d", calendar="NYSE"),
        ),
        Schema(
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


def test_an_explicit_calendar_has_time_contract_version_2():
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
def test_a_calendar_that_is_no_name_is_rejected(bad):
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
    required = [FORECAST] * any(one.default is one.empty for one in parameters.values())
    prices = {"prices_frame": PRICES} if "prices_frame" in parameters else {}
    with pytest.raises(TypeError, match="'close_column'"):
        function(*required, close_column="px", **prices)


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


def windows_of(dates, *, metadata=None):
    return PortfolioWeightsResult(np.ones((2, 1, 2)), 1, dates, ("a", "b"), metadata or {})


def test_several_windows_can_be_signals_and_not_context():
    windows = windows_of((), metadata={"window_timestamps": [DATES[:1], DATES[1:]]})
    inputs = backtest_inputs_from_weights(windows, prices_frame=PRICES)
    assert inputs.signals.columns[2] == "batch_id"
    assert inputs.signals.to_columnar()["date"] == [DATES[0], DATES[0], DATES[1], DATES[1]]
    with pytest.raises(ValueError, match="requires a single portfolio-weight batch"):
        backtest_inputs_from_weights(windows, as_context=True, prices_frame=PRICES)


@pytest.mark.parametrize(
    "windows",
    [
        windows_of(DATES[:1]),
        windows_of((), metadata={"window_timestamps": [DATES[:1], DATES[:1]]}),
        PortfolioWeightsResult(
            np.ones((2, 2, 2)),
            asset_ids=("a", "b"),
            metadata={"window_timestamps": [DATES, (DATES[1], dt.date(2024, 1, 3))]},
        ),
        windows_of(()),
    ],
    ids=["shared dates", "equal windows", "overlapping windows", "numbered dates"],
)
def test_windows_over_the_same_dates_are_no_signals_for_a_feed(windows):
    words = r"^a data feed loads one row per date and asset; got 2 for \(.*, a\)"
    with pytest.raises(ValueError, match=words):
        backtest_inputs_from_weights(windows, prices_frame=PRICES)
    frame = weights_frame_from_asset_weights(windows)
    with pytest.raises(ValueError, match=words):
        backtest_datafeed_inputs(prices_frame=PRICES, signals=frame)


def test_a_frame_with_a_row_twice_is_no_signals_for_a_feed():
    rows = [(DATES[0], "a", 1.0), (DATES[1], "a", 1.0), (DATES[0], "a", 2.0)]
    frame = ResultsFrame(("timestamp", "asset", "weight"), rows)
    with pytest.raises(ValueError, match=r"got 2 for \(2024-01-01, a\)"):
        backtest_datafeed_inputs(prices_frame=PRICES, signals=frame)


# --- keys that meet


def forecast(dates, ids):
    return AssetForecastResult(np.ones((len(dates), len(ids))), tuple(dates), tuple(ids))


@pytest.mark.parametrize("form", [*sorted(FORMS), "path"])
@pytest.mark.parametrize(
    ("dates", "ids"), [(DATES, ("A", "B")), (("2019-01-01",), ("a", "b")), ((1, 2), ("a",))]
)
def test_signals_without_a_matching_price_warn_with_one_key_of_each(form, dates, ids, tmp_path):
    if form == "path":
        PRICES.write_parquet(tmp_path / "p.parquet")
        source = {"prices_path": tmp_path / "p.parquet"}
    else:
        source = {"prices_frame": FORMS[form](PRICES)}
    words = rf"have \({dates[0]}, {ids[0]}\), the prices \(2024-01-01.*, a\)"
    with pytest.warns(UserWarning, match=words):
        backtest_inputs_from_asset_forecast(forecast(dates, ids), **source)


def test_dates_and_ids_that_match_in_no_common_row_warn():
    prices = PRICES.filter(
        (pl.col("date") == DATES[0]) == (pl.col("ticker") == "a")
    )  # a on the first date, b on the second
    frame = ResultsFrame(("date", "ticker", "weight"), [(DATES[1], "a", 1.0), (DATES[0], "b", 1.0)])
    with pytest.warns(UserWarning, match="no row of the signals matches a row of the prices"):
        backtest_datafeed_inputs(prices_frame=prices, signals=frame)


def test_one_matching_row_is_enough():
    inputs = backtest_inputs_from_asset_forecast(
        forecast((DATES[1], dt.date(2030, 1, 1)), ("b", "unknown")), prices_frame=PRICES
    )
    assert inputs.signals.n_rows == 4


def test_context_is_compared_by_dates():
    with pytest.warns(UserWarning, match=r"\(2030-01-01\), the prices \(2024-01-01\)"):
        backtest_inputs_from_weights(
            AssetWeightsResult(np.ones((1, 1)), (dt.date(2030, 1, 1),), ("a",)),
            as_context=True,
            prices_frame=PRICES,
        )


@pytest.mark.parametrize("form", ["polars", "lazy", "pandas", "pandas_arrow", "pyarrow"])
@pytest.mark.parametrize("dtype", [pl.Float64, pl.Int64, pl.Int32, pl.String])
def test_ids_are_restated_so_that_they_join_the_prices(form, dtype):
    ids = pl.Series("permno", [10001, 10002]).cast(dtype)
    prices = pl.DataFrame({"date": DATES, "permno": ids, "close": [1.0, 2.0]})
    given = forecast(DATES, ("10001", "10002"))
    keys = {"entity_col": "permno", "prices_frame": FORMS[form](prices)}
    inputs = backtest_inputs_from_asset_forecast(given, **keys)
    wanted = prices["permno"].to_list()
    assert sorted(set(inputs.signals.to_columnar()["permno"])) == wanted
    rows = [(DATES[0], 10001.0, 1.0), (DATES[1], 10002.0, 1.0)]
    frame = ResultsFrame(("timestamp", "asset", "prediction_value"), rows)
    inputs = backtest_datafeed_inputs(signals=frame, **keys)
    assert inputs.signals.to_columnar()["permno"] == wanted


@pytest.mark.parametrize("values", [[1.5, 2.0], [True, False]])
def test_prices_whose_ids_are_neither_text_nor_integers_are_rejected(values):
    prices = pl.DataFrame({"date": DATES, "asset": values})
    with pytest.raises(ValueError, match=r"^column 'asset' must hold text or integers; got "):
        backtest_inputs_from_asset_forecast(FORECAST, prices_frame=prices)


# --- what is no price, no schema


PLAIN = ["prices.csv", b"x", 0.5, 3, float("nan"), [1], (), {1}, np.ones(2), True]


@pytest.mark.parametrize("bad", PLAIN, ids=repr)
def test_prices_of_a_wrong_type_are_rejected(bad):
    with pytest.raises(TypeError, match=r"^prices_frame must be a frame; got "):
        backtest_datafeed_inputs(prices_frame=bad)
    wrong = FileNotFoundError if isinstance(bad, str) else TypeError
    for function, result in (
        (predictions_frame_from_asset_forecast, FORECAST),
        (weights_frame_from_asset_weights, WEIGHTS),
    ):
        with pytest.raises(wrong, match=r"^prices must be a frame or the path of a "):
            function(result, prices=bad)
    with pytest.raises(wrong, match=r"^frame must be a frame or the path of a "):
        resolve_feed_spec_mapping(bad)
    if not isinstance(bad, str):
        with pytest.raises(TypeError, match=r"^prices_path must be a path"):
            backtest_datafeed_inputs(prices_path=bad)


@pytest.mark.parametrize("bad", [*PLAIN, object(), PRICES, Schema, Schema(unknown=1)], ids=repr)
def test_schemas_of_a_wrong_type_are_rejected(bad):
    with pytest.raises(TypeError, match=r"^schema must be a mapping or an object that names"):
        resolve_feed_spec_mapping(None, schema=bad)
    with pytest.raises(TypeError, match=r"^schema must be a mapping or an object that names"):
        resolve_dataset_schema(PRICES, schema=bad)
    with pytest.raises(TypeError, match=r"^feed_spec must be a mapping or an object that names"):
        predictions_frame_from_asset_forecast(FORECAST, feed_spec=bad)


def test_names_of_columns_are_text():
    for schema in ({"timestamp_col": 5}, Schema(date_col=5)):
        with pytest.raises(TypeError, match=r"^schema: .*_col must be the name of a column; got 5"):
            resolve_feed_spec_mapping(None, schema=schema)
    with pytest.raises(TypeError, match=r"^price_col must be text; got 5"):
        resolve_feed_spec_mapping(None, price_col=5)
    with pytest.raises(TypeError, match=r"^timestamp_col must be text; got 5"):
        resolve_dataset_schema(PRICES, timestamp_col=5)


def test_a_price_file_that_is_no_parquet_is_rejected_by_name(tmp_path):
    path = tmp_path / "prices.parquet"
    path.write_text("date,ticker\n")
    with pytest.raises(ValueError, match=rf"^cannot read {path} as Parquet"):
        backtest_inputs_from_asset_forecast(FORECAST, prices_path=path)


# --- a specification whose fields hold defaults


@dataclasses.dataclass(frozen=True)
class Spec:
    """Stands in for the FeedSpec of ml4t-specs: every field has a default."""

    timestamp_col: str = "timestamp"
    entity_col: str | None = None
    price_col: str = "close"
    open_col: str = "open"
    close_col: str = "close"
    volume_col: str = "volume"
    calendar: str | None = None
    time_contract_version: int = 1


class SpecWithDict(Spec):
    """As FeedSpec, it can be made a mapping."""

    def to_dict(self):
        return dataclasses.asdict(self)


@pytest.mark.parametrize("kind", [Spec, SpecWithDict])
@pytest.mark.parametrize("place", ["alone", "metadata", "schema"])
@pytest.mark.parametrize(
    "entries",
    [
        {"timestamp_col": "date", "entity_col": "ticker", "close_col": "settle"},
        {"close_col": "settle"},
        {"price_col": "mid"},
        {"price_col": "mid", "close_col": "settle"},
        {"open_col": "o", "calendar": "NYSE"},
        {},
    ],
)
def test_fields_that_hold_their_defaults_state_nothing(kind, place, entries):
    if place == "schema" and "calendar" in entries:
        pytest.skip("calendars belong to the section semantics")
    spec = kind(**entries)
    schema = {"alone": spec, "metadata": Schema(metadata=spec), "schema": {"schema": spec}}[place]
    prices = PRICES.rename({"close": "settle"})
    assert resolve_feed_spec_mapping(prices, schema=schema) == resolve_feed_spec_mapping(
        prices, schema=entries
    )
    assert resolve_dataset_schema(prices, schema=schema).metadata == {
        "timestamp_col": "date",
        "entity_col": "ticker",
    }


def test_the_price_of_a_specification_is_its_close():
    schema = Spec(timestamp_col="date", entity_col="ticker", close_col="settle")
    mapping = resolve_feed_spec_mapping(PRICES.rename({"close": "settle"}), schema=schema)
    assert (mapping["price_col"], mapping["close_col"]) == ("settle", "settle")


def test_a_default_of_ones_own_is_a_statement():
    @dataclasses.dataclass
    class Mine:
        timestamp_col: str = "date"
        close_col: str = "settle"

    mapping = resolve_feed_spec_mapping(None, schema=Mine())
    assert mapping["timestamp_col"] == "date"
    assert mapping["price_col"] == mapping["close_col"] == "settle"


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
    with pytest.warns(UserWarning, match=r"have \(1, a\)"):
        signals = backtest_datafeed_inputs(prices_frame=PRICES, signals=frame).signals
    assert signals.columns == ("date", "ticker", "prediction_value")
