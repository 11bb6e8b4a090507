"""Vector autoregression, predictive regression, combinations: closed forms and laws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, Ridge
from statsmodels.tsa.api import VAR

from ml4t.models import (
    AR1FactorForecaster,
    AR1ForecasterConfig,
    BetaLambdaMapper,
    CombinedFactorForecaster,
    CombinedForecasterConfig,
    EWMABaseFactorForecaster,
    EWMABaseForecasterConfig,
    LatentFactorForecastPipeline,
    LatentFactorState,
    MacroFactorForecaster,
    MacroForecasterConfig,
    PCAConfig,
    VAR1FactorForecaster,
    VAR1ForecasterConfig,
    WalkForward,
)
from oracles import three_pass
from premia_batches import batches

T, K, Q = 60, 2, 3


def history(seed=0, n_dates=T, n_factors=K, n_predictors=Q):
    """Factors that follow their lags and their predictors."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_dates, n_predictors))
    f = 0.01 + 0.05 * rng.standard_normal((n_dates, n_factors))
    f += 0.02 * x @ rng.standard_normal((n_predictors, n_factors))
    f[1:] += 0.3 * f[:-1]
    return state(f, x * np.geomspace(1e-2, 1e2, n_predictors))


def state(factors=None, predictors=None, n_factors=K):
    n_dates = len(predictors if factors is None else factors)
    n_factors = n_factors if factors is None else np.shape(factors)[1]
    betas = np.ones((n_dates, 1, n_factors))
    return LatentFactorState(betas, factor_returns=factors, context_features=predictors)


def coming(n_dates, n_factors=K):
    return LatentFactorState(np.ones((n_dates, 1, n_factors)))


MACRO = [MacroForecasterConfig(method=method) for method in ("ols", "ridge", "three-pass")]
COMBINED = CombinedForecasterConfig(
    members=(VAR1ForecasterConfig(), *MACRO, EWMABaseForecasterConfig(half_life=3.0)),
    weights=(1, 2, 3, 4, 0.5),
)
FORECASTERS = [
    VAR1FactorForecaster,
    *(lambda config=config: MacroFactorForecaster(config) for config in MACRO),
    lambda: CombinedFactorForecaster(COMBINED),
]
forecasters = pytest.mark.parametrize("make", FORECASTERS, ids=["var1", *"orp", "combined"])


# Vector autoregression


