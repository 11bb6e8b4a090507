"""Long frames into batches: laws, forms of frames, refusals in the contract's words."""

from __future__ import annotations

import datetime as dt
import re
import time
import zoneinfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.long_frames import FORMS, long_frames, regular
from ml4t.models.integration import (
    Windows,
    cross_section_batch_from_long_frame,
    persistent_panel_batch_from_long_frame,
    portfolio_sequence_batch_from_long_frame,
    resolve_dataset_schema,
)
from ml4t.models.types.timestamp import Timestamp
from oracles import long_frame as oracle

NEW_YORK = zoneinfo.ZoneInfo("America/New_York")


def cross_section(frame, **options):
    options = {"feature_cols": ["x", "y"], "return_col": "r", **options}
    return cross_section_batch_from_long_frame(frame, **options)


# --- laws


@given(long_frames(), st.sampled_from(sorted(FORMS)))
def test_agrees_with_the_slow_twin_in_every_form(frame, form):
    columns = frame.to_dict(as_series=False)
    # The twin orders by instants, which == on zoned datetimes of one zone does not.
    columns["date"] = frame["date"].to_physical().to_list()
    dates, ids, values, mask = oracle.panel(columns, "date", "ticker", ["x", "y", "r"])
    batch = cross_section(FORMS[form](frame))
    assert batch.asset_ids == tuple(ids)
    assert len(batch.timestamps) == len(dates)
    np.testing.assert_array_equal(batch.characteristics, values[:, :, :2])
    np.testing.assert_array_equal(batch.returns, values[:, :, 2])
    np.testing.assert_array_equal(batch.mask, mask)
    assert batch.metadata["timestamp_col"] == "date"
    assert batch.metadata["entity_col"] == "ticker"


@given(long_frames(), st.randoms(use_true_random=False))
def test_row_order_does_not_matter(frame, random):
    order = list(range(frame.height))
    random.shuffle(order)
    assert cross_section(frame[order]) == cross_section(frame)


@given(long_frames())
def test_panel_and_cross_section_hold_the_same_numbers(frame):
    panel = persistent_panel_batch_from_long_frame(frame, feature_cols=["x", "y"], return_col="r")
    batch = cross_section(frame)
    np.testing.assert_array_equal(panel.returns, batch.returns)
    np.testing.assert_array_equal(panel.characteristics, batch.characteristics)
    assert panel.timestamps == batch.timestamps
    assert panel.asset_ids == batch.asset_ids


def test_an_asset_that_enters_later_comes_later():
    frame = {"date": [1, 2, 2, 1], "asset": ["z", "a", "z", "m"], "x": [1.0, 2.0, 3.0, 4.0]}
    batch = cross_section_batch_from_long_frame(frame, feature_cols=["x"])
    assert batch.asset_ids == ("m", "z", "a")
    assert batch.timestamps == (1, 2)


def test_integer_entities_are_ordered_by_their_text():
    frame = {"date": [1, 1, 1], "asset": [10, 9, 100], "x": [1.0, 2.0, 3.0]}
    assert cross_section_batch_from_long_frame(frame, feature_cols=["x"]).asset_ids == (
        "10",
        "100",
        "9",
    )


def test_mask_is_true_where_a_row_exists_even_without_values():
    frame = {"date": [1, 1, 2], "asset": ["a", "b", "a"], "x": [None, 1.0, 2.0]}
    batch = cross_section_batch_from_long_frame(frame, feature_cols=["x"])
    assert batch.mask.tolist() == [[True, True], [True, False]]
    assert np.isnan(batch.characteristics[0, 0, 0])


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf"), "nan", pd.NA, pd.NaT])
def test_what_is_not_a_finite_number_is_nan(bad):
    frame = {"date": [1, 2], "asset": ["a", "a"], "x": [bad, 2.5]}
    batch = cross_section_batch_from_long_frame(frame, feature_cols=["x"])
    np.testing.assert_array_equal(batch.characteristics[:, 0, 0], [np.nan, 2.5])


UNREADABLE = ["1,234.5", "1.5%", "a", "", b"1", dt.date(2024, 1, 1), dt.timedelta(1), [], 1j]


