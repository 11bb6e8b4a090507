from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml4t.models import _core
from ml4t.models.kernels import panel_moments, row_moments
from ml4t.models.kernels.panel import Moments
from oracles import moments as oracle
from strategies import panels, relaid

DOUBLE = st.just(np.float64)
# Relative to the norms of the two columns: dot products of at most 40 terms in double precision,
# and the documented bound of single precision.
TOLERANCE = {np.dtype(np.float64): 1e-14, np.dtype(np.float32): 1e-6}


def assert_moments(got, want, tolerance):
    n, gram, cross, squares = want
    np.testing.assert_array_equal(got.n_assets, n)
    norm = np.sqrt(np.diagonal(gram, axis1=1, axis2=2))
    r_norm = np.sqrt(squares)
    assert (np.abs(got.full_gram - gram) <= tolerance * norm[:, :, None] * norm[:, None]).all()
    assert (np.abs(got.cross - cross) <= tolerance * norm * r_norm[:, None]).all()
    assert (np.abs(got.return_squares - squares) <= tolerance * squares).all()


def bits(moments):
    return [array.tobytes() for array in moments.arrays]


@given(panels(min_dates=2), st.data())
def test_moments_of_selected_dates_are_those_of_the_selected_panel(panel, data):
    z, r, mask = panel.characteristics, panel.returns, panel.mask
    whole, n_dates = panel_moments(z, r, mask), len(r)
    dates = np.array(data.draw(st.lists(st.integers(0, n_dates - 1), min_size=1)))
    assert bits(whole.select(dates)) == bits(panel_moments(z[dates], r[dates], mask[dates]))
    cut = data.draw(st.integers(0, n_dates))
    parts = whole.select(slice(cut)), whole.select(slice(cut, None))
    assert bits(Moments.concatenate(parts)) == bits(whole)
    want = oracle.panel_moments(z, r, mask, constant=False)
    assert_moments(whole.without_constant(), want, TOLERANCE[z.dtype])
    assert bits(Moments.zeros(n_dates, z.shape[2])) == bits(
        panel_moments(z, r, np.zeros_like(mask), constant=False)
    )


@given(panels(min_dates=0, min_assets=0, min_chars=0), st.booleans())
def test_agrees_with_the_definition(panel, constant):
    z, r, mask = panel.characteristics, panel.returns, panel.mask
    got = panel_moments(z, r, mask, constant=constant)
    want = oracle.panel_moments(z, r, mask, constant=constant)
    assert_moments(got, want, TOLERANCE[z.dtype])


@given(panels(), st.booleans(), st.data())
def test_memory_layout_does_not_change_a_bit(panel, constant, data):
    plain = panel_moments(panel.characteristics, panel.returns, panel.mask, constant=constant)
    other = panel_moments(
        data.draw(relaid(panel.characteristics)),
        data.draw(relaid(panel.returns)),
        data.draw(relaid(panel.mask)),
        constant=constant,
    )
    assert bits(other) == bits(plain)


@given(panels(holes=False), st.floats(allow_nan=True, allow_infinity=True), st.data())
def test_masked_cells_are_not_read(panel, rubbish, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    mask = rng.random(panel.mask.shape) < 0.5
    before = panel_moments(panel.characteristics, panel.returns, mask)
    with np.errstate(over="ignore"):
        panel.characteristics[~mask] = rubbish
        panel.returns[~mask] = rubbish
    assert bits(panel_moments(panel.characteristics, panel.returns, mask)) == bits(before)


@given(panels(), st.randoms(use_true_random=False))
def test_asset_order_is_a_label_not_a_number(panel, random):
    z, r, mask = panel.characteristics, panel.returns, panel.mask
    order = random.sample(range(r.shape[1]), r.shape[1])
    got = panel_moments(z[:, order], r[:, order], mask[:, order])
    want = oracle.panel_moments(z, r, mask, constant=True)
    assert_moments(got, want, TOLERANCE[z.dtype])


@given(panels(), st.booleans())
def test_rows_by_date_are_the_padded_panel_without_its_padding(panel, constant):
    usable = panel.usable
    offsets = np.concatenate([[0], usable.sum(axis=1).cumsum()])
    rows = row_moments(
        panel.characteristics[usable], panel.returns[usable], offsets, constant=constant
    )
    padded = panel_moments(panel.characteristics, panel.returns, panel.mask, constant=constant)
    assert bits(rows) == bits(padded)


@given(panels(precisions=DOUBLE))
def test_the_constant_leads(panel):
    with_it = panel_moments(panel.characteristics, panel.returns, panel.mask)
    without = panel_moments(panel.characteristics, panel.returns, panel.mask, constant=False)
    np.testing.assert_array_equal(with_it.full_gram[:, 0, 0], with_it.n_assets)
    scale = np.abs(without.gram).max(initial=1.0)
    np.testing.assert_allclose(with_it.full_gram[:, 1:, 1:], without.full_gram, atol=1e-14 * scale)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e-30, 1e-18, 1e15, 1e30])
