"""Forecasts handed to the real backtest and the real diagnosis.

The market is planted: one factor with a premium, assets that differ in their exposure to it. What
is forecast from its past must be able to earn in its future.
"""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import polars as pl
import pytest

NEEDED = "needs ml4t-backtest, ml4t-diagnostic and ml4t-specs (Python >= 3.12)"
backtest = pytest.importorskip("ml4t.backtest", reason=NEEDED)
specs = pytest.importorskip("ml4t.specs", reason=NEEDED)
metrics = pytest.importorskip("ml4t.diagnostic.metrics", reason=NEEDED)
stats = pytest.importorskip("scipy.stats")

from ml4t.models import (  # noqa: E402
    AssetForecastResult,
    AssetSignalResult,
    AssetWeightsResult,
    BetaLambdaMapper,
    ExpandingMeanFactorForecaster,
    LatentFactorForecastPipeline,
    PCAConfig,
    PersistentPanelBatch,
    backtest_datafeed_inputs,
    backtest_inputs_from_asset_forecast,
    backtest_inputs_from_asset_signal,
    backtest_inputs_from_weights,
    cross_section_batch_from_long_frame,
    persistent_panel_batch_from_long_frame,
    predictions_frame_from_asset_forecast,
    resolve_feed_spec_mapping,
    write_backtest_frames,
)
from ml4t.models.integration import feed_spec  # noqa: E402

N_DATES, N_ASSETS, TRAINED = 160, 12, 80
DAYS = [dt.datetime(2024, 1, 1) + dt.timedelta(day) for day in range(N_DATES)]

KEYS = {
    "plain": ("timestamp", "asset", pl.Datetime("us"), pl.String),
    "zoned": ("timestamp", "symbol", pl.Datetime("us", "America/New_York"), pl.String),
    "nanoseconds": ("timestamp", "asset", pl.Datetime("ns"), pl.String),
    "zoned nanoseconds": ("timestamp", "asset", pl.Datetime("ns", "UTC"), pl.String),
    "milliseconds": ("timestamp", "asset", pl.Datetime("ms"), pl.String),
    "date and ticker": ("date", "ticker", pl.Datetime("us"), pl.String),
    "dates": ("date", "ticker", pl.Date, pl.String),
    "integer ids": ("timestamp", "asset", pl.Datetime("us"), pl.Int64),
}


def returns() -> np.ndarray:
    """Simple returns (T, N) of the planted market."""
    rng = np.random.default_rng(7)
    exposures = np.linspace(-1.5, 2.5, N_ASSETS)
    factor = 0.004 + 0.01 * rng.standard_normal(N_DATES)
    return factor[:, None] * exposures + 0.003 * rng.standard_normal((N_DATES, N_ASSETS))


def market(kind: str = "plain") -> pl.DataFrame:
    """Prices, long: `r` is the return that ends at the row's close."""
    timestamp, entity, time_type, entity_type = KEYS[kind]
    r = returns()
    close = 100 * np.cumprod(1 + r, axis=0)
    ids = [str(100 + i) for i in range(N_ASSETS)]
    naive = time_type if time_type == pl.Date else pl.Datetime(time_type.time_unit)
    days = pl.Series(DAYS).cast(naive)
    if getattr(time_type, "time_zone", None):
        days = days.dt.replace_time_zone(time_type.time_zone)
    return pl.DataFrame(
        {
            timestamp: days.gather(np.repeat(np.arange(N_DATES), N_ASSETS)),
            entity: pl.Series(ids * N_DATES).cast(entity_type),
            "close": close.ravel(),
            "r": r.ravel(),
        }
    )


def forecast(kind: str = "plain") -> AssetForecastResult:
    """Expected returns of the second half: the mean of the first."""
    batch = persistent_panel_batch_from_long_frame(market(kind), return_col="r")
    mean = batch.returns[:TRAINED].mean(axis=0)
    return AssetForecastResult(
        np.tile(mean, (N_DATES - TRAINED, 1)), batch.timestamps[TRAINED:], batch.asset_ids
    )