@pytest.mark.parametrize("role", ["feature_cols", "return_col", "context_cols"])
@pytest.mark.parametrize("bad", [*UNREADABLE, np.datetime64(1, "D"), np.timedelta64(1, "D")])
def test_cells_that_hold_no_number_are_counted_and_shown(role, bad):
    frame = {"date": [1, 2, 3, 4], "asset": ["a"] * 4, "x": [bad, "2.5", 1, bad], "y": [0.0] * 4}
    roles = {"feature_cols": ["y"], role: "x" if role == "return_col" else ["x"]}
    with pytest.warns(
        UserWarning, match=r"'x' must hold numbers; 2 of 4 cells do not: .* at row 0"
    ):
        batch = cross_section_batch_from_long_frame(frame, **roles)
    values = {
        "feature_cols": batch.characteristics,
        "return_col": batch.returns,
        "context_cols": batch.context_features,
    }[role]
    np.testing.assert_array_equal(values.reshape(-1), [np.nan, 2.5, 1.0, np.nan])


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize(
    "column",
    [
        pl.Series(["1,234.5", "1.5%"]),
        pl.Series(["q", None]),
        pl.Series(["q", "z"], dtype=pl.Categorical),
        pl.Series([dt.date(2024, 1, 1)] * 2),
        pl.Series([dt.datetime(2024, 1, 1)] * 2),
        pl.Series([dt.timedelta(1)] * 2),
        pl.Series([dt.time(1)] * 2),
        pl.Series([[1.0], [2.0]]),
    ],
    ids=lambda column: str(column.dtype).split("(")[0],
)
def test_a_column_without_numbers_is_rejected_by_name(form, column):
    frame = FORMS[form](pl.DataFrame({"date": [1, 2], "asset": ["a", "a"], "x": column}))
    with pytest.raises(ValueError, match=r"^column 'x' must hold numbers; "):
        cross_section_batch_from_long_frame(frame, feature_cols=["x"])
    with pytest.raises(ValueError, match=r"^column 'x' must hold numbers; "):
        persistent_panel_batch_from_long_frame(frame, return_col="x")
    for role in ("return_col", "vol_scale_col", "cost_col"):
        with pytest.raises(ValueError, match=r"^column 'x' must hold numbers; "):
            portfolio_sequence_batch_from_long_frame(frame, feature_cols=(), **{role: "x"})


@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_column_of_missing_values_is_nan_whatever_its_type(form):
    missing = pl.Series([None, None], dtype=pl.String)
    frame = FORMS[form](pl.DataFrame({"date": [1, 2], "asset": ["a", "a"], "x": missing}))
    batch = cross_section_batch_from_long_frame(frame, feature_cols=["x"])
    assert np.isnan(batch.characteristics).all()


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("second", [2**53 + 3, None])
@pytest.mark.parametrize("dtype", [pl.Int64, pl.UInt64])
def test_integers_beyond_2_to_the_53_are_the_nearest_floats_and_exact_keys(form, second, dtype):
    frame = pl.DataFrame(
        {
            "date": pl.Series([2**53 + 1, 2**53 + 2], dtype=dtype),
            "asset": pl.Series([2**62 + 1] * 2, dtype=dtype),
            "x": pl.Series([2**53 + 1, second], dtype=dtype),
        }
    )
    batch = cross_section_batch_from_long_frame(FORMS[form](frame), feature_cols=["x"])
    assert batch.timestamps == (2**53 + 1, 2**53 + 2)
    assert batch.asset_ids == (str(2**62 + 1),)
    want = [2.0**53, np.nan if second is None else 2.0**53 + 4]
    np.testing.assert_array_equal(batch.characteristics[:, 0, 0], want)


# Ids


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("dtype", [pl.Float64, pl.Float32])
def test_whole_floats_are_ids_in_digits(form, dtype):
    ids = pl.Series([10001.0, 10002.0, 10001.0], dtype=dtype)
    columns = {"date": [1, 1, 2], "permno": ids, "x": [1.0, 2.0, 3.0], "sector": ids}
    frame = FORMS[form](pl.DataFrame(columns))
    keys = {"feature_cols": ["x"], "entity_col": "permno"}
    batch = cross_section_batch_from_long_frame(frame, **keys)
    assert batch.asset_ids == ("10001", "10002")
    windows = portfolio_sequence_batch_from_long_frame(frame, group_col="sector", **keys)
    assert windows.asset_ids == ("10001", "10002")
    assert windows.group_ids.tolist() == [10001, 10002]


