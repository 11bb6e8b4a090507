"""The members of the IPCA family: observed factors alone, normalisations, starts, gaps filled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml4t.models import CharacteristicMoments, CrossSectionBatch, IPCAConfig, IPCAModel, WalkForward
from ml4t.models.panel.filling import filled_at_the_middle
from oracles import ipca_inference as oracle
from strategies import SEEDS, panels

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
    with pytest.raises(ValueError, match="n_factors must be between 1 and 4; got 0"):
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
    model = fitted(batch, g, intercept=True, identity_on=rows)
    np.testing.assert_allclose(model.gamma[list(rows)], np.eye(K), atol=1e-12)
    np.testing.assert_allclose(model.gamma_observed[list(rows)], 0.0, atol=1e-12)
    np.testing.assert_allclose(model.alpha[list(rows)], 0.0, atol=1e-12)
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
    model = fitted(batch, identity_on=tuple(rows), tol=1e-10)
    moments = CharacteristicMoments.from_batch(batch).moments
    n = moments.n_assets.astype(float)
    x, w = moments.cross / n[:, None], moments.full_gram / n[:, None, None]
    contributions = []
    for t in range(T):
        moved = []
        for step in (1e-5, -1e-5):
            weight = n.copy()
            weight[t] *= 1 + step
            found = oracle.estimate(x, w, weight, np.zeros((T, 0)), model.gamma, K, tol=1e-13)
            moved.append(found @ np.linalg.inv(found[rows]))
        contributions.append((moved[0] - moved[1]) / 2e-5)
    want = np.sqrt((np.array(contributions) ** 2).sum(axis=0))
    np.testing.assert_allclose(model.standard_errors().gamma, want, rtol=1e-3, atol=1e-8)


def test_refuses_a_form_that_is_none():
    with pytest.raises(ValueError, match=r"identity_on must name n_factors=2 rows .* got \(1,\)"):
        IPCAConfig(n_factors=2, identity_on=(1,))
    with pytest.raises(ValueError, match=r"identity_on must name n_factors=2 rows"):
        IPCAConfig(n_factors=2, identity_on=(1, 1))
    with pytest.raises(ValueError, match=r"identity_on entry 0 must be an integer >= 0"):
        IPCAConfig(n_factors=1, identity_on=(-1,))
    with pytest.raises(ValueError, match=r"identity_on must name rows of Gamma below 4"):
        IPCAModel(IPCAConfig(n_factors=1, identity_on=(4,))).fit(panel()[0])
    rng = np.random.default_rng(0)
    z = rng.uniform(-0.5, 0.5, (T, N, 2))
    z[..., 1] = 0.0
    batch = CrossSectionBatch(z, returns=z[..., 0] * rng.standard_normal((T, 1)))
    with pytest.raises(
        ValueError, match=r"identity_on .* span the factors; those of \(2,\) do not"
    ):
        IPCAModel(IPCAConfig(n_factors=1, identity_on=(2,))).fit(batch)


def test_more_starts_find_the_same_minimum_where_there_is_one():
    batch, g = panel()
    model = IPCAModel(IPCAConfig(n_factors=K, n_starts=4))
    summary = model.fit(batch, observed_factors=g)
    assert summary.train_metrics["n_starts_agreeing"] == 4
    np.testing.assert_array_equal(
        model.gamma, fitted(batch, g, factor_ridge=1e-6, gamma_ridge=1e-6).gamma
    )


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


@given(panels(max_chars=4))
def test_filling_takes_the_median_of_the_date_and_touches_nothing_else(case):
    batch = CrossSectionBatch(case.characteristics, returns=case.returns, mask=case.mask)
    got = filled_at_the_middle(batch)
    z, out, n_filled = batch.characteristics, got.batch.characteristics, 0
    for t in range(z.shape[0]):
        there = [i for i in range(z.shape[1]) if case.mask[t, i] and np.isfinite(z[t, i]).any()]
        for i in range(z.shape[1]):
            for j in range(z.shape[2]):
                seen = [z[t, k, j] for k in there if np.isfinite(z[t, k, j])]
                if i in there and seen and not np.isfinite(z[t, i, j]):
                    n_filled += 1
                    assert out[t, i, j] == np.median(seen)
                else:
                    np.testing.assert_array_equal(out[t, i, j], z[t, i, j])
    assert got.n_filled == n_filled
    assert got.batch.characteristics.dtype == z.dtype
    assert (got.batch is batch) == (n_filled == 0)


def test_the_middle_keeps_rows_that_skipping_loses():
    batch, _ = panel()
    gaps = holes(batch)
    filled = filled_at_the_middle(gaps)
    model = IPCAModel(IPCAConfig(n_factors=K, missing="middle"))
    summary = model.fit(gaps)
    other = IPCAModel(IPCAConfig(n_factors=K))
    other.fit(filled.batch)
    np.testing.assert_array_equal(model.gamma, other.gamma)
    assert summary.train_metrics["n_filled"] == filled.n_filled > 0
    got, want = model.extract(gaps), other.extract(filled.batch)
    np.testing.assert_array_equal(got.asset_betas, want.asset_betas)
    np.testing.assert_array_equal(got.factor_returns, want.factor_returns)
    assert model.fit_measures(gaps) == other.fit_measures(filled.batch)
    assert np.isnan(got.asset_betas[3]).all()
    assert np.isnan(got.asset_betas[4, 2]).all()
    skipping = IPCAModel(IPCAConfig(n_factors=K))
    assert "n_filled" not in skipping.fit(gaps).train_metrics
    assert (
        np.isfinite(got.asset_betas).sum() > np.isfinite(skipping.extract(gaps).asset_betas).sum()
    )


@given(SEEDS, st.integers(0, T - 1))
def test_filling_sees_neither_returns_nor_other_dates(seed, date):
    gaps = holes(panel()[0], seed=seed)
    rng = np.random.default_rng(seed)
    z, r = gaps.characteristics.copy(), gaps.returns.copy()
    others = np.arange(T) != date
    z[others] += rng.standard_normal(z[others].shape)
    r[:] = rng.standard_normal(r.shape)
    got = filled_at_the_middle(replace(gaps, characteristics=z, returns=r))
    want = filled_at_the_middle(gaps)
    np.testing.assert_array_equal(got.batch.characteristics[date], want.batch.characteristics[date])


def test_walking_forward_fills_as_the_fits_do():
    gaps = holes(panel()[0])
    model = IPCAModel(IPCAConfig(n_factors=K, missing="middle"))
    got = WalkForward(model, min_periods=40, refit_every=5).run(gaps)
    want = WalkForward(IPCAModel(IPCAConfig(n_factors=K)), min_periods=40, refit_every=5).run(
        filled_at_the_middle(gaps).batch
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
