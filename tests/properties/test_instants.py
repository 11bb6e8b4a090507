"""Labels of dates are compared, ordered, hashed, saved and refused by where they lie in time."""

from __future__ import annotations

import datetime as dt
import pickle
import re
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml4t.models import (
    CharacteristicMoments,
    CrossSectionBatch,
    EWMABaseFactorForecaster,
    LatentFactorState,
    PCAConfig,
    PCAModel,
    PersistentPanelBatch,
    PortfolioSequenceBatch,
    PortfolioWeightsResult,
    WalkForward,
    WeightConstraintPostprocessor,
)
from ml4t.models.types.instants import Category, instant, iso_form
from ml4t.models.types.timestamp import Timestamp

ENDS = {
    "America/New_York": dt.datetime(2021, 11, 7, 4, tzinfo=dt.UTC),
    "Europe/Berlin": dt.datetime(2021, 10, 30, 23, tzinfo=dt.UTC),
    "Australia/Lord_Howe": dt.datetime(2021, 4, 3, 13, tzinfo=dt.UTC),
}
STEPS = [dt.timedelta(minutes=n) for n in (5, 30, 60)]
REPEATED = [(zone, step) for zone in ENDS for step in STEPS]


def repeated_hours(zone, step, n=40):
    """Plain datetimes that ascend through the end of daylight saving, 5 hours or more."""
    n = max(n, int(dt.timedelta(hours=5) / step))
    return [(ENDS[zone] + t * step).astimezone(ZoneInfo(zone)) for t in range(n)]


def moments_of(labels, seed=0):
    z = np.random.default_rng(seed).standard_normal((len(labels), 4, 1))
    batch = CrossSectionBatch(z, returns=z[..., 0], timestamps=labels)
    return CharacteristicMoments.from_batch(batch)


def walk(labels):
    returns = np.random.default_rng(0).standard_normal((len(labels), 3))
    batch = PersistentPanelBatch(returns, timestamps=labels)
    return WalkForward(PCAModel(PCAConfig(n_factors=1)), min_periods=2, refit_every=9).run(batch)


@pytest.mark.parametrize(("zone", "step"), REPEATED)
def test_both_passes_of_an_hour_keep_their_place_in_moments(tmp_path, zone, step):
    labels = repeated_hours(zone, step)
    wall = {label.replace(tzinfo=None) for label in labels}
    assert len(wall) < len(labels) or (zone, step) == ("Australia/Lord_Howe", STEPS[-1])
    whole = moments_of(labels)
    for cut in range(len(labels)):
        early, late = whole.slice(stop=cut), whole.slice(cut)
        assert early.append(late) == late + early == whole
        rest = whole.drop([labels[cut]])
        np.testing.assert_array_equal(rest.cross, np.delete(whole.cross, cut, axis=0))
        assert rest + whole.slice(cut, cut + 1) == whole
    even, odd = whole.drop(labels[1::2]), whole.drop(labels[::2])
    assert even + odd == whole
    assert (whole + whole).n_assets.tolist() == [8] * len(labels)
    assert CharacteristicMoments.load(whole.save(tmp_path / "m")) == whole
    with pytest.raises(ValueError, match="timestamps must ascend"):
        moments_of(labels[::-1])


@pytest.mark.parametrize(("zone", "step"), REPEATED)
def test_a_walk_takes_both_passes_of_an_hour_in_order_only(zone, step):
    labels = repeated_hours(zone, step)
    got = walk(labels).result.timestamps
    assert list(map(instant, got)) == list(map(instant, labels[2:]))
    at = next(i for i, label in enumerate(labels) if label.fold)
    swapped = [*labels[: at - 1], labels[at], labels[at - 1], *labels[at + 1 :]]
    message = f"timestamps must ascend; got {labels[at - 1]} after {labels[at]} at date {at}"
    with pytest.raises(ValueError, match=re.escape(message)):
        walk(swapped)


def test_records_of_two_passes_of_an_hour_differ():
    one, other = (
        PersistentPanelBatch(
            np.ones((1, 1)),
            timestamps=(
                dt.datetime(2021, 11, 7, 1, 30, tzinfo=ZoneInfo("America/New_York"), fold=f),
            ),
        )
        for f in (0, 1)
    )
    assert one != other
    assert one[one.timestamps[0]] == one
    with pytest.raises(KeyError, match="not"):
        one[other.timestamps[0]]


@given(
    st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1)),
    st.sampled_from(["UTC", *ENDS]),
    st.sampled_from(["UTC", *ENDS]),
    st.integers(0, 999),
    st.integers(0, 1),
)
def test_timestamps_are_equal_hashed_and_ordered_by_instant(moment, one, other, nanosecond, fold):
    here = moment.replace(tzinfo=ZoneInfo(one), fold=fold)
    left = Timestamp.of(here, "ns", nanosecond)
    moved = here.astimezone(dt.UTC).astimezone(ZoneInfo(other))
    right = Timestamp.of(moved, "ns", nanosecond)
    assert left == right
    assert hash(left) == hash(right)
    assert instant(left) == instant(right)
    later = Timestamp.of(moved, "ns", nanosecond + 1)
    assert left < later
    assert later > left
    assert left != later
    assert left.astimezone(ZoneInfo(other)) == left.replace() == pickle.loads(pickle.dumps(left))
    assert left <= right
    assert left >= right