@pytest.mark.parametrize(
    "bad", [1.5, True, float("inf"), 2.0**53, dt.date(2024, 1, 1), (1,), b"a"], ids=repr
)
def test_ids_and_groups_that_are_neither_text_nor_integers_are_rejected(bad):
    columns = {"date": [1, 2], "asset": ["a", "a"], "g": ["a", bad], "x": [1.0, 2.0]}
    words = r"^column '{}' must hold text or integers.* got .* at row 1$"
    with pytest.raises(ValueError, match=words.format("g")):
        portfolio_sequence_batch_from_long_frame(columns, feature_cols=["x"], group_col="g")
    with pytest.raises(ValueError, match=words.format("g")):
        cross_section_batch_from_long_frame(columns, feature_cols=["x"], entity_col="g")


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("values", [[1.0, 1.5], [True, False]])
def test_fractions_and_booleans_are_no_ids_in_any_form(form, values):
    frame = FORMS[form](pl.DataFrame({"date": [1, 1], "asset": values, "x": [1.0, 2.0]}))
    with pytest.raises(ValueError, match=r"^column 'asset' must hold text or integers.* got "):
        cross_section_batch_from_long_frame(frame, feature_cols=["x"])


@pytest.mark.parametrize("form", sorted(FORMS))
def test_an_id_that_is_nan_is_rejected_with_its_row(form):
    frame = pl.DataFrame({"date": [1, 1], "asset": [1.0, float("nan")], "x": [1.0, 2.0]})
    with pytest.raises(ValueError, match=r"^column 'asset' must name every row; .* at row 1$"):
        cross_section_batch_from_long_frame(FORMS[form](frame), feature_cols=["x"])


@pytest.mark.parametrize("values", [[True, 1], [1, True], [0.0, False]])
def test_a_boolean_is_not_taken_for_the_number_that_equals_it(values):
    frame = {"date": [1, 2], "asset": values, "x": [1.0, 2.0]}
    with pytest.raises(ValueError, match=r"^column 'asset' must hold text or integers.* got "):
        cross_section_batch_from_long_frame(frame, feature_cols=["x"])


def test_an_integer_and_the_same_whole_float_are_one_entity():
    frame = {"date": [1, 1], "asset": [7, "7"], "x": [1.0, 2.0]}
    with pytest.raises(ValueError, match=r"^Duplicate \(timestamp, entity\) rows"):
        cross_section_batch_from_long_frame(frame, feature_cols=["x"])


@pytest.mark.parametrize(
    "dtype", [pl.Int8, pl.UInt32, pl.Int64, pl.Boolean, pl.Decimal(10, 2), pl.Float32]
)
@pytest.mark.parametrize("form", sorted(FORMS))
def test_numbers_of_every_type_are_numbers(dtype, form):
    frame = pl.DataFrame(
        {"date": [1, 2, 3], "asset": ["a"] * 3, "x": pl.Series([1, 0, None]).cast(dtype)}
    )
    batch = cross_section_batch_from_long_frame(FORMS[form](frame), feature_cols=["x"])
    np.testing.assert_array_equal(batch.characteristics[:, 0, 0], [1.0, 0.0, np.nan])


def test_float32_stays_only_when_all_value_columns_are():
    frame = pl.DataFrame(regular()).with_columns(pl.col("x", "r").cast(pl.Float32))
    single = cross_section_batch_from_long_frame(frame, feature_cols=["x"], return_col="r")
    assert single.characteristics.dtype == single.returns.dtype == np.float32
    mixed = cross_section_batch_from_long_frame(frame, feature_cols=["x", "vix"], return_col="r")
    assert mixed.characteristics.dtype == mixed.returns.dtype == np.float64


@pytest.mark.parametrize(
    ("values", "read"),
    [
        (np.array([16777217, None], dtype=object), [16777217.0, np.nan]),
        (np.ma.array([1.0, 2.0], mask=[False, True]), [1.0, np.nan]),
    ],
    ids=["objects", "masked"],
)
def test_arrays_that_are_no_plain_floats_lose_nothing(values, read):
    frame = {"date": [1, 2], "asset": ["a", "a"], "x": values}
    got = cross_section_batch_from_long_frame(frame, feature_cols=["x"]).characteristics
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got[:, 0, 0], read)


