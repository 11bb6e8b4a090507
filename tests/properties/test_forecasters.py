from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ml4t.models import (
    AR1FactorForecaster,
    AR1ForecasterConfig,
    BetaLambdaMapper,
    EWMABaseFactorForecaster,
    EWMABaseForecasterConfig,
    ExpandingMeanFactorForecaster,
    FactorForecastResult,
    LatentFactorState,
    VAR1FactorForecaster,
)
from oracles import forecasters as oracle

FORECASTERS = [ExpandingMeanFactorForecaster, EWMABaseFactorForecaster, AR1FactorForecaster]
# Sums of at most 30 terms of size O(1).
RTOL, ATOL = 1e-10, 1e-12


def state(factors, n_periods=None):
    factors = np.asarray(factors, dtype=float)
    n_periods = len(factors) if n_periods is None else n_periods
    betas = np.ones((n_periods, 2, factors.shape[1]))
    return LatentFactorState(betas, factor_returns=factors if n_periods == len(factors) else None)


def coming(n_periods, n_factors):
    return LatentFactorState(np.ones((n_periods, 2, n_factors)))


@st.composite
def histories(draw):
    n_periods, n_factors = draw(st.integers(1, 30)), draw(st.integers(1, 3))
    values = draw(arrays(float, (n_periods, n_factors), elements=st.floats(-1, 1, width=32)))
    holes = draw(arrays(bool, (n_periods, n_factors)))
    holes[draw(st.integers(0, n_periods - 1))] = False  # every factor has a finite value
    return np.where(holes, np.nan, values)


@given(histories())
def test_the_mean_is_the_mean_of_what_was_realised(history):
    forecaster = ExpandingMeanFactorForecaster()
    forecaster.fit(state(history))
    got = forecaster.predict(coming(3, history.shape[1])).factor_premia
    expected = [oracle.mean(x) for x in history.T]
    np.testing.assert_allclose(got, np.tile(expected, (3, 1)), rtol=RTOL, atol=ATOL)


@given(histories(), st.floats(0.5, 50))
def test_ewma_is_the_recursion(history, half_life):
    forecaster = EWMABaseFactorForecaster(EWMABaseForecasterConfig(half_life=half_life))
    forecaster.fit(state(history))
    got = forecaster.predict(coming(2, history.shape[1])).factor_premia
    expected = [oracle.ewma(x, half_life) for x in history.T]
    np.testing.assert_allclose(got, np.tile(expected, (2, 1)), rtol=RTOL, atol=ATOL)


@given(histories(), st.floats(0, 1))
def test_ar1_is_least_squares_pulled_to_the_mean(history, shrinkage):
    forecaster = AR1FactorForecaster(AR1ForecasterConfig(shrinkage=shrinkage))
    forecaster.fit(state(history))
    got = forecaster.predict(coming(2, history.shape[1])).factor_premia
    for k, x in enumerate(history.T):
        lag = x[:-1][np.isfinite(x[:-1]) & np.isfinite(x[1:])]
        if lag.size and 0 < np.ptp(lag) < 1e-3:
            continue  # a slope on next to no variation is rounding in any arithmetic
        intercept, slope = oracle.ar1(list(x), shrinkage)
        last = x[np.isfinite(x)][-1]
        expected = oracle.ar1_path(intercept, slope, last, 2)
        np.testing.assert_allclose(got[:, k], expected, rtol=1e-6, atol=1e-7)


def test_ar1_rises_on_a_line():
    forecaster = AR1FactorForecaster()
    forecaster.fit(state(np.arange(4.0)[:, None]))
    path = forecaster.predict(coming(5, 1)).factor_premia[:, 0]
    assert path[0] > 3.0
    assert (np.diff(path) >= 0).all()
    np.testing.assert_allclose(path, [4, 5, 6, 7, 8])


