"""Batches and results: whose memory they hold, what they refuse, and in which words."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import inspect
import pickle
import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ml4t.models.types import (
    AssetForecastResult,
    AssetSignalResult,
    AssetWeightsResult,
    CrossSectionBatch,
    FactorForecastResult,
    LatentFactorPrediction,
    LatentFactorState,
    PersistentPanelBatch,
    PortfolioPrediction,
    PortfolioSequenceBatch,
    PortfolioWeightsResult,
    StochasticDiscountFactorState,
)

T, N, L, Q, K, B, F = 2, 3, 4, 5, 1, 6, 7
PANEL, WINDOWS = (T, N), (B, T, N)
LABELS = {"timestamps": (10, 20), "asset_ids": ("a", "b", "c")}

# Every array field with the shape it has when T, N, ... are as above; the first is required.
FLOATS = {
    PersistentPanelBatch: {
        "returns": PANEL,
        "characteristics": (T, N, L),
        "context_features": (T, Q),
    },
    CrossSectionBatch: {
        "characteristics": (T, N, L),
        "returns": PANEL,
        "factor_returns": PANEL,
        "context_features": (T, Q),
    },
    PortfolioSequenceBatch: {
        "features": (B, T, N, F),
        "returns": WINDOWS,
        "vol_scale": WINDOWS,
        "prev_weights": (B, N),
        "costs": (N, 1),
    },
    LatentFactorState: {
        "asset_betas": (T, N, K),
        "factor_returns": (T, K),
        "context_features": (T, Q),
    },
    FactorForecastResult: {"factor_premia": (T, K)},
    AssetForecastResult: {"expected_returns": PANEL},
    AssetSignalResult: {"signal_values": PANEL},
    AssetWeightsResult: {"weights": PANEL},
    StochasticDiscountFactorState: {"asset_weights": PANEL, "sdf_values": (T,)},
    PortfolioWeightsResult: {"weights": WINDOWS},
}
# All fields, in the order in which they may be given by position.
ORDER = {
    PersistentPanelBatch: "returns characteristics timestamps asset_ids metadata",
    CrossSectionBatch: "characteristics returns factor_returns context_features timestamps "
    "asset_ids mask metadata",
    PortfolioSequenceBatch: "features returns vol_scale prev_weights mask group_ids costs "
    "adjacency_mask timestamps asset_ids metadata",
    LatentFactorState: "asset_betas factor_returns checkpoint_epoch timestamps asset_ids metadata",
    FactorForecastResult: "factor_premia timestamps metadata",
    AssetForecastResult: "expected_returns timestamps asset_ids metadata",
    AssetSignalResult: "signal_values timestamps asset_ids metadata",
    AssetWeightsResult: "weights timestamps asset_ids metadata",
    StochasticDiscountFactorState: "asset_weights sdf_values checkpoint_epoch timestamps "
    "asset_ids metadata",
    PortfolioWeightsResult: "weights checkpoint_step timestamps asset_ids metadata",
    LatentFactorPrediction: "state factor_forecast asset_forecast",
    PortfolioPrediction: "raw_weights processed_weights",
}
# Fields that 0.1.x did not have; they come last.
NEW = {
    PersistentPanelBatch: "context_features feature_names context_names",
    CrossSectionBatch: "feature_names context_names",
    PortfolioSequenceBatch: "feature_names",
    LatentFactorState: "context_features context_names",
}
FIELDS = [(kind, name) for kind, shapes in FLOATS.items() for name in shapes]
each_kind = pytest.mark.parametrize("kind", FLOATS, ids=lambda kind: kind.__name__)
each_field = pytest.mark.parametrize(("kind", "name"), FIELDS)


def arrays_of(kind, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.random(shape).astype(dtype) for name, shape in FLOATS[kind].items()}


def labels_of(kind):
    return {name: labels for name, labels in LABELS.items() if name in ORDER[kind].split()}


def full(kind, seed=0):
    extra = {}
    if kind is CrossSectionBatch:
        extra = {"mask": np.ones(PANEL, dtype=bool)}
    if kind is PortfolioSequenceBatch:
        extra = {"group_ids": np.arange(N), "adjacency_mask": np.eye(N, dtype=bool)}
    return kind(**arrays_of(kind, seed=seed), **extra, **labels_of(kind), metadata={"k": [1]})


def build(kind, **changes):
    """Build with every array in its place, but for the changes."""
    return kind(**(arrays_of(kind) | changes))


# Memory


@each_kind
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_arrays_are_read_only_views_of_the_callers_memory(kind, dtype):
    arrays = arrays_of(kind, dtype)
    kept = kind(**arrays)
    for name, array in arrays.items():
        mine = getattr(kept, name)
        assert np.shares_memory(mine, array)
        assert mine.dtype == dtype
        assert array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            mine[...] = 0
        array[...] = 9
        assert (mine == 9).all()


def test_masks_and_groups_are_read_only_views_too():
    mask, groups, blocked = np.ones(WINDOWS, bool), np.arange(N), np.eye(N, dtype=bool)
    batch = build(PortfolioSequenceBatch, mask=mask, group_ids=groups, adjacency_mask=blocked)
    for mine, array in (
        (batch.mask, mask),
        (batch.group_ids, groups),
        (batch.adjacency_mask, blocked),
    ):
        assert np.shares_memory(mine, array)
        assert not mine.flags.writeable
        assert array.flags.writeable


@given(
    hnp.arrays(
        st.sampled_from([np.int8, np.uint16, np.int64, np.float16, np.bool_, ">f8", ">f4"]),
        PANEL,
        elements={"min_value": 0, "max_value": 1},
    )
)
def test_every_other_kind_of_number_becomes_float64(array):
    got = PersistentPanelBatch(returns=array).returns
    assert got.dtype == np.float64
    assert got.dtype.isnative
    np.testing.assert_array_equal(got, array)
    assert not np.shares_memory(got, array)


@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.floats()),
    st.sampled_from(["C", "F", "strided", "read-only", "list"]),
)
def test_layout_and_container_do_not_matter(array, layout):
    wide = np.repeat(array, 2, axis=1)
    given_array = {
        "C": array,
        "F": np.asfortranarray(array),
        "strided": wide[:, ::2],
        "read-only": PersistentPanelBatch(returns=array).returns,
        "list": array.tolist(),
    }[layout]
    got = PersistentPanelBatch(returns=given_array).returns
    np.testing.assert_array_equal(got, array)
    assert layout == "list" or np.shares_memory(got, given_array)


def test_masked_arrays_frames_and_missing_objects_arrive_as_nan():
    expected = np.array([[1.0, np.nan], [3.0, 4.0]])
    masked = np.ma.masked_array([[1, 7], [3, 4]], mask=[[0, 1], [0, 0]])
    frame = pd.DataFrame(expected)
    objects = [[1.0, None], [3, 4]]
    frames = (frame, frame.convert_dtypes(), pl.from_numpy(expected))
    for given_array in (masked, masked.astype(np.float32), *frames, objects):
        got = PersistentPanelBatch(returns=given_array).returns
        np.testing.assert_array_equal(got, expected)
    assert PersistentPanelBatch(returns=masked.astype(np.float32)).returns.dtype == np.float32


@each_field
@pytest.mark.parametrize(
    "fill", ["text", 1j, np.datetime64("2020-01-01"), object(), [1], pd.NA], ids=repr
)
def test_what_is_no_real_number_is_rejected_by_name(kind, name, fill):
    bad = np.empty(FLOATS[kind][name], dtype=object if not isinstance(fill, complex) else complex)
    bad.fill(fill)
    if isinstance(fill, (str, np.datetime64)):
        bad = np.full(FLOATS[kind][name], fill)
    with pytest.raises(ValueError, match=f"^{name} must hold real numbers"):
        build(kind, **{name: bad})


def test_a_tensor_that_numpy_cannot_view_is_rejected_by_name():
    class OnAnotherDevice:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("copy to the host first")

    with pytest.raises(ValueError, match="returns must be an array; copy to the host first"):
        PersistentPanelBatch(returns=OnAnotherDevice())


def test_a_ragged_list_is_rejected_by_name():
    with pytest.raises(ValueError, match=r"^returns must be an array"):
        PersistentPanelBatch(returns=[[1.0, 2.0], [3.0]])


# Frames as arrays: one row per date, one column per asset

DAYS = pd.date_range("2001-01-31", periods=T, freq="ME")
NUMBERS = np.arange(6.0).reshape(PANEL)
WIDE = {
    "pandas": pd.DataFrame,
    "pandas_arrow": lambda columns: pl.DataFrame(columns).to_pandas(
        use_pyarrow_extension_array=True
    ),
    "polars": pl.DataFrame,
    "arrow": pa.table,
}
# Fields whose axes are dates and assets, with what else the record needs.
PANELS = [
    (PersistentPanelBatch, "returns"),
    (CrossSectionBatch, "returns"),
    (CrossSectionBatch, "factor_returns"),
    (AssetForecastResult, "expected_returns"),
    (AssetSignalResult, "signal_values"),
    (AssetWeightsResult, "weights"),
    (StochasticDiscountFactorState, "asset_weights"),
]
TWO_AXES = [
    *PANELS,
    (PersistentPanelBatch, "context_features"),
    (CrossSectionBatch, "context_features"),
    (CrossSectionBatch, "mask"),
    (PortfolioSequenceBatch, "prev_weights"),
    (PortfolioSequenceBatch, "adjacency_mask"),
    (LatentFactorState, "factor_returns"),
    (LatentFactorState, "context_features"),
    (FactorForecastResult, "factor_premia"),
]


@pytest.mark.parametrize("form", sorted(WIDE))
@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (dt.date(2020, 1, 31), "date"),
        (dt.datetime(2020, 1, 31, tzinfo=dt.UTC), "date"),
        (dt.timedelta(1), "date"),
        ("1,234.5", "date"),
    ],
)
@pytest.mark.parametrize(("kind", "name"), TWO_AXES)
def test_a_column_of_a_frame_without_numbers_is_rejected_by_name(kind, name, form, value, seen):
    frame = WIDE[form]({seen: [value, value], "a": [0.1, 0.2]})
    with pytest.raises(ValueError, match=f"^{name} must hold real numbers; column '{seen}' holds "):
        build(kind, **{name: frame})


@pytest.mark.parametrize("form", sorted(WIDE))
@pytest.mark.parametrize("label", ["date", "Date", "timestamp"])
@pytest.mark.parametrize(("kind", "name"), PANELS)
def test_dates_as_integers_are_no_asset(kind, name, form, label):
    frame = WIDE[form]({label: [20200131, 20200229], "a": [0.1, 0.2], "b": [0.3, 0.4]})
    with pytest.raises(ValueError, match=f"^{name} must hold real numbers; column '{label}' "):
        build(kind, **{name: frame})


def test_the_cells_of_a_column_that_hold_no_number_are_counted():
    frame = pd.DataFrame({"a": [0.1, "x", None, "1.5%"]})
    words = r"column 'a' holds 'x' \(str\) at row 1; 2 such cells in all"
    with pytest.raises(ValueError, match=words):
        PersistentPanelBatch(returns=frame)


@pytest.mark.parametrize("dtype", ["f8", "f4", "mixed"])
@pytest.mark.parametrize("form", sorted(WIDE))
@pytest.mark.parametrize(("kind", "name"), PANELS)
def test_a_wide_frame_gives_its_numbers_and_its_columns_as_asset_ids(kind, name, form, dtype):
    columns = {
        one: NUMBERS[:, i].astype("i8" if dtype == "mixed" and i else dtype.replace("mixed", "f8"))
        for i, one in enumerate("abc")
    }
    record = build(kind, **{name: WIDE[form](columns)})
    np.testing.assert_array_equal(getattr(record, name), NUMBERS)
    assert getattr(record, name).dtype == (np.float32 if dtype == "f4" else np.float64)
    assert record.asset_ids == ("a", "b", "c")
    assert record.timestamps == ()


@pytest.mark.parametrize(("kind", "name"), PANELS)
def test_the_index_of_a_pandas_frame_names_the_dates(kind, name):
    frame = pd.DataFrame(NUMBERS, index=DAYS, columns=[10001.0, 10002.0, 10003.0])
    record = build(kind, **{name: frame})
    assert list(record.timestamps) == list(DAYS)
    assert record.asset_ids == ("10001", "10002", "10003")
    assert np.shares_memory(getattr(record, name), frame.to_numpy())


def test_an_index_names_dates_of_factors_and_context_too():
    context = pd.DataFrame(np.ones((T, Q)), index=DAYS)
    assert list(build(PersistentPanelBatch, context_features=context).timestamps) == list(DAYS)
    premia = pd.DataFrame(np.ones((T, K)), index=DAYS)
    assert list(FactorForecastResult(premia).timestamps) == list(DAYS)
    assert list(build(LatentFactorState, factor_returns=premia).timestamps) == list(DAYS)


@pytest.mark.parametrize(
    "frame", [pd.DataFrame(NUMBERS), pl.DataFrame(NUMBERS), pd.DataFrame(NUMBERS, index=[0, 1])]
)
def test_numbering_is_no_label(frame):
    batch = PersistentPanelBatch(returns=frame, asset_ids=("x", "y", "z"), timestamps=DAYS)
    assert batch.asset_ids == ("x", "y", "z")
    assert batch.timestamps is DAYS
    assert PersistentPanelBatch(returns=frame).asset_ids == ()


def test_labels_given_beside_a_frame_agree_with_its_own():
    frame = pd.DataFrame(NUMBERS, index=DAYS, columns=list("abc"))
    same = PersistentPanelBatch(
        frame, timestamps=[day.date() for day in DAYS], asset_ids=["a", "b", "c"]
    )
    assert same.timestamps == [dt.date(2001, 1, 31), dt.date(2001, 2, 28)]
    with pytest.raises(ValueError, match=r"same assets in the same order; position 0 differs"):
        PersistentPanelBatch(frame, asset_ids=list("cba"))
    with pytest.raises(ValueError, match=r"name the same dates; position 0 differs"):
        PersistentPanelBatch(frame, timestamps=DAYS + pd.Timedelta(1, "D"))


def test_frames_of_one_batch_agree_on_dates_and_assets():
    returns = pd.DataFrame(NUMBERS, index=DAYS, columns=list("abc"))
    late = pd.DataFrame(np.ones((T, Q)), index=DAYS + pd.Timedelta(1, "D"))
    with pytest.raises(ValueError, match=r"^returns and context_features must name the same dates"):
        PersistentPanelBatch(returns, context_features=late)
    with pytest.raises(ValueError, match=r"^returns and factor_returns must name the same assets"):
        build(CrossSectionBatch, returns=returns, factor_returns=returns[["c", "b", "a"]])


def test_a_frame_on_its_side_is_rejected():
    frame = pd.DataFrame(NUMBERS, index=DAYS, columns=list("abc")).T
    with pytest.raises(ValueError, match=r"^returns must have one column per asset"):
        PersistentPanelBatch(frame)
    stacked = pd.DataFrame(NUMBERS, index=pd.MultiIndex.from_product([["a"], DAYS]))
    with pytest.raises(ValueError, match=r"^returns must .* its index has 2 levels"):
        PersistentPanelBatch(stacked)
    with pytest.raises(
        ValueError, match=r"^returns must be an array; got a LazyFrame: collect\(\)"
    ):
        PersistentPanelBatch(pl.DataFrame(NUMBERS).lazy())


@each_field
@pytest.mark.parametrize(
    "fill", [np.datetime64("2020-01-01"), np.timedelta64(1, "D"), "1.5", b"1.5"], ids=repr
)
def test_objects_that_are_no_numbers_are_rejected_with_their_place(kind, name, fill):
    bad = np.zeros(FLOATS[kind][name], dtype=object)
    bad.flat[-1] = fill
    with pytest.raises(ValueError, match=f"^{name} must hold real numbers; got .* at "):
        build(kind, **{name: bad})


# The record as a value


@pytest.mark.parametrize("kind", ORDER, ids=lambda kind: kind.__name__)
def test_fields_stand_in_the_order_of_the_contract(kind):
    names = ORDER[kind].split() + NEW.get(kind, "").split()
    assert [f.name for f in dataclasses.fields(kind)] == names
    assert list(inspect.signature(kind).parameters) == names


@each_kind
def test_records_may_be_built_by_position(kind):
    one = full(kind)
    assert kind(*(getattr(one, f.name) for f in dataclasses.fields(kind))) == one


@each_kind
def test_records_are_frozen_and_slotted(kind):
    one = full(kind)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.metadata = {}
    assert not hasattr(one, "__dict__")


@each_kind
def test_metadata_is_fresh_per_instance_and_never_looked_at(kind):
    assert build(kind).metadata is not build(kind).metadata
    marker = object()
    assert build(kind, metadata=marker).metadata is marker


@each_kind
@pytest.mark.parametrize(
    "again",
    [lambda x: pickle.loads(pickle.dumps(x)), copy.copy, copy.deepcopy, dataclasses.replace],
    ids=["pickle", "copy", "deepcopy", "replace"],
)
def test_a_round_trip_gives_an_equal_read_only_record(kind, again):
    one = full(kind)
    other = again(one)
    assert other == one
    for name in FLOATS[kind]:
        assert getattr(other, name).dtype == getattr(one, name).dtype
        assert not getattr(other, name).flags.writeable


def test_replace_checks_what_it_builds():
    with pytest.raises(ValueError, match="timestamps length mismatch: expected 2, got 1"):
        dataclasses.replace(full(PersistentPanelBatch), timestamps=(1,))


@each_kind
def test_equality_is_by_value_and_never_raises(kind):
    one = full(kind)
    assert one == full(kind)
    assert one != full(kind, seed=1)
    assert one != dataclasses.replace(one, metadata={"k": [2]})
    assert one != dataclasses.replace(one, timestamps=())
    assert one != "something else"
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)


@given(hnp.arrays(np.float64, PANEL, elements=st.floats()))
def test_nan_equals_nan_in_the_same_place(array):
    assert PersistentPanelBatch(array) == PersistentPanelBatch(array.copy())
    moved = np.isnan(array) | (array == 0)
    if not np.isnan(array).all():
        assert PersistentPanelBatch(array) != PersistentPanelBatch(np.where(moved, 1.0, np.nan))


def test_precision_and_kind_of_record_are_part_of_the_value():
    returns = np.zeros(PANEL)
    assert PersistentPanelBatch(returns) != PersistentPanelBatch(returns.astype(np.float32))
    assert AssetSignalResult(returns) != AssetWeightsResult(returns)


@pytest.mark.parametrize(
    "labels",
    [
        lambda: np.array(["2020-01-31", "NaT"], dtype="datetime64[D]"),
        lambda: pd.DatetimeIndex(["2020-01-31", "2020-02-29"], tz="Europe/Vienna"),
        lambda: pl.Series([1, 2]),
        lambda: ["x", float("nan")],
        lambda: np.array([pd.Timestamp("2020-01-31"), None], dtype=object),
    ],
    ids=["datetime64", "pandas", "polars", "list", "object"],
)
def test_records_with_any_labels_can_be_compared(labels):
    one = PersistentPanelBatch(np.zeros(PANEL), timestamps=labels())
    assert one == PersistentPanelBatch(np.zeros(PANEL), timestamps=labels())
    assert one != PersistentPanelBatch(np.zeros(PANEL), timestamps=(7, 8))
    assert one != PersistentPanelBatch(np.zeros(PANEL), timestamps=labels()[::-1])


def test_a_repr_is_short_and_shows_shapes():
    batch = PersistentPanelBatch(np.zeros((500, 400)), asset_ids=range(400))
    assert len(repr(batch)) < 300
    assert "returns=<float64 (500, 400)>" in repr(batch)


# Labels


@each_kind
def test_timestamps_have_length_t(kind):
    for wrong in ((1,), [1, 2, 3], np.arange(3)):
        message = f"^timestamps length mismatch: expected 2, got {len(wrong)}$"
        with pytest.raises(ValueError, match=message):
            build(kind, timestamps=wrong)


@each_kind
def test_lists_and_tuples_of_timestamps_are_stored_unchanged(kind):
    for given_labels in ((1, "two"), [1, "two"]):
        assert build(kind, timestamps=given_labels).timestamps is given_labels


@pytest.mark.parametrize(
    "labels",
    [
        pd.date_range("2020-01-31", periods=T, freq="ME", tz="UTC"),
        pd.Series([1, 2]),
        pl.Series([1, 2]),
        range(T),
    ],
    ids=lambda labels: type(labels).__name__,
)
def test_indexes_of_timestamps_are_stored_unchanged(labels):
    assert build(CrossSectionBatch, timestamps=labels).timestamps is labels


def test_arrays_of_timestamps_are_read_only_views():
    labels = np.array(["2020-01-31", "2020-02-29"], dtype="datetime64[ns]")
    kept = build(CrossSectionBatch, timestamps=labels).timestamps
    assert kept.dtype == labels.dtype
    assert np.shares_memory(kept, labels)
    assert not kept.flags.writeable


@pytest.mark.parametrize("empty", [(), None, [], np.array([]), pd.Index([]), pl.Series([])])
def test_no_labels_are_an_empty_tuple(empty):
    batch = build(CrossSectionBatch, timestamps=empty, asset_ids=empty)
    assert batch.timestamps == ()
    assert batch.asset_ids == ()


@pytest.mark.parametrize(
    "wrong", ["ab", b"ab", 2, iter((1, 2)), {1, 2}, {1: 2}, np.array(1), np.ones((2, 1))], ids=repr
)
@pytest.mark.parametrize("name", ["timestamps", "asset_ids"])
def test_labels_are_sequences(name, wrong):
    with pytest.raises(ValueError, match=f"^{name} must be a sequence"):
        build(CrossSectionBatch, **{name: wrong})


@pytest.mark.parametrize(
    ("given_ids", "held"),
    [
        (["a", "b", "c"], ("a", "b", "c")),
        (np.array(["a", "b", "c"]), ("a", "b", "c")),
        (np.array(["a", "b", "c"], dtype=object), ("a", "b", "c")),
        (pd.Index(["a", "b", "c"]), ("a", "b", "c")),
        (pl.Series(["a", "b", "c"]), ("a", "b", "c")),
        ([10001, 0, -3], ("10001", "0", "-3")),
        (np.array([10001, 0, 7], dtype=np.int32), ("10001", "0", "7")),
        (range(3), ("0", "1", "2")),
        (pa.array(["a", "b", "c"]), ("a", "b", "c")),
        (pa.chunked_array([["a"], ["b", "c"]]), ("a", "b", "c")),
        (pd.Series([3, 2, 1], index=[7, 8, 9]), ("3", "2", "1")),
        ([10001.0, 10002.0, 3], ("10001", "10002", "3")),
        (np.array([1, 2, 3], dtype=np.float32), ("1", "2", "3")),
        (pl.Series([1.0, -2.0, 0.0]), ("1", "-2", "0")),
        (pa.array([1.0, 2.0, 3.0]), ("1", "2", "3")),
    ],
    ids=repr,
)
def test_asset_ids_become_a_tuple_of_text(given_ids, held):
    got = build(CrossSectionBatch, asset_ids=given_ids).asset_ids
    assert got == held
    assert {type(one) for one in got} == {str}


@pytest.mark.parametrize("kind", [kind for kind in FLOATS if "asset_ids" in ORDER[kind]])
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (("a", "b"), "asset_ids length mismatch: expected 3, got 2"),
        (("a", "b", "a"), "asset_ids must be unique; positions 0 and 2 hold the same id"),
        ((1, "b", "1"), "asset_ids must be unique; positions 0 and 2 hold the same id"),
        (("a", "", "c"), "asset_ids must be non-empty; position 1 is the empty text"),
        (("a", "b", None), "asset_ids must be text or integers; got NoneType at position 2"),
        (("a", "b", True), "asset_ids must be text or integers; got bool at position 2"),
        (("a", "b", 1.5), "asset_ids must be text or integers; got float at position 2"),
        (("a", "b", np.nan), "asset_ids must be text or integers; got float at position 2"),
        ((1.0, 2.0, 2.0**53), "asset_ids must be text or integers; got float at position 2"),
        ((1.0, 1, 2), "asset_ids must be unique; positions 0 and 1 hold the same id"),
    ],
)
def test_asset_ids_are_rejected_without_naming_one(kind, ids, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        build(kind, asset_ids=ids)


# Shapes


@each_field
def test_the_error_of_a_wrong_rank_names_the_right_one(kind, name):
    shape = FLOATS[kind][name]
    got = np.zeros((1, *shape)).shape
    rule = f"{name} must be {len(shape)}D; got shape "
    if name == "costs":
        rule = "costs must have shape (N,) or (N, 1): expected (3,) or (3, 1), got "
    with pytest.raises(ValueError, match=f"^{re.escape(f'{rule}{got}')}"):
        build(kind, **{name: np.zeros(got)})


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (
            PersistentPanelBatch,
            {"returns": (2, 3), "characteristics": (2, 4, 1)},
            "characteristics and returns disagree on (T, N): expected (2, 3), got (2, 4)",
        ),
        (
            PersistentPanelBatch,
            {"context_features": (3, 5)},
            "returns and context_features disagree on T: expected (2,), got (3,)",
        ),
        (
            LatentFactorState,
            {"context_features": (3, 5)},
            "asset_betas and context_features disagree on T: expected (2,), got (3,)",
        ),
        (
            CrossSectionBatch,
            {"returns": (2, 4)},
            "characteristics and returns disagree on (T, N): expected (2, 3), got (2, 4)",
        ),
        (
            CrossSectionBatch,
            {"factor_returns": (1, 3)},
            "characteristics and factor_returns disagree on (T, N): expected (2, 3), got (1, 3)",
        ),
        (
            CrossSectionBatch,
            {"context_features": (3, 5)},
            "characteristics and context_features disagree on T: expected (2,), got (3,)",
        ),
        (
            CrossSectionBatch,
            {"mask": (3, 2)},
            "mask must match characteristics on (T, N): expected (2, 3), got (3, 2)",
        ),
        (
            PortfolioSequenceBatch,
            {"returns": (6, 1, 9)},
            "returns and features disagree on (B, T): expected (6, 2), got (6, 1)",
        ),
        (
            PortfolioSequenceBatch,
            {"returns": (6, 2, 9)},
            "returns and features disagree on N: expected (3,), got (9,)",
        ),
        (
            PortfolioSequenceBatch,
            {"vol_scale": (6, 2, 9)},
            "vol_scale and features disagree on N: expected (3,), got (9,)",
        ),
        (
            PortfolioSequenceBatch,
            {"prev_weights": (6, 2)},
            "prev_weights must have shape (B, N): expected (6, 3), got (6, 2)",
        ),
        (
            PortfolioSequenceBatch,
            {"mask": (2, 3)},
            "mask must match features on (B, T, N): expected (6, 2, 3), got (2, 3)",
        ),
        (
            PortfolioSequenceBatch,
            {"group_ids": (4,)},
            "group_ids must have shape (N,): expected (3,), got (4,)",
        ),
        (
            PortfolioSequenceBatch,
            {"costs": (3, 2)},
            "costs must have shape (N,) or (N, 1): expected (3,) or (3, 1), got (3, 2)",
        ),
        (
            PortfolioSequenceBatch,
            {"adjacency_mask": (3, 4)},
            "adjacency_mask must have shape (N, N): expected (3, 3), got (3, 4)",
        ),
        (
            LatentFactorState,
            {"factor_returns": (2, 2)},
            "factor_returns must have shape (T, K): expected (2, 1), got (2, 2)",
        ),
        (
            StochasticDiscountFactorState,
            {"sdf_values": (3,)},
            "sdf_values must have shape (T,): expected (2,), got (3,)",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_shapes_that_disagree_say_expected_and_got(kind, changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build(kind, **{name: np.zeros(shape) for name, shape in changes.items()})


def test_words_that_users_match_survive_a_wrong_rank():
    with pytest.raises(ValueError, match="prev_weights must have shape"):
        build(PortfolioSequenceBatch, prev_weights=np.zeros(B))
    with pytest.raises(ValueError, match=r"returns must be 2D; got shape \(3,\)"):
        PersistentPanelBatch(returns=np.zeros(3))


def test_a_panel_takes_its_shape_from_what_it_has():
    values = np.zeros((T, N, L))
    for batch in (
        PersistentPanelBatch(returns=values[..., 0]),
        PersistentPanelBatch(characteristics=values),
        PersistentPanelBatch(timestamps=[1, 2], asset_ids=["a", "b", "c"]),
        PersistentPanelBatch(timestamps=np.arange(2), asset_ids=np.arange(3)),
    ):
        assert (batch.n_periods, batch.n_assets) == (T, N)
    for nothing in ({}, {"timestamps": (1, 2)}, {"asset_ids": ("a",)}):
        with pytest.raises(ValueError, match="determine panel shape"):
            PersistentPanelBatch(**nothing)


def test_sizes_are_ints_of_the_axes():
    windows = build(PortfolioSequenceBatch)
    assert (windows.batch_size, windows.n_periods, windows.n_assets) == (B, T, N)
    section = build(CrossSectionBatch)
    assert (section.n_periods, section.n_assets) == (T, N)
    state = build(LatentFactorState)
    assert (state.n_periods, state.n_assets, state.n_factors) == (T, N, K)
    sdf = build(StochasticDiscountFactorState)
    assert (sdf.n_periods, sdf.n_assets) == (T, N)


# Masks, groups, costs


@given(
    hnp.arrays(bool, PANEL),
    st.sampled_from([np.bool_, np.int8, np.uint64, np.float32, np.float64, object]),
)
def test_masks_of_zeros_and_ones_are_masks(mask, dtype):
    got = build(CrossSectionBatch, mask=mask.astype(dtype)).mask
    assert got.dtype == np.bool_
    assert not got.flags.writeable
    np.testing.assert_array_equal(got, mask)


@given(st.one_of(st.floats(), st.integers(-(2**31), 2**31)).filter(lambda x: x not in (0, 1)))
def test_masks_of_anything_else_are_rejected(value):
    mask = np.ones(PANEL)
    mask[1, 2] = value
    with pytest.raises(ValueError, match=r"^mask must hold True and False.*; got .* at \(1, 2\)$"):
        build(CrossSectionBatch, mask=mask)


@pytest.mark.parametrize("fill", ["True", None, 1j, np.datetime64("2020-01-01")])
def test_masks_are_not_read_into_other_things(fill):
    with pytest.raises(ValueError, match=r"^mask must hold"):
        build(CrossSectionBatch, mask=np.full(PANEL, fill))


@given(
    hnp.arrays(np.int64, N, elements=st.integers(-100, 100)),
    st.sampled_from([np.int8, np.int64, np.float32, np.float64, object]),
)
def test_group_ids_of_whole_numbers_are_int64(groups, dtype):
    got = build(PortfolioSequenceBatch, group_ids=groups.astype(dtype)).group_ids
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, groups)


@pytest.mark.parametrize(
    "groups",
    [
        [0.0, 1.5, 2.0],
        [True, False, True],
        np.array([1, True, 2], dtype=object),
        [0.0, np.nan, 1.0],
        [0.0, np.inf, 1.0],
        [0, 2**64 - 1, 1],
        [0, 2**70, 1],
        [0.0, 1e300, 1.0],
        ["0", "1", "2"],
        [0, None, 1],
        np.array([0, "1", 2], dtype=object),
    ],
    ids=repr,
)
def test_group_ids_that_would_change_are_rejected(groups):
    with pytest.raises(ValueError, match=r"^group_ids must hold"):
        build(PortfolioSequenceBatch, group_ids=groups)


@pytest.mark.parametrize("shape", [(N,), (N, 1)])
def test_costs_are_a_column_of_the_callers_memory(shape):
    costs = np.arange(3.0).reshape(shape)
    batch = build(PortfolioSequenceBatch, costs=costs)
    assert batch.costs.shape == (N, 1)
    assert np.shares_memory(batch.costs, costs)
    assert not batch.costs.flags.writeable
    assert build(PortfolioSequenceBatch, costs=costs.tolist()) == batch
