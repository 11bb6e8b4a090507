"""Results into frames: columns, rows, types, nothing lost on the way round."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.long_frames import FORMS, UNITS, ZONES, long_frames, regular
from ml4t.models.integration import (
    ContextFrame,
    PredictionsFrame,
    ResultsFrame,
    SignalsFrame,
    WeightsFrame,
    context_frame_from_weights,
    cross_section_batch_from_long_frame,
    persistent_panel_batch_from_long_frame,
    portfolio_sequence_batch_from_long_frame,
    predictions_frame_from_asset_forecast,
    predictions_frame_from_asset_signal,
    predictions_frame_from_checkpoints,
    signals_frame_from_asset_weights,
    signals_frame_from_portfolio_weights,
    surfaces,
    weights_frame_from_asset_weights,
    weights_frame_from_portfolio_weights,
)
from ml4t.models.types import (
    AssetForecastResult,
    AssetSignalResult,
    AssetWeightsResult,
    LatentFactorState,
    PersistentPanelBatch,
    PortfolioPrediction,
    PortfolioWeightsResult,
    StochasticDiscountFactorState,
)
from ml4t.models.types.timestamp import Timestamp

VALUES = np.array([[0.5, np.nan], [-0.25, 0.0]])
DATES = (dt.date(2024, 1, 1), dt.date(2024, 1, 2))
ARROW = pa.array(DATES)
FORECAST = AssetForecastResult(VALUES, DATES, ("a", "b"), {"model": "m"})
WEIGHTS = AssetWeightsResult(VALUES, DATES, ("a", "b"), {"model": "m"})


# --- the frame itself


def test_a_frame_can_be_made_of_rows():
    frame = ResultsFrame(("a", "b"), ((1, "x"), (2, "y")), {"k": 1})
    assert frame.to_dicts() == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert frame.to_columnar() == {"a": [1, 2], "b": ["x", "y"]}
    assert frame.to_polars().equals(pl.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
    assert ResultsFrame(("a",), ()).metadata == {}


def test_rows_that_do_not_fit_are_rejected():
    with pytest.raises(ValueError, match="rows must have 2 values, one per column; row 1 has 1"):
        ResultsFrame(("a", "b"), ((1, 2), (1,)))
    with pytest.raises(ValueError, match="columns must be unique"):
        ResultsFrame(("a", "a"), ())


def test_rows_are_not_built_for_polars_or_parquet(tmp_path):
    frame = predictions_frame_from_asset_forecast(FORECAST)
    frame.to_polars()
    frame.write_parquet(tmp_path / "new" / "folder" / "x.parquet")
    assert "rows" not in vars(frame)
    assert frame.n_rows == 3
    assert "rows" not in vars(frame)
    assert len(frame.rows) == 3


def test_a_frame_is_frozen_and_can_be_copied_compared_and_pickled():
    frame = predictions_frame_from_asset_forecast(FORECAST)
    with pytest.raises(dataclasses.FrozenInstanceError):
        frame.columns = ()
    for same in (pickle.loads(pickle.dumps(frame)), copy.deepcopy(frame)):
        assert same == frame
        assert type(same) is PredictionsFrame
    moved = dataclasses.replace(frame, metadata={"k": 1})
    assert (moved.rows, moved.metadata) == (frame.rows, {"k": 1})
    with pytest.raises(AttributeError, match="has no attribute 'row'"):
        frame.row  # noqa: B018


def test_subclasses_write_through_the_base_class():
    for kind in (PredictionsFrame, SignalsFrame, WeightsFrame, ContextFrame):
        assert kind.to_polars is ResultsFrame.to_polars
        assert kind.write_parquet is ResultsFrame.write_parquet


def test_polars_is_imported_through_the_module(monkeypatch):
    def refuse(name, package=None):
        raise ImportError(name)

    frame = predictions_frame_from_asset_forecast(FORECAST)
    with monkeypatch.context() as patch:
        patch.setattr(surfaces, "import_module", refuse)
        with pytest.raises(ImportError, match=r"ml4t-models\[integration\]"):
            frame.to_polars()
    monkeypatch.setattr(surfaces.importlib, "import_module", refuse)
    with pytest.raises(ImportError, match=r"ml4t-models\[integration\]"):
        frame.write_parquet("never.parquet")


WITHOUT_POLARS = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "polars":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
import numpy as np
from ml4t.models import *
dates = np.array(["2024-01-01", "2024-01-02"], "M8[ns]")
frame = {"date": dates, "ticker": ["a", "a"], "x": [1.0, 2.0]}
batch = cross_section_batch_from_long_frame(frame, feature_cols=["x"], return_col="x")
result = AssetForecastResult(batch.returns, batch.timestamps, batch.asset_ids, batch.metadata)
made = predictions_frame_from_asset_forecast(result, outcomes=batch)
assert made.columns == ("date", "ticker", "prediction_value", "realized_return"), made.columns
assert made.rows[1][1:] == ("a", 2.0, 2.0)
for use in (made.to_polars, lambda: made.write_parquet("never.parquet")):
    try:
        use()
    except ImportError as error:
        assert "ml4t-models[integration]" in str(error)
    else:
        raise AssertionError("no ImportError")
"""


