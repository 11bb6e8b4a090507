from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml4t.models import CharacteristicMoments, CrossSectionBatch
from ml4t.models.kernels import Moments
from oracles import moments as oracle
from strategies import panels

DOUBLE = st.just(np.float64)
KINDS = {
    "dates": lambda t: date(2000, 1, 1) + timedelta(days=30 * t),
    "moments": lambda t: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(hours=t),
    "numbers": lambda t: 10 * t - 7,
    "texts": lambda t: f"{2000 + t}-12",
    "datetime64": lambda t: np.datetime64("2000-01", "ns") + np.timedelta64(t, "h"),
}


def batch_of(panel, kind="dates", rows=slice(None)):
    return CrossSectionBatch(
        panel.characteristics[:, rows],
        returns=panel.returns[:, rows],
        mask=panel.mask[:, rows],
        timestamps=tuple(KINDS[kind](t) for t in range(len(panel.returns))),
    )


def assert_close(got, want, tolerance=1e-13):
    """Relative to the norms of the two columns of a product."""
    assert got.timestamps == want.timestamps
    assert got.instrument_names == want.instrument_names
    np.testing.assert_array_equal(got.n_assets, want.n_assets)
    norm = np.sqrt(np.diagonal(want.gram, axis1=1, axis2=2))
    r_norm = np.sqrt(want.return_squares)
    assert (np.abs(got.gram - want.gram) <= tolerance * norm[:, :, None] * norm[:, None]).all()
    assert (np.abs(got.cross - want.cross) <= tolerance * norm * r_norm[:, None]).all()
    gap = np.abs(got.return_squares - want.return_squares)
    assert (gap <= tolerance * want.return_squares).all()


@given(panels(precisions=DOUBLE))
def test_moments_of_a_batch_are_those_of_the_definition(panel):
    got = CharacteristicMoments.from_batch(batch_of(panel))
    n, gram, cross, squares = oracle.panel_moments(
        panel.characteristics, panel.returns, panel.mask, constant=True
    )
    rows, columns = np.triu_indices(gram.shape[1])
    want = CharacteristicMoments(
        gram[:, rows, columns], cross, squares, n.astype(np.uint32), got.timestamps
    )
    assert_close(got, want)


@given(panels(precisions=st.just(np.float32)))
def test_a_single_precision_panel_is_computed_in_double_unless_asked(panel):
    wide = CrossSectionBatch(
        panel.characteristics.astype(float), returns=panel.returns.astype(float), mask=panel.mask
    )
    narrow = CrossSectionBatch(panel.characteristics, returns=panel.returns, mask=panel.mask)
    want = CharacteristicMoments.from_batch(wide)
    assert CharacteristicMoments.from_batch(narrow) == want
    assert_close(CharacteristicMoments.from_batch(narrow, dtype="float32"), want, 1e-6)


@given(panels(min_assets=2), st.data(), st.sampled_from(sorted(KINDS)))
def test_shards_of_a_universe_add_up(panel, data, kind):
    n_assets = panel.returns.shape[1]
    cut = data.draw(st.integers(0, n_assets))
    parts = [
        CharacteristicMoments.from_batch(batch_of(panel, kind, rows))
        for rows in (slice(cut), slice(cut, n_assets))
    ]
    assert_close(parts[0] + parts[1], CharacteristicMoments.from_batch(batch_of(panel, kind)))


@given(panels(min_dates=2), st.data())
def test_shards_of_time_keep_their_bits_in_either_order(panel, data):
    whole = CharacteristicMoments.from_batch(batch_of(panel))
    cut = data.draw(st.integers(0, whole.n_periods))
    early, late = whole.slice(stop=cut), whole.slice(cut)
    assert early.append(late) == whole
    assert early + late == whole
    assert late + early == whole


@given(panels(min_dates=2), st.data())
def test_dropped_dates_can_be_added_again(panel, data):
    whole = CharacteristicMoments.from_batch(batch_of(panel))
    out = data.draw(st.sets(st.sampled_from(whole.timestamps)))
    kept = whole.drop(tuple(out))
    assert kept.timestamps == tuple(t for t in whole.timestamps if t not in out)
    dropped = whole.drop(kept.timestamps)
    assert kept + dropped == whole


@given(panels(), st.sampled_from(sorted(KINDS)))
def test_a_file_and_a_pickle_keep_every_bit(tmp_path_factory, panel, kind):
    moments = CharacteristicMoments.from_batch(batch_of(panel, kind))
    path = moments.save(tmp_path_factory.mktemp("moments") / "m.safetensors")
    loaded = CharacteristicMoments.load(path)
    for again in (loaded, pickle.loads(pickle.dumps(moments))):
        assert again == moments
        assert again.timestamps == moments.timestamps
        assert not again.cross.flags.writeable


def test_a_damaged_or_foreign_file_is_rejected(tmp_path):
    moments = CharacteristicMoments.from_batch(
        CrossSectionBatch(np.ones((2, 3, 1)), returns=np.ones((2, 3)))
    )
    path = moments.save(tmp_path / "m.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot load .*: damaged model file"):
        CharacteristicMoments.load(path)
    with pytest.raises(FileNotFoundError):
        CharacteristicMoments.load(tmp_path / "none")


@given(panels(precisions=DOUBLE))
def test_without_the_constant_the_characteristics_stay(panel):
    moments = CharacteristicMoments.from_batch(batch_of(panel))
    plain = moments.moments.without_constant()
    np.testing.assert_array_equal(plain.full_gram, moments.gram[:, 1:, 1:])
    np.testing.assert_array_equal(plain.cross, moments.cross[:, 1:])


