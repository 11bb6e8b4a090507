"""Laws of the RP-PCA kernel; letters a to f are identities of Lettau and Pelger (2020)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ml4t.models.kernels import get_num_threads, pca, project_rp_pca, rp_pca, set_num_threads
from oracles import rp_pca as oracle

SHAPES = [(50, 20), (20, 50), (260, 300), (300, 260), (480, 450)]
GAMMAS = [-30.0, -1.0, -0.5, 0.0, 10.0]
SWITCHES = list(itertools.product([False, True], ["unit_length", "variance"], [False, True]))


def factor_panel(n_dates, n_assets, seed=0, missing=0.0):
    """Three priced factors of distinct strength and noise; two nearly empty dates when ragged."""
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((n_dates, 3)) * [4.0, 2.0, 1.2] + [0.5, 0.3, 0.6]
    panel = factors @ rng.standard_normal((3, n_assets))
    panel += 0.4 * rng.standard_normal((n_dates, n_assets))
    if missing:
        panel[rng.random(panel.shape) < missing] = np.nan
        panel[3], panel[5, 2:] = np.nan, np.nan
    return panel


def assert_same(found, expected, rtol=1e-10):
    for name, value in expected.items():
        got = getattr(found, name)
        scale = np.nanmax(np.abs(value))
        np.testing.assert_allclose(got, value, rtol=0, atol=rtol * scale, err_msg=name)


def leading(matrix, k):
    values, vectors = np.linalg.eigh(matrix)
    return values[::-1][:k], vectors[:, ::-1][:, :k]


@pytest.mark.parametrize("base_moment", ["second_moment", "covariance"])
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("shape", SHAPES[:2])
def test_agrees_with_the_definition(shape, missing, gamma, base_moment):
    panel = factor_panel(*shape, missing=missing)
    for scale, normalize, orthogonalize in SWITCHES:
        choice = {
            "gamma": gamma,
            "base_moment": base_moment,
            "scale_by_asset_volatility": scale,
            "normalize_loadings": normalize,
            "orthogonalize_factors": orthogonalize,
        }
        assert_same(rp_pca(panel, 3, **choice), oracle.rp_pca(panel, 3, **choice))


@pytest.mark.parametrize("base_moment", ["second_moment", "covariance"])
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("shape", SHAPES[2:])
def test_few_dates_and_few_assets_give_the_eigenvectors_of_the_moment_matrix(
    shape, gamma, base_moment
):
    panel = factor_panel(*shape)
    mean = panel.mean(axis=0)
    moments = {"covariance": np.cov(panel.T), "second_moment": panel.T @ panel / len(panel)}
    values, vectors = leading(moments[base_moment] + gamma * np.outer(mean, mean), 3)
    found = rp_pca(panel, 3, gamma=gamma, base_moment=base_moment)
    np.testing.assert_allclose(found.eigenvalues, values, rtol=1e-11)
    np.testing.assert_allclose(found.loadings @ found.loadings.T, vectors @ vectors.T, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_gamma_of_minus_one_is_pca(shape):
    panel = factor_panel(*shape)
    found, plain = rp_pca(panel, 3, gamma=-1.0), pca(panel, 3)
    np.testing.assert_allclose(found.eigenvalues, plain.singular_values**2 / shape[0], rtol=1e-11)
    np.testing.assert_allclose(found.loadings, plain.loadings, atol=1e-11)


@pytest.mark.parametrize("gamma", [-1.0, 0.0, 15.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_b_eigenvalues_are_singular_values_of_the_overweighted_panel(shape, gamma):
    panel = factor_panel(*shape)
    mean = panel.mean(axis=0)
    tilted = panel - mean + np.sqrt(1 + gamma) * mean
    values = np.linalg.svd(tilted, compute_uv=False)[:3] ** 2 / shape[0]
    np.testing.assert_allclose(rp_pca(panel, 3, gamma=gamma).eigenvalues, values, rtol=1e-11)


@pytest.mark.parametrize("gamma", [-1.0, 0.0, 15.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_c_factors_have_the_second_moments_of_the_criterion(shape, gamma):
    found = rp_pca(factor_panel(*shape), 3, gamma=gamma)
    mean = found.factors.mean(axis=0)
    moments = np.cov(found.factors.T, ddof=0) + (1 + gamma) * np.outer(mean, mean)
    scale = found.eigenvalues[0]
    np.testing.assert_allclose(moments, np.diag(found.eigenvalues), rtol=0, atol=1e-11 * scale)


@pytest.mark.parametrize("shape", SHAPES)
def test_d_a_huge_gamma_gives_the_means_as_first_loadings(shape):
    panel = factor_panel(*shape)
    mean = panel.mean(axis=0)
    found = rp_pca(panel, 1, gamma=1e9)
    np.testing.assert_allclose(found.loadings[:, 0], mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 15.0])
@pytest.mark.parametrize("shape", SHAPES[:2])
def test_e_the_criterion_is_the_sum_of_the_discarded_eigenvalues(shape, gamma):
    panel = factor_panel(*shape)
    n_dates, n_assets = shape
    found = rp_pca(panel, 3, gamma=gamma)
    errors = panel - found.factors @ found.loadings.T
    pricing = panel.mean(axis=0) - found.loadings @ found.factors.mean(axis=0)
    criterion = np.mean(errors**2) + gamma / n_assets * np.sum(pricing**2)
    mean = panel.mean(axis=0)
    total = np.trace(panel.T @ panel) / n_dates + gamma * mean @ mean
    discarded = (total - found.eigenvalues.sum()) / n_assets
    assert criterion == pytest.approx(discarded, rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_f_scale_order_and_an_asset_of_zeros(shape):
    panel = factor_panel(*shape)
    order = np.random.default_rng(1).permutation(shape[1])
    plain = rp_pca(panel, 3, gamma=10.0)
    scaled = rp_pca(1e-3 * panel, 3, gamma=10.0)
    np.testing.assert_allclose(scaled.eigenvalues, 1e-6 * plain.eigenvalues, rtol=1e-11)
    np.testing.assert_allclose(scaled.loadings, plain.loadings, atol=1e-11)
    shuffled = rp_pca(panel[:, order], 3, gamma=10.0)
    np.testing.assert_allclose(shuffled.loadings, plain.loadings[order], atol=1e-11)
    padded = rp_pca(np.column_stack([panel, np.zeros(shape[0])]), 3, gamma=10.0)
    np.testing.assert_allclose(padded.factors, plain.factors, atol=1e-9)


@pytest.mark.parametrize("normalize", ["unit_length", "variance"])
def test_orthogonal_factors_are_uncorrelated_and_span_the_same(normalize):
    panel = factor_panel(60, 25)
    choice = {"gamma": 8.0, "normalize_loadings": normalize}
    plain = rp_pca(panel, 3, **choice)
    turned = rp_pca(panel, 3, orthogonalize_factors=True, **choice)
    covariance = np.cov(turned.factors.T, ddof=0)
    off_diagonal = covariance - np.diag(np.diag(covariance))
    np.testing.assert_allclose(off_diagonal, 0.0, atol=1e-11 * covariance.max())
    fitted = turned.factors @ turned.loadings.T
    np.testing.assert_allclose(fitted, plain.factors @ plain.loadings.T, atol=1e-10)
    lengths = np.linalg.norm(turned.factor_weights, axis=0)
    if normalize == "unit_length":
        np.testing.assert_allclose(lengths, 1.0, atol=1e-13)
    else:
        np.testing.assert_allclose(np.diag(covariance), 1.0, atol=1e-11)


@pytest.mark.parametrize("missing", [0.0, 0.15])
@pytest.mark.parametrize("shape", SHAPES)
def test_premia_are_not_negative(shape, missing):
    found = rp_pca(factor_panel(*shape, missing=missing), 3, gamma=5.0)
    assert (np.nanmean(found.factors, axis=0) >= 0.0).all()


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("missing", [0.0, 0.15])
def test_projecting_the_sample_gives_its_factors_back(missing, scale):
    panel = factor_panel(50, 30, missing=missing)
    found = rp_pca(panel, 3, gamma=5.0, scale_by_asset_volatility=scale)
    again = project_rp_pca(panel, found.factor_weights)
    np.testing.assert_allclose(again, found.factors, atol=1e-10)
    np.testing.assert_array_equal(np.isnan(again[3]), missing > 0.0)


def test_regression_on_observed_assets_undoes_what_spans_them():
    # Returns that are an exact combination of the weights are recovered from any K of them.
    weights = np.linalg.qr(np.random.default_rng(2).standard_normal((20, 3)))[0]
    truth = np.array([1.0, -2.0, 0.5])
    returns = (weights @ truth)[None, :].repeat(2, axis=0)
    returns[1, 3:] = np.nan
    np.testing.assert_allclose(project_rp_pca(returns, weights), [truth, truth], atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layout_and_type_do_not_matter(dtype):
    panel = factor_panel(40, 60, missing=0.1).astype(dtype)
    plain = rp_pca(panel, 3, gamma=4.0)
    fortran = rp_pca(np.asfortranarray(panel), 3, gamma=4.0)
    double = rp_pca(panel.astype(np.float64), 3, gamma=4.0)
    for name in plain.__slots__:
        np.testing.assert_array_equal(getattr(fortran, name), getattr(plain, name))
        np.testing.assert_array_equal(getattr(double, name), getattr(plain, name))


@pytest.mark.parametrize("gamma", [-3.0, 10.0])
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_same_bits_for_any_number_of_threads(gamma, missing):
    panel = factor_panel(260, 400, missing=missing)
    before, results = get_num_threads(), []
    try:
        for n_threads in (1, 2, 5):
            set_num_threads(n_threads)
            results.append(rp_pca(panel, 3, gamma=gamma))
    finally:
        set_num_threads(before)
    for other in results[1:]:
        for name in other.__slots__:
            np.testing.assert_array_equal(getattr(other, name), getattr(results[0], name))


@pytest.mark.parametrize("gamma", [-3.0, 0.0, 5.0])
def test_an_identity_of_returns_is_accepted(gamma):
    found = rp_pca(np.eye(3), 1, gamma=gamma)
    expected = leading(np.eye(3) / 3 + gamma / 9, 1)[0]
    np.testing.assert_allclose(found.eigenvalues, expected, rtol=1e-12)


def test_assets_never_observed_together_share_their_means_only():
    panel = factor_panel(40, 6)
    panel[:20, :3], panel[20:, 3:] = np.nan, np.nan
    assert_same(rp_pca(panel, 2, gamma=3.0), oracle.rp_pca(panel, 2, gamma=3.0))


@pytest.mark.parametrize("n_factors", [0, 4])
def test_refuses_a_number_of_factors_out_of_range(n_factors):
    with pytest.raises(ValueError, match="n_factors"):
        rp_pca(factor_panel(3, 5), n_factors)


def test_refuses_an_asset_without_returns_by_number():
    panel = factor_panel(9, 5)
    panel[:, 4] = np.nan
    with pytest.raises(ValueError, match="returns has no finite entry for asset 4"):
        rp_pca(panel, 2)


@pytest.mark.parametrize("gamma", [np.nan, np.inf])
def test_refuses_a_gamma_that_is_no_number(gamma):
    with pytest.raises(ValueError, match="gamma"):
        rp_pca(factor_panel(9, 5), 2, gamma=gamma)


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (300, 260)])
def test_refuses_more_factors_than_the_moments_hold(shape):
    panel = factor_panel(*shape)
    panel = panel[:, :1] * np.ones(shape[1])
    with pytest.raises(ValueError, match="rank"):
        rp_pca(panel, 2, gamma=5.0)


def test_refuses_to_orthogonalise_collinear_factors():
    with pytest.raises(ValueError, match="covariance of the factors has rank 2"):
        rp_pca(factor_panel(3, 10), 3, gamma=5.0, orthogonalize_factors=True)


def test_refuses_the_covariance_of_one_date():
    with pytest.raises(ValueError, match="at least 2 dates"):
        rp_pca(np.ones((1, 3)), 1, base_moment="covariance")


@pytest.mark.parametrize(
    "wrong", [{"base_moment": "third"}, {"normalize_loadings": "none"}, {"gamma": "much"}]
)
def test_refuses_settings_it_does_not_know(wrong):
    with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
        rp_pca(factor_panel(9, 5), 2, **wrong)