@given(st.integers(0, 2**32 - 1), st.integers(2, 4))
def test_var1_is_the_least_squares_of_statsmodels(seed, n_factors):
    past = history(seed, n_factors=n_factors)
    forecaster = VAR1FactorForecaster()
    forecaster.fit(past)
    expected = VAR(np.asarray(past.factor_returns)).fit(1, trend="c")
    fit = forecaster._fitted("test")
    np.testing.assert_allclose(fit.intercepts, expected.params[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fit.slopes, expected.coefs[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        forecaster.predict(coming(4, n_factors)).factor_premia,
        expected.forecast(np.asarray(past.factor_returns), 4),
        rtol=1e-9,
        atol=1e-12,
    )


def test_var1_of_one_factor_is_ar1():
    past = history(n_factors=1)
    one, other = VAR1FactorForecaster(), AR1FactorForecaster()
    one.fit(past), other.fit(past)
    got, want = (f.predict(coming(5, 1)).factor_premia for f in (one, other))
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_a_noiseless_autoregression_is_found_and_continued():
    slopes = np.array([[0.5, 0.2], [-0.3, 0.6]])
    x = [np.array([1.0, -1.0])]
    for _ in range(9):
        x.append(np.array([0.1, 0.2]) + slopes @ x[-1])
    forecaster = VAR1FactorForecaster()
    forecaster.fit(state(np.array(x[:8])))
    got = forecaster.predict(coming(2)).factor_premia
    np.testing.assert_allclose(got, x[8:], rtol=1e-9)
    np.testing.assert_allclose(forecaster._fitted("test").slopes, slopes, rtol=1e-9)


def test_pairs_with_a_hole_do_not_count():
    past = history().factor_returns.copy()
    past[[10, 30], [0, 1]] = np.nan
    forecaster = VAR1FactorForecaster()
    forecaster.fit(state(past))
    lag, lead = past[:-1], past[1:]
    whole = np.isfinite(lag).all(axis=1) & np.isfinite(lead).all(axis=1)
    assert whole.sum() == T - 1 - 4
    line = LinearRegression().fit(lag[whole], lead[whole])
    np.testing.assert_allclose(forecaster._fitted("test").slopes, line.coef_, rtol=1e-9)


def test_an_explosive_estimate_is_scaled_to_the_largest_root_allowed():
    past = state(1.5 ** np.arange(12.0)[:, None] * np.array([[1.0, -2.0]]))
    forecaster = VAR1FactorForecaster(VAR1ForecasterConfig(max_root=0.9))
    summary = forecaster.fit(past)
    assert summary.train_metrics["largest_root"] > 1
    assert "scaled down to 0.9" in summary.notes[0]
    roots = np.abs(np.linalg.eigvals(forecaster._fitted("test").slopes))
    assert roots.max() == pytest.approx(0.9, rel=1e-9)
    # The path leads back to the mean of the history.
    path = forecaster.predict(coming(400)).factor_premia
    np.testing.assert_allclose(path[-1], past.factor_returns.mean(axis=0), rtol=1e-9)


def test_a_stationary_estimate_is_left_alone():
    forecaster = VAR1FactorForecaster(VAR1ForecasterConfig(max_root=0.9))
    assert forecaster.fit(history()).notes == ()


@pytest.mark.parametrize("n_dates", [1, 2, 4])
def test_too_short_a_history_forecasts_its_mean(n_dates):
    past = history(n_dates=n_dates)
    forecaster = VAR1FactorForecaster()
    forecaster.fit(past)
    mean = past.factor_returns.mean(axis=0)
    np.testing.assert_array_equal(forecaster.predict(coming(2)).factor_premia, [mean, mean])


def test_full_shrinkage_is_the_mean():
    past = history()
    forecaster = VAR1FactorForecaster(VAR1ForecasterConfig(shrinkage=1.0))
    forecaster.fit(past)
    mean = past.factor_returns.mean(axis=0)
    np.testing.assert_allclose(
        forecaster.predict(coming(2)).factor_premia, [mean, mean], rtol=1e-12
    )


def test_a_realisation_moves_the_forecast_of_all_factors():
    forecaster = VAR1FactorForecaster()
    forecaster.fit(history())
    fit = forecaster._fitted("test")
    observed = state(np.array([[0.9, np.nan], [np.nan, 7.0]]))
    got = forecaster.predict(observed).factor_premia
    start = np.array([0.9, got[0, 1]])  # where nothing was realised, the forecast goes on
    np.testing.assert_allclose(got[1], fit.intercepts + fit.slopes @ start, rtol=1e-12)


def test_an_observed_factor_that_is_one_stays_one():
    past = history().factor_returns
    with_alpha = np.column_stack([past, np.ones(T)])
    alone, both = VAR1FactorForecaster(), VAR1FactorForecaster()
    alone.fit(state(past)), both.fit(state(with_alpha))
    want = alone.predict(coming(3)).factor_premia
    got = both.predict(coming(3, K + 1)).factor_premia
    np.testing.assert_allclose(got, np.column_stack([want, np.ones(3)]), rtol=1e-10)


# Regression on predictors


@given(st.integers(0, 2**32 - 1))
def test_ols_is_that_of_scikit_learn(seed):
    past, new = history(seed), history(seed + 1).context_features
    forecaster = MacroFactorForecaster()
    summary = forecaster.fit(past)
    line = LinearRegression().fit(past.context_features, past.factor_returns)
    got = forecaster.predict(state(predictors=new)).factor_premia
    np.testing.assert_allclose(got, line.predict(new), rtol=1e-8, atol=1e-10)
    residual = past.factor_returns - line.predict(past.context_features)
    centred = past.factor_returns - past.factor_returns.mean(axis=0)
    r2 = 1 - (residual**2).sum() / (centred**2).sum()
    assert summary.train_metrics["r2"] == pytest.approx(r2, rel=1e-9)


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 10))
def test_ridge_is_that_of_scikit_learn_on_standardised_predictors(seed, ridge):
    past, new = history(seed), history(seed + 1).context_features
    forecaster = MacroFactorForecaster(MacroForecasterConfig(method="ridge", ridge=ridge))
    forecaster.fit(past)
    middle, scale = past.context_features.mean(axis=0), past.context_features.std(axis=0)
    line = Ridge(alpha=ridge * T).fit((past.context_features - middle) / scale, past.factor_returns)
    got = forecaster.predict(state(predictors=new)).factor_premia
    np.testing.assert_allclose(got, line.predict((new - middle) / scale), rtol=1e-8, atol=1e-10)


