"""Batches, states and results along time: cut, chosen, joined, named."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ml4t.models as m
from ml4t.models.types.time_axis import DatedRecord

T, N = 7, 3
DATES = tuple(date(2001, month, 28) for month in range(1, T + 1))
IDS = ("a", "b", "c")


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).random(shape)


def factor_forecast():
    return m.FactorForecastResult(numbers(T, 2), timestamps=DATES)


def state():
    return m.LatentFactorState(
        numbers(T, N, 2),
        numbers(T, 2),
        timestamps=DATES,
        asset_ids=IDS,
        context_features=numbers(T, 1),
        context_names=("vix",),
    )


def forecast():
    return m.AssetForecastResult(numbers(T, N), timestamps=DATES, asset_ids=IDS)


def book():
    return m.PortfolioWeightsResult(numbers(2, T, N), timestamps=DATES, asset_ids=IDS)


def cross_section():
    return m.CrossSectionBatch(
        numbers(T, N, 2),
        returns=numbers(T, N),
        context_features=numbers(T, 2),
        timestamps=DATES,
        asset_ids=IDS,
        mask=numbers(T, N) > 0.3,
        feature_names=("size", "value"),
        context_names=("rate", "vix"),
    )


RECORDS = {
    "panel": lambda: m.PersistentPanelBatch(numbers(T, N), timestamps=DATES, asset_ids=IDS),
    "cross-section": cross_section,
    "windows": lambda: m.PortfolioSequenceBatch(
        numbers(2, T, N, 2),
        returns=numbers(2, T, N),
        prev_weights=numbers(2, N),
        group_ids=[0, 1, 1],
        costs=[0.1, 0.2, 0.3],
        timestamps=DATES,
        feature_names=("trend", "carry"),
    ),
    "moments": lambda: m.CharacteristicMoments.from_batch(cross_section()),
    "state": state,
    "factor forecast": factor_forecast,
    "asset forecast": forecast,
    "signal": lambda: m.AssetSignalResult(numbers(T, N), timestamps=DATES),
    "weights": lambda: m.AssetWeightsResult(numbers(T, N), timestamps=DATES),
    "sdf": lambda: m.StochasticDiscountFactorState(numbers(T, N), numbers(T), timestamps=DATES),
    "book": book,
    "prediction": lambda: m.LatentFactorPrediction(state(), factor_forecast(), forecast()),
    "allocation": lambda: m.PortfolioPrediction(book(), book()),
}
each_record = pytest.mark.parametrize("make", RECORDS.values(), ids=RECORDS)


def labels_of(record):
    parts = vars_of(record)
    return next((labels_of(p) for p in parts if isinstance(p, DatedRecord)), None) or tuple(
        record.timestamps
    )


def vars_of(record):
    return [getattr(record, name) for name in record.__dataclass_fields__]


@each_record
def test_the_length_is_the_number_of_dates(make):
    assert len(make()) == T
    assert len(make().slice(2, 5)) == 3
    assert bool(make().slice(0, 0))


@each_record
@given(cuts=st.lists(st.integers(0, T), max_size=4).map(sorted))
def test_slices_joined_are_the_whole(make, cuts):
    whole = make()
    ends = [0, *cuts, T]
    parts = [whole.slice(start, stop) for start, stop in pairwise(ends)]
    assert type(whole).concatenate(parts) == whole


@each_record
def test_every_way_to_choose_dates_agrees(make):
    whole = make()
    assert whole.slice() == whole
    chosen = whole.slice(2, 5)
    assert labels_of(chosen) == DATES[2:5]
    marks = np.zeros(T, dtype=bool)
    marks[2:5] = True
    for dates in (slice(2, 5), slice(-5, -2), [2, 3, 4], np.array([2, 3, 4]), marks):
        assert whole[dates] == chosen
    assert whole[3] == whole[-4] == whole.slice(3, 4)


def test_dates_are_chosen_by_label_where_a_key_is_no_number():
    panel = RECORDS["panel"]()
    assert panel[DATES[4]] == panel.slice(4, 5)
    assert panel[list(DATES[1:3])] == panel.slice(1, 3)
    stamps = pd.DatetimeIndex(pd.to_datetime(DATES))
    indexed = replace(panel, timestamps=stamps)
    assert indexed[stamps[1:3]] == indexed.slice(1, 3)
    with pytest.raises(KeyError, match=r"dates must be among the 7 timestamps"):
        panel[date(1999, 1, 1)]


@each_record
def test_dates_that_are_not_there_are_rejected(make):
    with pytest.raises(IndexError, match=r"among 7 dates; got position 7"):
        make()[[0, 7]]
    with pytest.raises(IndexError, match=r"mask of dates must have shape \(7,\); got \(2,\)"):
        make()[np.array([True, False])]


def test_a_panel_of_labels_is_cut_as_well():
    panel = m.PersistentPanelBatch(timestamps=DATES, asset_ids=IDS)
    assert panel.slice(2, 4).timestamps == DATES[2:4]
    assert len(panel[[0, 3]]) == 2


def test_a_slice_reads_the_same_memory():
    panel = RECORDS["panel"]()
    assert np.shares_memory(panel.slice(1, 3).returns, panel.returns)


def test_a_record_is_neither_iterated_nor_an_array():
    panel = RECORDS["panel"]()
    with pytest.raises(TypeError, match="not iterable"):
        iter(panel)
    with pytest.raises(ValueError, match="is a record of arrays, not an array"):
        m.PersistentPanelBatch(panel)


def test_parts_that_disagree_are_rejected():
    panel = RECORDS["panel"]()
    kind = m.PersistentPanelBatch
    with pytest.raises(ValueError, match="asset_ids must be the same in all parts"):
        kind.concatenate([panel, replace(panel, asset_ids=("a", "b", "d"))])
    with pytest.raises(ValueError, match="characteristics must be given in all parts or in none"):
        kind.concatenate([replace(panel, characteristics=numbers(T, N, 1)), panel])
    with pytest.raises(ValueError, match="timestamps must be given in all parts or in none"):
        kind.concatenate([panel, replace(panel, timestamps=())])
    with pytest.raises(TypeError, match="parts must be of class PersistentPanelBatch"):
        kind.concatenate([panel, cross_section()])
    with pytest.raises(ValueError, match="got none"):
        kind.concatenate([])


def test_the_book_before_the_first_date_is_that_of_the_first_part():
    whole = RECORDS["windows"]()
    later = replace(whole.slice(3), prev_weights=np.zeros((2, N)))
    joined = m.PortfolioSequenceBatch.concatenate([whole.slice(0, 3), later])
    np.testing.assert_array_equal(joined.prev_weights, whole.prev_weights)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("size",), r"feature_names length mismatch: expected 2, got 1"),
        (("size", "size"), r"feature_names must be unique; 'size' appears twice"),
        (("size", 3), r"feature_names must be non-empty texts; got 3 at position 1"),
        ("sv", r"feature_names must be a sequence; got str"),
    ],
)
def test_names_that_do_not_fit_are_rejected(names, message):
    with pytest.raises(ValueError, match=message):
        m.CrossSectionBatch(numbers(T, N, 2), feature_names=names)


def test_names_without_what_they_name_are_rejected():
    with pytest.raises(ValueError, match="feature_names length mismatch: expected 0, got 1"):
        m.PersistentPanelBatch(numbers(T, N), feature_names=("size",))


def test_names_travel_from_a_long_frame_to_the_fit():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"date": np.repeat(np.arange(20), 15), "id": np.tile(np.arange(15), 20)})
    for column in ("size", "value", "ret", "vix"):
        frame[column] = rng.standard_normal(len(frame))
    frame["vix"] = frame["date"] / 10.0
    keys = {"timestamp_col": "date", "entity_col": "id", "return_col": "ret"}
    batch = m.cross_section_batch_from_long_frame(
        frame, feature_cols=["value", "size"], context_cols=["vix"], **keys
    )
    assert batch.feature_names == ("value", "size")
    assert batch.context_names == ("vix",)
    windows = m.portfolio_sequence_batch_from_long_frame(frame, feature_cols=["size"], **keys)
    assert windows.feature_names == ("size",)
    moments = m.CharacteristicMoments.from_batch(batch)
    for data in (batch, moments):
        model = m.IPCAModel(m.IPCAConfig(n_factors=1))
        model.fit(data)
        assert model.instrument_names == ("constant", "value", "size")
        assert [name for name, _ in model.summary().tables[-1].rows] == list(model.instrument_names)
    by_name = m.IPCAModel(
        m.IPCAConfig(n_factors=1, normalization="identity", identity_on=("size",))
    )
    by_name.fit(batch)
    assert by_name.gamma[2, 0] == 1.0