TEXTS = {
    "0000": "%Y",
    "0000-00": "%Y-%m",
    "0000-00-00": "%Y-%m-%d",
    "00000000": "%Y%m%d",
    "0000-W00": "%G-W%V",
    "0000-W00-0": "%G-W%V-%u",
    "0000-000": "%Y-%j",
    "0000-00-00T00:00:00Z": "%Y-%m-%dT%H:%M:%SZ",
    "0000-00-00 00:00": "%Y-%m-%d %H:%M",
    "00000000T000000.000000+05:30": "%Y%m%dT%H%M%S.%f+05:30",
}


@given(
    st.lists(st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2999, 1, 1)), max_size=5),
    st.sampled_from(sorted(TEXTS)),
)
def test_texts_of_one_form_sort_as_their_dates(moments, form):
    texts = [moment.strftime(TEXTS[form]) for moment in sorted(moments)]
    assert texts == sorted(texts)
    assert {iso_form(text) for text in texts} <= {form}


@pytest.mark.parametrize(
    "text",
    [
        *("01/15/2020", "15.01.2020", "Jan 2020", "2020-1-15", "2020-13", "2020-02-30"),
        *("15012020", "2021-366", "2020-W60", "2020-01-15T25:00", "202001", "2020-Q1"),
        *("", " 2020", "b", "\uff12\uff10\uff12\uff10"),
    ],
)
def test_text_that_is_no_date_of_iso_8601_is_rejected_as_time(text):
    assert iso_form(text) is None
    for use in (moments_of, walk):
        with pytest.raises(ValueError, match=r"timestamps must be in ISO 8601 .* parse it first"):
            use([text, *(f"202{n}" for n in range(1, 4))])


@pytest.mark.parametrize(
    "texts",
    [
        ["2020-01-01T00:00:00-05:00", "2020-07-01T00:00:00-04:00", "2020-08-01T00:00:00-04:00"],
        ["2020", "2020-02", "2020-03"],
        ["2020-01-01T00:00:00Z", "2020-01-01T00:00:00.5Z", "2020-01-01T00:00:01Z"],
    ],
)
def test_texts_of_several_forms_are_rejected_as_time(texts):
    for use in (moments_of, walk):
        with pytest.raises(ValueError, match="timestamps must be of one form"):
            use(texts)
    with pytest.raises(ValueError, match="of one kind on both sides"):
        moments_of(texts[:1]) + moments_of(texts[1:2])


DESCENDING = {
    "months as integers": [201011, 201101, 201012],
    "floats": [1.0, 2.5, 2.0],
    "texts": ["2020-01", "2020-03", "2020-02"],
    "dates": [dt.date(2020, 1, 1), dt.date(2020, 1, 3), dt.date(2020, 1, 2)],
    "datetime64": np.array(["2020-01", "2020-03", "2020-02"], "M8[M]"),
    "an index": pd.DatetimeIndex(["2020-01-01", "2020-01-03", "2020-01-02"]),
    "periods": pd.PeriodIndex(["2020-01", "2020-03", "2020-02"], freq="M"),
    "arrow": pa.array([1, 3, 2], pa.timestamp("ns")),
}


@pytest.mark.parametrize("kind", DESCENDING)
def test_dates_that_go_back_or_come_twice_are_rejected(kind):
    labels = list(DESCENDING[kind])
    for wrong in (labels, [labels[0], labels[2], labels[2]]):
        for use in (moments_of, walk, history_of):
            with pytest.raises(
                ValueError, match=r"timestamps must ascend; got .* after .* at date 2"
            ):
                use(wrong)
    walk([labels[0], labels[2], labels[1]])
    history_of([labels[0], labels[2], labels[1]])


def history_of(labels):
    factors = np.random.default_rng(0).standard_normal((len(labels), 2))
    state = LatentFactorState(np.ones((len(labels), 3, 2)), factors, timestamps=labels)
    return EWMABaseFactorForecaster().fit(state)


@pytest.mark.parametrize("missing", [None, float("nan"), np.datetime64("NaT"), pd.NaT])
def test_a_date_that_is_missing_is_rejected(missing):
    for use in (moments_of, walk):
        with pytest.raises(ValueError, match=r"present for every date; got .* at date 1"):
            use([np.datetime64("2020-01-01"), missing, np.datetime64("2020-01-03")])


