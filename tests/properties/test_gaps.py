"""Panels with gaps, panels that do not move, and assets that come and go."""

from dataclasses import replace

import numpy as np
import pytest

from ml4t.models import (
    BetaLambdaMapper,
    ExpandingMeanFactorForecaster,
    LatentFactorForecastPipeline,
    PCAConfig,
    PCAModel,
    PersistentPanelBatch,
    RPPCAConfig,
    RPPCAModel,
    WalkForward,
)
from ml4t.models.artifacts import files
from ml4t.models.kernels import managed_portfolios, pca, project_pca, rolling_pca

MODELS = [
    PCAModel(PCAConfig(n_factors=1)),
    RPPCAModel(RPPCAConfig(n_factors=1)),
    RPPCAModel(RPPCAConfig(n_factors=1, base_moment="covariance", gamma=10.0)),
]


def one_factor(seed=0, n_dates=1258, n_assets=20):
    rng = np.random.default_rng(seed)
    f = 0.01 * rng.standard_normal(n_dates)
    return f[:, None] + 0.002 * rng.standard_normal((n_dates, n_assets)), f


def several_factors(seed=0, n_dates=300, n_assets=60):
    rng = np.random.default_rng(seed)
    f = rng.standard_normal((n_dates, 3)) * np.array([0.02, 0.01, 0.007])
    loadings = rng.standard_normal((n_assets, 3)) + np.array([1.0, 0.0, 0.0])
    return f @ loadings.T + 0.003, 0.01 * rng.standard_normal((n_dates, n_assets))


def gaps(shape, kind, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "random":
        return rng.random(shape) < 0.3
    listed = rng.integers(0, int(0.8 * shape[0]), shape[1])
    listed[::2] = 0
    return np.arange(shape[0])[:, None] < listed


@pytest.mark.parametrize("model", MODELS, ids=lambda m: repr(m.config))
@pytest.mark.parametrize("kind", ["late", "early", "random"])
def test_an_asset_with_gaps_keeps_its_loading(model, kind):
    ratios = []
    for seed in range(6):
        x, _ = one_factor(seed)
        out = np.arange(len(x)) < 0.75 * len(x)
        if kind == "early":
            out = out[::-1]
        if kind == "random":
            out = np.random.default_rng(seed).random(len(x)) < 0.75
        x[out, 0] = np.nan
        batch = PersistentPanelBatch(x)
        notes = model.fit(batch).notes
        assert f"{out.sum()} of {x.size} returns are missing" in notes[-1]
        beta = np.abs(model.extract(batch).asset_betas[0, :, 0])
        ratios.append(beta[0] / beta[1:].mean())
    # The slope itself has a standard error of 1.1 %.
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.01)
    assert np.std(ratios) < 0.02