def test_without_polars_everything_works_but_writing():
    path = f"import sys; sys.path[:0] = {sys.path!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", path + WITHOUT_POLARS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# --- columns and rows


def test_predictions():
    frame = predictions_frame_from_asset_forecast(FORECAST, constants={"run": 7})
    assert type(frame) is PredictionsFrame
    assert frame.columns == ("timestamp", "asset", "prediction_value", "run")
    assert frame.rows == (
        (DATES[0], "a", 0.5, 7),
        (DATES[1], "a", -0.25, 7),
        (DATES[1], "b", 0.0, 7),
    )
    assert [type(value) for value in frame.rows[0]] == [dt.date, str, float, int]
    assert frame.metadata == {"frame_type": "prediction", "model": "m"}


def test_labels_that_are_missing_are_numbered():
    frame = predictions_frame_from_asset_signal(AssetSignalResult(np.ones((2, 1))))
    assert frame.rows == ((0, "asset_0", 1.0), (1, "asset_0", 1.0))


def test_result_metadata_may_override_the_frame_type():
    forecast = dataclasses.replace(FORECAST, metadata={"frame_type": "mine"})
    assert predictions_frame_from_asset_forecast(forecast).metadata == {"frame_type": "mine"}


def test_signals_and_weights():
    frame = signals_frame_from_asset_weights(WEIGHTS, selected_threshold=0.3)
    assert type(frame) is SignalsFrame
    assert frame.columns == ("timestamp", "asset", "signal_value", "selected")
    assert frame.rows[0][3] is True
    assert frame.rows[1][3] is False
    assert frame.metadata == {"frame_type": "signal", "model": "m"}
    weights = weights_frame_from_asset_weights(WEIGHTS, constants={"c": None})
    assert type(weights) is WeightsFrame
    assert weights.columns == ("timestamp", "asset", "weight", "selected", "c")
    assert weights.rows[2] == (DATES[1], "b", 0.0, False, None)
    assert weights.metadata["frame_type"] == "weight"


def test_several_windows_have_a_batch_id_and_rows_by_window_date_asset():
    book = np.arange(8.0).reshape(2, 2, 2)
    weights = PortfolioWeightsResult(book, 20, DATES, ("a", "b"))
    frame = weights_frame_from_portfolio_weights(weights)
    assert frame.columns == ("timestamp", "asset", "batch_id", "weight", "selected")
    assert [row[3] for row in frame.rows] == list(range(8))
    assert frame.rows[5] == (DATES[0], "b", 1, 5.0, True)
    assert type(frame.rows[5][2]) is int
    assert frame.metadata == {"frame_type": "weight", "checkpoint_step": 20}
    single = signals_frame_from_portfolio_weights(PortfolioWeightsResult(book[:1]))
    assert "batch_id" not in single.columns


def test_windows_cut_from_a_long_frame_keep_their_own_dates():
    batch = portfolio_sequence_batch_from_long_frame(
        regular(5, 2), feature_cols=["x"], return_col="r", windows=(2, 2)
    )
    weights = PortfolioWeightsResult(
        batch.returns, asset_ids=batch.asset_ids, metadata=batch.metadata
    )
    frame = weights_frame_from_portfolio_weights(weights).to_polars()
    days = [date.day for date in frame.filter(pl.col("asset") == "a0")["timestamp"]]
    assert days == [2, 3, 4, 5]
    assert "window_timestamps" not in weights_frame_from_portfolio_weights(weights).metadata