def weights(kind: str = "plain", sign: float = 1.0) -> AssetWeightsResult:
    """Long the upper third of the forecasts, short the lower third, gross exposure 1."""
    result = forecast(kind)
    ranks = np.argsort(np.argsort(result.expected_returns, axis=1), axis=1)
    third = N_ASSETS // 3
    side = (ranks >= N_ASSETS - third).astype(float) - (ranks < third)
    return AssetWeightsResult(
        sign * side / (2 * third), result.timestamps, result.asset_ids, result.metadata
    )


class Trade(backtest.Strategy):
    """Hold what the signals or the context of each bar say."""

    def __init__(self, read):
        self.read = read

    def on_data(self, timestamp, data, context, broker):
        targets = self.read(data, context)
        if targets:
            self.executor.execute(targets, data, broker)

    def on_start(self, broker):
        self.executor = backtest.TargetWeightExecutor(
            backtest.RebalanceConfig(allow_fractional=True, min_trade_value=1.0)
        )


def from_signals(data, _context):
    return {
        asset: bar["signals"]["weight"] for asset, bar in data.items() if "weight" in bar["signals"]
    }


def from_context(data, context):
    named = {f"w_{asset}": asset for asset in data}
    return {named[name]: weight for name, weight in context.items() if name in named}


def from_predictions(data, _context):
    """Long the upper half of the predictions of the bar."""
    told = {
        asset: bar["signals"]["prediction_value"]
        for asset, bar in data.items()
        if "prediction_value" in bar["signals"]
    }
    if not told:
        return {}
    middle = np.median(list(told.values()))
    chosen = [asset for asset, value in told.items() if value > middle]
    return {asset: (1 / len(chosen) if asset in chosen else 0.0) for asset in told}


def run(inputs, read):
    feed = backtest.DataFeed(**inputs.to_datafeed_kwargs())
    config = backtest.BacktestConfig(
        initial_cash=1e6, allow_short_selling=True, allow_leverage=True
    )
    return backtest.Engine(feed, Trade(read), config).run()


def final_value(result):
    return result.to_equity_dataframe()["equity"][-1]


def fills(result):
    table = result.to_fills_dataframe()
    return table.select("timestamp", "asset", "side", "quantity", "price").rows()


# --- the backtest


@pytest.mark.parametrize("kind", sorted(KEYS))
def test_a_forecast_becomes_trades_that_earn(kind):
    prices = market(kind)
    inputs = backtest_inputs_from_asset_forecast(forecast(kind), prices_frame=prices, calendar=None)
    signals = inputs.signals.to_polars()
    keys = KEYS[kind][:2]
    assert signals.select(keys).schema == prices.select(keys).schema
    result = run(inputs, from_predictions)
    assert len(fills(result)) > N_ASSETS // 2 - 1
    assert final_value(result) > 1.05e6


@pytest.mark.parametrize("kind", sorted(KEYS))
def test_weights_as_signals_and_as_context_give_the_same_trades(kind):
    options = {"prices_frame": market(kind), "calendar": None}
    signals = run(backtest_inputs_from_weights(weights(kind), **options), from_signals)
    read = from_context
    if kind == "integer ids":
        # A column name is text.
        def read(data, context):
            return {asset: context[f"w_{asset}"] for asset in data if f"w_{asset}" in context}

    context = run(backtest_inputs_from_weights(weights(kind), as_context=True, **options), read)
    assert fills(signals)
    assert fills(signals) == fills(context)
    assert final_value(signals) == final_value(context) > 1.05e6


