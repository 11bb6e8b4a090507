"""How much IPCA explains and what its factors earn, against sums over rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ml4t.models import CharacteristicMoments, CrossSectionBatch, FitMeasures, IPCAConfig, IPCAModel

T, N, L = 40, 25, 3
NO_RIDGE = {"factor_ridge": 0.0, "gamma_ridge": 0.0}


def panel(seed=0, *, alpha=0.01):
    rng = np.random.default_rng(seed)
    z = rng.uniform(-0.5, 0.5, (T, N, L))
    gamma = np.linalg.qr(rng.standard_normal((L + 1, 2)))[0]
    f = 0.05 * rng.standard_normal((T, 2)) + [0.02, 0.01]
    b = f @ gamma.T + alpha * rng.standard_normal(L + 1)
    r = np.einsum("tnl,tl->tn", z, b[:, 1:]) + b[:, :1] + 0.03 * rng.standard_normal((T, N))
    r[rng.random((T, N)) < 0.2] = np.nan
    r[7, 1:] = np.nan  # fewer rows than min_assets
    z[rng.random((T, N, L)) < 0.02] = np.nan
    mask = rng.random((T, N)) < 0.95
    return CrossSectionBatch(z, returns=r, mask=mask, timestamps=tuple(range(T)))


def fitted(batch, **settings):
    model = IPCAModel(IPCAConfig(n_factors=2, **NO_RIDGE, **settings))
    model.fit(batch)
    return model


def by_rows(batch, model, *, alpha):
    """Every coefficient from residuals, asset by asset: assets, then managed portfolios."""
    z, r = batch.characteristics, batch.returns
    usable = batch.mask & np.isfinite(z).all(axis=2) & np.isfinite(r)
    dates = [t for t in range(len(r)) if usable[t].sum() >= 2]
    f = model.extract(batch).factor_returns[:, :2]
    premia = model.train_factor_returns.mean(axis=0)
    level = model.alpha if alpha else np.zeros(L + 1)
    errors = {"total": np.full((T, N), np.nan), "predictive": np.full((T, N), np.nan)}
    x, left = np.empty((len(dates), L + 1)), {k: np.empty((len(dates), L + 1)) for k in errors}
    for row, t in enumerate(dates):
        i = usable[t]
        design = np.column_stack([np.ones(i.sum()), z[t, i]])
        x[row] = design.T @ r[t, i] / i.sum()
        for name, path in (("total", f[t]), ("predictive", premia)):
            e = r[t, i] - design @ (model.gamma @ path + level)
            errors[name][t, i] = e
            left[name][row] = design.T @ e / i.sum()
    y = np.where(usable, r, np.nan)
    y[[t for t in range(len(r)) if t not in dates]] = np.nan
    return r2s(y, errors), r2s(x, left)


def r2s(y, errors):
    about = [np.zeros_like(y), np.nanmean(y, axis=0) + 0 * y, np.nanmean(y) + 0 * y]
    result = {
        name: [1 - np.nansum(e**2) / np.nansum((y - b) ** 2) for b in about]
        for name, e in errors.items()
    }
    means, left = np.nanmean(y, axis=0), np.nanmean(errors["total"], axis=0)
    result["cross_sectional"] = [
        1 - (left**2).sum() / (means**2).sum(),
        np.nan,
        1 - (left**2).sum() / ((means - means.mean()) ** 2).sum(),
    ]
    return result


def numbers(level):
    kinds = ("total", "predictive", "cross_sectional")
    parts = {kind: getattr(level, kind) for kind in kinds}
    return {
        kind: [part.against_zero, part.against_mean, part.against_pooled_mean]
        for kind, part in parts.items()
    }


def same(got, want):
    for kind, values in numbers(got).items():
        np.testing.assert_allclose(values, want[kind], atol=1e-10)


def test_measures_agree_with_sums_over_rows():
    batch = panel()
    model = fitted(batch, intercept=True)
    got = model.fit_measures(batch)
    for measures, alpha in ((got, True), (got.without_alpha, False)):
        assets, managed = by_rows(batch, model, alpha=alpha)
        same(measures.assets, assets)
        same(measures.managed_portfolios, managed)
    assert got.without_alpha.without_alpha is None
    assert got.n_dates == T - 1
    assert fitted(batch).fit_measures(batch).without_alpha is None


def test_measures_of_other_dates_use_the_mean_factors_of_the_fit():
    batch, later = panel(), panel(1)
    model = fitted(batch, intercept=True)
    assets, managed = by_rows(later, model, alpha=True)
    got = model.fit_measures(later)
    same(got.assets, assets)
    same(got.managed_portfolios, managed)


def test_moments_know_everything_but_which_asset_is_which():
    batch = panel()
    model = fitted(batch, intercept=True)
    full, lean = (
        numbers(model.fit_measures(data).assets)
        for data in (batch, CharacteristicMoments.from_batch(batch))
    )
    for kind in ("total", "predictive"):
        np.testing.assert_allclose(lean[kind][::2], full[kind][::2], atol=1e-12)
        assert np.isnan(lean[kind][1])
    assert np.isnan(lean["cross_sectional"]).all()


def test_more_factors_and_an_alpha_explain_more_in_total():
    batch = panel()
    totals = [
        IPCAModel(IPCAConfig(n_factors=k, intercept=alpha, **NO_RIDGE))
        for alpha in (False, True)
        for k in (1, 2, 3)
    ]
    for model in totals:
        model.fit(batch)
    r2 = np.array([m.fit_measures(batch).assets.total.against_zero for m in totals]).reshape(2, 3)
    assert (np.diff(r2, axis=1) >= -1e-10).all()
    assert (r2[1] >= r2[0] - 1e-10).all()


def test_without_a_constant_measures_agree_with_those_of_a_constant_characteristic():
    batch = panel()
    ones = np.ones((T, N, 1))
    wide = replace(batch, characteristics=np.concatenate([ones, batch.characteristics], axis=2))
    got, want = (
        fitted(data, constant=constant).fit_measures(data)
        for data, constant in ((wide, False), (batch, True))
    )
    for level in ("assets", "managed_portfolios"):
        same(getattr(got, level), numbers(getattr(want, level)))
    assert isinstance(got, FitMeasures)


def test_the_tangency_portfolio_has_the_largest_sharpe_ratio_and_the_target_volatility():
    batch = panel()
    model = fitted(batch)
    best = model.tangency_portfolio(target_volatility=0.04)
    f = model.train_factor_returns
    mean, covariance = f.mean(axis=0), np.cov(f.T, ddof=0)
    assert best.volatility == pytest.approx(0.04)
    assert best.sharpe_ratio == pytest.approx(np.sqrt(mean @ np.linalg.solve(covariance, mean)))
    assert best.mean > 0
    np.testing.assert_allclose(best.returns, f @ best.weights)
    again = model.tangency_portfolio(batch, target_volatility=0.04)
    np.testing.assert_allclose(again.returns[model_dates(batch)], best.returns, atol=1e-12)


def model_dates(batch):
    usable = (
        batch.mask & np.isfinite(batch.characteristics).all(axis=2) & np.isfinite(batch.returns)
    )
    return np.flatnonzero(usable.sum(axis=1) >= 2)


def test_out_of_sample_the_weights_stay_those_of_the_training():
    batch, later = panel(), panel(1)
    model = fitted(batch, intercept=True)
    for portfolio, factors in (
        (model.tangency_portfolio, lambda: model.extract(later).factor_returns[:, :2]),
        (model.arbitrage_portfolio, lambda: slopes(later)),
    ):
        inside, outside = (
            portfolio(target_volatility=0.02),
            portfolio(later, target_volatility=0.02),
        )
        np.testing.assert_array_equal(outside.weights, inside.weights)
        dates = model_dates(later)
        np.testing.assert_allclose(
            outside.returns[dates], (factors() @ inside.weights)[dates], atol=1e-10
        )
        assert outside.timestamps == later.timestamps
        assert inside.volatility == pytest.approx(0.02)


def slopes(batch):
    usable = (
        batch.mask & np.isfinite(batch.characteristics).all(axis=2) & np.isfinite(batch.returns)
    )
    out = np.zeros((T, L + 1))
    for t in model_dates(batch):
        i = usable[t]
        design = np.column_stack([np.ones(i.sum()), batch.characteristics[t, i]])
        out[t] = np.linalg.lstsq(design, batch.returns[t, i])[0]
    return out


def test_the_arbitrage_portfolio_earns_the_alpha_and_no_factor():
    rng = np.random.default_rng(3)
    z = rng.uniform(-0.5, 0.5, (T, N, L))
    gamma = np.linalg.qr(rng.standard_normal((L + 1, 2)))[0]
    own = 0.01 * rng.standard_normal(L + 1)
    own -= gamma @ (gamma.T @ own)
    b = (0.1 * rng.standard_normal((T, 2))) @ gamma.T + own + 1e-6 * rng.standard_normal((T, 1))
    r = np.einsum("tnl,tl->tn", z, b[:, 1:]) + b[:, :1]
    model = fitted(CrossSectionBatch(z, returns=r), intercept=True)
    result = model.arbitrage_portfolio(target_volatility=1.0)
    scale = np.linalg.norm(result.weights) / np.linalg.norm(model.alpha)
    assert result.mean / scale == pytest.approx(own @ own, rel=1e-3)
    assert result.sharpe_ratio > 10  # nothing but the tiny noise varies


def test_an_observed_factor_must_come_with_the_panel():
    batch = panel()
    g = 0.1 * np.random.default_rng(1).standard_normal((T, 1))
    model = IPCAModel(IPCAConfig(n_factors=1))
    model.fit(batch, observed_factors=g)
    assert 0 < model.fit_measures(batch, observed_factors=g).assets.total.against_zero < 1
    assert model.tangency_portfolio(batch, target_volatility=1.0, observed_factors=g).mean > 0
    with pytest.raises(ValueError, match="realized factors need observed_factors; got none"):
        model.fit_measures(batch)
    with pytest.raises(ValueError, match=r"arbitrage_portfolio needs a model with intercept=True"):
        model.arbitrage_portfolio(target_volatility=1.0)
    with pytest.raises(ValueError, match=r"target_volatility must be a finite number > 0"):
        model.tangency_portfolio(target_volatility=0.0)
    with pytest.raises(ValueError, match="requires returns"):
        model.fit_measures(replace(batch, returns=None))


@pytest.mark.parametrize(
    "ask",
    [
        lambda model, batch: model.fit_measures(batch),
        lambda model, batch: model.tangency_portfolio(batch, target_volatility=0.1),
        lambda model, batch: model.arbitrage_portfolio(batch, target_volatility=0.1),
        lambda model, batch: model.characteristic_importance(batch),
        lambda model, batch: model.summary(batch),
        lambda model, batch: model.test_alpha(batch=batch, n_draws=1),
        lambda model, batch: model.standard_errors(batch=batch),
        lambda model, batch: model.extract(batch),
    ],
)
def test_what_has_other_characteristics_or_is_no_panel_is_refused(ask):
    batch = panel()
    model = fitted(batch, intercept=True)
    narrow = replace(batch, characteristics=batch.characteristics[:, :, 1:])
    with pytest.raises(ValueError, match="the feature dimension must be the fitted 3; got 2"):
        ask(model, narrow)
    with pytest.raises(TypeError, match="batch must be a CrossSectionBatch or Char"):
        ask(model, batch.returns)
