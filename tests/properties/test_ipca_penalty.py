"""Ridge and elastic net of IPCA: closed forms, scikit-learn, a slow twin, conditions, paths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import ElasticNet

from ml4t.models import CrossSectionBatch, IPCAConfig, IPCAModel, WalkForward
from ml4t.models.latent_factors.ipca.penalty import Penalty, Problem, minimize
from ml4t.models.latent_factors.ipca.penalty_path import _start
from oracles import ipca_penalty as oracle
from strategies import SEEDS

NO_RIDGE = {"factor_ridge": 0.0, "gamma_ridge": 0.0}
T, N, L = 30, 20, 4
SIZES = st.sampled_from([1e-3, 1e-2, 0.05])
RATIOS = st.sampled_from([0.0, 0.3, 1.0])


def panel(seed=0, *, silent=1, noise=0.05):
    """Two latent factors, one observed; the last `silent` characteristics carry nothing."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((T, N, L)) * [1.0, 10.0, 0.1, 1.0]
    gamma = np.linalg.qr(rng.standard_normal((L + 1, 2)))[0] / np.array([[1, 1, 10, 0.1, 1]]).T
    gamma[L + 1 - silent :] = 0.0
    f = np.array([0.03, 0.02]) + np.array([0.08, 0.05]) * rng.standard_normal((T, 2))
    g = 0.05 * rng.standard_normal((T, 1))
    own = np.array([[0.3, 0.5, 0.0, 0.0, 0.0]]).T
    full = np.concatenate([np.ones((T, N, 1)), z], axis=2)
    r = np.einsum("tnp,tp->tn", full, f @ gamma.T + g @ own.T)
    r += noise * rng.standard_normal(r.shape)
    return CrossSectionBatch(z, returns=r, timestamps=range(T)), g, full


def fitted(batch, g=None, **settings):
    model = IPCAModel(IPCAConfig(tol=1e-9, **{"n_factors": 2, **NO_RIDGE, **settings}))
    return model, model.fit(batch, observed_factors=g)


def solved(batch, g, penalty, *, n_factors, tol=1e-9):
    model, _ = fitted(batch, g, n_factors=n_factors)
    sample, first = model._state.result.sample, model._fitted("test")
    first = _Estimate(first, len(batch.returns))
    problem = Problem.of(sample, first, "panel")
    start = _start(problem, sample, first)
    result = minimize(problem, penalty, start, n_latent=n_factors, tol=tol, max_sweeps=20_000)
    return result, result.point.slopes * problem.scale


class _Estimate:
    """What the penalty needs of an estimate."""

    def __init__(self, fit, n_dates):
        self.gamma, self.gamma_observed = fit.gamma, fit.gamma_observed
        self.factors, self.ridge = fit.train_factor_returns, fit.ridge
        self.instrument_second_moment = fit.instrument_second_moment
        self.dates_used = np.arange(n_dates)


@given(SEEDS, SIZES, RATIOS)
def test_one_observed_factor_alone_is_the_elastic_net_of_scikit_learn(seed, size, l1_ratio):
    batch, g, full = panel(seed)
    model, summary = fitted(batch, g, n_factors=0, penalty=size, l1_ratio=l1_ratio)
    x = (full * g[:, :, None]).reshape(-1, L + 1)
    scale = np.sqrt((full**2).mean(axis=(0, 1)) * (g**2).mean())
    r = batch.returns.ravel()
    sigma = np.sqrt(np.mean(r**2))
    x, r = x / scale, r / sigma
    if l1_ratio == 0.0:
        n = len(r)
        want = np.linalg.solve(x.T @ x / n + size * np.eye(L + 1), x.T @ r / n)
    else:
        net = ElasticNet(
            alpha=size, l1_ratio=l1_ratio, fit_intercept=False, tol=1e-14, max_iter=100_000
        )
        want = net.fit(x, r).coef_
    assert summary.converged
    got = model.gamma_observed[:, 0] * scale / sigma
    np.testing.assert_allclose(got, want, atol=1e-8)
    if l1_ratio > 0.0:
        np.testing.assert_array_equal(got == 0.0, want == 0.0)


