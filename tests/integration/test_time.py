"""Every reader puts dates in order of time, and every frame hands them on."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ml4t.models import (
    CharacteristicMoments,
    LinearFeaturePortfolioModel,
    LinearPortfolioConfig,
    PersistentPanelBatch,
    PortfolioAllocationPipeline,
    WalkForward,
    WeightConstraintPostprocessor,
    backtest_datafeed_inputs,
    backtest_inputs_from_weights,
    cross_section_batch_from_long_frame,
    persistent_panel_batch_from_long_frame,
    portfolio_sequence_batch_from_long_frame,
    predictions_frame_from_asset_forecast,
    predictions_frame_from_checkpoints,
    weights_frame_from_portfolio_weights,
)
from ml4t.models.types import AssetForecastResult
from ml4t.models.types.timestamp import Timestamp

ENDS = {
    "America/New_York": "2021-11-07 04:00",
    "Europe/Berlin": "2021-10-30 23:00",
    "Australia/Lord_Howe": "2021-04-03 13:00",
}
KEYS = {"timestamp_col": "date", "entity_col": "id"}


def instants(zone, freq):
    n = 60 if freq == "5min" else 12
    return pd.date_range(ENDS[zone], periods=n, freq=freq, tz="UTC").tz_convert(zone)


def rows_of(dates):
    """Two assets at every date; the return counts dates, the rows come in no order."""
    n = len(dates)
    order = np.random.default_rng(0).permutation(2 * n)
    return pd.DataFrame(
        {
            "date": np.repeat(dates, 2),
            "id": ["a", "b"] * n,
            "ret": np.repeat(np.arange(float(n)), 2),
            "x": np.tile([0.25, 1.0], n),
        }
    ).iloc[order]


FORMS = {
    "pandas": lambda rows: rows,
    "pandas ns": lambda rows: rows.assign(date=rows["date"].dt.as_unit("ns")),
    "pandas s": lambda rows: rows.assign(date=rows["date"].dt.as_unit("s")),
    "polars": pl.from_pandas,
    "polars lazy": lambda rows: pl.from_pandas(rows).lazy(),
    "polars ns": lambda rows: pl.from_pandas(rows.assign(date=rows["date"].dt.as_unit("ns"))),
    "arrow": lambda rows: pa.Table.from_pandas(rows, preserve_index=False),
    "lists": lambda rows: {
        **{name: list(rows[name]) for name in rows},
        "date": [one.to_pydatetime() for one in rows["date"]],
    },
    "pandas objects": lambda rows: rows.assign(date=rows["date"].astype(object)),
}


@pytest.mark.parametrize("freq", ["5min", "30min", "1h"])
@pytest.mark.parametrize("zone", ENDS)
@pytest.mark.parametrize("form", FORMS)
def test_the_hour_that_clocks_pass_twice_is_read_in_order(form, zone, freq):
    dates = instants(zone, freq)
    frame = FORMS[form](rows_of(dates))
    panel = persistent_panel_batch_from_long_frame(frame, return_col="ret", **KEYS)
    assert panel.returns[:, 1].tolist() == list(range(len(dates)))
    utc = [label.astimezone(dt.UTC) for label in panel.timestamps]
    assert utc == [one.astimezone(dt.UTC) for one in dates]
    cross = cross_section_batch_from_long_frame(frame, feature_cols=["x"], return_col="ret", **KEYS)
    assert cross.returns[:, 0].tolist() == list(range(len(dates)))
    windows = portfolio_sequence_batch_from_long_frame(
        frame, feature_cols=["x"], return_col="ret", windows=(4, 4), **KEYS
    )
    assert windows.returns[:, :, 0].ravel().tolist() == list(range(len(dates)))
    if form.startswith("polars"):
        scanned = CharacteristicMoments.scan(
            frame, feature_cols=["x"], return_col="ret", timestamp_col="date"
        )
        assert scanned == CharacteristicMoments.from_batch(cross)


@pytest.mark.parametrize("zone", ENDS)
def test_the_hour_that_clocks_pass_twice_is_scanned_block_by_block(tmp_path, monkeypatch, zone):
    dates = instants(zone, "30min")
    frame = pl.from_pandas(rows_of(dates)).sort("date", "id")
    want = CharacteristicMoments.scan(
        frame, feature_cols=["x"], return_col="ret", timestamp_col="date", rank=True
    )
    assert want.n_assets.tolist() == [2] * len(dates)
    assert want.cross[:, 0].tolist() == [2.0 * t for t in range(len(dates))]
    monkeypatch.setattr("ml4t.models.moments.blocks.BLOCK_BYTES", 8 * 3 * 4)
    for at in range(0, frame.height, 3):  # files that end within dates
        frame.slice(at, 3).write_parquet(tmp_path / f"{at}.parquet")
    got = CharacteristicMoments.scan(
        tmp_path, feature_cols=["x"], return_col="ret", timestamp_col="date", rank=True
    )
    assert got == want


@pytest.mark.parametrize("zone", ENDS)
def test_frames_of_results_keep_both_passes_of_an_hour(zone):
    dates = instants(zone, "30min")
    panel = persistent_panel_batch_from_long_frame(rows_of(dates), return_col="ret", **KEYS)
    forecast = AssetForecastResult(
        panel.returns,
        timestamps=panel.timestamps,
        asset_ids=panel.asset_ids,
        metadata=panel.metadata,
    )
    prices = pl.from_pandas(rows_of(dates)).with_columns(
        pl.col("date").cast(pl.Datetime("ns", zone))
    )
    frame = predictions_frame_from_asset_forecast(forecast, outcomes=panel, prices=prices)
    joined = frame.to_polars().join(prices, on=["date", "id"], how="inner")
    assert joined.height == prices.height
    assert (joined["prediction_value"] == joined["ret"]).all()
    assert (joined["realized_return"] == joined["ret"]).all()
    shifted = replace(panel, timestamps=[one.replace(fold=0) for one in panel.timestamps])
    with pytest.raises(ValueError, match="outcomes must have the timestamps of the result"):
        predictions_frame_from_asset_forecast(forecast, outcomes=shifted)


WRONG = {
    "american": ["01/15/2020", "02/15/2020", "01/15/2021"],
    "german": ["15.01.2020", "15.02.2020", "15.01.2021"],
    "months by name": ["Jan 2020", "Feb 2020", "Jan 2021"],
    "short months": ["2020-1-15", "2020-2-15", "2020-10-15"],
    "two offsets": ["2020-07-15T00:00-04:00", "2020-01-15T00:00-05:00", "2020-02-15T00:00-05:00"],
    "two precisions": ["2020-01", "2020-01-15", "2020-02"],
}


def text_rows(texts):
    return pd.DataFrame(
        {"date": texts, "id": ["a"] * len(texts), "ret": np.arange(len(texts)) * 1.0, "x": 1.0}
    )


READERS = {
    "panel": lambda frame: persistent_panel_batch_from_long_frame(frame, return_col="ret", **KEYS),
    "cross-sections": lambda frame: cross_section_batch_from_long_frame(
        frame, feature_cols=["x"], return_col="ret", **KEYS
    ),
    "windows": lambda frame: portfolio_sequence_batch_from_long_frame(
        frame, feature_cols=["x"], return_col="ret", **KEYS
    ),
}
TEXT_FORMS = {
    "pandas": lambda rows: rows,
    "polars": pl.from_pandas,
    "arrow": lambda rows: pa.Table.from_pandas(rows, preserve_index=False),
    "lists": lambda rows: rows.to_dict("list"),
    "arrays": lambda rows: {name: np.array(list(rows[name])) for name in rows},
}


def scan(source):
    return CharacteristicMoments.scan(
        source, feature_cols=["x"], return_col="ret", timestamp_col="date"
    )


@pytest.mark.parametrize("texts", WRONG)
def test_text_that_does_not_sort_as_dates_is_rejected_by_every_reader(tmp_path, texts):
    rows = text_rows(WRONG[texts])
    message = r"column 'date' must hold timestamps (in ISO 8601|of one form).*at row \d.*pd.to_dat"
    for read in READERS.values():
        for form in TEXT_FORMS.values():
            with pytest.raises(ValueError, match=message):
                read(form(rows))
    frame = pl.from_pandas(rows)
    frame.write_parquet(tmp_path / "a.parquet")
    for source in (frame, frame.lazy(), tmp_path, pl.scan_parquet(tmp_path / "a.parquet")):
        with pytest.raises(ValueError, match=message):
            scan(source)


def test_folders_named_by_text_that_is_no_date_are_rejected(tmp_path):
    for day in ("2020-2-15", "2020-10-15"):
        (tmp_path / f"date={day}").mkdir()
        rows = pl.from_pandas(text_rows(["2020"])).drop("date")
        rows.write_parquet(tmp_path / f"date={day}" / "0.parquet")
    with pytest.raises(ValueError, match=r"'date' must hold timestamps in ISO 8601 .*'2020-2-15'"):
        scan(tmp_path)


MONTHS = ["Jan", "Feb", "Mar"]


@pytest.mark.parametrize(
    "declared",
    [
        lambda rows: rows.assign(date=pd.Categorical(rows["date"], MONTHS, ordered=True)),
        lambda rows: pl.from_pandas(rows).with_columns(pl.col("date").cast(pl.Enum(MONTHS))),
        lambda rows: (
            pl.from_pandas(rows).with_columns(pl.col("date").cast(pl.Enum(MONTHS))).to_arrow()
        ),
        lambda rows: {
            **rows.to_dict("list"),
            "date": pd.Categorical(rows["date"], MONTHS, ordered=True),
        },
    ],
    ids=["pandas", "polars", "arrow", "mapping"],
)
def test_ordered_categories_keep_their_declared_order(tmp_path, declared):
    frame = declared(text_rows(["Mar", "Jan", "Feb"]))
    for read in READERS.values():
        batch = read(frame)
        assert batch.timestamps == tuple(MONTHS)
        assert batch.returns.ravel().tolist() == [1.0, 2.0, 0.0]
    moments = CharacteristicMoments.from_batch(READERS["cross-sections"](frame))
    loaded = CharacteristicMoments.load(moments.save(tmp_path / "m"))
    assert loaded.slice(2) + loaded.slice(0, 2) == moments
    panel = READERS["panel"](frame)
    forecast = AssetForecastResult(panel.returns, timestamps=panel.timestamps)
    times = predictions_frame_from_asset_forecast(forecast).to_polars()["timestamp"]
    assert times.dtype == pl.Enum(MONTHS)
    assert times.to_list() == MONTHS
    if isinstance(frame, pl.DataFrame):
        assert scan(frame).timestamps == scan(frame.lazy()).timestamps == tuple(MONTHS)
        assert scan(frame).cross[:, 0].tolist() == [1.0, 2.0, 0.0]


@pytest.mark.parametrize("texts", [MONTHS, ["2020-01", "2020-02", "2020-03"]])
def test_categories_without_an_order_are_rejected_as_time(texts):
    rows = text_rows(texts)
    categorical = pl.from_pandas(rows).with_columns(pl.col("date").cast(pl.Categorical))
    message = "column 'date' must have an order in time; got categories without one: cast"
    for frame in (
        rows.assign(date=pd.Categorical(rows["date"])),
        categorical,
        categorical.to_arrow(),
        {**rows.to_dict("list"), "date": pd.Categorical(rows["date"])},
        {**rows.to_dict("list"), "date": pa.array(texts).dictionary_encode()},
    ):
        for read in READERS.values():
            with pytest.raises(ValueError, match=message):
                read(frame)
    for source in (categorical, categorical.lazy()):
        with pytest.raises(ValueError, match=message):
            scan(source)


def test_ordered_categories_that_are_dates_stay_dates():
    days = [dt.date(2020, 1, 2), dt.date(2020, 1, 3)]
    rows = pd.DataFrame({"date": pd.Categorical(days[::-1], days, ordered=True), "id": "a"})
    assert persistent_panel_batch_from_long_frame(rows, **KEYS).timestamps == tuple(days)


def test_nanoseconds_are_scanned_as_they_are_read(tmp_path):
    frame = pl.from_pandas(text_rows(["2020"] * 3)).with_columns(
        date=pl.Series([3, 1, 2]).cast(pl.Datetime("ns", "UTC"))
    )
    got = scan(frame)
    assert [label.nanosecond for label in got.timestamps] == [1, 2, 3]
    assert all(isinstance(label, Timestamp) for label in got.timestamps)
    want = CharacteristicMoments.from_batch(READERS["cross-sections"](frame))
    assert got == want
    assert CharacteristicMoments.load(got.save(tmp_path / "m")) == want


DAYS = tuple(one.date() for one in pd.bdate_range("2020-01-01", periods=12))


def windows(cut=(6, 6)):
    frame = pl.DataFrame(
        {
            "timestamp": np.repeat(np.array(DAYS, "M8[D]"), 3),
            "asset": ["a", "b", "c"] * 12,
            "f": np.random.default_rng(0).standard_normal(36),
            "ret": np.random.default_rng(1).standard_normal(36),
        }
    )
    return portfolio_sequence_batch_from_long_frame(
        frame, feature_cols=["f"], return_col="ret", windows=cut
    )


def linear():
    return LinearFeaturePortfolioModel(LinearPortfolioConfig())


def dates_of(frame):
    return frame.to_polars()["timestamp"].unique(maintain_order=True).to_list()


def test_weights_of_several_windows_keep_their_dates():
    batch = windows()
    model = linear()
    model.fit(batch)
    weights = model.predict(batch)
    assert weights.metadata["window_timestamps"] == batch.metadata["window_timestamps"]
    assert dates_of(weights_frame_from_portfolio_weights(weights)) == list(DAYS)
    prices = pl.DataFrame({"timestamp": DAYS, "asset": ["a"] * 12, "close": np.ones(12)})
    signals = backtest_inputs_from_weights(weights, prices_frame=prices).signals.to_polars()
    assert prices.join(signals, on=["timestamp", "asset"]).height == 12
    pipeline = PortfolioAllocationPipeline(
        linear(), postprocessors=[WeightConstraintPostprocessor(turnover_limit=0.5)]
    )
    pipeline.fit(batch)
    processed = pipeline.predict(batch).processed_weights
    assert dates_of(weights_frame_from_portfolio_weights(processed)) == list(DAYS)
    assert dates_of(weights_frame_from_portfolio_weights(weights[2:4])) == [*DAYS[2:4], *DAYS[8:10]]
    assert type(weights).concatenate([weights[:2], weights[2:]]) == weights


def test_windows_of_other_dates_are_no_match():
    batch, model = windows(), linear()
    model.fit(batch)
    weights, early = model.predict(batch), model.predict(windows((6, 5)))
    with pytest.raises(ValueError, match="weights must have the window_timestamps of the batch"):
        WeightConstraintPostprocessor().transform(windows((6, 5)), weights)
    assert early.metadata["window_timestamps"][0] == DAYS[1:7]
    with pytest.raises(ValueError, match="must hold the dates of 1 windows of 6 dates; got 2 of"):
        weights_frame_from_portfolio_weights(replace(weights, weights=weights.weights[:1]))
    cut = replace(batch, features=batch.features[:1], returns=None, mask=None)
    with pytest.warns(UserWarning, match="the weights have no dates: .* cut it as the windows"):
        assert "window_timestamps" not in model.predict(cut).metadata


def test_a_walk_through_several_windows_keeps_their_dates():
    walk = WalkForward(linear(), min_periods=3, refit_every=2)
    frame = walk.run(windows()).frame()
    assert dates_of(frame) == [*DAYS[3:6], *DAYS[9:12]]
    batch = windows()
    dates = batch.metadata["window_timestamps"]
    back = replace(batch, metadata={"window_timestamps": (dates[0], dates[1][::-1])})
    with pytest.raises(ValueError, match=r"timestamps of window 1 must ascend; got .* at date 1"):
        walk.run(back)
    with pytest.raises(ValueError, match=r"timestamps of window 1 must ascend; got .* at date 1"):
        linear().fit(back)


def test_outcomes_of_other_windows_are_rejected():
    batch, model = windows(), linear()
    model.fit(batch)
    rows = [(0, 1, model.predict(batch))]
    frame = predictions_frame_from_checkpoints(rows, outcomes=batch)
    assert frame.to_polars()["realized_return"].to_list() == batch.returns.ravel().tolist()
    with pytest.raises(ValueError, match="outcomes must have the timestamps of the result"):
        predictions_frame_from_checkpoints(rows, outcomes=windows((6, 5)))


def test_keys_are_restated_in_the_unit_of_the_prices():
    stamps = tuple(
        dt.datetime(2021, 11, 7, 1, 30, tzinfo=ZoneInfo("America/New_York"), fold=f) for f in (0, 1)
    )
    batch = PersistentPanelBatch(np.ones((2, 1)), timestamps=stamps, asset_ids=("a",))
    forecast = AssetForecastResult(batch.returns, timestamps=stamps, asset_ids=("a",))
    plain = predictions_frame_from_asset_forecast(forecast)
    prices = pl.DataFrame(
        {
            "timestamp": pl.Series(stamps).dt.cast_time_unit("ns"),
            "asset": ["a", "a"],
            "close": [1.0, 2.0],
        }
    )
    signals = backtest_datafeed_inputs(prices_frame=prices, signals=plain).signals.to_polars()
    assert signals["timestamp"].dtype == prices["timestamp"].dtype
    assert prices.join(signals, on=["timestamp", "asset"]).height == 2
