"""Members of the IPCA family under inference, measures, walking forward and the identities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml4t.models import CharacteristicMoments, CrossSectionBatch, IPCAConfig, IPCAModel, WalkForward
from ml4t.models.panel.imputation import fill_with_median
from oracles import ipca_inference as oracle
from strategies import SEEDS

T, N, L, K = 50, 30, 3, 2
NO_RIDGE = {"factor_ridge": 0.0, "gamma_ridge": 0.0}


def panel(seed=0, *, noise=0.02):
    """Two latent factors, an alpha and an observed factor."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(-0.5, 0.5, (T, N, L))
    g = 0.05 * rng.standard_normal((T, 1))
    gamma = np.linalg.qr(rng.standard_normal((L + 1, L + 1)))[0]
    f = rng.standard_normal((T, K)) * [0.06, 0.04] + 0.02
    b = f @ gamma[:, :K].T + g * gamma[:, K] + 0.01 * gamma[:, K + 1]
    r = np.einsum("tnl,tl->tn", z, b[:, 1:]) + b[:, :1] + noise * rng.standard_normal((T, N))
    r[rng.random((T, N)) < 0.1] = np.nan
    return CrossSectionBatch(z, returns=r), g


def fitted(batch, g=None, *, n_factors=K, **settings):
    model = IPCAModel(IPCAConfig(n_factors=n_factors, **{**NO_RIDGE, **settings}))
    assert model.fit(batch, observed_factors=g).converged
    return model


def explained(model, batch, g):
    """Fitted returns (T, N)."""
    state = model.extract(batch, observed_factors=g)
    return np.einsum("tnk,tk->tn", state.asset_betas, state.factor_returns)


@pytest.mark.parametrize("intercept", [False, True])
def test_observed_factors_alone_are_pooled_least_squares(intercept):
    batch, g = panel()
    model = fitted(batch, g, n_factors=0, intercept=intercept)
    usable = np.isfinite(batch.returns)
    design = np.concatenate([np.ones((T, N, 1)), batch.characteristics], axis=2)
    both = np.hstack([g, np.ones_like(g)]) if intercept else g
    rows = np.einsum("tnp,tm->tnpm", design, both)[usable].reshape(usable.sum(), -1)
    slopes = np.linalg.lstsq(rows, batch.returns[usable])[0].reshape(L + 1, -1)
    got = [model.gamma_observed] + ([model.alpha[:, None]] if intercept else [])
    np.testing.assert_allclose(np.hstack(got), slopes, atol=1e-9)
    assert model.gamma.shape == (L + 1, 0)
    assert model.extract(batch, observed_factors=g).n_factors == 1 + intercept
    assert model.test_observed_factors(n_draws=50).p_value < 0.05
    measures = model.fit_measures(batch, observed_factors=g)
    errors = (batch.returns[usable] - rows @ slopes.ravel()) ** 2
    want = 1 - errors.sum() / (batch.returns[usable] ** 2).sum()
    assert measures.assets.total.against_zero == pytest.approx(want)
    assert "0 factors" in str(model.summary())


def test_standard_errors_of_observed_factors_alone_are_those_of_clustered_least_squares():
    batch, g = panel()
    model = fitted(batch, g, n_factors=0)
    usable = np.isfinite(batch.returns)
    design = np.concatenate([np.ones((T, N, 1)), batch.characteristics], axis=2) * g[:, :, None]
    x, y = design[usable], batch.returns[usable]
    slopes = np.linalg.lstsq(x, y)[0]
    date = np.nonzero(usable)[0]
    scores = np.zeros((T, L + 1))
    np.add.at(scores, date, x * (y - x @ slopes)[:, None])
    bread = np.linalg.inv(x.T @ x)
    want = np.sqrt(np.diag(bread @ scores.T @ scores @ bread))
    np.testing.assert_allclose(model.standard_errors().gamma_observed[:, 0], want, rtol=1e-9)


def test_no_factor_at_all_is_refused():
    with pytest.raises(ValueError, match="n_factors must be at least 1 without observed_factors"):
        IPCAModel(IPCAConfig(n_factors=0)).fit(panel()[0])
    batch, g = panel()
    model = fitted(batch, g, n_factors=0)
    with pytest.raises(ValueError, match="test_characteristics needs latent factors"):
        model.test_characteristics()
    with pytest.raises(ValueError, match="tangency_portfolio needs latent factors"):
        model.tangency_portfolio(target_volatility=1.0)


@pytest.mark.parametrize("rows", [(0, 1), (3, 1)])
def test_the_identity_form_fits_the_same(rows):
    batch, g = panel()
    plain = fitted(batch, g, intercept=True)
    model = fitted(batch, g, intercept=True, normalization="identity", identity_on=rows)
    np.testing.assert_allclose(model.gamma[list(rows)], np.eye(K), atol=1e-12)
    np.testing.assert_array_equal(model.alpha, plain.alpha)
    np.testing.assert_allclose(
        explained(model, batch, g), explained(plain, batch, g), rtol=0, atol=1e-9
    )
    state = model.extract(batch, observed_factors=g)
    np.testing.assert_allclose(state.factor_returns[:, :K], model.train_factor_returns, atol=1e-10)
    assert model.test_alpha(n_draws=30).p_value == plain.test_alpha(n_draws=30).p_value
    got, want = model.test_characteristics(2, n_draws=30), plain.test_characteristics(2, n_draws=30)
    np.testing.assert_allclose(got.draws, want.draws, rtol=1e-5)
    portfolios = [m.arbitrage_portfolio(target_volatility=0.01).returns for m in (model, plain)]
    np.testing.assert_allclose(*portfolios, atol=1e-9)
    sharpe = [m.tangency_portfolio(target_volatility=0.01).sharpe_ratio for m in (plain, plain)]
    assert sharpe[0] == sharpe[1]