def test_a_rejected_history_leaves_the_earlier_fit():
    forecaster = EWMABaseFactorForecaster()
    state = LatentFactorState(np.ones((3, 2, 1)), np.arange(3.0)[:, None], timestamps=(1, 2, 3))
    forecaster.fit(state)
    before = forecaster.predict(state)
    with pytest.raises(ValueError, match="must ascend; got 1 after 2 at date 1"):
        forecaster.fit(LatentFactorState(np.ones((2, 2, 1)), np.ones((2, 1)), timestamps=(2, 1)))
    assert forecaster.predict(state) == before


def test_labels_of_the_callers_own_pass_where_no_order_is_needed():
    history_of(["first", "second", "third"])


@pytest.mark.parametrize("dates", [(2, 1, 3), (1, 1, 2), ("2020-02", "2020-01", "2020-03")])
def test_a_postprocessor_that_walks_through_dates_rejects_dates_that_go_back(dates):
    batch = PortfolioSequenceBatch(np.ones((1, 3, 2, 1)), timestamps=dates)
    scores = PortfolioWeightsResult(np.array([[[1.0, 2.0]] * 3]))
    with pytest.raises(ValueError, match="timestamps must ascend"):
        WeightConstraintPostprocessor().transform(batch, scores)


MONTHS = ["Jan", "Feb", "Mar"]
BIRTHDAYS = pd.date_range("2020-01-31", periods=3, freq="ME")
LABELS = {
    **{f"pandas {unit}": BIRTHDAYS.as_unit(unit) for unit in ("s", "ms", "us", "ns")},
    **{
        f"pandas {unit} in Berlin": BIRTHDAYS.as_unit(unit).tz_localize("Europe/Berlin")
        for unit in ("s", "ms", "us", "ns")
    },
    "nanoseconds": pd.to_datetime([1, 2, 3], unit="ns"),
    "an offset": BIRTHDAYS.tz_localize(dt.timezone(dt.timedelta(hours=5, minutes=30))),
    "months": pd.period_range("2020-01", periods=3, freq="M"),
    "quarters": pd.period_range("2020Q1", periods=3, freq="Q"),
    "years": np.arange("2020", "2023", dtype="M8[Y]"),
    "datetime64": np.array([1, 2, 3], "M8[ns]"),
    "dates": [dt.date(2020, 1, day) for day in (1, 2, 3)],
    "integers": np.array([201011, 201012, 201101], np.int32),
    "floats": np.array([0.1, 0.2, 0.3], np.float32),
    "texts": np.array(["2020-01", "2020-02", "2020-03"]),
    "event time": [dt.timedelta(days) for days in (-1, 0, 1)],
    "pandas event time": pd.to_timedelta([1, 2, 3]),
    "numpy event time": np.array([-1, 0, 1], "m8[D]"),
    "arrow": pa.array([1, 2, 3], pa.timestamp("us", "America/New_York")),
    "pairs": [(2020, 11), (2020, 12), (2021, 1)],
    "categories": [Category(("Feb", "Jan", "Mar"), rank) for rank in range(3)],
    "times of a day": [dt.time(9), dt.time(10, 30), dt.time(16)],
}


@pytest.mark.parametrize("kind", LABELS)
def test_whatever_labels_a_batch_takes_moments_take_save_and_load(tmp_path, kind):
    moments = moments_of(LABELS[kind])
    loaded = CharacteristicMoments.load(moments.save(tmp_path / "m.safetensors"))
    assert loaded == moments
    assert pickle.loads(pickle.dumps(moments)) == moments
    assert loaded.timestamps == moments.timestamps
    assert moments.timestamps == loaded.timestamps
    assert (loaded + moments).n_assets.tolist() == [8, 8, 8]
    assert loaded.drop(moments.timestamps[1:2]).n_periods == 2
    assert loaded.slice(0, 1).append(moments.slice(1)) == moments


def test_categories_as_labels_have_the_order_that_they_declare():
    declared = pd.CategoricalIndex(MONTHS, MONTHS, ordered=True)
    for labels in (declared, pd.Series(declared), pl.Series(MONTHS, dtype=pl.Enum(MONTHS))):
        assert moments_of(labels).timestamps == tuple(MONTHS)
        walk(labels)
        history_of(labels)
        with pytest.raises(ValueError, match="timestamps must ascend; got Feb after Mar at date 1"):
            walk(labels[::-1])
    texts = ["2020-01", "2020-02", "2020-03"]
    for labels in (
        pd.CategoricalIndex(texts),
        pl.Series(texts, dtype=pl.Categorical),
        pa.array(texts).dictionary_encode(),
    ):
        for use in (moments_of, walk):
            with pytest.raises(ValueError, match="timestamps must have an order in time"):
                use(labels)


def test_labels_of_polars_one_nanosecond_apart_are_two_dates():
    labels = pl.Series([1, 2, 3]).cast(pl.Datetime("ns", "Europe/Berlin"))
    assert [label.nanosecond for label in moments_of(labels).timestamps] == [1, 2, 3]
    walk(labels)