def test_a_fitted_model_earns_too():
    pca = pytest.importorskip("ml4t.models.latent_factors.pca")
    batch = persistent_panel_batch_from_long_frame(market(), return_col="r")
    train = PersistentPanelBatch(
        batch.returns[:TRAINED], None, batch.timestamps[:TRAINED], batch.asset_ids
    )
    future = PersistentPanelBatch(None, None, batch.timestamps[TRAINED:], batch.asset_ids)
    pipeline = LatentFactorForecastPipeline(
        pca.PCAModel(PCAConfig(n_factors=1)), ExpandingMeanFactorForecaster(), BetaLambdaMapper()
    )
    pipeline.fit(train)
    made = pipeline.predict(future).asset_forecast
    inputs = backtest_inputs_from_asset_forecast(made, prices_frame=market(), calendar=None)
    assert final_value(run(inputs, from_predictions)) > 1.05e6


def test_the_opposite_forecast_loses():
    inputs = backtest_inputs_from_weights(weights(sign=-1.0), prices_frame=market(), calendar=None)
    assert final_value(run(inputs, from_signals)) < 0.95e6


def test_a_forecast_of_nothing_trades_nothing():
    result = forecast()
    empty = AssetSignalResult(
        np.full(result.expected_returns.shape, np.nan), result.timestamps, result.asset_ids
    )
    inputs = backtest_inputs_from_asset_signal(empty, prices_frame=market(), calendar=None)
    done = run(inputs, from_predictions)
    assert not fills(done)
    assert final_value(done) == 1e6


def test_prices_may_be_lazy_or_a_file(tmp_path):
    path = tmp_path / "prices.parquet"
    prices = market("date and ticker")
    prices.write_parquet(path)
    results = [
        run(backtest_inputs_from_weights(weights(), calendar=None, **source), from_signals)
        for source in (
            {"prices_frame": prices},
            {"prices_frame": prices.lazy()},
            {"prices_path": path},
        )
    ]
    assert fills(results[0]) == fills(results[1]) == fills(results[2]) != []


def test_a_long_frame_may_be_lazy():
    lazy = market("zoned").lazy()
    batch = cross_section_batch_from_long_frame(lazy, feature_cols=["close"], return_col="r")
    result = AssetForecastResult(batch.returns, batch.timestamps, batch.asset_ids)
    inputs = backtest_inputs_from_asset_forecast(result, prices_frame=lazy, calendar=None)
    feed = backtest.DataFeed(**inputs.to_datafeed_kwargs())
    seen = sum("prediction_value" in bar["signals"] for _, data, _ in feed for bar in data.values())
    assert seen == N_DATES * N_ASSETS


def test_frames_made_without_prices_take_the_feeds_key_columns():
    frame = predictions_frame_from_asset_forecast(forecast())
    inputs = backtest_datafeed_inputs(
        prices_frame=market("date and ticker"), signals=frame, calendar=None
    )
    assert inputs.signals.columns[:2] == ("date", "ticker")
    assert final_value(run(inputs, from_predictions)) > 1.05e6


def test_published_files_are_a_data_feed(tmp_path):
    prices = market()
    prices.write_parquet(tmp_path / "prices.parquet")
    frame = backtest_inputs_from_asset_forecast(forecast(), prices_frame=prices).signals
    paths = write_backtest_frames(tmp_path / "frames", predictions=frame)
    feed = backtest.DataFeed(
        str(tmp_path / "prices.parquet"),
        str(paths["predictions"]),
        feed_spec={"entity_col": "asset"},
    )
    assert feed.n_bars == N_DATES


# --- the diagnosis


@pytest.mark.parametrize("kind", sorted(KEYS))
def test_the_information_coefficient_is_scipys_spearman(kind):
    prices = market(kind)
    result = forecast(kind)
    realised = returns()[TRAINED:]
    # What is forecast varies by date, so that the coefficients do too.
    values = result.expected_returns + 0.01 * np.sin(np.arange(realised.size)).reshape(
        realised.shape
    )
    noisy = AssetForecastResult(values, result.timestamps, result.asset_ids)
    frame = predictions_frame_from_asset_forecast(
        noisy, outcomes=realised, prices=prices
    ).to_polars()
    timestamp, entity = KEYS[kind][:2]
    found = metrics.cross_sectional_ic_series(
        frame,
        frame,
        pred_col="prediction_value",
        ret_col="realized_return",
        date_col=timestamp,
        entity_col=entity,
        min_obs=3,
    )
    wanted = [stats.spearmanr(x, y).statistic for x, y in zip(values, realised, strict=True)]
    np.testing.assert_allclose(found["ic"].to_numpy(), wanted, rtol=0, atol=1e-12)