@pytest.mark.parametrize("shift", [0.0, 1.0, -1e3, 1e7])
def test_a_shift_of_the_factor_shifts_the_forecast(shift):
    rng = np.random.default_rng(1)
    walk, noise = rng.standard_normal(60).cumsum()[:, None], rng.standard_normal((60, 1))
    x = 0.003 * walk + 0.01 * noise
    for forecaster in (*FORECASTERS, VAR1FactorForecaster):
        plain, moved = forecaster(), forecaster()
        plain.fit(state(x))
        moved.fit(state(x + shift))
        want = plain.predict(coming(4, 1)).factor_premia
        got = moved.predict(coming(4, 1)).factor_premia - shift
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 + 1e-13 * abs(shift))


def test_the_slope_survives_a_mean_a_billion_times_the_deviation():
    rng = np.random.default_rng(0)
    x = np.zeros(500)
    for t in range(1, 500):
        x[t] = 0.5 * x[t - 1] + rng.standard_normal()
    forecaster = AR1FactorForecaster()
    forecaster.fit(state(x[:, None] + 1e9))
    slope = forecaster._fitted("look").slopes[0]
    assert slope == pytest.approx(oracle.ar1(list(x))[1], abs=1e-6)
    ahead = forecaster.predict(coming(1, 1)).factor_premia[0, 0]
    assert ahead - 1e9 == pytest.approx(slope * x[-1], abs=0.1)


def test_an_explosive_slope_is_cut_as_the_root_of_the_vector_is():
    rising = np.array([[0.01], [0.02], [0.04], [0.08], [0.16], [0.32]])
    ours, theirs = AR1FactorForecaster(), VAR1FactorForecaster()
    summary = ours.fit(state(rising))
    theirs.fit(state(rising))
    path = ours.predict(coming(24, 1)).factor_premia
    np.testing.assert_allclose(path, theirs.predict(coming(24, 1)).factor_premia, rtol=1e-12)
    assert (path <= 0.32).all()
    assert summary.notes == ("The slope 2 of factor 0 was cut to 0.99.",)
    falling = AR1FactorForecaster(AR1ForecasterConfig(max_root=0.5))
    falling.fit(state([[1.0], [-1.0], [1.0], [-1.0], [1.0]]))
    assert falling._fitted("look").slopes[0] == -0.5


def test_full_shrinkage_is_the_mean():
    forecaster = AR1FactorForecaster(AR1ForecasterConfig(shrinkage=1.0))
    forecaster.fit(state([[0.0], [1.0], [5.0]]))
    np.testing.assert_array_equal(forecaster.predict(coming(3, 1)).factor_premia, 2.0)


def test_a_realisation_moves_the_next_forecast_and_no_other_before_it():
    forecaster = AR1FactorForecaster()
    forecaster.fit(state([[0.0], [1.0], [0.5], [0.8], [0.2]]))
    blind = forecaster.predict(coming(3, 1)).factor_premia[:, 0]
    observed = LatentFactorState(np.ones((3, 2, 1)), factor_returns=[[0.9], [np.nan], [7.0]])
    got = forecaster.predict(observed).factor_premia[:, 0]
    fit = forecaster._fitted("test")
    assert got[0] == blind[0]
    np.testing.assert_allclose(got[1], fit.intercepts[0] + fit.slopes[0] * 0.9)
    np.testing.assert_allclose(got[2], fit.intercepts[0] + fit.slopes[0] * got[1])


@pytest.mark.parametrize("forecaster", [ExpandingMeanFactorForecaster, EWMABaseFactorForecaster])
def test_constant_forecasts_do_not_read_realisations(forecaster):
    fitted = forecaster()
    fitted.fit(state([[0.01], [0.03]]))
    observed = LatentFactorState(np.ones((2, 2, 1)), factor_returns=[[9.0], [np.nan]])
    np.testing.assert_array_equal(
        fitted.predict(observed).factor_premia, fitted.predict(coming(2, 1)).factor_premia
    )


