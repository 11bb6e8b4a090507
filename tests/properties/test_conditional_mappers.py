"""Premia that depend on a state or on a regime: oracles, identities, nothing from the future."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

from ml4t.models import (
    AR1FactorForecaster,
    BetaLambdaMapper,
    ExpandingMeanFactorForecaster,
    FactorForecastResult,
    LatentFactorForecastPipeline,
    LatentFactorState,
    RegimeSwitchingMapper,
    RegimeSwitchingMapperConfig,
    StateConditionalMapper,
    StateConditionalMapperConfig,
    WalkForward,
)
from ml4t.models.mappers import markov
from oracles import regimes as oracle
from premia_batches import batches, panel, pca

T, K, Q = 80, 2, 2


def state(factors=None, states=None, n_dates=None, n_factors=K):
    n_dates = n_dates or len(states if factors is None else factors)
    n_factors = n_factors if factors is None else np.shape(factors)[1]
    rng = np.random.default_rng(9)
    betas = rng.standard_normal((n_dates, 3, n_factors))
    return LatentFactorState(betas, factor_returns=factors, context_features=states)


def history(seed=0, n_dates=T):
    """Calm and turbulent spells, means that depend on a state."""
    rng = np.random.default_rng(seed)
    s = rng.standard_normal((n_dates, Q)) * np.array([1.0, 100.0])
    turbulent = (np.arange(n_dates) // 10) % 3 == 2
    f = np.where(turbulent, -0.03, 0.02)[:, None] + 0.02 * s[:, :1]
    f = f + np.where(turbulent, 0.10, 0.02)[:, None] * rng.standard_normal((n_dates, K))
    return state(f, s)


MAPPERS = {
    "kernel": StateConditionalMapper,
    "linear": lambda: StateConditionalMapper(StateConditionalMapperConfig(method="linear")),
    "regimes": RegimeSwitchingMapper,
    "three regimes": lambda: RegimeSwitchingMapper(RegimeSwitchingMapperConfig(n_regimes=3)),
}
mappers = pytest.mark.parametrize("make", MAPPERS.values(), ids=MAPPERS)


# What all of them obey


@mappers
def test_with_the_mean_forecaster_the_premia_are_the_conditional_ones(make):
    past, now, mapper = history(), history(1), make()
    forecaster = ExpandingMeanFactorForecaster()
    forecaster.fit(past), mapper.fit(past)
    got = mapper.predict(now, forecaster.predict(now)).expected_returns
    premia = mapper.premia(now).factor_premia
    np.testing.assert_allclose(got, np.einsum("tnk,tk->tn", now.asset_betas, premia), rtol=1e-9)


@mappers
def test_a_state_without_dates_is_answered_by_nothing(make):
    mapper, past = make(), history()
    mapper.fit(past)
    nothing = LatentFactorState(np.empty((0, 3, K)), context_features=np.empty((0, Q)))
    got = mapper.predict(nothing, FactorForecastResult(np.empty((0, K))))
    assert got.expected_returns.shape == (0, 3)


@mappers
def test_other_forecasts_move_by_what_is_known_beyond_the_mean(make):
    past, now, mapper = history(), history(1), make()
    mapper.fit(past)
    forecast = AR1FactorForecaster()
    forecast.fit(past)
    premia = forecast.predict(now)
    tilt = mapper.premia(now).factor_premia - past.factor_returns.mean(axis=0)
    want = np.einsum("tnk,tk->tn", now.asset_betas, premia.factor_premia + tilt)
    got = mapper.predict(now, premia)
    np.testing.assert_allclose(got.expected_returns, want, rtol=1e-9)
    assert got.metadata == {"mapper": mapper.config.model_name}


@mappers
def test_no_premium_reads_the_factors_of_its_date_or_anything_later(make):
    mapper, now = make(), history(1)
    mapper.fit(history())
    before = mapper.premia(now).factor_premia
    for date in (0, 20, T - 1):
        factors, states = now.factor_returns.copy(), now.context_features.copy()
        factors[date:] *= -9.0
        states[date + 1 :] *= -9.0
        after = mapper.premia(state(factors, states)).factor_premia
        np.testing.assert_array_equal(after[: date + 1], before[: date + 1])
        assert date == T - 1 or (after[date + 1 :] != before[date + 1 :]).any()


@mappers
def test_an_observed_factor_that_is_one_stays_one(make):
    past, now = history(), history(1)
    alone, both = make(), make()
    ones = np.ones((T, 1))
    alone.fit(past)
    both.fit(state(np.hstack([past.factor_returns, ones]), past.context_features))
    with_one = state(np.hstack([now.factor_returns, ones]), now.context_features)
    got = both.premia(with_one).factor_premia
    np.testing.assert_allclose(got[:, :K], alone.premia(now).factor_premia, rtol=1e-9)
    np.testing.assert_allclose(got[:, K], 1.0, rtol=1e-12)


@mappers
def test_round_trip_and_clone(make, tmp_path):
    mapper, now = make(), replace(history(1), timestamps=tuple(range(T)))
    summary = mapper.fit(history())
    again = type(mapper).load(mapper.save(tmp_path / "m.ml4t"))
    np.testing.assert_array_equal(again.premia(now).factor_premia, mapper.premia(now).factor_premia)
    assert again.last_fit_record == mapper.last_fit_record == summary.run_record
    assert mapper.premia(now).timestamps == now.timestamps
    assert clone(mapper).config == mapper.config
    assert not clone(mapper).is_fitted


@mappers
def test_a_refit_starts_from_nothing(make):
    again, fresh, now = make(), make(), history(2)
    again.fit(history(0)), again.fit(history(1)), fresh.fit(history(1))
    np.testing.assert_array_equal(again.premia(now).factor_premia, fresh.premia(now).factor_premia)


@mappers
def test_refusals_of_all(make, tmp_path):
    past, mapper = history(), make()
    forecast = FactorForecastResult(np.zeros((T, K)))
    with pytest.raises(RuntimeError, match="fitted before premia"):
        mapper.premia(past)
    with pytest.raises(RuntimeError, match="fitted before predict"):
        mapper.predict(past, forecast)
    with pytest.raises(RuntimeError, match="fitted before save"):
        mapper.save(tmp_path / "m.ml4t")
    with pytest.raises(TypeError, match="state"):
        mapper.fit(np.ones((3, 1)))
    with pytest.raises(ValueError, match="requires factor_returns"):
        mapper.fit(replace(past, factor_returns=None))
    mapper.fit(past)
    with pytest.raises(ValueError, match="factor_premia"):
        mapper.predict(past, FactorForecastResult(np.zeros((T, K + 1))))
    wide = state(np.ones((T, K + 1)), past.context_features)
    with pytest.raises(ValueError, match="fitted number of factors 2; got 3"):
        mapper.premia(wide)


# Premia that depend on a state


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 3))
def test_kernel_premia_are_weighted_means(seed, bandwidth):
    past, now = history(seed), history(seed + 1, n_dates=4)
    f, s = past.factor_returns.copy(), past.context_features.copy()
    f[3, 0], s[7, 1] = np.nan, np.nan
    mapper = StateConditionalMapper(StateConditionalMapperConfig(bandwidth=bandwidth))
    mapper.fit(state(f, s))
    known = np.isfinite(s).all(axis=1)
    widths = bandwidth * s[known].std(axis=0)
    got = mapper.premia(now).factor_premia
    for date, here in enumerate(now.context_features):
        nearest = (((s[known] - here) / widths) ** 2).sum(axis=1).min()
        if nearest > 100:
            continue  # the plain formula divides nothing by nothing
        want = oracle.kernel_premia(s[known], f[known], widths, here)
        np.testing.assert_allclose(got[date], want, rtol=1e-8, atol=1e-12)


def test_a_wide_kernel_is_the_mean_and_a_narrow_one_the_nearest_date():
    past, now = history(), history(1)
    wide = StateConditionalMapper(StateConditionalMapperConfig(bandwidth=1e6))
    narrow = StateConditionalMapper(StateConditionalMapperConfig(bandwidth=1e-4))
    wide.fit(past), narrow.fit(past)
    mean = past.factor_returns.mean(axis=0)
    np.testing.assert_allclose(wide.premia(now).factor_premia, np.tile(mean, (T, 1)), rtol=1e-6)
    scale = past.context_features.std(axis=0)
    apart = (now.context_features[:, None] - past.context_features[None]) / scale
    nearest = (apart**2).sum(axis=2).argmin(axis=1)
    np.testing.assert_allclose(narrow.premia(now).factor_premia, past.factor_returns[nearest])


def test_the_default_bandwidth_is_scotts():
    one, other = StateConditionalMapper(), StateConditionalMapper()
    other.set_params(config__bandwidth=T ** (-1 / (Q + 4)))
    one.fit(history()), other.fit(history())
    got, want = (m.premia(history(1)).factor_premia for m in (one, other))
    np.testing.assert_array_equal(got, want)


def test_premia_that_are_a_line_in_the_state_are_found():
    past, now = history(), history(1)
    s = past.context_features
    mapper = StateConditionalMapper(StateConditionalMapperConfig(method="linear"))
    mapper.fit(past)
    want = LinearRegression().fit(s, past.factor_returns).predict(now.context_features)
    np.testing.assert_allclose(mapper.premia(now).factor_premia, want, rtol=1e-8)


@pytest.mark.parametrize("method", ["kernel", "linear"])
def test_states_may_be_in_any_unit_and_a_missing_one_is_the_mean(method):
    past, now = history(), history(1)
    unit = np.array([-1e-3, 50.0])
    config = StateConditionalMapperConfig(method=method)
    one, other = StateConditionalMapper(config), StateConditionalMapper(config)
    one.fit(past), other.fit(replace(past, context_features=past.context_features * unit + 2.0))
    want = one.premia(now).factor_premia
    s = now.context_features * unit + 2.0
    np.testing.assert_allclose(
        other.premia(state(states=s)).factor_premia, want, rtol=1e-6, atol=1e-9
    )
    s[0, 1] = np.nan
    mean = past.factor_returns.mean(axis=0)
    np.testing.assert_allclose(other.premia(state(states=s)).factor_premia[0], mean, rtol=1e-12)


def test_refusals_of_states():
    past = history()
    with pytest.raises(ValueError, match="StateConditionalMapper requires context_features"):
        StateConditionalMapper().fit(state(past.factor_returns))
    s = np.full((T, 1), np.nan)
    s[:3] = 1.0
    f = past.factor_returns.copy()
    f[:3, 1] = np.nan
    with pytest.raises(ValueError, match="a date with the state and every factor; factor 1"):
        StateConditionalMapper().fit(state(f, s))
    mapper = StateConditionalMapper()
    mapper.fit(past)
    with pytest.raises(ValueError, match="requires context_features"):
        mapper.premia(state(past.factor_returns))
    with pytest.raises(ValueError, match="fitted 2 columns; got 1"):
        mapper.premia(state(past.factor_returns, np.ones((T, 1))))


# Premia that depend on a regime


def chains(seed, n_regimes, n_variables):
    rng = np.random.default_rng(seed)
    roots = rng.standard_normal((n_regimes, n_variables, n_variables))
    return markov.Chain(
        rng.dirichlet(np.ones(n_regimes)),
        rng.dirichlet(np.ones(n_regimes), n_regimes),
        rng.standard_normal((n_regimes, n_variables)),
        roots @ np.swapaxes(roots, 1, 2) + 0.1 * np.eye(n_variables),
    )


def parts(chain):
    return chain.initial, chain.transition, chain.means, chain.covariances


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.integers(2, 3),
    st.integers(1, 2),
    st.booleans(),
)
def test_filter_and_smoother_are_the_sum_over_all_paths(
    seed, n_dates, n_regimes, n_variables, hole
):
    chain = chains(seed, n_regimes, n_variables)
    x = np.random.default_rng(seed).standard_normal((n_dates, n_variables))
    if hole:
        x[seed % n_dates, 0] = np.nan
    likelihood, regimes, moves = oracle.enumerate_paths(x, *parts(chain))
    log_density = markov.log_densities(x, chain)
    result = markov.hamilton_filter(log_density, chain)
    assert result.log_likelihood == pytest.approx(np.log(likelihood), rel=1e-9, abs=1e-9)
    got_regimes, got_moves = markov.smoothed(log_density, chain, result.filtered)
    np.testing.assert_allclose(got_regimes, regimes, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(got_moves, moves, rtol=1e-8, atol=1e-12)
    for date in range(n_dates):
        # Filtered is smoothed on what there was until then; predicted, without the date itself.
        _, until, _ = oracle.enumerate_paths(x[: date + 1], *parts(chain))
        np.testing.assert_allclose(result.filtered[date], until[-1], rtol=1e-8, atol=1e-12)
        blind = x[: date + 1].copy()
        blind[date] = np.nan
        _, before, _ = oracle.enumerate_paths(blind, *parts(chain))
        np.testing.assert_allclose(result.predicted[date], before[-1], rtol=1e-8, atol=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(1, 130))
def test_the_blocked_recursion_is_the_plain_one(seed, n_dates):
    chain = chains(seed, 2, 1)
    x = np.random.default_rng(seed).standard_normal((n_dates, 1))
    result = markov.hamilton_filter(markov.log_densities(x, chain), chain)
    predicted = chain.initial
    for date in range(n_dates):
        np.testing.assert_allclose(result.predicted[date], predicted, rtol=1e-9, atol=1e-14)
        density = [
            multivariate_normal(m, c).pdf(x[date])
            for m, c in zip(chain.means, chain.covariances, strict=True)
        ]
        filtered = predicted * density / (predicted @ density)
        np.testing.assert_allclose(result.filtered[date], filtered, rtol=1e-9, atol=1e-14)
        predicted = filtered @ chain.transition


def test_starts_side_by_side_are_what_they_are_alone():
    x = history().factor_returns
    both = markov.starting_chains(x, 2, 3, seed=1)
    together = markov.hamilton_filter(markov.log_densities(x, both), both)
    for i in range(3):
        one = both.pick(i)
        alone = markov.hamilton_filter(markov.log_densities(x, one), one)
        np.testing.assert_allclose(together.filtered[i], alone.filtered, rtol=1e-12)
        assert together.log_likelihood[i] == pytest.approx(alone.log_likelihood, rel=1e-12)


def test_outliers_and_regimes_that_never_end_stay_finite():
    chain = markov.Chain(
        np.array([0.5, 0.5]),
        np.array([[1.0, 0.0], [1e-12, 1.0 - 1e-12]]),
        np.array([[0.0], [0.1]]),
        np.array([[[1e-8]], [[1e-2]]]),
    )
    x = np.tile([[0.0], [0.1], [1e6], [0.0]], (50, 1))
    log_density = markov.log_densities(x, chain)
    result = markov.hamilton_filter(log_density, chain)
    regimes, moves = markov.smoothed(log_density, chain, result.filtered)
    for array in (result.filtered, result.predicted, result.log_likelihood, regimes, moves):
        assert np.isfinite(array).all()


def test_the_likelihood_is_that_of_statsmodels():
    x = history().factor_returns[:, :1]
    transition = np.array([[0.9, 0.1], [0.3, 0.7]])
    chain = markov.Chain(
        np.array([0.75, 0.25]),  # the stationary distribution
        transition,
        np.array([[0.02], [-0.03]]),
        np.array([[[0.03**2]], [[0.10**2]]]),
    )
    peer = MarkovRegression(x[:, 0], k_regimes=2, switching_variance=True)
    want = peer.loglike([0.9, 0.3, 0.02, -0.03, 0.03**2, 0.10**2])
    result = markov.hamilton_filter(markov.log_densities(x, chain), chain)
    assert result.log_likelihood == pytest.approx(want, rel=1e-10)


def test_the_estimate_is_as_high_as_that_of_statsmodels():
    x = history(n_dates=200).factor_returns[:, :1]
    mapper = RegimeSwitchingMapper(RegimeSwitchingMapperConfig(prior_weight=1e-9, tol=1e-12))
    summary = mapper.fit(state(x))
    peer = MarkovRegression(x[:, 0], k_regimes=2, switching_variance=True).fit(disp=False)
    assert summary.train_metrics["log_likelihood"] >= peer.llf - 1e-6
    fit = mapper._fitted("test")
    order = np.argsort(peer.params[4:6])
    np.testing.assert_allclose(fit.covariances[:, 0, 0], peer.params[4:6][order], rtol=0.05)
    np.testing.assert_allclose(fit.regime_premia[:, 0], peer.params[2:4][order], atol=0.005)


@pytest.mark.parametrize("n_regimes", [2, 3])
def test_every_step_climbs(n_regimes):
    mapper = RegimeSwitchingMapper(RegimeSwitchingMapperConfig(n_regimes=n_regimes))
    summary = mapper.fit(history())
    heights = np.array([entry["log_posterior"] for entry in summary.history])
    assert summary.converged
    assert len(heights) > 3
    assert (np.diff(heights) >= -1e-9).all()


def test_planted_regimes_are_found():
    rng = np.random.default_rng(0)
    transition = np.array([[0.95, 0.05], [0.10, 0.90]])
    means = np.array([[0.01, 0.02], [-0.04, 0.0]])
    regime, x = 0, []
    for _ in range(3000):
        x.append(means[regime] + (0.02, 0.08)[regime] * rng.standard_normal(2))
        regime = rng.choice(2, p=transition[regime])
    mapper = RegimeSwitchingMapper()
    assert mapper.fit(state(np.array(x))).converged
    fit = mapper._fitted("test")
    # Three standard errors of means over 2000 and 1000 dates; of shares of 100 moves.
    np.testing.assert_allclose(fit.regime_premia, means, atol=3 * 0.08 / np.sqrt(1000))
    np.testing.assert_allclose(fit.transition, transition, atol=0.03)
    volatility = np.sqrt(np.diagonal(fit.covariances, axis1=1, axis2=2))
    np.testing.assert_allclose(volatility, [[0.02, 0.02], [0.08, 0.08]], rtol=0.1)


def test_the_filter_goes_on_where_training_ended():
    whole = history(n_dates=120)
    f = whole.factor_returns
    mapper = RegimeSwitchingMapper()
    mapper.fit(state(f[:90]))
    fit = mapper._fitted("test")
    chain = markov.Chain(fit.initial, fit.transition, fit.regime_premia, fit.covariances)
    predicted = markov.hamilton_filter(markov.log_densities(f, chain), chain).predicted
    now = state(f[90:])
    np.testing.assert_allclose(mapper.probabilities(now), predicted[90:], rtol=1e-9)
    want = predicted[90:] @ fit.regime_premia
    np.testing.assert_allclose(mapper.premia(now).factor_premia, want, rtol=1e-9)
    # Without realised factors, the chain runs on by itself.
    blind = mapper.probabilities(state(n_dates=3))
    np.testing.assert_allclose(blind[0], predicted[90], rtol=1e-9)
    np.testing.assert_allclose(blind[2], blind[1] @ fit.transition, rtol=1e-12)


def test_a_hole_says_nothing_of_the_regime():
    f = history().factor_returns.copy()
    f[40, 1] = np.nan
    mapper = RegimeSwitchingMapper()
    mapper.fit(state(f))
    now = history(1).factor_returns.copy()
    now[10] = np.nan
    got = mapper.probabilities(state(now))
    np.testing.assert_allclose(got[11], got[10] @ mapper._fitted("test").transition, rtol=1e-10)


def test_too_few_dates_are_refused():
    with pytest.raises(ValueError, match="on at least 4 dates; got 2 such factors on 3 dates"):
        RegimeSwitchingMapper().fit(state(history().factor_returns[:3]))
    with pytest.raises(ValueError, match="got 0 such factors"):
        RegimeSwitchingMapper().fit(state(np.ones((20, 1))))


# In a pipeline


def pipeline(model, mapper):
    return LatentFactorForecastPipeline(model(), ExpandingMeanFactorForecaster(), mapper())


@batches()
@mappers
def test_a_pipeline_fits_saves_and_loads_the_mapper(model, data, make, tmp_path):
    batch, joined = data(), pipeline(model, make)
    report = joined.fit(batch.slice(0, 30))
    assert report.mapper_fit.run_record is joined.mapper.last_fit_record
    got = joined.predict(batch.slice(30, 40))
    premia = joined.mapper.premia(got.state).factor_premia
    want = np.einsum("tnk,tk->tn", got.state.asset_betas, premia)
    np.testing.assert_allclose(got.asset_forecast.expected_returns, want, rtol=1e-8)
    again = LatentFactorForecastPipeline.load(joined.save(tmp_path / "p.ml4t"))
    np.testing.assert_array_equal(
        again.predict(batch.slice(30, 40)).asset_forecast.expected_returns,
        got.asset_forecast.expected_returns,
    )


def test_a_mapper_that_does_not_learn_reports_nothing():
    assert pipeline(pca, BetaLambdaMapper).fit(panel()).mapper_fit is None


def test_a_failed_mapper_takes_all_of_it_back():
    joined = pipeline(pca, StateConditionalMapper)
    joined.fit(panel())
    before = joined.predict(panel()).asset_forecast.expected_returns
    with pytest.raises(ValueError, match="requires context_features"):
        joined.fit(replace(panel(1), context_features=None))
    after = joined.predict(panel()).asset_forecast.expected_returns
    np.testing.assert_array_equal(after, before)


@batches()
@mappers
def test_walking_forward_with_a_mapper_sees_no_future(model, data, make):
    def walked(batch):
        return WalkForward(pipeline(model, make), min_periods=25, refit_every=6).run(batch)

    batch = data()
    plain = walked(batch)
    for one in plain.folds:
        fold, alone = one.fold, pipeline(model, make)
        alone.fit(batch.slice(fold.train_start, fold.train_stop))
        said = alone.predict(batch.slice(fold.predict_start, fold.predict_stop))
        at = slice(fold.predict_start - 25, fold.predict_stop - 25)
        np.testing.assert_allclose(
            plain.result.asset_forecast.expected_returns[at],
            said.asset_forecast.expected_returns,
            rtol=1e-3,
            atol=1e-6,
        )
    for date in (28, 36):
        returns, s = batch.returns.copy(), batch.context_features.copy()
        returns[date:] *= -3.0
        s[date + 1 :] *= -3.0
        planted = walked(replace(batch, returns=returns, context_features=s))
        got, want = (
            result.result.asset_forecast.expected_returns[: date - 25 + 1]
            for result in (planted, plain)
        )
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


class Checkpointed:
    """A model whose factors at checkpoint c have the mean c."""

    def __init__(self):
        self.available_checkpoints, self.last_fit_record, self.is_fitted = (), None, False

    def fit(self, batch):
        self.available_checkpoints, self.is_fitted = (1, 5), True
        return ExpandingMeanFactorForecaster().fit(state(np.ones((2, 1))))

    def extract(self, batch, *, checkpoint=None):
        level = float(checkpoint or 5)
        factors = level + np.linspace(-0.1, 0.1, batch.n_periods)[:, None]
        betas = np.ones((batch.n_periods, batch.n_assets, 1))
        return LatentFactorState(betas, factor_returns=factors)


def test_every_checkpoint_has_its_own_mapper():
    joined = pipeline(Checkpointed, StateConditionalMapper)
    joined.fit(panel())
    for checkpoint, level in ((1, 1.0), (5, 5.0), (None, 5.0)):
        got = joined.predict(panel(), checkpoint=checkpoint).asset_forecast.expected_returns
        np.testing.assert_allclose(got, level, atol=0.1)