def test_several_observed_factors_alone_obey_the_conditions_of_a_group_lasso():
    batch, g, full = panel()
    g = np.hstack([g, np.random.default_rng(5).standard_normal((T, 1))])
    size, l1_ratio = 0.03, 0.7
    result, slopes = solved(batch, g, Penalty(size, l1_ratio), n_factors=0)
    root = np.linalg.cholesky(g.T @ g / T)
    f = np.linalg.solve(root, g.T).T
    sigma = np.sqrt(np.mean(batch.returns**2))
    s = np.sqrt((full**2).mean(axis=(0, 1)))
    error = batch.returns - np.einsum("tnp,tp->tn", full, slopes)
    pull = np.einsum("tnp,tn,tq->pq", full, error, f) / error.size / (s * sigma)[:, None]
    rows = result.point.rows @ (result.point.factors.T @ f / T)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    active = norms[:, 0] > 0.0
    assert 0 < active.sum() < L + 1
    want = size * (l1_ratio * rows / np.where(norms > 0, norms, 1) + (1 - l1_ratio) * rows)
    np.testing.assert_allclose(pull[active], want[active], atol=1e-8)
    assert (np.linalg.norm(pull[~active], axis=1) <= size * l1_ratio + 1e-9).all()


@pytest.mark.parametrize("n_factors", [1, 2])
@pytest.mark.parametrize(("size", "l1_ratio"), [(0.02, 1.0), (0.02, 0.5), (0.05, 0.0)])
def test_agrees_with_the_slow_twin(n_factors, size, l1_ratio):
    batch, _, full = panel(3)
    result, slopes = solved(batch, None, Penalty(size, l1_ratio), n_factors=n_factors)
    assert result.converged
    assert result.monotone
    zs, rs = list(full), list(batch.returns)
    want = oracle.slopes(zs, rs, n_factors, size, l1_ratio)
    value = oracle.objective(zs, rs, slopes, size, l1_ratio)
    assert result.objective == pytest.approx(value, rel=1e-10)
    assert value <= oracle.objective(zs, rs, want, size, l1_ratio) + 1e-9
    np.testing.assert_allclose(slopes, want, atol=1e-5 * np.abs(want).max(axis=0).max())


@given(SEEDS, SIZES, RATIOS, st.integers(0, 2))
def test_no_sweep_raises_the_objective(seed, size, l1_ratio, n_factors):
    batch, g, full = panel(seed)
    result, slopes = solved(batch, g, Penalty(size, l1_ratio), n_factors=n_factors, tol=1e-6)
    assert result.converged
    assert result.monotone
    value = oracle.objective(list(full), list(batch.returns), slopes, size, l1_ratio)
    assert result.objective == pytest.approx(value, rel=1e-9)
    assert result.objectives[-1] == result.objective
    assert (np.diff(result.objectives) <= 1e-12).all()
    assert (len(result.objectives), len(result.steps)) == (result.n_sweeps + 1, result.n_sweeps)


def test_the_scales_of_characteristics_returns_and_factors_change_nothing():
    batch, g, _ = panel()
    settings = {"penalty": 0.01, "l1_ratio": 0.8}
    model, _ = fitted(batch, g, **settings)
    scale = np.array([10.0, 0.01, 3.0, 1e4])
    moved = CrossSectionBatch(batch.characteristics * scale, returns=1e-3 * batch.returns)
    other, _ = fitted(moved, 7.0 * g, **settings)
    betas, f = (
        model.extract(batch, observed_factors=g),
        other.extract(moved, observed_factors=7 * g),
    )
    one = np.einsum("tnk,tk->tn", betas.asset_betas, betas.factor_returns)
    two = np.einsum("tnk,tk->tn", f.asset_betas, f.factor_returns)
    np.testing.assert_allclose(1e3 * two, one, atol=1e-7)


def test_silent_characteristics_leave_and_the_others_stay():
    batch, _, _ = panel(2, silent=2, noise=0.03)
    model, summary = fitted(batch, penalty=0.045, l1_ratio=1.0)
    assert summary.converged
    assert summary.train_metrics["n_active_instruments"] == 3
    np.testing.assert_array_equal(model.gamma[3:], 0.0)
    np.testing.assert_allclose(model.gamma.T @ model.gamma, np.eye(2), atol=1e-10)
    f = model.train_factor_returns
    np.testing.assert_allclose(f.T @ f, np.diag(np.diag(f.T @ f)), atol=1e-9)
    assert (f.mean(axis=0) >= 0).all()
    state = model.extract(batch)
    assert state.factor_returns.tobytes() == f.tobytes()