def test_the_mean_fill_stays_where_it_is_asked_for():
    x, _ = one_factor()
    x[: 3 * len(x) // 4, 0] = np.nan
    model = PCAModel(PCAConfig(n_factors=1, missing="mean"))
    summary = model.fit(PersistentPanelBatch(x))
    plain = pca(x, 1)
    np.testing.assert_array_equal(
        model.extract(PersistentPanelBatch(x)).asset_betas[0], plain.loadings
    )
    assert "shrinks" in summary.notes[-1]


@pytest.mark.parametrize("kind", ["random", "late"])
def test_panels_without_noise_are_completed_exactly(kind):
    whole, _ = several_factors()
    x = np.where(gaps(whole.shape, kind), np.nan, whole)
    found = pca(x, 3, missing="em")
    deviations = whole - whole.mean(axis=0)
    fitted = deviations @ found.loadings @ found.loadings.T
    np.testing.assert_allclose(fitted, deviations, atol=1e-7)
    np.testing.assert_allclose(found.mean, whole.mean(axis=0), atol=1e-8)
    np.testing.assert_allclose(found.factors, whole @ found.loadings, atol=1e-6)
    assert found.explained_variance_ratio.sum() == pytest.approx(1.0, abs=1e-10)


@pytest.mark.parametrize("kind", ["random", "late"])
def test_the_solution_is_a_fixed_point_of_its_least_squares(kind):
    whole, noise = several_factors(1)
    x = np.where(gaps(whole.shape, kind, 1), np.nan, whole + noise)
    found = pca(x, 3, missing="em")
    again = project_pca(x, found.mean, found.loadings, missing="em")
    np.testing.assert_array_equal(again, found.factors)
    assert found.step < 1e-9
    mean = found.mean @ found.loadings
    for t in np.flatnonzero(np.isnan(x).any(axis=1))[:20]:
        there = np.isfinite(x[t])
        own = np.linalg.lstsq(found.loadings[there], (x[t] - found.mean)[there], rcond=None)[0]
        np.testing.assert_allclose(found.factors[t], own + mean, atol=1e-10)
    # Nearer to the loadings of the whole panel than the mean fill is.
    target = pca(whole + noise, 3).loadings
    lost = [
        np.linalg.norm(target - other @ (other.T @ target))
        for other in (found.loadings, pca(x, 3).loadings)
    ]
    assert lost[0] < 0.5 * lost[1]


def test_a_handful_of_returns_makes_no_large_loading():
    whole, noise = several_factors(2)
    x = whole + noise
    x[:-4, :5] = np.nan
    found = pca(x, 3, missing="em")
    assert np.abs(found.loadings[:5]).max() < 2 * np.abs(found.loadings[5:]).max()


def test_complete_panels_and_windows_have_the_same_bits_with_either_setting():
    whole, noise = several_factors(3)
    x = whole + noise
    for name in pca(x, 2).__slots__:
        np.testing.assert_array_equal(
            getattr(pca(x, 2), name), getattr(pca(x, 2, missing="em"), name)
        )
    x[:3, 0] = np.nan
    windows = [(0, 100), (1, 101), (5, 200)]
    many = rolling_pca(x, 2, windows, missing="em")
    for i, (start, stop) in enumerate(windows):
        one = pca(x[start:stop], 2, missing="em")
        np.testing.assert_allclose(many.loadings[i], one.loadings, atol=1e-10)
        np.testing.assert_allclose(many.mean[i], one.mean, atol=1e-12)


def test_factors_of_gaps_have_the_same_bits_in_every_layout():
    whole, noise = several_factors(4)
    x = np.where(gaps(whole.shape, "random"), np.nan, whole + noise)
    wide = np.zeros((len(x), 2 * x.shape[1]))
    wide[:, ::2] = x
    layouts = [x, np.asfortranarray(x), wide[:, ::2], np.ascontiguousarray(x[::-1])[::-1]]
    for model in (*MODELS, PCAModel(PCAConfig(n_factors=3, missing="mean"))):
        found = []
        for one in layouts:
            batch = PersistentPanelBatch(one)
            model.fit(batch)
            state = model.extract(batch)
            found.append(state.factor_returns.tobytes() + state.asset_betas[0].tobytes())
        assert len(set(found)) == 1


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("value", "dates"), [(0.01, 7), (0.01, 10), (0.0525, 60), (-37.3, 700)])
@pytest.mark.parametrize("gap", [False, True])
def test_a_panel_in_which_nothing_moves_has_rank_zero(value, dates, dtype, gap):
    x = np.full((dates, 4), value, dtype=dtype)
    if gap:
        x[1, 2] = np.nan
    batch = PersistentPanelBatch(x)
    for model in (
        PCAModel(PCAConfig(n_factors=1)),
        PCAModel(PCAConfig(n_factors=1, missing="mean")),
        RPPCAModel(RPPCAConfig(n_factors=1, base_moment="covariance")),
        RPPCAModel(RPPCAConfig(n_factors=1, base_moment="covariance", gamma=-0.5)),
        RPPCAModel(RPPCAConfig(n_factors=1, gamma=-1.0)),
        RPPCAModel(RPPCAConfig(n_factors=2)),
    ):
        rank = "rank 1" if model.config.n_factors == 2 else "rank 0"
        with pytest.raises(ValueError, match=rank):
            model.fit(batch)
        with pytest.raises(ValueError, match=rank):
            model.fit_windows(batch, [(0, dates)])
        with pytest.raises(ValueError, match=rank):
            WalkForward(model, min_periods=dates - 1).run(batch)
        assert not model.is_fitted


def test_a_factor_that_does_not_vary_has_no_slopes():
    batch = PersistentPanelBatch(np.full((60, 4), 0.0525))
    model = RPPCAModel(RPPCAConfig(n_factors=1))
    summary = model.fit(batch)
    assert np.abs(model.extract(batch).asset_betas).max() == 0.0
    assert summary.train_metrics["mean_abs_alpha"] == pytest.approx(0.0525)


def test_what_moves_little_beside_its_level_still_moves():
    rng = np.random.default_rng(5)
    moves = rng.standard_normal((60, 4))
    found = pca(1e6 + moves, 2)
    np.testing.assert_allclose(found.singular_values, pca(moves, 2).singular_values, rtol=1e-8)