def test_a_panel_without_value_columns_holds_labels_only():
    batch = persistent_panel_batch_from_long_frame(regular(2, 3))
    assert (batch.returns, batch.characteristics) == (None, None)
    assert (batch.n_periods, batch.n_assets) == (2, 3)


def test_metadata_is_the_callers_with_the_keys_on_top():
    given_ = {"source": "crsp", "timestamp_col": "overwritten"}
    batch = persistent_panel_batch_from_long_frame(regular(), metadata=given_)
    assert batch.metadata == {
        "source": "crsp",
        "timestamp_col": "timestamp",
        "entity_col": "asset",
    }
    assert given_["timestamp_col"] == "overwritten"


def test_a_lazy_frame_is_collected_once_with_the_columns_needed_only():
    observed = []

    def watch(frame: pl.DataFrame) -> pl.DataFrame:
        observed.append(frame.columns)
        return frame

    frame = pl.DataFrame(regular()).lazy()
    watched = frame.map_batches(watch, projection_pushdown=True, validate_output_schema=False)
    cross_section_batch_from_long_frame(watched, feature_cols=["x"], return_col="r")
    assert [sorted(columns) for columns in observed] == [["asset", "r", "timestamp", "x"]]


def test_inputs_are_not_changed():
    frame = {name: list(values) for name, values in regular().items()}
    cross_section_batch_from_long_frame(frame, feature_cols=["x"], return_col="r")
    assert frame == regular()


def test_time_is_linear_in_rows():
    def seconds(n_dates: int) -> float:
        frame = pl.DataFrame(
            {
                "date": np.repeat(np.arange(n_dates), 500),
                "asset": np.tile(np.arange(500).astype(str), n_dates),
                "x": np.zeros(500 * n_dates),
            }
        )
        best = np.inf
        for _ in range(3):
            start = time.perf_counter()
            cross_section_batch_from_long_frame(frame, feature_cols=["x"])
            best = min(best, time.perf_counter() - start)
        return best

    # Quadratic work would take 64 times as long.
    assert seconds(800) < 30 * seconds(100)


# --- timestamps


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("unit", ["ms", "ns"])
def test_units_and_zones_stay_on_the_labels(form, unit):
    column = pl.Series([0, 10**9]).cast(pl.Datetime(unit, "America/New_York"))
    frame = pl.DataFrame({"date": column, "asset": ["a", "a"]})
    first = persistent_panel_batch_from_long_frame(FORMS[form](frame)).timestamps[0]
    assert first == dt.datetime(1969, 12, 31, 19, tzinfo=NEW_YORK)
    assert str(first.tzinfo) == "America/New_York"
    # Python's datetime has no unit, so lists of them cannot tell it.
    assert form in ("mapping_of_lists", "object") or first.unit == unit


def test_labels_one_nanosecond_apart_are_two_dates():
    frame = pl.DataFrame({"date": pl.Series([1, 2]).cast(pl.Datetime("ns")), "asset": ["a", "a"]})
    one, two = persistent_panel_batch_from_long_frame(frame).timestamps
    assert (one.nanosecond, two.nanosecond) == (1, 2)
    assert one < two
    assert one != two
    assert str(two) == "1970-01-01 00:00:00.000000002"


def test_an_hour_that_clocks_pass_twice_is_two_timestamps():
    hours = [dt.datetime(2024, 11, 3, 1, 30, tzinfo=NEW_YORK, fold=fold) for fold in (1, 0)]
    for frame in (
        {"date": hours, "asset": ["a", "a"], "x": [2.0, 1.0]},
        pl.DataFrame({"date": hours, "asset": ["a", "a"], "x": [2.0, 1.0]}),
        pd.DataFrame({"date": hours, "asset": ["a", "a"], "x": [2.0, 1.0]}),
    ):
        batch = cross_section_batch_from_long_frame(frame, feature_cols=["x"])
        assert batch.characteristics[:, 0, 0].tolist() == [1.0, 2.0]
        assert [stamp.fold for stamp in batch.timestamps] == [0, 1]


