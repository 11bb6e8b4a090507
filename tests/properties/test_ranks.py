from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ml4t.models.kernels import average_ranks, cross_sectional_correlation
from oracles import ranks as oracle
from strategies import panels, relaid


@given(panels(min_assets=0))
def test_ranks_agree_with_counting(panel):
    np.testing.assert_array_equal(average_ranks(panel.returns), oracle.average_ranks(panel.returns))
    got = average_ranks(panel.characteristics, scaled=True)
    want = oracle.scaled_ranks(panel.characteristics)
    np.testing.assert_allclose(got, want, atol=1e-15)


@given(panels(), st.data())
def test_neither_layout_nor_order_of_assets_matters_to_ranks(panel, data):
    z = panel.characteristics
    order = data.draw(st.permutations(range(z.shape[1])))
    plain = average_ranks(z)
    np.testing.assert_array_equal(average_ranks(data.draw(relaid(z))), plain)
    np.testing.assert_array_equal(average_ranks(z[:, order]), plain[:, order])


@given(panels(holes=False))
def test_ranks_forget_everything_but_the_order(panel):
    stretched = np.exp(panel.returns.astype(np.float64))
    np.testing.assert_array_equal(average_ranks(stretched), average_ranks(panel.returns))


def test_a_single_value_has_rank_zero():
    got = average_ranks([[np.nan, 7.0, np.nan]], scaled=True)
    np.testing.assert_array_equal(got, [[np.nan, 0.0, np.nan]])


@given(panels(min_chars=2, min_assets=0))
def test_pearson_agrees_with_the_formula(panel):
    a, b = panel.characteristics[..., -1], panel.returns
    got = cross_sectional_correlation(a, b, panel.mask)
    # Atol: the formula itself loses digits where a variable hardly varies.
    np.testing.assert_allclose(got, oracle.correlation(a, b, panel.mask), atol=1e-12)


@given(panels())
def test_spearman_is_pearson_of_the_ranks_of_complete_pairs(panel):
    a, b = panel.characteristics[..., 0], panel.returns
    observed = panel.mask & np.isfinite(a) & np.isfinite(b)
    ranks = [oracle.average_ranks(np.where(observed, x, np.nan)) for x in (a, b)]
    got = cross_sectional_correlation(a, b, panel.mask, rank=True)
    np.testing.assert_allclose(got, oracle.correlation(*ranks, observed), atol=1e-12)


def test_spearman_is_that_of_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, (4, 30)).astype(float), rng.standard_normal((4, 30))
    want = [stats.spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(cross_sectional_correlation(a, b, rank=True), want, atol=1e-14)


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200, 1e308])
def test_the_scale_of_the_values_does_not_matter(scale):
    a = np.array([[1.0, -1.0, 0.5, 0.25]])
    b = np.array([[0.3, -1.0, 1.0, 0.0]])
    got = cross_sectional_correlation(scale * a, b)
    np.testing.assert_allclose(got, np.corrcoef(a[0], b[0])[0, 1], rtol=1e-14)


def test_a_variable_that_does_not_vary_has_no_correlation():
    a = np.full((1, 5), 0.1)
    assert np.isnan(cross_sectional_correlation(a, np.arange(5.0)[None])).all()
    assert np.isnan(cross_sectional_correlation([[1.0]], [[2.0]])).all()


def test_the_error_names_the_wrong_shape():
    with pytest.raises(ValueError, match=r"b must have shape \[2, 3\]; got \[3, 2\]"):
        cross_sectional_correlation(np.ones((2, 3)), np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"mask must have shape \[2, 3\]; got \[1, 3\]"):
        cross_sectional_correlation(np.ones((2, 3)), np.ones((2, 3)), np.ones((1, 3), dtype=bool))
    with pytest.raises(ValueError, match=r"values must have 3 dimensions; got shape \(3,\)"):
        average_ranks(np.ones(3))