def test_managed_portfolios_of_thin_dates_fit_as_lstsq_does():
    rng = np.random.default_rng(6)
    for _ in range(300):
        n, spread = int(rng.integers(1, 10)), float(rng.choice([0.0, 3.0, 6.0]))
        width = int(rng.integers(n, n + 6))
        z = rng.standard_normal((1, n, width)) * 10.0 ** rng.uniform(-spread, spread, width)
        r = rng.standard_normal((1, n))
        x = managed_portfolios(z, r)[0]
        rows = np.hstack([z[0], np.ones((n, 1))])
        best = np.linalg.lstsq(rows, r[0], rcond=None)[0]
        got, want = (np.linalg.norm(rows @ one - r[0]) for one in (x, best))
        assert got <= 10 * want + 1e-12 * np.linalg.norm(rows) * np.linalg.norm(best)


def universe(seed=0):
    """Nine assets, of which one is listed late, one is delisted, and one never has a return."""
    x, _ = one_factor(seed, n_dates=48, n_assets=9)
    x = x + 0.002
    x[:20, 0] = np.nan
    x[24:, 1] = np.nan
    x[:, 2] = np.nan
    return PersistentPanelBatch(x, asset_ids=tuple("abcdefghi"))


@pytest.mark.parametrize("window", [None, 12])
@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("model", [MODELS[0], MODELS[1]], ids=["PCA", "RP-PCA"])
@pytest.mark.parametrize("piped", [False, True])
def test_a_walk_leaves_out_what_has_no_return_in_the_window(window, warm, model, piped):
    batch = universe()
    whole = LatentFactorForecastPipeline(model, ExpandingMeanFactorForecaster(), BetaLambdaMapper())
    walk = WalkForward(
        whole if piped else model, min_periods=12, window=window, refit_every=4, warm_start=warm
    )
    found = walk.run(batch)
    state = found.result.state if piped else found.result
    assert state.asset_ids == batch.asset_ids
    assert np.isfinite(state.factor_returns).all()
    for fold in found.folds:
        span = slice(fold.fold.train_start, fold.fold.train_stop)
        there = np.isfinite(batch.returns[span]).any(axis=0)
        summary = fold.summary.structural_fit if piped else fold.summary
        absent = ", ".join(np.array(batch.asset_ids)[~there])
        assert f"{(~there).sum()} of 9 assets have no return in the window" in summary.notes[-1]
        assert summary.notes[-1].endswith(f"left out: {absent}.")
        dates = slice(fold.fold.predict_start - 12, fold.fold.predict_stop - 12)
        known = np.isfinite(state.asset_betas[dates]).all(axis=(0, 2))
        np.testing.assert_array_equal(known, there)
        # The fold is the fit of the assets that are there.
        alone = type(model)(model.config)
        ids = tuple(np.array(batch.asset_ids)[there])
        alone.fit(PersistentPanelBatch(batch.returns[span][:, there], asset_ids=ids))
        own = alone.extract(PersistentPanelBatch(timestamps=(0,), asset_ids=ids)).asset_betas[0]
        signs = fold.alignment.signs[0]
        np.testing.assert_allclose(state.asset_betas[dates][0][there], signs * own, atol=1e-9)
        if piped:
            expected = found.result.asset_forecast.expected_returns[dates]
            np.testing.assert_array_equal(np.isfinite(expected).all(axis=0), there)


def test_a_fit_still_refuses_such_an_asset_by_name():
    with pytest.raises(ValueError, match=r"asset 2 has none \(1 of 9 have none: c\)"):
        MODELS[0].fit(universe())


def test_a_file_from_before_the_setting_keeps_the_mean_fill(tmp_path):
    x, _ = one_factor(n_dates=60)
    model = PCAModel(PCAConfig(n_factors=1, missing="mean"))
    model.fit(PersistentPanelBatch(x))
    artifact = model.to_artifact()
    kept = {**artifact.config, "fields": dict(artifact.config["fields"])}
    del kept["fields"]["missing"]
    path = files.write(tmp_path / "former", replace(artifact, config=kept))
    old = PCAModel.load(path)
    assert old.config.missing == "mean"
    x[3, :5] = np.nan
    batch = PersistentPanelBatch(x)
    np.testing.assert_array_equal(
        old.extract(batch).factor_returns, model.extract(batch).factor_returns
    )
