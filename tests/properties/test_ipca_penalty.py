"""IPCA with an elastic net on the rows of Gamma: its conditions, its limits, its choice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq

from ml4t.models import (
    CharacteristicMoments,
    CrossSectionBatch,
    IPCAConfig,
    IPCAModel,
    penalty_path,
)

T, N, L = 60, 40, 6
SILENT = (3, 5, 6)
NO_RIDGE = {"factor_ridge": 0.0, "gamma_ridge": 0.0}


def panel(seed=0, *, noise=0.05, observed=0.0, scales=1.0):
    """Two factors; some characteristics do nothing. Also an observed factor."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(-0.5, 0.5, (T, N, L))
    loud = [row for row in range(L + 1) if row not in SILENT]
    gamma = np.zeros((L + 1, 2))
    gamma[loud] = np.linalg.qr(rng.standard_normal((len(loud), 2)))[0]
    g = 0.03 * rng.standard_normal((T, 1)) + 0.01
    b = (rng.standard_normal((T, 2)) * [0.06, 0.04] + 0.02) @ gamma.T
    b[:, loud] += observed * g * rng.standard_normal(len(loud))
    r = np.einsum("tnl,tl->tn", z, b[:, 1:]) + b[:, :1] + noise * rng.standard_normal((T, N))
    r[rng.random((T, N)) < 0.1] = np.nan
    return CrossSectionBatch(z * scales, returns=r), g


def fitted(batch, g=None, **settings):
    model = IPCAModel(IPCAConfig(**{"n_factors": 2, **NO_RIDGE, **settings}))
    assert model.fit(batch, observed_factors=g).converged
    return model


def every_loading(model):
    parts = [model.gamma, model.gamma_observed]
    return np.hstack(parts if model.alpha is None else [*parts, model.alpha[:, None]])


def in_units(model, batch, g):
    """Loadings, regressors and returns of the rows in units of mean square one, from the rows."""
    usable = np.isfinite(batch.returns)
    design = np.concatenate([np.ones((T, N, 1)), batch.characteristics], axis=2)
    f = model.train_factor_returns
    k = f.shape[1]
    gamma = every_loading(model)
    columns = [] if g is None else [g]
    columns += [] if model.alpha is None else [np.ones((T, 1))]
    seen = np.hstack([np.zeros((T, 0)), *columns])
    shift = np.linalg.lstsq(seen, f)[0]
    rest = f - seen @ shift
    root = np.linalg.cholesky(rest.T @ rest / T)
    own_scale = np.sqrt((seen**2).mean(axis=0))
    latent = rest @ np.linalg.inv(root).T
    theta = np.hstack([gamma[:, :k] @ root, (gamma[:, k:] + gamma[:, :k] @ shift.T) * own_scale])
    z, y = design[usable], batch.returns[usable]
    z_scale, y_scale = np.sqrt((z**2).mean(axis=0)), np.sqrt((y**2).mean())
    both = np.hstack([latent, seen / own_scale])
    x = np.einsum("tnp,tq->tnpq", design / z_scale, both)[usable]
    return theta * (z_scale / y_scale)[:, None], x, y / y_scale


@pytest.mark.parametrize(
    ("settings", "observed"),
    [
        ({"l1_ratio": 1.0}, False),
        ({"l1_ratio": 0.5}, False),
        ({"l1_ratio": 0.0}, False),
        ({"l1_ratio": 0.7, "intercept": True}, True),
        ({"l1_ratio": 0.5, "n_factors": 1}, True),
    ],
)
def test_the_optimality_conditions_hold_on_the_rows(settings, observed):
    batch, g = panel(observed=float(observed))
    strength, rho = 0.02, settings["l1_ratio"]
    model = fitted(batch, g if observed else None, penalty=strength, tol=1e-9, **settings)
    theta, x, y = in_units(model, batch, g if observed else None)
    drawn = slow_shrinkage(x, y, strength, rho)
    k = model.gamma.shape[1]
    # The factors give back the size of the latent loadings and what they can of the others.
    basis = np.linalg.qr(drawn[:, :k])[0]
    for got, want in ((theta[:, :k], basis), (theta[:, k:], np.hstack([basis, drawn[:, k:]]))):
        left = got - want @ np.linalg.lstsq(want, got)[0]
        np.testing.assert_allclose(left, 0.0, atol=1e-6)
    silent = ~drawn.any(axis=1)
    np.testing.assert_array_equal(silent, ~every_loading(model).any(axis=1))