@pytest.mark.parametrize(
    "column",
    [
        [dt.datetime(2024, 1, 1, tzinfo=NEW_YORK), dt.datetime(2024, 1, 2, tzinfo=dt.UTC)],
        [dt.datetime(2024, 1, 1, tzinfo=NEW_YORK), dt.datetime(2024, 1, 2)],
        [
            dt.datetime.fromisoformat("2024-01-01T00:00-05:00"),
            dt.datetime.fromisoformat("2024-07-01T00:00-04:00"),
        ],
    ],
)
def test_mixed_time_zones_are_rejected(column):
    frame = {"date": column, "asset": ["a", "a"]}
    with pytest.raises(ValueError, match=r"column 'date' must have one time zone; got mixed time"):
        persistent_panel_batch_from_long_frame(frame)
    with pytest.raises(ValueError, match=r"mixed time zones"):
        persistent_panel_batch_from_long_frame(pd.DataFrame(frame, dtype=object))


@pytest.mark.parametrize(
    ("array", "labels"),
    [
        (
            np.array(["2024-01-02", "2024-01-01"], "M8[D]"),
            (dt.date(2024, 1, 1), dt.date(2024, 1, 2)),
        ),
        (np.array([2, 1], np.int32), (1, 2)),
        (np.array(["2001-02", "2001-01"]), ("2001-01", "2001-02")),
        (np.array([2, 1], "M8[s]"), tuple(dt.datetime(1970, 1, 1, 0, 0, s) for s in (1, 2))),
        (
            np.array([2, 1], "M8[ns]"),
            tuple(Timestamp(1970, 1, 1, unit="ns", nanosecond=n) for n in (1, 2)),
        ),
    ],
)
def test_arrays_are_columns_too(array, labels):
    frame = {"date": array, "asset": np.array(["a", "a"]), "x": np.array([2.0, 1.0])}
    batch = cross_section_batch_from_long_frame(frame, feature_cols=["x"])
    assert batch.timestamps == labels
    assert batch.characteristics[:, 0, 0].tolist() == [1.0, 2.0]


def test_record_batches_and_arrays_of_arrow_are_frames_and_columns():
    columns = {
        "date": pa.array([dt.datetime(2024, 1, 2), dt.datetime(2024, 1, 1)], pa.timestamp("ns")),
        "asset": pa.array(["a", "a"]).dictionary_encode(),
        "x": pa.array([2, None], pa.int8()),
    }
    for frame in (columns, pa.RecordBatch.from_pydict(columns)):
        batch = cross_section_batch_from_long_frame(frame, feature_cols=["x"])
        assert batch.timestamps == tuple(Timestamp(2024, 1, day, unit="ns") for day in (1, 2))
        assert [label.unit for label in batch.timestamps] == ["ns", "ns"]
        assert batch.asset_ids == ("a",)
        np.testing.assert_array_equal(batch.characteristics[:, 0, 0], [np.nan, 2.0])


# --- context


def test_context_is_what_all_rows_of_a_date_share():
    frame = regular()
    frame["vix"][0] = None
    batch = cross_section_batch_from_long_frame(
        frame, feature_cols=["x"], context_cols=["vix", "r"][:1]
    )
    np.testing.assert_array_equal(batch.context_features, [[20.0], [21.0], [22.0], [23.0]])
    panel = persistent_panel_batch_from_long_frame(frame, return_col="r", context_cols=["vix"])
    np.testing.assert_array_equal(panel.context_features, batch.context_features)


def test_context_without_a_finite_value_is_nan():
    frame = {"date": [1, 2], "asset": ["a", "a"], "x": [0, 0], "vix": [float("inf"), 3]}
    batch = cross_section_batch_from_long_frame(frame, feature_cols=["x"], context_cols=["vix"])
    np.testing.assert_array_equal(batch.context_features, [[np.nan], [3.0]])


def test_context_may_differ_by_rounding_only_and_the_first_by_text_counts():
    frame = {"date": [1, 1], "asset": ["b", "a"], "x": [0, 0], "vix": [1.0 + 5e-13, 1.0]}
    batch = cross_section_batch_from_long_frame(frame, feature_cols=["x"], context_cols=["vix"])
    assert batch.context_features[0, 0] == 1.0
    frame["vix"][0] = 1.0 + 1e-11
    with pytest.raises(
        ValueError, match=r"'vix' must be constant within timestamp; got values from 1 to"
    ):
        cross_section_batch_from_long_frame(frame, feature_cols=["x"], context_cols=["vix"])


# --- refusals