def test_context_is_wide_and_what_is_not_finite_is_zero():
    frame = context_frame_from_weights(WEIGHTS, prefix="weight_", constants={"c": 1})
    assert type(frame) is ContextFrame
    assert frame.columns == ("timestamp", "weight_a", "weight_b", "c")
    assert frame.rows == ((DATES[0], 0.5, 0.0, 1), (DATES[1], -0.25, 0.0, 1))
    assert frame.metadata == {"frame_type": "context", "model": "m"}


@pytest.mark.parametrize("n_windows", [0, 2])
def test_context_of_several_windows_is_rejected(n_windows):
    with pytest.raises(ValueError, match="requires a single portfolio-weight batch"):
        context_frame_from_weights(PortfolioWeightsResult(np.ones((n_windows, 1, 1))))


def test_a_result_of_another_family_is_rejected():
    with pytest.raises(TypeError, match="result must have expected_returns; got AssetWeights"):
        predictions_frame_from_asset_forecast(WEIGHTS)
    with pytest.raises(TypeError, match="result must have weights; got AssetForecastResult"):
        weights_frame_from_asset_weights(FORECAST)


def test_a_threshold_that_is_no_number_is_rejected():
    with pytest.raises(ValueError, match="selected_threshold must be a finite number; got nan"):
        signals_frame_from_asset_weights(WEIGHTS, selected_threshold=np.nan)


def test_a_constant_cannot_take_a_columns_name():
    with pytest.raises(ValueError, match="columns must be unique; got 'asset' twice"):
        predictions_frame_from_asset_forecast(FORECAST, constants={"asset": 1})


# --- outcomes


def test_outcomes_are_attached_and_null_where_missing():
    outcomes = np.array([[np.nan, 1.0], [0.1, np.inf]])
    frame = predictions_frame_from_asset_forecast(FORECAST, outcomes=outcomes, constants={"c": 1})
    assert frame.columns == ("timestamp", "asset", "prediction_value", "realized_return", "c")
    assert [row[3] for row in frame.rows] == [None, 0.1, None]
    assert frame.to_polars()["realized_return"].to_list() == [None, 0.1, None]


def test_outcomes_that_do_not_line_up_are_rejected():
    with pytest.raises(ValueError, match=r"outcomes must have shape \(2, 2\); got \(2, 3\)"):
        predictions_frame_from_asset_forecast(FORECAST, outcomes=np.ones((2, 3)))
    batch = cross_section_batch_from_long_frame(regular(2, 2), feature_cols=["x"], return_col="r")
    with pytest.raises(ValueError, match="outcomes must have the asset_ids of the result"):
        predictions_frame_from_asset_forecast(FORECAST, outcomes=batch)
    with pytest.raises(ValueError, match="outcomes must hold returns; the batch has none"):
        predictions_frame_from_asset_forecast(
            FORECAST, outcomes=dataclasses.replace(batch, returns=None)
        )


# --- the way round


@given(long_frames(), st.sampled_from(sorted(set(FORMS) - {"mapping_of_lists", "object"})))
def test_frame_to_batch_to_result_to_frame_loses_nothing(frame, form):
    batch = cross_section_batch_from_long_frame(
        FORMS[form](frame), feature_cols=["x"], return_col="r"
    )
    result = AssetForecastResult(batch.returns, batch.timestamps, batch.asset_ids, batch.metadata)
    made = predictions_frame_from_asset_forecast(result).to_polars()
    wanted = frame.filter(pl.col("r").is_finite()).select("date", "ticker", prediction_value="r")
    assert made.schema == wanted.schema
    key = [pl.col("date").to_physical(), pl.col("ticker").cast(pl.String)]
    assert made.sort(key).equals(wanted.sort(key))


@given(long_frames())
def test_a_slice_and_a_copy_of_the_labels_keep_unit_and_zone(frame):
    batch = cross_section_batch_from_long_frame(frame, feature_cols=["x"])
    last = pickle.loads(pickle.dumps([batch.timestamps[-1]]))
    result = AssetForecastResult(np.ones((1, 1)), last, ("a",))
    made = predictions_frame_from_asset_forecast(result).to_polars()["timestamp"]
    assert made.dtype == frame.schema["date"]
    assert made[0] == frame["date"].max()