def test_standard_errors_in_the_identity_form_agree_with_reweighting_dates():
    batch, _ = panel()
    batch = replace(batch, returns=np.nan_to_num(batch.returns))
    rows = [1, 2]
    model = fitted(batch, normalization="identity", identity_on=tuple(rows), tol=1e-10)
    moments = CharacteristicMoments.from_batch(batch).moments
    n = moments.n_assets.astype(float)
    x, w = moments.cross / n[:, None], moments.full_gram / n[:, None, None]
    contributions = []
    for t in range(T):
        moved = []
        for step in (1e-5, -1e-5):
            weight = n.copy()
            weight[t] *= 1 + step
            result = oracle.estimate(x, w, weight, np.zeros((T, 0)), model.gamma, K, tol=1e-13)
            moved.append(result @ np.linalg.inv(result[rows]))
        contributions.append((moved[0] - moved[1]) / 2e-5)
    want = np.sqrt((np.array(contributions) ** 2).sum(axis=0))
    np.testing.assert_allclose(model.standard_errors().gamma, want, rtol=1e-3, atol=1e-8)


def test_more_starts_never_end_higher():
    rng = np.random.default_rng(5)
    for _ in range(10):
        z, r = rng.standard_normal((12, 6, 4)), rng.standard_normal((12, 6))
        batch = CrossSectionBatch(z, returns=r)
        one, many = (
            IPCAModel(IPCAConfig(n_factors=2)),
            IPCAModel(IPCAConfig(n_factors=2, n_starts=8)),
        )
        one.fit(batch)
        many.fit(batch)
        assert many.certificate.objective <= one.certificate.objective + 1e-12


def holes(batch, share=0.1, seed=0):
    z = batch.characteristics.copy()
    z[np.random.default_rng(seed).random(z.shape) < share] = np.nan
    z[3, :, 1] = np.nan  # nobody has it at this date
    z[4, 2] = np.nan  # no asset
    return replace(batch, characteristics=z)


def filled(batch):
    there = [np.isfinite(date).any(axis=1) for date in batch.characteristics]
    z = [
        fill_with_median(date, rows)
        for date, rows in zip(batch.characteristics, there, strict=True)
    ]
    z = np.array(z)
    return replace(batch, characteristics=z)


def test_without_a_mask_a_row_of_gaps_is_no_asset():
    gaps = holes(panel()[0])
    model = fitted(gaps, missing="median")
    other = fitted(filled(gaps))
    np.testing.assert_array_equal(model.gamma, other.gamma)
    betas = model.extract(gaps).asset_betas
    np.testing.assert_array_equal(betas, other.extract(filled(gaps)).asset_betas)
    assert np.isnan(betas[4, 2]).all()
    there = np.isfinite(gaps.characteristics).any(axis=2)
    np.testing.assert_array_equal(np.isfinite(betas).all(axis=2), there)
    assert model.fit_measures(gaps) == other.fit_measures(filled(gaps))


def test_walking_forward_fills_as_the_fits_do():
    gaps = holes(panel()[0])
    model = IPCAModel(IPCAConfig(n_factors=K, missing="median"))
    got = WalkForward(model, min_periods=40, refit_every=5).run(gaps)
    want = WalkForward(IPCAModel(IPCAConfig(n_factors=K)), min_periods=40, refit_every=5).run(
        filled(gaps)
    )
    for left, right in zip(got.models, want.models, strict=True):
        np.testing.assert_array_equal(left.gamma, right.gamma)


@given(SEEDS, st.booleans())
def test_an_invertible_recombination_of_characteristics_changes_no_fitted_return(seed, intercept):
    batch, g = panel()
    mix = np.random.default_rng(seed).standard_normal((L, L)) + 3.0 * np.eye(L)
    mixed = replace(batch, characteristics=batch.characteristics @ mix)
    got, want = (
        explained(fitted(data, g, intercept=intercept), data, g) for data in (mixed, batch)
    )
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-7)


@given(st.sampled_from([1e-3, 1e3]))
def test_the_scale_of_returns_moves_factors_and_alpha_alone(scale):
    batch, g = panel()
    got = fitted(replace(batch, returns=scale * batch.returns), scale * g, intercept=True)
    want = fitted(batch, g, intercept=True)
    np.testing.assert_allclose(got.gamma, want.gamma, atol=1e-8)
    np.testing.assert_allclose(got.gamma_observed, want.gamma_observed, atol=1e-8)
    np.testing.assert_allclose(got.alpha / scale, want.alpha, atol=1e-8)
    np.testing.assert_allclose(
        got.train_factor_returns / scale, want.train_factor_returns, atol=1e-8
    )


@given(st.randoms(use_true_random=False))
def test_orders_of_assets_and_dates_are_labels_and_rows_may_come_twice(random):
    batch, g = panel()
    assets, dates = list(range(N)), list(range(T))
    random.shuffle(assets)
    random.shuffle(dates)
    want = fitted(batch, g, intercept=True)
    z, r = batch.characteristics[dates][:, assets], batch.returns[dates][:, assets]
    twice = CrossSectionBatch(np.tile(z, (1, 2, 1)), returns=np.tile(r, (1, 2)))
    got = fitted(twice, g[dates], intercept=True)
    np.testing.assert_allclose(got.gamma, want.gamma, atol=1e-7)
    np.testing.assert_allclose(got.alpha, want.alpha, atol=1e-7)
    np.testing.assert_allclose(
        got.train_factor_returns, want.train_factor_returns[dates], atol=1e-7
    )