def test_the_scale_of_a_single_precision_panel_does_not_matter(dtype, size):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((3, 50, 4))
    z[..., 0] *= size
    z[:, :, 1] = 0.0
    r = (size * rng.standard_normal((3, 50))).astype(dtype)
    z = z.astype(dtype)
    mask = np.ones((3, 50), dtype=bool)
    got = panel_moments(z, r, mask)
    assert_moments(got, oracle.panel_moments(z, r, mask, constant=True), TOLERANCE[z.dtype])


def test_huge_values_are_values():
    got = panel_moments([[[1e200], [2.0]]], [[1.0, 1.0]], constant=False)
    np.testing.assert_array_equal(got.n_assets, [2])
    np.testing.assert_array_equal(got.gram, [[np.inf]])
    np.testing.assert_array_equal(got.cross, [[1e200]])


def test_what_is_not_floating_is_converted():
    got = panel_moments([[[1], [2]]], [[3, 4]])
    np.testing.assert_array_equal(got.full_gram, [[[2.0, 3.0], [3.0, 5.0]]])
    np.testing.assert_array_equal(got.cross, [[7.0, 11.0]])
    big_endian = panel_moments(np.array([[[1], [2]]], dtype=">f8"), np.array([[3, 4]], dtype=">f4"))
    assert bits(big_endian) == bits(got)


def test_unaligned_arrays_are_read():
    raw = np.zeros(8 * 6 + 1, dtype=np.uint8)[1:].view(np.float64).reshape(1, 3, 2)
    raw[...] = np.arange(6.0).reshape(1, 3, 2)
    got = panel_moments(raw, np.ones((1, 3)), constant=False)
    np.testing.assert_array_equal(got.cross, [[6.0, 9.0]])


@pytest.mark.parametrize(
    ("z", "r", "mask", "message"),
    [
        ((3, 2, 1), (3, 4), None, r"returns must have shape \[3, 2\]; got \[3, 4\]"),
        ((3, 2, 1), (3, 2), (2, 2), r"mask must have shape \[3, 2\]; got \[2, 2\]"),
        ((3, 2), (3, 2), None, r"characteristics must have 3 dimensions; got shape \(3, 2\)"),
        ((3, 2, 1), (3,), None, r"returns must have 2 dimensions; got shape \(3,\)"),
    ],
)
def test_the_error_names_the_wrong_shape(z, r, mask, message):
    mask = None if mask is None else np.ones(mask, dtype=bool)
    with pytest.raises(ValueError, match=message):
        panel_moments(np.ones(z), np.ones(r), mask)


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 3], "ascending from 0 to the number of rows, 4; got 0 to 3"),
        ([1, 4], "ascending from 0 to the number of rows, 4; got 1 to 4"),
        ([0, 3, 2, 4], "ascending from 0 to the number of rows, 4; got 3 before 2 at date 1"),
        ([], "offsets must be non-negative integers"),
        ([0, -1, 4], "offsets must be non-negative integers"),
        ([0.0, 4.0], "offsets must be non-negative integers"),
    ],
)
def test_the_error_names_the_wrong_offsets(offsets, message):
    with pytest.raises(ValueError, match=message):
        row_moments(np.ones((4, 2)), np.ones(4), offsets)


@pytest.mark.parametrize("level", ["portable", "avx2"])
def test_a_lower_level_agrees_with_the_definition(level):
    rng = np.random.default_rng(0)
    z, r = rng.standard_normal((3, 40, 5)), rng.standard_normal((3, 40))
    try:
        got = _core.panel_moments(z, r, None, True, level=level)
    except ValueError as error:
        if level == "portable":
            raise
        pytest.skip(str(error))
    want = oracle.panel_moments(z, r, np.ones((3, 40), dtype=bool), constant=True)
    assert_moments(Moments(*got), want, TOLERANCE[z.dtype])


def test_a_level_that_is_not_there_is_rejected():
    with pytest.raises(ValueError, match=r'^level must be one of this machine.s \[.*\]; got "abc"'):
        _core.panel_moments(np.ones((1, 2, 1)), np.ones((1, 2)), None, True, level="abc")