@pytest.mark.parametrize("form", ["polars", "pandas", "pyarrow"])
def test_categorical_entities_stay_categorical(form):
    frame = pl.DataFrame(regular()).cast({"asset": pl.Categorical})
    batch = cross_section_batch_from_long_frame(
        FORMS[form](frame), feature_cols=["x"], return_col="r"
    )
    result = AssetForecastResult(batch.returns, batch.timestamps, batch.asset_ids, batch.metadata)
    made = predictions_frame_from_asset_forecast(result).to_polars()
    assert made.schema["asset"] == pl.Categorical


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("zone", ZONES)
def test_an_empty_result_keeps_its_schema(unit, zone):
    column = pl.Series([0]).cast(pl.Datetime(unit, zone))
    frame = pl.DataFrame({"timestamp": column, "asset": ["a"], "x": [1.0]})
    batch = cross_section_batch_from_long_frame(frame, feature_cols=["x"])
    nothing = AssetWeightsResult(np.full((1, 1), np.nan), batch.timestamps, batch.asset_ids)
    schema = {
        "timestamp": pl.Datetime(unit, zone),
        "asset": pl.String,
        "weight": pl.Float64,
        "selected": pl.Boolean,
        "run": pl.Int64,
    }
    made = weights_frame_from_asset_weights(nothing, constants={"run": 1})
    assert made.rows == ()
    assert made.to_polars().schema == schema
    # Without a single date, the batch's metadata remembers.
    batch = cross_section_batch_from_long_frame(frame.head(0), feature_cols=["x"], return_col="x")
    nothing = AssetWeightsResult(batch.returns, batch.timestamps, batch.asset_ids, batch.metadata)
    made = weights_frame_from_asset_weights(nothing, constants={"run": 1})
    assert made.to_polars().schema == schema


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        (np.array([1, 2], "M8[ns]"), pl.Datetime("ns")),
        (np.array([1, 2], "M8[D]"), pl.Date),
        (
            pd.date_range("2024", periods=2, tz="Asia/Tokyo", unit="ns"),
            pl.Datetime("ns", "Asia/Tokyo"),
        ),
        ([dt.datetime(2024, 1, 1, tzinfo=dt.UTC)] * 2, pl.Datetime("us", "UTC")),
        (["2024-01", "2024-02"], pl.String),
        ((202401, 202402), pl.Int64),
    ],
)
def test_labels_of_every_kind_are_typed(labels, dtype):
    result = AssetForecastResult(np.ones((2, 1)), labels)
    made = predictions_frame_from_asset_forecast(result).to_polars()
    assert made.schema["timestamp"] == dtype
    assert made["timestamp"].equals(pl.Series("timestamp", labels))
    rows = predictions_frame_from_asset_forecast(result).rows
    assert [row[0] for row in rows] == list(labels)


def test_labels_in_an_array_of_arrow_are_python_objects_in_rows():
    made = predictions_frame_from_asset_forecast(AssetForecastResult(np.ones((2, 1)), ARROW))
    assert [row[0] for row in made.rows] == list(DATES)
    assert made.to_polars().schema["timestamp"] == pl.Date