@given(panels(precisions=DOUBLE))
def test_doubling_every_row_doubles_everything(panel):
    moments = CharacteristicMoments.from_batch(batch_of(panel))
    twice = moments + moments
    for name in ("packed_gram", "cross", "return_squares", "n_assets"):
        np.testing.assert_array_equal(getattr(twice, name), 2 * getattr(moments, name))


def tiny(timestamps=(1, 2), names=("a",)):
    batch = CrossSectionBatch(np.ones((2, 3, 1)), returns=np.ones((2, 3)), timestamps=timestamps)
    return CharacteristicMoments.from_batch(replace(batch, feature_names=tuple(names)))


DAYS = (date(2001, 1, 31), date(2001, 2, 28))
TIMES = tuple(datetime(day.year, day.month, day.day) for day in DAYS)
ZONED = tuple(one.replace(tzinfo=UTC) for one in TIMES)


class Nanoseconds(datetime):
    """A time stamp of another library."""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2), np.arange(1, 3)),
        (TIMES, tuple(Nanoseconds(*one.timetuple()[:6]) for one in TIMES)),
    ],
)
def test_labels_that_are_equal_are_of_one_date(one, other):
    for left, right in ((one, other), (other, one)):
        both = tiny(left) + tiny(right)
        assert both.n_assets.tolist() == [6, 6]
        assert both.timestamps == one


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: tiny((2, 1)), ValueError, "timestamps must ascend; got 1 after 2 at date 1"),
        (lambda: tiny((1, 1)), ValueError, "timestamps must ascend; got 1 after 1"),
        (lambda: tiny((1, "b")), ValueError, "timestamps must be of one kind"),
        (
            lambda: replace(tiny(), instrument_names=("constant", "a", "b")),
            ValueError,
            "instrument_names must have shape",
        ),
        (lambda: tiny(names=("constant",)), ValueError, "instrument_names must be unique"),
        (lambda: tiny() + tiny(names=("b",)), ValueError, "instrument_names must be the same on"),
        (lambda: tiny() + tiny(()), ValueError, "timestamps must name the dates of both sides"),
        (
            lambda: tiny() + tiny(("2001", "2002")),
            ValueError,
            "timestamps must be of one kind on both",
        ),
        (lambda: tiny() + 1, TypeError, "unsupported operand"),
        (lambda: tiny(DAYS) + tiny(TIMES), ValueError, "timestamps must be of one kind on both"),
        (lambda: tiny(DAYS).append(tiny(TIMES)), ValueError, "timestamps must be of one kind on"),
        (lambda: tiny(TIMES) + tiny(ZONED), ValueError, "timestamps must be of one kind on both"),
        (lambda: tiny(TIMES).append(tiny(ZONED)), ValueError, "timestamps must be of one kind on"),
        (lambda: tiny().append(tiny((2, 3))), ValueError, "later must begin after 2; got 2"),
        (lambda: tiny().append(tiny(())), ValueError, "later must have timestamps exactly when"),
        (
            lambda: tiny().drop([3]),
            KeyError,
            "timestamps to drop must be among the dates; 1 are not",
        ),
        (
            lambda: CharacteristicMoments.from_batch(CrossSectionBatch(np.ones((2, 3, 1)))),
            ValueError,
            "CharacteristicMoments requires returns",
        ),
        (
            lambda: CharacteristicMoments.from_batch(
                CrossSectionBatch(np.ones((2, 3, 1)), returns=np.ones((2, 3))), dtype="float16"
            ),
            ValueError,
            "dtype must be one of",
        ),
    ],
)
def test_the_error_names_the_cause(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cross": np.ones(2)}, r"cross must have shape \(T, P\)"),
        ({"cross": np.ones((2, 2), dtype=np.float32)}, "cross must hold float64"),
        ({"packed_gram": np.ones((2, 4))}, "packed_gram must have shape"),
        ({"return_squares": np.ones(3)}, "return_squares must have shape"),
        ({"n_assets": np.ones(3, dtype=np.uint32)}, "n_assets must have shape"),
        ({"n_assets": np.ones(2)}, "n_assets must hold uint32"),
        ({"timestamps": (1,)}, "timestamps length mismatch"),
    ],
)
def test_the_error_names_the_part_that_disagrees(change, message):
    whole = tiny()
    parts = {
        "packed_gram": whole.packed_gram,
        "cross": whole.cross,
        "return_squares": whole.return_squares,
        "n_assets": whole.n_assets,
    }
    with pytest.raises(ValueError, match=message):
        CharacteristicMoments(**parts | change)


def test_empty_moments_add_nothing():
    whole = tiny()
    nothing = whole.slice(0, 0)
    assert nothing.n_periods == 0
    assert whole + nothing == whole
    assert nothing + whole == whole
    assert nothing.append(whole) == whole
    assert isinstance(nothing.moments, Moments)


def test_only_batches_have_moments():
    with pytest.raises(TypeError, match="batch must be a CrossSectionBatch; got int"):
        CharacteristicMoments.from_batch(3)


def test_no_array_of_moments_can_be_written_to():
    rng = np.random.default_rng(0)
    batch = CrossSectionBatch(rng.random((3, 4, 2)), returns=rng.random((3, 4)))
    moments = CharacteristicMoments.from_batch(batch)
    for name in ("gram", "packed_gram", "cross", "return_squares", "n_assets"):
        assert not getattr(moments, name).flags.writeable