def test_a_penalty_that_leaves_nothing_leaves_zeros():
    batch, _, _ = panel()
    model, summary = fitted(batch, intercept=True, penalty=10.0, l1_ratio=1.0)
    assert summary.converged
    assert not model.gamma.any()
    assert not model.alpha.any()
    assert summary.train_metrics["n_active_instruments"] == 0
    assert not np.nan_to_num(model.extract(batch).asset_betas).any()


def test_walking_forward_goes_on_where_a_penalty_left_nothing():
    batch, _, _ = panel()
    model = IPCAModel(IPCAConfig(n_factors=1, penalty=10.0, l1_ratio=1.0))
    result = WalkForward(model, min_periods=20, refit_every=5).run(batch)
    assert all(not one.gamma.any() for one in result.models)


def test_no_penalty_is_the_usual_estimate_and_a_small_one_is_close():
    batch, g, _ = panel()
    usual, _ = fitted(batch, g)
    near, _ = fitted(batch, g, penalty=1e-9)
    np.testing.assert_allclose(near.gamma, usual.gamma, atol=1e-6)
    np.testing.assert_allclose(near.gamma_observed, usual.gamma_observed, atol=1e-6)


def test_tests_refuse_a_penalised_estimate():
    batch, _, _ = panel()
    model, _ = fitted(batch, intercept=True, penalty=0.01)
    with pytest.raises(ValueError, match=r"inference needs an estimate without penalty"):
        model.test_alpha(n_draws=2)
    with pytest.raises(ValueError, match=r"inference needs an estimate without penalty"):
        model.standard_errors()


def test_the_path_is_the_estimates_and_blocks_choose_among_them():
    batch, _, _ = panel(2, silent=2, noise=0.3)
    model = IPCAModel(IPCAConfig(n_factors=1, l1_ratio=1.0, **NO_RIDGE))
    path = model.penalty_path(batch, penalties=8, n_folds=3)
    assert not model.is_fitted
    assert (np.diff(path.penalties) < 0).all()
    assert path.fold_scores.shape == (8, 3)
    assert path.converged.all()
    assert path.n_instruments[0] == 0
    assert path.n_instruments[-1] >= path.n_instruments[1]
    assert path.best_penalty == path.penalties[np.argmax(path.mean_score)]
    assert path.one_se_penalty >= path.best_penalty
    chosen = IPCAModel(IPCAConfig(n_factors=1, l1_ratio=1.0, penalty=path.best_penalty, **NO_RIDGE))
    chosen.fit(batch)
    gamma = path.gammas[np.argmax(path.mean_score)]
    np.testing.assert_allclose(chosen.gamma, gamma, atol=1e-4)


def test_scores_are_those_of_the_dates_left_out():
    batch, g, full = panel(4, noise=0.2)
    model = IPCAModel(IPCAConfig(n_factors=0, l1_ratio=0.5, **NO_RIDGE))
    path = model.penalty_path(batch, observed_factors=g, penalties=[0.01], n_folds=3)
    block = np.arange(10, 20)
    rest = np.setdiff1d(np.arange(T), block)
    seen = CrossSectionBatch(batch.characteristics[rest], returns=batch.returns[rest])
    part, _ = fitted(seen, g[rest], n_factors=0, penalty=0.01)
    slopes = g[block] @ part.gamma_observed.T
    error = batch.returns[block] - np.einsum("tnp,tp->tn", full[block], slopes)
    want = 1 - (error**2).sum() / (batch.returns[block] ** 2).sum()
    np.testing.assert_allclose(path.fold_scores[0, 1], want, atol=1e-5)


def test_a_path_rejects_settings_by_name():
    batch, _, _ = panel()
    model = IPCAModel(IPCAConfig(n_factors=1))
    for arguments, message in [
        ({"penalties": [0.0]}, r"penalties must be finite numbers > 0"),
        ({"penalties": 0}, r"penalties must be an integer >= 1"),
        ({"n_folds": 1}, r"n_folds must be an integer >= 2; got 1"),
        ({"n_folds": T + 1}, r"n_folds must be at most the 30 dates used; got 31"),
        ({"score": "auc"}, r"score must be one of total, predictive; got 'auc'"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.penalty_path(batch, **arguments)