def slow_shrinkage(x, y, strength, rho):
    """The elastic net on rows x (n, P, Q), one row of loadings at a time, the first one free."""
    n, p, q = x.shape
    theta = np.zeros((p, q))
    flat = x.reshape(n, p * q)
    gram = (flat.T @ flat / n).reshape(p, q, p, q)
    right = np.einsum("ipq,i->pq", x, y) / n
    for _ in range(3000):
        old = theta.copy()
        for row in range(p):
            pull = right[row] - np.einsum("apb,pb->a", gram[row], theta)
            pull += gram[row, :, row] @ theta[row]
            if row == 0:
                theta[row] = np.linalg.solve(gram[row, :, row], pull)
                continue
            theta[row] = group_minimum(gram[row, :, row], pull, strength, rho)
        if np.abs(theta - old).max() < 1e-12:
            break
    return theta


def group_minimum(a, pull, strength, rho):
    """Minimise 1/2 v'Av - pull'v + strength (rho |v| + (1 - rho)/2 |v|^2), by the norm of v."""
    if np.linalg.norm(pull) <= strength * rho:
        return np.zeros_like(pull)
    ridge = strength * (1 - rho)
    if rho == 0.0:
        return np.linalg.solve(a + ridge * np.eye(len(pull)), pull)

    def at(size):
        return np.linalg.solve(a + (ridge + strength * rho / size) * np.eye(len(pull)), pull)

    size = brentq(lambda s: np.linalg.norm(at(s)) - s, 1e-12, 1e3, xtol=1e-15)
    return at(size)


def test_a_penalty_leaves_out_what_does_nothing_and_a_ridge_leaves_out_nothing():
    batch, _ = panel(noise=0.03)
    sparse = fitted(batch, penalty=0.03)
    assert [row for row in range(L + 1) if not sparse.gamma[row].any()] == list(SILENT)
    assert fitted(batch, penalty=0.03, l1_ratio=0.0).gamma.all()


@pytest.mark.parametrize("weighting", ["panel", "portfolio"])
@pytest.mark.parametrize("intercept", [False, True])
def test_a_vanishing_penalty_changes_nothing(weighting, intercept):
    batch, g = panel(observed=1.0)
    settings = {"weighting": weighting, "intercept": intercept}
    got = fitted(batch, g, penalty=1e-10, tol=1e-8, **settings)
    want = fitted(batch, g, **settings)
    np.testing.assert_allclose(every_loading(got), every_loading(want), atol=1e-5)
    np.testing.assert_allclose(got.train_factor_returns, want.train_factor_returns, atol=1e-5)


def test_a_ridge_on_observed_factors_alone_is_the_closed_form():
    batch, g = panel(observed=1.0)
    model = fitted(batch, g, n_factors=0, penalty=0.1, l1_ratio=0.0, tol=1e-10)
    theta, x, y = in_units(model, batch, g)
    flat = x.reshape(len(y), -1)
    ridge = 0.1 * np.diag([0.0] + [1.0] * L)
    want = np.linalg.solve(flat.T @ flat / len(y) + ridge, flat.T @ y / len(y))
    np.testing.assert_allclose(theta[:, 0], want, atol=1e-8)


def test_units_of_characteristics_and_returns_do_not_matter():
    batch, _ = panel()
    scales = 10.0 ** np.arange(-3, 3)
    other = replace(panel(scales=scales)[0], returns=100 * batch.returns)
    got, want = fitted(other, penalty=0.02, tol=1e-9), fitted(batch, penalty=0.02, tol=1e-9)
    states = [m.extract(b) for m, b in ((got, other), (want, batch))]
    returns = [np.einsum("tnk,tk->tn", s.asset_betas, s.factor_returns) for s in states]
    np.testing.assert_allclose(returns[0] / 100, returns[1], atol=1e-7)