def test_labels_that_parquet_cannot_hold_are_rejected_by_column(tmp_path):
    months = pd.period_range("2024-01", periods=2, freq="M")
    made = predictions_frame_from_asset_forecast(AssetForecastResult(np.ones((2, 1)), months))
    with pytest.raises(ValueError, match=r"column 'timestamp' must hold what .* got Period"):
        made.write_parquet(tmp_path / "deep" / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_rows_given_as_python_objects_keep_zone_and_unit():
    stamp = Timestamp(2024, 1, 1, tzinfo=dt.UTC, unit="ns", nanosecond=7)
    frame = ResultsFrame(("timestamp", "n"), ((stamp, 1), (None, 2)))
    made = frame.to_polars()
    assert made.schema["timestamp"] == pl.Datetime("ns", "UTC")
    assert made["timestamp"].to_physical()[0] % 1000 == 7
    assert made["timestamp"][1] is None


# --- key columns


def test_enumerated_entities_and_short_integer_dates_keep_their_type():
    frame = pl.DataFrame(
        {"date": [20240101, 20240102], "asset": ["b", "a"], "r": [0.1, 0.2]},
        schema_overrides={"date": pl.Int32, "asset": pl.Enum(["b", "a"])},
    )
    batch = persistent_panel_batch_from_long_frame(frame, return_col="r")
    result = AssetForecastResult(
        batch.returns, batch.timestamps, batch.asset_ids, metadata=batch.metadata
    )
    made = predictions_frame_from_asset_forecast(result, prices=frame).to_polars()
    assert made.select("date", "asset").equals(frame.select("date", "asset"))
    assert made.schema["date"] == pl.Int32
    assert made.join(frame, on=["date", "asset"]).height == 2


def test_the_batchs_names_find_the_keys_of_prices_called_alike():
    frame = pl.DataFrame({"Date": [1], "Ticker": ["a"], "r": [0.1]})
    batch = persistent_panel_batch_from_long_frame(
        frame, return_col="r", timestamp_col="Date", entity_col="Ticker"
    )
    result = AssetForecastResult(
        batch.returns, batch.timestamps, batch.asset_ids, metadata=batch.metadata
    )
    made = predictions_frame_from_asset_forecast(result, prices=frame)
    assert made.columns == ("Date", "Ticker", "prediction_value")


def test_outcomes_of_other_dates_are_rejected():
    result = AssetForecastResult(np.ones((2, 1)), (1, 2), ("a",))
    other = PersistentPanelBatch(returns=np.ones((2, 1)), timestamps=(1, 3), asset_ids=("a",))
    with pytest.raises(ValueError, match="must have the timestamps of the result; got 3 for 2"):
        predictions_frame_from_asset_forecast(result, outcomes=other)


def test_keys_are_called_as_in_the_price_frame():
    prices = pl.DataFrame({"date": DATES, "ticker": ["a", "b"], "close": [1.0, 2.0]})
    for given_ in (prices, prices.lazy(), prices.to_pandas(), {"date": 1, "ticker": 2}):
        frame = predictions_frame_from_asset_forecast(FORECAST, prices=given_)
        assert frame.columns == ("date", "ticker", "prediction_value")
    spec = {"timestamp_col": "when", "entity_col": "who"}
    for frame in (
        predictions_frame_from_asset_forecast(FORECAST, feed_spec=spec),
        signals_frame_from_asset_weights(WEIGHTS, feed_spec=spec),
        weights_frame_from_asset_weights(WEIGHTS, feed_spec=spec),
    ):
        assert frame.columns[:2] == ("when", "who")
    assert context_frame_from_weights(WEIGHTS, feed_spec=spec).columns[0] == "when"


def test_keys_are_read_from_a_price_file(tmp_path):
    path = tmp_path / "prices.parquet"
    pl.DataFrame({"date": DATES, "symbol": [1, 2]}).write_parquet(path)
    forecast = AssetForecastResult(VALUES, DATES, ("1", "2"))
    frame = predictions_frame_from_asset_forecast(forecast, prices=path)
    assert frame.columns[:2] == ("date", "symbol")
    assert frame.to_polars().schema["symbol"] == pl.Int64


def test_integer_entities_of_the_price_frame_make_integers():
    prices = pl.DataFrame({"timestamp": DATES, "asset": pl.Series([10, 20], dtype=pl.UInt16)})
    forecast = AssetForecastResult(VALUES, DATES, ("10", "20"))
    frame = predictions_frame_from_asset_forecast(forecast, prices=prices)
    assert frame.rows[0][1] == 10
    assert frame.to_polars().schema["asset"] == pl.UInt16
    # Ids that are no integers stay text.
    assert predictions_frame_from_asset_forecast(FORECAST, prices=prices).rows[0][1] == "a"


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        ([dt.date(2024, 1, 1)], pl.Datetime("ns")),
        ([dt.datetime(2024, 1, 1)], pl.Date),
        ([dt.datetime(2024, 1, 1)], pl.Datetime("ms")),
        ([dt.datetime(2024, 1, 1, tzinfo=dt.UTC)], pl.Datetime("ns", "America/New_York")),
    ],
)
def test_labels_are_restated_in_the_price_frames_type(labels, dtype):
    prices = pl.DataFrame({"timestamp": pl.Series([], dtype=dtype), "asset": []})
    result = AssetForecastResult(np.ones((1, 1)), labels)
    made = predictions_frame_from_asset_forecast(result, prices=prices).to_polars()["timestamp"]
    assert made.dtype == dtype
    assert made.dt.timestamp("ms")[0] == 1_704_067_200_000


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        ([dt.datetime(2024, 1, 1)], pl.Datetime("us", "UTC")),  # no zone is ever invented
        ([dt.datetime(2024, 1, 1, 12)], pl.Date),  # noon is not a date
        ([Timestamp(2024, 1, 1, unit="ns", nanosecond=1)], pl.Datetime("us")),
        (["2024-01-01"], pl.Date),
    ],
)
def test_labels_that_would_change_their_meaning_stay(labels, dtype):
    prices = pl.DataFrame({"timestamp": pl.Series([], dtype=dtype), "asset": []})
    result = AssetForecastResult(np.ones((1, 1)), labels)
    frame = predictions_frame_from_asset_forecast(result, prices=prices)
    assert [row[0] for row in frame.rows] == labels