def test_the_diagnosis_plots_our_predictions():
    profile = pytest.importorskip("ml4t.diagnostic.integration.backtest_profile")
    plots = pytest.importorskip("ml4t.diagnostic.visualization.backtest.ml_plots")
    result = forecast()
    frame = predictions_frame_from_asset_forecast(result, outcomes=returns()[TRAINED:])
    inputs = backtest_inputs_from_weights(weights(), prices_frame=market(), calendar=None)
    analysed = profile.BacktestProfile(
        result=run(inputs, from_signals), predictions_override=frame.to_polars()
    )
    assert plots.plot_prediction_signal_diagnostics(analysed) is not None


# --- the specification


SCHEMAS = [
    None,
    {},
    {"timestamp_col": "date", "ticker_col": "ticker"},
    {"close_col": "px"},
    {"price_col": "mid", "frequency": "1d"},
    {"schema": {"symbol_col": "s", "close_col": "px"}, "semantics": {"calendar": "NYSE"}},
    {"semantics": {"data_frequency": "1h", "timezone": "UTC", "timestamp_semantics": "bar_close"}},
    {"calendar": None, "time_contract_version": 2},
    {"calendar": "CME", "time_contract_version": 2, "bar_label": "right"},
    {"entity_col": ["ticker"], "vwap_col": "vwap"},
    specs.FeedSpec(timestamp_col="date", entity_col="ticker", calendar="NYSE"),
    specs.FeedSpec(time_contract_version=2, calendar=None),
    specs.FeedSpec(timestamp_col="date", entity_col="ticker", close_col="settle"),
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"price_col": "p"}, {"close_col": "c"}, {"calendar": None}]
)
def test_with_and_without_specs_the_mapping_is_the_same(monkeypatch, schema, options):
    with_specs = resolve_feed_spec_mapping(None, schema=schema, **options)
    monkeypatch.setattr(feed_spec, "_feed_spec", lambda: None)
    assert resolve_feed_spec_mapping(None, schema=schema, **options) == with_specs
    json.dumps(with_specs)
    specs.FeedSpec.from_any(with_specs)


@pytest.mark.parametrize(
    "entries",
    [
        {"timestamp_col": "date", "entity_col": "ticker", "close_col": "settle"},
        {"price_col": "mid"},
        {"open_col": "o", "calendar": "NYSE"},
        {},
    ],
)
def test_fields_of_a_specification_that_hold_their_defaults_state_nothing(entries):
    frame = pl.DataFrame({"date": [1], "ticker": ["a"], "settle": [1.0]})
    spec = resolve_feed_spec_mapping(frame, schema=specs.FeedSpec(**entries))
    assert spec == resolve_feed_spec_mapping(frame, schema=entries)


def test_nothing_said_means_the_defaults_exactly():
    assert resolve_feed_spec_mapping(object()) == {
        "timestamp_col": "timestamp",
        "entity_col": "asset",
        "price_col": "close",
        "open_col": "open",
        "high_col": "high",
        "low_col": "low",
        "close_col": "close",
        "volume_col": "volume",
    }


def test_what_specs_refuse_is_refused():
    with pytest.raises(ValueError, match="calendar"):
        resolve_feed_spec_mapping(None, schema={"calendar": " ", "time_contract_version": 2})
    with pytest.raises(ValueError, match="yesterday"):
        resolve_feed_spec_mapping(None, schema={"timestamp_semantics": "yesterday"})