def test_no_ridge_is_least_squares():
    past = history()
    plain, none = MacroFactorForecaster(), MacroFactorForecaster()
    none.set_params(config__method="ridge", config__ridge=0.0)
    plain.fit(past), none.fit(past)
    assert none._fitted("test").slopes.tolist() == plain._fitted("test").slopes.tolist()


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_the_three_pass_filter_is_its_three_passes(seed, n_proxies):
    past, new = history(seed, n_predictors=8), history(seed + 1, n_predictors=8).context_features
    config = MacroForecasterConfig(method="three-pass", n_proxies=n_proxies)
    forecaster = MacroFactorForecaster(config)
    forecaster.fit(past)
    got = forecaster.predict(state(predictors=np.vstack([past.context_features, new])))
    for k, target in enumerate(past.factor_returns.T):
        twin = three_pass.forecasts(past.context_features, target, new, n_proxies)
        np.testing.assert_allclose(got.factor_premia[:, k], np.hstack(twin), rtol=1e-6, atol=1e-9)


def test_the_three_pass_filter_finds_the_relevant_factor_among_many():
    # Kelly and Pruitt: the target depends on one of two factors of the predictors, the smaller.
    rng = np.random.default_rng(0)
    relevant, other = rng.standard_normal((2, 400))
    loadings = rng.standard_normal((2, 60))
    x = np.outer(relevant, loadings[0]) + 3 * np.outer(other, loadings[1])
    x += rng.standard_normal(x.shape)
    target = 0.1 * relevant + 0.01 * rng.standard_normal(400)
    forecaster = MacroFactorForecaster(MacroForecasterConfig(method="three-pass", n_proxies=2))
    forecaster.fit(state(target[:200, None], x[:200]))
    ahead = forecaster.predict(state(predictors=x[200:], n_factors=1)).factor_premia[:, 0]
    assert np.corrcoef(ahead, target[200:])[0, 1] > 0.9


@pytest.mark.parametrize("config", MACRO, ids=lambda config: config.method)
def test_predictors_may_be_in_any_unit(config):
    past = history()
    one, other = MacroFactorForecaster(config), MacroFactorForecaster(config)
    unit = np.array([1e-2, 1e5, 3.0])
    one.fit(past), other.fit(replace(past, context_features=past.context_features * unit + 7.0))
    want = one.predict(state(predictors=past.context_features)).factor_premia
    got = other.predict(state(predictors=past.context_features * unit + 7.0)).factor_premia
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("config", MACRO, ids=lambda config: config.method)
def test_a_predictor_that_does_not_vary_changes_nothing(config):
    past = history()
    forecaster = MacroFactorForecaster(config)
    doubled = np.column_stack([past.context_features, np.full(T, 0.1)])
    forecaster.fit(replace(past, context_features=doubled))
    assert (forecaster._fitted("test").slopes[-1] == 0).all()