# --- checkpoints


class Ensemble:
    """A model with checkpoints: predicts its checkpoint's number."""

    available_checkpoints = (2, 4)

    def predict(self, batch, *, checkpoint=None):
        return AssetForecastResult(
            np.full(batch.returns.shape, float(checkpoint or 0)), batch.timestamps, batch.asset_ids
        )


def test_a_model_is_asked_for_every_checkpoint():
    batch = cross_section_batch_from_long_frame(regular(2, 2), feature_cols=["x"], return_col="r")
    frame = predictions_frame_from_checkpoints(
        Ensemble(), batch, fold=3, outcomes=batch, constants={"run": "a"}
    )
    assert frame.columns == (
        *("timestamp", "asset", "prediction_value", "realized_return"),
        *("fold", "checkpoint", "run"),
    )
    made = frame.to_polars()
    assert made["checkpoint"].to_list() == [2] * 4 + [4] * 4
    assert made["prediction_value"].to_list() == [2.0] * 4 + [4.0] * 4
    assert made["fold"].unique().to_list() == [3]
    assert made["realized_return"].to_list() == 2 * batch.returns.ravel().tolist()
    some = predictions_frame_from_checkpoints(Ensemble(), batch, checkpoints=[4])
    assert some.to_polars()["checkpoint"].unique().to_list() == [4]


def test_results_of_several_folds_with_their_own_dates_and_assets():
    early = StochasticDiscountFactorState(np.ones((1, 2)), None, None, DATES[:1], ("a", "b"))
    late = PortfolioPrediction(
        PortfolioWeightsResult(np.zeros((1, 1, 1))),
        PortfolioWeightsResult(np.full((1, 1, 1), 2.0), 1, DATES[1:], ("c",)),
    )
    frame = predictions_frame_from_checkpoints(
        [(0, ("conditional", 1024), early), ("test", 5, late)],
        outcomes={0: np.zeros((1, 2)), "test": np.ones((1, 1, 1))},
    )
    assert frame.rows == (
        (DATES[0], "a", 1.0, 0.0, "0", "conditional:1024"),
        (DATES[0], "b", 1.0, 0.0, "0", "conditional:1024"),
        (DATES[1], "c", 2.0, 1.0, "test", "5"),
    )
    assert frame.to_polars().rows() == list(frame.rows)


def test_a_model_without_checkpoints_is_asked_once():
    class Plain:
        def extract(self, batch):
            return AssetSignalResult(np.ones((1, 1)))

    frame = predictions_frame_from_checkpoints(Plain(), batch=object())
    assert frame.rows == ((0, "asset_0", 1.0, 0, None),)


def test_checkpoints_without_predictions_are_rejected():
    with pytest.raises(ValueError, match="results must hold at least one"):
        predictions_frame_from_checkpoints([])
    with pytest.raises(ValueError, match="batch must be given with a model"):
        predictions_frame_from_checkpoints(Ensemble())
    with pytest.raises(TypeError, match="factor models predict through a pipeline"):
        predictions_frame_from_checkpoints([(0, 1, LatentFactorState(np.ones((1, 1, 1))))])
    with pytest.raises(ValueError, match="results must give the same columns"):
        predictions_frame_from_checkpoints(
            [(0, 1, FORECAST), (0, 2, PortfolioWeightsResult(np.ones((2, 1, 1))))]
        )
