"""Laws of the PCA kernel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ml4t.models.kernels import (
    get_num_threads,
    pca,
    project_pca,
    rolling_pca,
    rolling_rp_pca,
    rp_pca,
    set_num_threads,
)
from oracles import pca as oracle

# Angles are found to 2e-12 and the panels below have gaps of at least a percent.
ATOL = 1e-10
SHAPES = [(30, 12), (12, 30), (150, 90), (90, 150), (300, 260), (260, 700)]


def factor_panel(n_dates, n_assets, seed=0, missing=0.0):
    """Three factors of distinct strength, with premia, and noise."""
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((n_dates, 3)) * [4.0, 2.0, 1.2] + [0.5, 0.3, 0.2]
    panel = factors @ rng.standard_normal((3, n_assets))
    panel += 0.4 * rng.standard_normal((n_dates, n_assets))
    panel[rng.random(panel.shape) < missing] = np.nan
    return panel


def assert_same(found, expected, atol=ATOL):
    for name, value in zip(found.__slots__, expected, strict=True):
        scale = np.abs(value).max()
        np.testing.assert_allclose(getattr(found, name), value, rtol=0, atol=atol * scale)


def fields(record):
    return [getattr(record, name) for name in record.__slots__]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_full_decomposition(shape, missing, dtype):
    panel = factor_panel(*shape, missing=missing).astype(dtype)
    assert_same(pca(panel, 3), oracle.pca(panel, 3))


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(2, 12), st.integers(2, 12)),
        elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0, np.nan, np.inf]),
    ),
    st.integers(1, 4),
)
@settings(max_examples=300, deadline=None)
def test_any_small_panel_is_decomposed_or_refused(panel, n_factors):
    finite = np.isfinite(panel).any(axis=0)
    if n_factors > min(panel.shape):
        with pytest.raises(ValueError, match="n_factors"):
            pca(panel, n_factors)
        return
    if not finite.all():
        with pytest.raises(ValueError, match=f"no finite entry for asset {np.argmin(finite)}"):
            pca(panel, n_factors)
        return
    mean = np.nanmean(np.where(np.isfinite(panel), panel, np.nan), axis=0)
    centred = np.where(np.isfinite(panel), panel - mean, 0.0)
    values = np.linalg.svd(centred, compute_uv=False)
    if values[n_factors - 1] <= 1e-9 * max(values[0], 1e-9):
        with pytest.raises(ValueError, match="rank"):
            pca(panel, n_factors)
        return
    found = pca(panel, n_factors)
    # Repeated singular values leave the vectors free, not these.
    np.testing.assert_allclose(found.singular_values, values[:n_factors], rtol=1e-9)
    identity = np.eye(n_factors)
    np.testing.assert_allclose(found.loadings.T @ found.loadings, identity, atol=1e-12)
    image = centred.T @ (centred @ found.loadings)
    scaled = found.loadings * values[:n_factors] ** 2
    np.testing.assert_allclose(image, scaled, atol=1e-10 * values[0] ** 2)
    np.testing.assert_allclose(
        found.factors, centred @ found.loadings + mean @ found.loadings, atol=1e-10 * values[0]
    )


def test_factors_carry_the_premium_and_its_sign():
    panel = factor_panel(80, 40)
    found = pca(panel, 3)
    np.testing.assert_allclose(found.factors, panel @ found.loadings, atol=1e-10)
    assert (found.factors.mean(axis=0) > 0.0).all()


def test_without_means_the_largest_loading_is_positive():
    panel = factor_panel(80, 40)
    found = pca(panel - panel.mean(axis=0), 3)
    largest = np.abs(found.loadings).argmax(axis=0)
    assert (found.loadings[largest, range(3)] > 0.0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_asset_order_is_a_label_not_a_number(shape):
    panel = factor_panel(*shape, missing=0.1)
    order = np.random.default_rng(1).permutation(shape[1])
    straight, shuffled = pca(panel, 3), pca(panel[:, order], 3)
    np.testing.assert_allclose(shuffled.loadings, straight.loadings[order], atol=ATOL)
    scale = np.abs(straight.factors).max()
    np.testing.assert_allclose(shuffled.factors, straight.factors, atol=ATOL * scale)


@pytest.mark.parametrize("factor", [1e-8, -1.0, 3e6])
def test_scale_of_returns_scales_factors(factor):
    panel = factor_panel(60, 90)
    straight, scaled = pca(panel, 3), pca(factor * panel, 3)
    sign = np.sign(factor)
    np.testing.assert_allclose(scaled.loadings, sign * straight.loadings, atol=ATOL)
    np.testing.assert_allclose(scaled.factors / abs(factor), straight.factors, atol=1e-8)


def test_large_means_cost_no_accuracy():
    panel = factor_panel(120, 200)
    shifted = pca(panel + 1e6, 3)
    straight = pca(panel, 3)
    # Adding 1e6 itself rounds the panel at 1e-10.
    np.testing.assert_allclose(np.abs(shifted.loadings), np.abs(straight.loadings), atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_memory_layout_does_not_matter(shape):
    panel = factor_panel(*shape, missing=0.1)
    plain = pca(panel, 3)
    wide = np.repeat(np.repeat(panel, 2, axis=0), 3, axis=1)[::2, ::3]
    backwards = np.ascontiguousarray(panel[::-1, ::-1])[::-1, ::-1]
    for same in (np.asfortranarray(panel), wide, backwards):
        for one, other in zip(fields(plain), fields(pca(same, 3)), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(260, 900), (900, 260), (700, 640)])
def test_same_bits_for_any_number_of_threads(shape, missing):
    panel = factor_panel(*shape, missing=missing)
    before, results = get_num_threads(), []
    try:
        for n_threads in (1, 2, 5):
            set_num_threads(n_threads)
            results.append(fields(pca(panel, 3)))
    finally:
        set_num_threads(before)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("shape", [(300, 280), (280, 600), (600, 280)])
def test_noise_without_a_gap_is_still_decomposed_rightly(shape):
    panel = np.random.default_rng(5).standard_normal(shape)
    found, expected = pca(panel, 6), oracle.pca(panel, 6)
    np.testing.assert_allclose(found.singular_values, expected[3], rtol=1e-12)
    # Neighbouring singular values are a percent apart: angles lose two digits.
    np.testing.assert_allclose(found.loadings, expected[1], atol=1e-9)


@pytest.mark.parametrize("multiplicity", [2, 5, 9, 40])
def test_repeated_singular_values_are_all_found(multiplicity):
    # A block of 8 cannot see 9 equal values; the answer must still hold the right subspace.
    rng = np.random.default_rng(7)
    left = np.linalg.qr(rng.standard_normal((400, 300)) - 0.0)[0]
    left -= left.mean(axis=0)
    left = np.linalg.qr(left)[0]
    right = np.linalg.qr(rng.standard_normal((500, 300)))[0]
    values = np.concatenate([[30.0], np.full(multiplicity, 20.0), np.linspace(10, 1, 299)])[:300]
    panel = (left * values) @ right.T
    n_factors = 5
    found = pca(panel, n_factors)
    np.testing.assert_allclose(found.singular_values, values[:n_factors], rtol=1e-10)
    span = right[:, : 1 + max(multiplicity, n_factors - 1)]
    outside = found.loadings - span @ (span.T @ found.loadings)
    np.testing.assert_allclose(outside, 0.0, atol=1e-9)


@pytest.mark.parametrize("ratio", [1e-3, 1e-5, 1e-7, 1e-9])
def test_small_singular_values_are_not_lost_in_their_squares(ratio):
    rng = np.random.default_rng(9)
    left = np.linalg.qr(rng.standard_normal((90, 3)) - 0.0)[0]
    left = np.linalg.qr(left - left.mean(axis=0))[0]
    right = np.linalg.qr(rng.standard_normal((120, 3)))[0]
    panel = (left * [1.0, ratio**0.5, ratio]) @ right.T
    found = pca(panel, 3)
    np.testing.assert_allclose(found.singular_values[2], ratio, rtol=1e-15 / ratio + 1e-12)
    inside = np.abs(np.sum(found.loadings * right, axis=0))
    np.testing.assert_allclose(inside, 1.0, atol=1e-10)


def test_projecting_the_sample_gives_its_factors_back():
    panel = factor_panel(50, 70, missing=0.15)
    found = pca(panel, 3)
    again = project_pca(panel, found.mean, found.loadings)
    np.testing.assert_allclose(again, found.factors, atol=1e-9)


def test_a_missing_return_counts_as_the_training_mean():
    found = pca(factor_panel(50, 30), 2)
    nothing = project_pca(np.full((1, 30), np.nan), found.mean, found.loadings)
    np.testing.assert_allclose(nothing[0], found.mean @ found.loadings, atol=1e-13)


def test_the_input_stays_as_it_was():
    panel = factor_panel(20, 30, missing=0.1)
    panel.setflags(write=False)
    before = panel.copy()
    pca(panel, 2)
    np.testing.assert_array_equal(panel, before)


@pytest.mark.parametrize("n_factors", [0, 4])
def test_refuses_a_number_of_factors_out_of_range(n_factors):
    with pytest.raises(ValueError, match="n_factors"):
        pca(np.ones((3, 5)), n_factors)


def test_refuses_an_asset_without_returns_by_number():
    panel = np.ones((4, 3))
    panel[:, 1] = np.nan
    with pytest.raises(ValueError, match="returns has no finite entry for asset 1"):
        pca(panel, 1)


def test_refuses_constant_returns():
    with pytest.raises(ValueError, match="rank 0, which does not support 1"):
        pca(np.ones((4, 3)), 1)


def test_refuses_a_rank_below_the_number_of_factors():
    panel = factor_panel(300, 260)
    flat = oracle.pca(panel, 3)
    low = flat[2] @ flat[1].T
    with pytest.raises(ValueError, match="rank 3, which does not support 4"):
        pca(low, 4)


@pytest.mark.parametrize("power", [-190, 190])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_power_of_two_is_a_unit_of_returns(shape, power):
    panel = factor_panel(*shape)
    plain, scaled = pca(panel, 3), pca(np.ldexp(panel, power), 3)
    np.testing.assert_array_equal(scaled.loadings, plain.loadings)
    np.testing.assert_array_equal(scaled.explained_variance_ratio, plain.explained_variance_ratio)
    np.testing.assert_array_equal(scaled.factors, np.ldexp(plain.factors, power))
    np.testing.assert_array_equal(scaled.singular_values, np.ldexp(plain.singular_values, power))


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1e-160, 1e-100, 1e100, 1e160, 1e200, 1e300])
@pytest.mark.parametrize("shape", [(30, 12), (90, 150)])
def test_refuses_returns_whose_squares_double_precision_cannot_hold(shape, scale):
    panel = factor_panel(*shape)
    windows = [(0, 20), (5, 25), (0, 30)]
    fits = (
        lambda x: pca(x, 2),
        lambda x: rp_pca(x, 2, gamma=10.0),
        lambda x: rolling_pca(x, 2, windows),
        lambda x: rolling_rp_pca(x, 2, windows, gamma=10.0),
    )
    for fit in fits:
        with pytest.raises(ValueError, match="returns must be zero or of a largest size between"):
            fit(scale * panel)


def test_one_extreme_return_is_refused_only_by_the_windows_that_hold_it():
    panel = factor_panel(60, 80)
    early = [(0, 30), (10, 40)]
    plain = rolling_pca(panel, 2, early)
    panel[50, 3] = 1e200
    blind = rolling_pca(panel, 2, early)
    np.testing.assert_array_equal(blind.loadings, plain.loadings)
    with pytest.raises(ValueError, match=r"returns must be zero or .* got 1e200: rescale the data"):
        rolling_pca(panel, 2, [*early, (25, 55)])


def test_refuses_shapes_that_do_not_line_up():
    with pytest.raises(ValueError, match="returns must have shape"):
        project_pca(np.ones((2, 4)), np.ones(3), np.ones((3, 1)))
    with pytest.raises(ValueError, match="loadings must have shape"):
        project_pca(np.ones((2, 3)), np.ones(3), np.ones((4, 1)))


def test_the_strides_of_a_mean_do_not_change_a_projection():
    rng = np.random.default_rng(3)
    returns, mean = rng.standard_normal((6, 4)), rng.standard_normal(4)
    loadings = np.linalg.qr(rng.standard_normal((4, 2)))[0]
    want = project_pca(returns, mean, loadings)
    assert np.allclose(want, returns @ loadings, atol=1e-14)
    for strided in (mean[::-1].copy()[::-1], np.repeat(mean, 2)[::2]):
        assert np.array_equal(project_pca(returns, strided, loadings), want)