@pytest.mark.parametrize("form", sorted(FORMS))
def test_duplicate_keys_are_rejected_with_their_rows(form):
    frame = pl.DataFrame({"date": [2, 1, 2], "asset": ["a", "a", "a"], "x": [1.0, 2.0, 3.0]})
    words = re.escape("Duplicate (timestamp, entity) rows: (2, 'a') at rows 0 and 2")
    with pytest.raises(ValueError, match=words):
        cross_section_batch_from_long_frame(FORMS[form](frame), feature_cols=["x"])


@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_missing_value_column_is_a_key_error(form):
    frame = FORMS[form](pl.DataFrame(regular()))
    with pytest.raises(KeyError, match="nowhere"):
        cross_section_batch_from_long_frame(frame, feature_cols=["x", "nowhere"])


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("key", ["timestamp", "asset"])
def test_a_missing_key_is_rejected_with_its_row(form, key):
    frame = pl.DataFrame(regular())
    hole = pl.when(pl.int_range(pl.len()) != 5).then(pl.col(key)).alias(key)
    words = f"column '{key}' must name every row; got a missing value at row 5"
    with pytest.raises(ValueError, match=words):
        persistent_panel_batch_from_long_frame(FORMS[form](frame.with_columns(hole)))


@pytest.mark.parametrize("frame", [3, "text", None, [1, 2], np.zeros((2, 2)), pl.Series([1])])
def test_what_is_not_a_frame_is_a_type_error(frame):
    with pytest.raises(TypeError, match="frame must be a mapping of columns"):
        persistent_panel_batch_from_long_frame(frame)


def test_timestamps_of_two_kinds_are_rejected():
    frame = {"date": [1, "x"], "asset": ["a", "a"]}
    with pytest.raises(ValueError, match="'date' must hold timestamps of one kind; got"):
        persistent_panel_batch_from_long_frame(frame)


def test_columns_of_two_lengths_are_rejected():
    with pytest.raises(ValueError, match="columns must have the same length"):
        persistent_panel_batch_from_long_frame({"date": [1, 2], "asset": ["a"]})


def test_a_column_name_in_place_of_a_list_of_them_is_rejected():
    with pytest.raises(TypeError, match="feature_cols must be a sequence of names"):
        cross_section_batch_from_long_frame(regular(), feature_cols="x")


@pytest.mark.parametrize("form", [one for one in sorted(FORMS) if one != "mapping_of_lists"])
def test_a_frame_without_rows_is_a_batch_without_dates(form):
    frame = pl.DataFrame(regular()).head(0)
    batch = cross_section_batch_from_long_frame(
        FORMS[form](frame), feature_cols=["x"], return_col="r", context_cols=["vix"]
    )
    assert batch.characteristics.shape == (0, 0, 1)
    assert batch.returns.shape == batch.mask.shape == (0, 0)
    assert batch.context_features.shape == (0, 1)


# --- schema


def test_priority_is_argument_then_schema_then_candidate():
    frame = {"date": [1], "time": [2], "asset": ["a"], "ticker": ["b"]}
    assert resolve_dataset_schema(frame).metadata == {
        "timestamp_col": "date",
        "entity_col": "asset",
    }
    schema = {"timestamp_col": "time", "symbol": "ticker"}
    got = resolve_dataset_schema(frame, schema=schema)
    assert (got.timestamp_col, got.entity_col) == ("time", "ticker")
    got = resolve_dataset_schema(frame, schema=schema, timestamp_col="date", entity_col="asset")
    assert (got.timestamp_col, got.entity_col) == ("date", "asset")


class Told:
    """A schema as an object."""

    def __init__(self, **fields):
        self.__dict__.update(fields)


@pytest.mark.parametrize(
    "schema",
    [
        {"time_col": "t", "group_col": "e"},
        {"datetime_col": "t", "ticker_col": "e"},
        {"date_col": "t", "symbol_col": "e"},
        {"timestamp": "t", "asset": "e"},
        {"timestamp_col": "t", "entity_col": ["e"]},
        Told(timestamp_col="t", entity_col="e"),
        {"timestamp_col": "x", "schema": {"timestamp_col": "t", "ticker": "e"}},
        Told(asset_col="x", timestamp_col="t", schema=Told(asset_col="e")),
        {"timestamp_col": "x", "metadata": {"timestamp_col": "t", "entity_col": "e"}},
        Told(metadata=Told(schema={"timestamp_col": "t", "entity_col": "e"})),
        {"metadata": None, "timestamp_col": "t", "entity_col": "e"},
    ],
)
def test_schemas_of_every_shape_are_read(schema):
    got = resolve_dataset_schema({"date": [], "asset": [], "t": [], "e": []}, schema=schema)
    assert (got.timestamp_col, got.entity_col) == ("t", "e")