@pytest.mark.parametrize("forecaster", FORECASTERS)
def test_refusals(forecaster, tmp_path):
    with pytest.raises(ValueError, match="factor_returns"):
        forecaster().fit(coming(3, 1))
    with pytest.raises(ValueError, match="factor_returns require at least one finite value"):
        forecaster().fit(state([[0.1, np.nan], [0.2, np.inf]]))
    with pytest.raises(RuntimeError, match="fitted before predict"):
        forecaster().predict(coming(1, 1))
    with pytest.raises(RuntimeError, match="fitted before save"):
        forecaster().save(tmp_path / "x.ml4t")
    with pytest.raises(TypeError, match="state"):
        forecaster().fit(np.ones((3, 1)))
    fitted = forecaster()
    fitted.fit(state([[0.1], [0.2]]))
    with pytest.raises(ValueError, match="fitted number of factors 1; got 2"):
        fitted.predict(coming(1, 2))


@pytest.mark.parametrize("forecaster", FORECASTERS)
def test_a_history_of_no_factor_is_refused(forecaster):
    with pytest.raises(ValueError, match="requires at least one factor"):
        forecaster().fit(state(np.empty((5, 0))))


@pytest.mark.parametrize("forecaster", [ExpandingMeanFactorForecaster, AR1FactorForecaster])
def test_an_overflowing_estimate_is_not_a_fit(forecaster):
    fitted = forecaster()
    with pytest.raises(FloatingPointError, match="is not finite"):
        fitted.fit(state([[1e308], [1e308], [1e308]]))
    assert not fitted.is_fitted


@pytest.mark.parametrize("forecaster", FORECASTERS)
def test_round_trip_and_labels(forecaster, tmp_path):
    fitted = forecaster()
    summary = fitted.fit(state([[0.1, 0.2], [0.3, np.nan], [0.2, 0.5]]))
    assert summary.converged
    assert summary.run_record is fitted.last_fit_record
    labelled = LatentFactorState(np.ones((2, 2, 2)), timestamps=("a", "b"))
    before = fitted.predict(labelled)
    assert before.timestamps == ("a", "b")
    assert before.metadata == {"model_name": fitted.config.model_name}
    again = forecaster.load(fitted.save(tmp_path / "f.ml4t"))
    np.testing.assert_array_equal(again.predict(labelled).factor_premia, before.factor_premia)
    assert again.last_fit_record == fitted.last_fit_record


@given(arrays(float, (3, 4, 2), elements=st.floats(-2, 2)))
def test_the_mapper_is_beta_times_lambda(betas):
    premia = np.array([[0.01, 0.02], [0.0, -0.03], [0.5, 0.25]])
    got = BetaLambdaMapper().predict(LatentFactorState(betas), FactorForecastResult(premia))
    for t in range(3):
        for n in range(4):
            expected = betas[t, n, 0] * premia[t, 0] + betas[t, n, 1] * premia[t, 1]
            assert got.expected_returns[t, n] == pytest.approx(expected, rel=1e-12, abs=1e-15)
    assert got.metadata == {"mapper": "beta_lambda"}


def test_the_mapper_keeps_nan_and_refuses_a_mismatch():
    betas = np.ones((2, 3, 1))
    betas[1, 2] = np.nan
    got = BetaLambdaMapper().predict(LatentFactorState(betas), FactorForecastResult([[1.0], [2.0]]))
    np.testing.assert_array_equal(got.expected_returns, [[1, 1, 1], [2, 2, np.nan]])
    with pytest.raises(ValueError, match="factor_premia"):
        BetaLambdaMapper().predict(LatentFactorState(betas), FactorForecastResult([[1.0]]))
    with pytest.raises(ValueError, match="factor_premia"):
        BetaLambdaMapper().predict(
            LatentFactorState(betas), FactorForecastResult([[1.0, 1.0], [1.0, 1.0]])
        )