def test_holes_are_left_out_and_filled_with_the_mean():
    past = history()
    x, f = past.context_features.copy(), past.factor_returns.copy()
    x[5, 1], f[9, 0] = np.nan, np.nan
    forecaster = MacroFactorForecaster()
    forecaster.fit(state(f, x))
    used = np.isfinite(x).all(axis=1)
    for k in range(K):
        both = used & np.isfinite(f[:, k])
        line = LinearRegression().fit(x[both], f[both, k])
        slopes = forecaster._fitted("test").slopes[:, k]
        np.testing.assert_allclose(slopes, line.coef_, rtol=1e-8)
    hole, filled = np.full((1, Q), np.nan), np.nanmean(x, axis=0)[None]
    got, want = (forecaster.predict(state(predictors=z)).factor_premia for z in (hole, filled))
    np.testing.assert_array_equal(got, want)


def test_refusals_of_the_regression():
    past = history()
    with pytest.raises(ValueError, match="MacroFactorForecaster requires context_features"):
        MacroFactorForecaster().fit(state(past.factor_returns))
    hollow = past.context_features.copy()
    hollow[:, 1] = np.nan
    with pytest.raises(ValueError, match="finite value in every column; column 1 has none"):
        MacroFactorForecaster().fit(state(past.factor_returns, hollow))
    with pytest.raises(ValueError, match="n_proxies must be below the number of predictors 3"):
        MacroFactorForecaster(MacroForecasterConfig(method="three-pass", n_proxies=3)).fit(past)
    fitted = MacroFactorForecaster()
    fitted.fit(past)
    with pytest.raises(ValueError, match="requires context_features"):
        fitted.predict(coming(2))
    with pytest.raises(ValueError, match="fitted 3 columns; got 2"):
        fitted.predict(state(predictors=np.ones((2, 2))))


# Combination


def test_a_combination_is_the_weighted_mean_of_its_members():
    past, observed = history(), history(1)
    combined = CombinedFactorForecaster(COMBINED)
    combined.fit(past)
    alone = [
        VAR1FactorForecaster(),
        *(MacroFactorForecaster(config) for config in MACRO),
        EWMABaseFactorForecaster(EWMABaseForecasterConfig(half_life=3.0)),
    ]
    for one in alone:
        one.fit(past)
    parts = [one.predict(observed).factor_premia for one in alone]
    want = sum(w * part for w, part in zip(COMBINED.weights, parts, strict=True)) / 10.5
    np.testing.assert_allclose(combined.predict(observed).factor_premia, want, rtol=1e-12)


def test_weights_are_equal_by_default():
    past = history()
    one, two = (
        CombinedFactorForecaster(CombinedForecasterConfig(weights=weights))
        for weights in (None, (3.0, 3.0))
    )
    one.fit(past), two.fit(past)
    got, want = (f.predict(coming(3)).factor_premia for f in (one, two))
    np.testing.assert_array_equal(got, want)


def test_a_combination_passes_on_what_its_members_say():
    config = CombinedForecasterConfig(members=(VAR1ForecasterConfig(max_root=0.01),))
    assert "largest root" in CombinedFactorForecaster(config).fit(history()).notes[0]
    with pytest.raises(TypeError, match="members entry 0"):
        CombinedForecasterConfig(members=(PCAConfig(),))


# What all of them obey


@forecasters
def test_no_forecast_reads_the_factors_of_its_date_or_anything_later(make):
    forecaster, observed = make(), history(1)
    forecaster.fit(history())
    before = forecaster.predict(observed).factor_premia
    for date in (0, 20, T - 1):
        factors, predictors = observed.factor_returns.copy(), observed.context_features.copy()
        factors[date:] *= -9.0
        predictors[date + 1 :] *= -9.0
        after = forecaster.predict(state(factors, predictors)).factor_premia
        np.testing.assert_array_equal(after[: date + 1], before[: date + 1])
        assert date == T - 1 or (after[date + 1 :] != before[date + 1 :]).any()