@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        (["asset"], {}, "Could not resolve a timestamp"),
        (["date"], {}, "Could not resolve an entity"),
        (["date", "asset"], {"timestamp_col": "missing"}, "timestamp column 'missing' .*not found"),
        (
            ["date", "asset"],
            {"schema": {"ticker": "missing"}},
            "entity column 'missing' .*not found",
        ),
        (["date", "asset"], {"entity_col": "date"}, "must be two columns"),
    ],
)
def test_missing_keys_are_rejected(columns, options, words):
    with pytest.raises(ValueError, match=words):
        resolve_dataset_schema({name: [] for name in columns}, **options)


# --- portfolio windows


def portfolio(frame, **options):
    return portfolio_sequence_batch_from_long_frame(
        frame, feature_cols=["x", "vix"], return_col="r", **options
    )


def test_one_window_holds_all_dates():
    batch = portfolio(regular(5, 3), vol_scale_col="vix")
    assert batch.features.shape == (1, 5, 3, 2)
    assert batch.vol_scale[0, :, 0].tolist() == [20.0, 21.0, 22.0, 23.0, 24.0]
    assert batch.timestamps == tuple(dt.date(2024, 1, day) for day in range(1, 6))


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5))
def test_windows_are_slices_of_the_panel_and_the_last_ends_at_the_last_date(n_dates, length, step):
    frame = regular(n_dates, 2)
    if length > n_dates:
        with pytest.raises(ValueError, match=f"windows of length {length} need as many dates"):
            portfolio(frame, windows=(length, step))
        return
    panel = portfolio(frame)
    batch = portfolio(frame, windows=Windows(length, step))
    starts = sorted(range(n_dates - length, -1, -step))
    assert batch.batch_size == len(starts)
    for window, start in enumerate(starts):
        stop = start + length
        np.testing.assert_array_equal(batch.features[window], panel.features[0, start:stop])
        np.testing.assert_array_equal(batch.returns[window], panel.returns[0, start:stop])
        np.testing.assert_array_equal(batch.mask[window], panel.mask[0, start:stop])
        dates = batch.metadata["window_timestamps"][window] if len(starts) > 1 else batch.timestamps
        assert dates == panel.timestamps[start:stop]


def test_overlapping_windows_share_memory():
    batch = portfolio(regular(40, 3), windows=(20, 1))
    assert np.shares_memory(batch.features[0], batch.features[1])


def test_groups_are_numbered_by_their_text_and_alike_in_another_frame():
    batch = portfolio(regular(), group_col="sector", cost_col="cost")
    assert batch.group_ids.tolist() == [0, 1, 0]
    assert batch.metadata["group_labels"] == ("energy", "tech")
    np.testing.assert_allclose(batch.costs[:, 0], [0.001, 0.002, 0.003], rtol=1e-15)
    later = regular()
    later["sector"] = ["tech"] * len(later["sector"])
    again = portfolio(later, group_col="sector", metadata=batch.metadata)
    assert again.group_ids.tolist() == [1, 1, 1]
    later["sector"] = ["mining"] * len(later["sector"])
    with pytest.raises(ValueError, match=r"groups \['mining'\] that group_labels does not list"):
        portfolio(later, group_col="sector", metadata=batch.metadata)


def test_integer_groups_stay_as_they_are():
    frame = regular()
    frame["sector"] = [int(asset[1:]) * 7 for asset in frame["asset"]]
    assert portfolio(frame, group_col="sector").group_ids.tolist() == [0, 7, 14]


@pytest.mark.parametrize("column", ["group_col", "cost_col"])
def test_a_group_or_cost_that_changes_within_an_asset_is_rejected(column):
    with pytest.raises(ValueError, match="must be constant within entity"):
        portfolio(regular(), **{column: "x"})


def test_an_asset_without_a_cost_is_rejected():
    frame = regular()
    frame["cost"] = [None if asset == "a1" else 0.1 for asset in frame["asset"]]
    with pytest.raises(ValueError, match="'cost' must give every asset a cost; got none for 'a1'"):
        portfolio(frame, cost_col="cost")