def test_the_form_is_the_identified_one():
    model = fitted(panel()[0], penalty=0.02)
    f = model.train_factor_returns
    np.testing.assert_allclose(model.gamma.T @ model.gamma, np.eye(2), atol=1e-10)
    second = f.T @ f / len(f)
    np.testing.assert_allclose(second, np.diag(np.diag(second)), atol=1e-10)
    assert second[0, 0] >= second[1, 1]
    assert (f.mean(axis=0) >= 0).all()


def test_it_loads_what_it_saved_and_says_when_it_has_not_converged(tmp_path):
    batch, _ = panel()
    model = fitted(batch, penalty=0.02)
    loaded = IPCAModel.load(model.save(tmp_path / "model.ml4t"))
    np.testing.assert_array_equal(
        loaded.extract(batch).factor_returns, model.extract(batch).factor_returns
    )
    hurried = IPCAModel(IPCAConfig(n_factors=2, penalty=0.05, max_iter=2, tol=1e-12))
    assert not hurried.fit(batch).converged
    assert "penalty=0" in str(model.summary())


def test_the_path_prefers_a_penalty_where_most_characteristics_do_nothing():
    batch, _ = panel(noise=0.3)
    config = IPCAConfig(n_factors=2)
    path = penalty_path(config, batch, n_penalties=8)
    assert path.penalties[0] == 0.0
    assert path.total_r2.shape == (8, 5)
    assert (np.diff(path.n_active[path.n_active > 0]) <= 1).all()
    assert path.n_active[0] == L + 1
    means = path.total_r2.mean(axis=1)
    assert np.nanmax(means) >= means[0]
    assert path.best == path.penalties[np.nanargmax(means)]
    assert path == penalty_path(config, CharacteristicMoments.from_batch(batch), n_penalties=8)


def test_blocks_of_dates_are_judged_by_what_the_others_say():
    batch, g = panel(observed=1.0)
    config = IPCAConfig(n_factors=1, intercept=True, **NO_RIDGE)
    path = penalty_path(config, batch, penalties=[0.0], n_blocks=3, observed_factors=g)
    for block, dates in enumerate(np.array_split(np.arange(T), 3)):
        rest = np.setdiff1d(np.arange(T), dates)
        parts = [
            CrossSectionBatch(batch.characteristics[d], returns=batch.returns[d])
            for d in (rest, dates)
        ]
        model = fitted(parts[0], g[rest], n_factors=1, intercept=True)
        judged = model.fit_measures(parts[1], observed_factors=g[dates])
        assert path.total_r2[0, block] == pytest.approx(judged.assets.total.against_zero)


def test_refuses_by_name():
    batch, _ = panel()
    with pytest.raises(ValueError, match="penalty leaves too few characteristics for n_factors=2"):
        IPCAModel(IPCAConfig(n_factors=2, penalty=10.0)).fit(batch)
    with pytest.raises(ValueError, match=r"inference needs penalty=0; got 0\.02"):
        fitted(batch, penalty=0.02).test_characteristics()
    with pytest.raises(ValueError, match="l1_ratio must be"):
        IPCAConfig(l1_ratio=1.1)
    config = IPCAConfig(n_factors=2)
    with pytest.raises(ValueError, match="n_blocks must be an integer >= 2"):
        penalty_path(config, batch, n_blocks=1)
    with pytest.raises(ValueError, match="n_blocks=31 needs 62 usable dates; got 60"):
        penalty_path(config, batch, n_blocks=31)
    with pytest.raises(ValueError, match="penalties must be a finite number >= 0"):
        penalty_path(config, batch, penalties=[-1.0])
    with pytest.raises(ValueError, match="penalties leave too few characteristics"):
        penalty_path(config, batch, penalties=[10.0])
    with pytest.raises(TypeError, match="config must be a IPCAConfig"):
        penalty_path(2, batch)