@forecasters
def test_round_trip(make, tmp_path):
    forecaster, observed = make(), history(1)
    summary = forecaster.fit(history())
    again = type(forecaster).load(forecaster.save(tmp_path / "f.ml4t"))
    got, want = (f.predict(observed).factor_premia for f in (again, forecaster))
    np.testing.assert_array_equal(got, want)
    assert again.config == forecaster.config
    assert again.last_fit_record == forecaster.last_fit_record == summary.run_record
    assert clone(forecaster).config == forecaster.config


@forecasters
def test_a_refit_starts_from_nothing(make):
    again, fresh, observed = make(), make(), history(2)
    again.fit(history(0)), again.fit(history(1)), fresh.fit(history(1))
    got, want = (f.predict(observed).factor_premia for f in (again, fresh))
    np.testing.assert_array_equal(got, want)


# In a pipeline


@batches(Q)
def test_the_pipeline_carries_the_predictors(model, data, tmp_path):
    batch = data()
    pipeline = LatentFactorForecastPipeline(model(), MacroFactorForecaster(), BetaLambdaMapper())
    pipeline.fit(batch.slice(0, 30))
    new = batch.slice(30, 40)
    got = pipeline.predict(new)
    np.testing.assert_array_equal(got.state.context_features, new.context_features)
    realised = got.state.factor_returns[:, 0]
    assert np.corrcoef(got.factor_forecast.factor_premia[:, 0], realised)[0, 1] > 0.5
    again = LatentFactorForecastPipeline.load(pipeline.save(tmp_path / "p.ml4t"))
    np.testing.assert_array_equal(
        again.predict(new).asset_forecast.expected_returns, got.asset_forecast.expected_returns
    )


@batches(Q)
@pytest.mark.parametrize("rule", [{}, {"window": 15, "refit_every": 4}, {"warm_start": False}])
def test_walking_forward_with_predictors_sees_no_future(model, data, rule):
    def walked(batch):
        config = CombinedForecasterConfig(members=(MacroForecasterConfig(), VAR1ForecasterConfig()))
        forecaster = CombinedFactorForecaster(config)
        pipeline = LatentFactorForecastPipeline(model(), forecaster, BetaLambdaMapper())
        return WalkForward(pipeline, min_periods=20, **rule).run(batch)

    batch = data()
    plain = walked(batch)
    for one in plain.folds[::3]:
        # What a fold says is what a pipeline fitted on its window says.
        fold = one.fold
        alone = LatentFactorForecastPipeline(
            model(), one.model.forecaster.__class__(one.model.forecaster.config), BetaLambdaMapper()
        )
        alone.fit(batch.slice(fold.train_start, fold.train_stop))
        said = alone.predict(batch.slice(fold.predict_start, fold.predict_start + 1))
        at = fold.predict_start - 20
        np.testing.assert_allclose(
            plain.result.asset_forecast.expected_returns[at],
            said.asset_forecast.expected_returns[0],
            rtol=1e-4,
            atol=1e-8,
        )
    for date in (25, 33):
        returns, x = batch.returns.copy(), batch.context_features.copy()
        returns[date:] *= -3.0
        x[date + 1 :] *= -3.0
        planted = walked(replace(batch, returns=returns, context_features=x))
        got, want = (
            result.result.asset_forecast.expected_returns[: date - 20 + 1]
            for result in (planted, plain)
        )
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
        assert (
            planted.result.factor_forecast.factor_premia[date - 20 + 1 :]
            != plain.result.factor_forecast.factor_premia[date - 20 + 1 :]
        ).any()


def test_a_member_of_the_default_combination_is_ar1():
    assert CombinedForecasterConfig().members[1] == AR1ForecasterConfig()
