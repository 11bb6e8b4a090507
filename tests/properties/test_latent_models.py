"""Laws of the latent factor models, each said once for all of them."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from ml4t.models import (
    CrossSectionBatch,
    ExpandingMeanFactorForecaster,
    IPCAConfig,
    IPCAModel,
    PCAConfig,
    PCAModel,
    PersistentPanelBatch,
    RPPCAConfig,
    RPPCAModel,
    kernels,
)

T, N, L = 40, 12, 4
IDS = tuple(f"stock-{i:02d}" for i in range(N))
DATES = tuple(range(1, T + 1))


def factors(rng):
    return np.array([0.01, 0.02]) + np.array([0.05, 0.03]) * rng.standard_normal((T, 2))


def panel(seed=0, missing=0.0):
    rng = np.random.default_rng(seed)
    loadings = 1.0 + 0.5 * rng.standard_normal((N, 2))
    returns = factors(rng) @ loadings.T + 0.01 * rng.standard_normal((T, N))
    returns[rng.random((T, N)) < missing] = np.nan
    return PersistentPanelBatch(returns, timestamps=DATES, asset_ids=IDS)


def cross_sections(seed=0, missing=0.0):
    rng = np.random.default_rng(seed)
    z = rng.uniform(-0.5, 0.5, (T, N, L))
    gamma = np.linalg.qr(rng.standard_normal((L + 1, 2)))[0]
    betas = z @ gamma[1:] + gamma[0]
    returns = np.einsum("tnk,tk->tn", betas, factors(rng)) + 0.005 * rng.standard_normal((T, N))
    returns[rng.random((T, N)) < missing] = np.nan
    z[rng.random((T, N, L)) < missing / L] = np.nan
    return CrossSectionBatch(z, returns=returns, timestamps=DATES, asset_ids=IDS)


CASES = {
    "pca": (lambda: PCAModel(PCAConfig(n_factors=2)), panel),
    "rp_pca": (lambda: RPPCAModel(RPPCAConfig(n_factors=2, gamma=10.0)), panel),
    "ipca": (lambda: IPCAModel(IPCAConfig(n_factors=2)), cross_sections),
}
STABLE = ["pca", "rp_pca"]


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def without_returns(batch):
    if isinstance(batch, PersistentPanelBatch):
        return PersistentPanelBatch(timestamps=batch.timestamps, asset_ids=batch.asset_ids)
    return replace(batch, returns=None)


def permuted(batch, order):
    parts = {"returns": batch.returns[:, order], "asset_ids": [batch.asset_ids[i] for i in order]}
    if isinstance(batch, CrossSectionBatch):
        parts["characteristics"] = batch.characteristics[:, order]
    return replace(batch, **parts)


def same_state(a, b):
    np.testing.assert_array_equal(a.asset_betas, b.asset_betas)
    if a.factor_returns is None:
        assert b.factor_returns is None
    else:
        np.testing.assert_array_equal(a.factor_returns, b.factor_returns)


@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize("empty_date", [False, True])
def test_fit_extract_is_fit_then_extract(case, missing, empty_date):
    make, data = case
    batch = data(missing=missing)
    if empty_date:
        returns = batch.returns.copy()
        returns[3] = np.nan
        batch = replace(batch, returns=returns)
    together, apart = make(), make()
    summary, got = together.fit_extract(batch)
    assert summary.train_metrics == apart.fit(batch).train_metrics
    want = apart.extract(batch)
    np.testing.assert_allclose(got.factor_returns, want.factor_returns, rtol=0, atol=1e-10)
    assert (got.timestamps, got.metadata) == (want.timestamps, want.metadata)
    if isinstance(batch, CrossSectionBatch):
        assert got.asset_betas.shape == (T, 0, 2)
    else:
        assert got.asset_ids == want.asset_ids
        np.testing.assert_array_equal(got.asset_betas, want.asset_betas)


def test_ipca_reads_the_rows_of_a_panel_once(monkeypatch):
    reads, moments_of = [], kernels.panel_moments
    monkeypatch.setattr(
        kernels, "panel_moments", lambda *a, **k: (reads.append(1), moments_of(*a, **k))[1]
    )
    batch, g = cross_sections(), 0.01 * np.random.default_rng(1).standard_normal((T, 1))
    model = IPCAModel(IPCAConfig(n_factors=2, intercept=True))
    _, got = model.fit_extract(batch, observed_factors=g)
    assert len(reads) == 1
    want = model.extract(batch, observed_factors=g)
    np.testing.assert_array_equal(got.factor_returns, want.factor_returns)


@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_extract_of_the_training_batch_is_the_training_history(case, missing):
    build, data = case
    model, batch = build(), data(missing=missing)
    summary = model.fit(batch)
    state = model.extract(batch)
    assert summary.converged
    assert state.asset_betas.shape == (T, N, 2)
    np.testing.assert_allclose(
        state.factor_returns, model._fitted("test").train_factor_returns, rtol=0, atol=1e-10
    )
    assert (np.nanmean(state.factor_returns, axis=0) >= 0).all()
    assert state.asset_ids == IDS
    assert state.timestamps == DATES
    assert state.checkpoint_epoch is None


def test_most_of_a_strong_factor_panel_is_explained(case):
    build, data = case
    model, batch = build(), data()
    model.fit(batch)
    state = model.extract(batch)
    if isinstance(model, PCAModel):
        mean = batch.returns.mean(axis=0)
        demeaned = state.factor_returns - state.factor_returns.mean(axis=0)
        fitted = mean + demeaned @ state.asset_betas[0].T
    elif isinstance(model, RPPCAModel):
        centered = state.factor_returns - state.factor_returns.mean(axis=0)
        fitted = batch.returns.mean(axis=0) + centered @ state.asset_betas[0].T
    else:
        fitted = np.einsum("tnk,tk->tn", state.asset_betas, state.factor_returns)
    assert ((batch.returns - fitted) ** 2).sum() < 0.06 * (batch.returns**2).sum()


def test_exposures_never_read_returns(case):
    build, data = case
    model, batch = build(), data(missing=0.1)
    model.fit(batch)
    seen = model.extract(batch)
    blind = model.extract(without_returns(batch))
    changed = model.extract(replace(batch, returns=-7.0 * batch.returns))
    np.testing.assert_array_equal(seen.asset_betas, blind.asset_betas)
    np.testing.assert_array_equal(seen.asset_betas, changed.asset_betas)
    assert blind.factor_returns is None


def test_a_realised_factor_reads_its_own_date_alone(case):
    build, data = case
    model, batch = build(), data()
    model.fit(batch)
    before = model.extract(batch).factor_returns
    returns = batch.returns.copy()
    returns[T // 2 :] *= -3.0
    after = model.extract(replace(batch, returns=returns)).factor_returns
    np.testing.assert_array_equal(after[: T // 2], before[: T // 2])
    assert not np.allclose(after[T // 2 :], before[T // 2 :])


def test_the_order_of_assets_is_a_label(case):
    build, data = case
    order = np.random.default_rng(1).permutation(N)
    batch = data(missing=0.05)
    straight, shuffled = build(), build()
    straight.fit(batch)
    shuffled.fit(permuted(batch, order))
    expected = straight.extract(batch)
    got = shuffled.extract(permuted(batch, order))
    np.testing.assert_allclose(got.asset_betas, expected.asset_betas[:, order], rtol=0, atol=1e-8)
    np.testing.assert_allclose(got.factor_returns, expected.factor_returns, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", STABLE)
def test_a_request_in_another_order_is_answered_in_that_order(name):
    build, data = CASES[name]
    model, batch = build(), data()
    model.fit(batch)
    order = np.random.default_rng(2).permutation(N)
    got = model.extract(permuted(batch, order))
    expected = model.extract(batch)
    np.testing.assert_array_equal(got.asset_betas, expected.asset_betas[:, order])
    np.testing.assert_allclose(got.factor_returns, expected.factor_returns, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", STABLE)
def test_unknown_assets_are_rejected_without_naming_them(name):
    build, data = CASES[name]
    model, batch = build(), data()
    model.fit(batch)
    strangers = PersistentPanelBatch(timestamps=("t",), asset_ids=("secret", *IDS[1:]))
    with pytest.raises(ValueError, match="asset_ids") as caught:
        model.extract(strangers)
    assert "secret" not in str(caught.value)
    assert "stock-" not in str(caught.value)
    with pytest.raises(ValueError, match=f"fitted on {N} assets, got 3"):
        model.extract(PersistentPanelBatch(np.ones((2, 3))))


def test_values_under_the_mask_change_nothing():
    batch = cross_sections()
    mask = np.random.default_rng(3).random((T, N)) < 0.8
    clean, dirty = IPCAModel(IPCAConfig(n_factors=2)), IPCAModel(IPCAConfig(n_factors=2))
    clean.fit(replace(batch, mask=mask))
    z, returns = batch.characteristics.copy(), batch.returns.copy()
    for junk in (np.nan, np.inf, 1e30):
        z[~mask], returns[~mask] = junk, -junk
        poisoned = replace(batch, characteristics=z, returns=returns, mask=mask)
        dirty.fit(poisoned)
        np.testing.assert_array_equal(dirty.gamma, clean.gamma)
        same_state(dirty.extract(poisoned), clean.extract(replace(batch, mask=mask)))


def test_a_second_fit_starts_from_nothing(case):
    build, data = case
    again, fresh = build(), build()
    again.fit(data(seed=5))
    again.fit(data(seed=6))
    fresh.fit(data(seed=6))
    same_state(again.extract(data(seed=6)), fresh.extract(data(seed=6)))


def test_a_failed_refit_leaves_the_fit(case):
    build, data = case
    model, batch = build(), data()
    model.fit(batch)
    before = model.extract(batch)
    broken = replace(batch, returns=np.full((T, N), np.nan))
    with pytest.raises(ValueError, match=r"finite|usable|valid"):
        model.fit(broken)
    assert model.is_fitted
    assert model.last_fit_record.stopping_reason == "failed"
    same_state(model.extract(batch), before)


def test_round_trip_is_bit_identical(case, tmp_path):
    build, data = case
    model, batch = build(), data(missing=0.1)
    model.fit(batch)
    loaded = type(model).load(model.save(tmp_path / "model.ml4t"))
    same_state(loaded.extract(batch), model.extract(batch))
    assert loaded.last_fit_record == model.last_fit_record
    assert loaded.config == model.config
    assert loaded.extract(batch).metadata == model.extract(batch).metadata
    same_state(pickle.loads(pickle.dumps(model)).extract(batch), model.extract(batch))


def test_float32_stays_float32(case):
    build, data = case
    batch = data()
    model = build()
    narrow = replace(batch, returns=batch.returns.astype(np.float32))
    if isinstance(batch, CrossSectionBatch):
        narrow = replace(narrow, characteristics=batch.characteristics.astype(np.float32))
    wide = build()
    wide.fit(batch)
    model = type(wide)(replace(wide.config, dtype="float32"))
    model.fit(narrow)
    state = model.extract(narrow)
    assert state.asset_betas.dtype == np.float32
    assert state.factor_returns.dtype == np.float32
    np.testing.assert_allclose(state.asset_betas, wide.extract(batch).asset_betas, atol=2e-4)


def test_refusals(case):
    build, data = case
    model, batch = build(), data()
    with pytest.raises(RuntimeError, match="fitted before extract"):
        model.extract(batch)
    with pytest.raises(TypeError, match="batch"):
        model.fit(batch.returns)
    with pytest.raises(ValueError, match="requires returns"):
        model.fit(without_returns(batch))
    assert not model.is_fitted
    model.fit(batch)
    with pytest.raises(ValueError, match="checkpoints"):
        model.extract(batch, checkpoint=1)
    assert model.available_checkpoints == ()


@pytest.mark.parametrize("name", STABLE)
def test_a_panel_that_cannot_carry_the_factors_is_refused(name):
    build, data = CASES[name]
    model, batch = build(), data()
    config = replace(model.config, n_factors=N + 1)
    with pytest.raises(ValueError, match="n_factors"):
        type(model)(config).fit(batch)
    holes = batch.returns.copy()
    holes[:, 3] = np.nan
    with pytest.raises(ValueError, match="asset 3"):
        model.fit(replace(batch, returns=holes))


@pytest.mark.parametrize("name", STABLE)
def test_a_date_without_returns_is_left_out_and_has_no_factors(name):
    build, _ = CASES[name]
    model, short, batch = build(), build(), panel(missing=0.1)
    empty = np.isin(np.arange(T), [0, 7, 8])
    holes = np.where(empty[:, None], np.nan, batch.returns)
    summary = model.fit(replace(batch, returns=holes))
    assert short.fit(PersistentPanelBatch(holes[~empty])).train_metrics == summary.train_metrics
    expected = np.full((T, 2), np.nan)
    expected[~empty] = short.train_factor_returns
    np.testing.assert_array_equal(model.train_factor_returns, expected)
    state = model.extract(replace(batch, returns=holes))
    np.testing.assert_array_equal(np.isnan(state.factor_returns).all(axis=1), empty)
    ((window, _),) = model.fit_windows(replace(batch, returns=holes), [(5, T)])
    alone = build()
    alone.fit(PersistentPanelBatch(holes[5:]))
    np.testing.assert_allclose(window.train_factor_returns, alone.train_factor_returns, atol=1e-11)
    assert ExpandingMeanFactorForecaster().fit(state).converged
    with pytest.raises(ValueError, match=rf"spans of the {T} dates; got 5 to {T + 1}"):
        model.fit_windows(replace(batch, returns=holes), [(5, T + 1)])


def test_ipca_refuses_other_characteristics():
    model, batch = IPCAModel(IPCAConfig(n_factors=2)), cross_sections()
    model.fit(batch)
    with pytest.raises(ValueError, match="feature dimension"):
        model.extract(CrossSectionBatch(batch.characteristics[:, :, :2]))
    with pytest.raises(ValueError, match="n_factors"):
        IPCAModel(IPCAConfig(n_factors=L + 2)).fit(batch)


def test_ipca_answers_for_assets_and_dates_it_never_saw():
    model, batch = IPCAModel(IPCAConfig(n_factors=2)), cross_sections()
    model.fit(batch)
    z = np.random.default_rng(9).uniform(-0.5, 0.5, (3, N + 5, L))
    z[1, 2, 0] = np.nan
    state = model.extract(CrossSectionBatch(z))
    expected = z @ model.gamma[1:] + model.gamma[0]
    np.testing.assert_allclose(state.asset_betas, expected, rtol=0, atol=1e-12)
    assert np.isnan(state.asset_betas[1, 2]).all()
    assert state.asset_ids == ()


def test_ipca_alpha_is_a_factor_that_is_one():
    batch = cross_sections()
    planted = np.array([0.0, 0.02, 0.0, -0.01, 0.0])
    z = batch.characteristics
    lifted = replace(batch, returns=batch.returns + z @ planted[1:])
    model = IPCAModel(IPCAConfig(n_factors=2, intercept=True))
    model.fit(lifted)
    state = model.extract(lifted)
    assert state.n_factors == 3
    np.testing.assert_array_equal(state.factor_returns[:, 2], 1.0)
    np.testing.assert_allclose(state.asset_betas[:, :, 2], z @ model.alpha[1:] + model.alpha[0])
    np.testing.assert_allclose(model.gamma.T @ model.alpha, 0.0, atol=1e-8)
    assert IPCAModel(IPCAConfig(n_factors=2)).fit(batch).converged


@pytest.mark.parametrize("intercept", [False, True])
def test_ipca_identified_form(intercept):
    batch = cross_sections(missing=0.05)
    model = IPCAModel(IPCAConfig(n_factors=2, intercept=intercept))
    model.fit(batch)
    f = model.train_factor_returns
    np.testing.assert_allclose(model.gamma.T @ model.gamma, np.eye(2), atol=1e-8)
    second = f.T @ f / len(f)
    np.testing.assert_allclose(second, np.diag(np.diag(second)), atol=1e-8)
    assert (np.diff(np.diag(second)) <= 0).all()
    assert (f.mean(axis=0) >= 0).all()


def test_ipca_with_one_sweep_has_not_converged():
    config = IPCAConfig(n_factors=2, max_iter=1, factor_ridge=0.0, gamma_ridge=0.0)
    model, batch = IPCAModel(config), cross_sections()
    summary = model.fit(batch)
    assert not summary.converged
    assert summary.run_record.stopping_reason == "iteration_limit"
    np.testing.assert_allclose(
        model.extract(batch).factor_returns, model.train_factor_returns, rtol=0, atol=1e-10
    )
