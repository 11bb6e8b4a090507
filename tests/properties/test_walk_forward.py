"""Laws of walking forward: nothing from the future, nothing lost on the way."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml4t.models import (
    AR1FactorForecaster,
    BetaLambdaMapper,
    CharacteristicMoments,
    CrossSectionBatch,
    ExpandingMeanFactorForecaster,
    FitSummary,
    IPCAConfig,
    IPCAModel,
    LatentFactorForecastPipeline,
    PCAConfig,
    PCAModel,
    PersistentPanelBatch,
    PortfolioSequenceBatch,
    PortfolioWeightsResult,
    RPPCAConfig,
    RPPCAModel,
    WalkForward,
    persistent_panel_batch_from_long_frame,
    predictions_frame_from_asset_forecast,
)
from ml4t.models.walk_forward import factor_alignment as align
from ml4t.models.walk_forward import fold_store
from ml4t.models.walk_forward.schedule import schedule
from ml4t.models.walk_forward.walk import CHAIN

T, N = 30, 12


def cross_sections(seed=0):
    rng = np.random.default_rng(seed)
    z = rng.uniform(-0.5, 0.5, (T, N, 3))
    gamma = np.linalg.qr(rng.standard_normal((4, 2)))[0]
    f = np.array([0.04, 0.01]) + np.array([0.08, 0.02]) * rng.standard_normal((T, 2))
    r = np.einsum("tnl,lk,tk->tn", np.pad(z, ((0, 0), (0, 0), (1, 0)), constant_values=1), gamma, f)
    r += 0.005 * rng.standard_normal(r.shape)
    mask = rng.random(r.shape) < 0.9
    ids = tuple(f"s{i}" for i in range(N))
    return CrossSectionBatch(z, returns=r, mask=mask, timestamps=tuple(range(T)), asset_ids=ids)


def panel(seed=0):
    batch = cross_sections(seed)
    return PersistentPanelBatch(
        batch.returns, timestamps=batch.timestamps, asset_ids=batch.asset_ids
    )


def windows(seed=0):
    batch = panel(seed)
    return PortfolioSequenceBatch(
        np.stack([batch.returns, batch.returns**2], axis=2)[None],
        returns=batch.returns[None],
        timestamps=batch.timestamps,
        asset_ids=batch.asset_ids,
    )


class Greedy:
    """A policy that looks at whatever it can: weights are running sums of features and returns."""

    def fit(self, batch):
        self.scale = float(batch.returns.sum())
        return FitSummary(converged=True)

    def predict(self, batch, *, checkpoint=None):
        observed = 0.0 if batch.returns is None else np.nan_to_num(batch.returns)
        weights = np.cumsum(batch.features[..., 0] + observed, axis=1) * self.scale
        return PortfolioWeightsResult(
            weights, timestamps=batch.timestamps, asset_ids=batch.asset_ids
        )


def ipca(**settings):
    return IPCAModel(IPCAConfig(n_factors=2, tol=1e-10, **settings))


def pipeline(forecaster=ExpandingMeanFactorForecaster, model=None):
    return LatentFactorForecastPipeline(model or ipca(), forecaster(), BetaLambdaMapper())


FAMILIES = {
    "ipca": (ipca, cross_sections),
    "ipca with alpha": (lambda: ipca(intercept=True), cross_sections),
    "pca": (lambda: PCAModel(PCAConfig(n_factors=2)), panel),
    "rp_pca": (lambda: RPPCAModel(RPPCAConfig(n_factors=2, gamma=10.0)), panel),
    "pipeline": (pipeline, cross_sections),
    "pipeline that goes on from realisations": (
        lambda: pipeline(AR1FactorForecaster),
        cross_sections,
    ),
    "portfolio": (Greedy, windows),
}
families = pytest.mark.parametrize(("make", "data"), FAMILIES.values(), ids=FAMILIES)


def arrays(result):
    """Everything that a result says, by name, with time first."""
    if hasattr(result, "asset_forecast"):
        return {
            "premia": result.factor_forecast.factor_premia,
            "expected": result.asset_forecast.expected_returns,
            **arrays(result.state),
        }
    if hasattr(result, "asset_betas"):
        return {"betas": result.asset_betas, "factors": result.factor_returns}
    return {"weights": np.moveaxis(result.weights, 1, 0)}


def assert_same(got, want, upto=None):
    for name, array in arrays(want).items():
        np.testing.assert_array_equal(arrays(got)[name][:upto], array[:upto], err_msg=name)


@families
@pytest.mark.parametrize(
    "rule", [{}, {"window": 12, "refit_every": 4, "gap": 2}, {"warm_start": False}], ids=str
)
def test_a_planted_future_is_not_found(make, data, rule):
    batch = data()
    plain = WalkForward(make(), min_periods=12, **rule).run(batch)
    first = T - len(next(iter(arrays(plain.result).values())))
    for date in (first + 1, first + 6):
        changed = {"returns": batch.returns}
        for name in ("characteristics", "features"):
            if getattr(batch, name, None) is not None:
                changed[name] = getattr(batch, name)
        axis = 1 if isinstance(batch, PortfolioSequenceBatch) else 0
        for name, array in changed.items():
            # From the date on, the world is another one; of the date itself, returns only.
            begin = date if name == "returns" else date + 1
            later = np.array(array)
            np.moveaxis(later, axis, 0)[begin:] *= -3.0
            changed[name] = later
        planted = WalkForward(make(), min_periods=12, **rule).run(replace(batch, **changed))
        expected, want = arrays(planted.result), arrays(plain.result)
        for name, array in want.items():
            # What is realised at the date may know it; what is predicted may not.
            upto = date - first + (name != "factors")
            np.testing.assert_array_equal(expected[name][:upto], array[:upto], err_msg=name)
            assert (expected[name][upto + 2 :] != array[upto + 2 :]).any(), name


@families
def test_every_prediction_is_that_of_a_model_fitted_on_the_window(make, data):
    batch = data()
    walk = WalkForward(make(), min_periods=12, window=15, refit_every=3, warm_start=False)
    result = walk.run(batch)
    assert [one.fold.predict_start for one in result.folds] == list(range(12, T, 3))
    for one in result.folds[::2]:
        fold, model = one.fold, make()
        assert fold.train_stop == fold.predict_start
        assert fold.train_start == max(0, fold.train_stop - 15)
        model.fit(batch.slice(fold.train_start, fold.train_stop))
        if isinstance(model, Greedy):
            continue
        alone = batch.slice(fold.predict_start, fold.predict_start + 1)
        ask = model.predict if hasattr(model, "predict") else model.extract
        expected = arrays(align.aligned(ask(alone), one.alignment))
        at = fold.predict_start - 12
        for name in ("betas", "factors", "expected"):
            if name in expected:
                np.testing.assert_allclose(
                    arrays(result.result)[name][at],
                    expected[name][0],
                    rtol=0,
                    atol=1e-12,
                    err_msg=name,
                )


@families
def test_labels_and_shapes_are_those_of_the_data(make, data):
    batch = data()
    results = WalkForward(make(), min_periods=20, refit_every=4).run(batch)
    result = results.result.state if hasattr(results.result, "state") else results.result
    assert tuple(result.timestamps) == batch.timestamps[20:]
    assert result.asset_ids == batch.asset_ids
    assert all(len(array) == T - 20 for array in arrays(results.result).values())
    assert len(results.summaries) == len(results.models) == 3


@pytest.mark.parametrize("window", [None, 14])
def test_ipca_starts_every_window_from_its_data(window):
    batch = cross_sections()
    warm, cold = (
        WalkForward(ipca(), min_periods=12, window=window, warm_start=start).run(batch)
        for start in (True, False)
    )
    for one, other in zip(warm.folds, cold.folds, strict=True):
        np.testing.assert_array_equal(one.model.gamma, other.model.gamma)
    np.testing.assert_array_equal(warm.result.factor_returns, cold.result.factor_returns)


@pytest.mark.parametrize("rule", [{}, {"window": 14, "refit_every": 2}], ids=str)
@pytest.mark.parametrize("name", ["pca", "rp_pca", "pipeline of pca"])
def test_windows_fitted_together_are_fitted_windows(name, rule):
    make = {"pipeline of pca": lambda: pipeline(model=FAMILIES["pca"][0]())}.get(name)
    make = make or FAMILIES[name][0]
    warm, cold = (
        WalkForward(make(), min_periods=12, warm_start=start, **rule).run(panel())
        for start in (True, False)
    )
    for expected, want in zip(
        arrays(warm.result).items(), arrays(cold.result).items(), strict=True
    ):
        np.testing.assert_allclose(expected[1], want[1], rtol=0, atol=1e-9, err_msg=expected[0])
    for one, other in zip(warm.folds, cold.folds, strict=True):
        assert one.alignment == other.alignment
        reports = [getattr(fold.summary, "structural_fit", fold.summary) for fold in (one, other)]
        assert reports[0].train_metrics == pytest.approx(reports[1].train_metrics, abs=1e-9)
        assert reports[0].run_record.stopping_reason == reports[1].run_record.stopping_reason


def test_moments_give_the_factors_that_rows_give():
    batch = cross_sections()
    rows = WalkForward(ipca(), min_periods=12).run(batch)
    moments = WalkForward(ipca(), min_periods=12).run(CharacteristicMoments.from_batch(batch))
    np.testing.assert_array_equal(moments.result.factor_returns, rows.result.factor_returns)
    assert moments.result.asset_betas.shape == (T - 12, 0, 2)
    assert moments.result.timestamps == rows.result.timestamps


def test_factors_keep_their_order_and_sign():
    """Two factors whose variances cross over in the middle of the sample."""
    rng = np.random.default_rng(3)
    loadings = np.linalg.qr(rng.standard_normal((N, 2)))[0]
    size = np.linspace(0.02, 0.10, 80)
    patterns = np.tile([[1, 1], [-1, 1], [1, -1], [-1, -1]], (20, 1))  # orthogonal in a window
    factors = np.stack([size[::-1], size], axis=1) * patterns
    batch = PersistentPanelBatch(factors @ loadings.T + 1e-4 * rng.standard_normal((80, N)))
    result = WalkForward(PCAModel(PCAConfig(n_factors=2)), min_periods=20, window=20).run(batch)
    assert {one.alignment.order for one in result.folds} == {(0, 1), (1, 0)}
    betas = result.result.asset_betas
    steps = np.einsum("tnk,tnk->tk", betas[1:], betas[:-1])
    assert (steps > 0.9).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.data())
def test_matching_undoes_any_order_and_sign(seed, n_factors, data):
    rng = np.random.default_rng(seed)
    loadings = np.linalg.qr(rng.standard_normal((8, n_factors)))[0]
    order = data.draw(st.permutations(range(n_factors)))
    signs = rng.choice([-1.0, 1.0], n_factors)
    moved = loadings[:, order] * signs
    np.testing.assert_array_equal(align.matched(loadings, moved).apply(moved), loadings)


@families
@pytest.mark.parametrize("warm_start", [True, False])
def test_the_number_of_workers_changes_no_bit(make, data, warm_start):
    batch = data()
    result = []
    for n_workers in (1, 3):
        with ThreadPoolExecutor(n_workers) as pool:
            walk = WalkForward(make(), min_periods=10, executor=pool, warm_start=warm_start)
            result.append(walk.run(batch))
    assert_same(result[1].result, result[0].result)
    alone = WalkForward(make(), min_periods=10, warm_start=warm_start).run(batch)
    assert len(alone.folds) > CHAIN
    assert_same(result[0].result, alone.result)


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize("name", ["ipca", "pca", "pipeline"])
def test_a_run_goes_on_after_a_crash(tmp_path, monkeypatch, name, workers):
    make, data = FAMILIES[name]
    batch = data()
    monkeypatch.setattr("ml4t.models.walk_forward.walk.CHAIN", 3)
    with ThreadPoolExecutor(2) as pool:
        executor = pool if workers else None
        want = WalkForward(make(), min_periods=20, executor=executor).run(batch)
        walk = WalkForward(make(), min_periods=20, executor=executor)
        write, written = fold_store.FoldStore.write, []

        def fail(self, number, outcome):
            if number == 4:
                raise KeyboardInterrupt
            written.append(number)
            write(self, number, outcome)

        with monkeypatch.context() as patch:
            patch.setattr(fold_store.FoldStore, "write", fail)
            with pytest.raises(KeyboardInterrupt):
                walk.run(batch, folder=tmp_path / "walk")
        assert written == [0, 1, 2, 3]
        with monkeypatch.context() as patch:
            patch.setattr(fold_store.FoldStore, "write", _counting(write, written))
            got = walk.run(batch, folder=tmp_path / "walk")
    assert written == list(range(10))
    assert_same(got.result, want.result)
    assert [one.fold for one in got.folds] == [one.fold for one in want.folds]
    again = walk.run(batch, folder=tmp_path / "walk")
    assert_same(again.result, want.result)


def _counting(write, written):
    def count(self, number, outcome):
        written.append(number)
        write(self, number, outcome)

    return count


FOLD, MODEL = "fold_{:05d}.safetensors", "model_{:05d}.safetensors"


def copy_over(folder, name, at):
    (folder / name.format(at)).write_bytes((folder / name.format(at + 1)).read_bytes())


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: copy_over(f, FOLD, 1), "another run, or another fold"),
        (lambda f: copy_over(f, MODEL, 1), "model_00001.* is not the model that was kept with it"),
        (lambda f: (f / MODEL.format(1)).unlink(), "No such file"),
        (lambda f: (f / MODEL.format(1)).write_bytes(b"{}"), "is not the model that was kept"),
        (lambda f: (f / FOLD.format(1)).write_bytes(b"{}"), "not a model file"),
    ],
)
def test_a_fold_that_is_not_what_was_kept_is_refused_by_name(tmp_path, harm, message):
    walk, batch = WalkForward(ipca(), min_periods=26), cross_sections()
    want = walk.run(batch, folder=tmp_path)
    harm(tmp_path)
    with pytest.raises(ValueError, match=rf"cannot go on from .*fold_00001.*{message}"):
        walk.run(batch, folder=tmp_path)
    (tmp_path / FOLD.format(1)).unlink()
    assert_same(walk.run(batch, folder=tmp_path).result, want.result)


@pytest.mark.parametrize("name", ["run[1]", "ü ñ", "a*b"])
def test_a_run_may_be_kept_anywhere_and_by_two_at_a_time(tmp_path, name):
    walk, batch = WalkForward(ipca(), min_periods=24), cross_sections()
    want = walk.run(batch)
    folder = tmp_path / name
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(walk.run, batch, folder=folder) for _ in range(2)]
        for one in both:
            assert_same(one.result().result, want.result)
    # Whoever came last, every fold is kept with its model.
    assert_same(walk.run(batch, folder=folder).result, want.result)
    assert not [one for one in folder.iterdir() if one.suffix == ".tmp"]


def test_folds_of_another_run_are_not_taken_for_this_one(tmp_path):
    walk = WalkForward(ipca(), min_periods=28)
    walk.run(cross_sections(), folder=tmp_path)
    (tmp_path / "run.json").unlink()
    with pytest.raises(ValueError, match="another run, or another fold"):
        walk.run(cross_sections(seed=1), folder=tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match="folder must be of the same model, folds and data"):
        walk.run(cross_sections(), folder=tmp_path)


@pytest.mark.parametrize("workers", [None, 2])
def test_an_error_says_in_which_window_it_came_up(workers):
    batch = cross_sections()
    returns = np.array(batch.returns)
    returns[11:] = np.nan
    batch = replace(batch, returns=returns)
    walk = WalkForward(ipca(), min_periods=8, window=8)
    with ThreadPoolExecutor(2) as pool:
        walk.executor = pool if workers else None
        with pytest.raises(ValueError, match="which does not") as caught:
            walk.run(batch)
    assert caught.value.__notes__ == ["in the window of dates 10 to 17"]
    late = panel()
    returns = np.array(late.returns)
    returns[12:] = np.nan
    walk = WalkForward(PCAModel(PCAConfig(n_factors=1)), min_periods=8, window=8)
    late = replace(late, returns=returns)
    with pytest.raises(ValueError, match="asset 0 has none") as caught:
        walk.run(late)
    assert caught.value.__notes__ == ["in the window of dates 12 to 19"]


def test_a_walk_gives_a_frame():
    batch = cross_sections()
    result = WalkForward(pipeline(), min_periods=26).run(batch)
    frame = result.frame(constants={"run": 7})
    want = predictions_frame_from_asset_forecast(result.result.asset_forecast, constants={"run": 7})
    assert frame == want
    assert frame.columns == ("timestamp", "asset", "prediction_value", "run")
    weights = WalkForward(Greedy(), min_periods=26).run(windows()).frame()
    assert weights.columns == ("timestamp", "asset", "weight", "selected")
    with pytest.raises(TypeError, match="got LatentFactorState; factor models predict through"):
        WalkForward(ipca(), min_periods=26).run(batch).frame()


def test_a_folder_belongs_to_one_run(tmp_path):
    batch = panel()
    pca = PCAModel(PCAConfig(n_factors=1))
    WalkForward(pca, min_periods=28).run(batch, folder=tmp_path)
    for walk, data, other in (
        (WalkForward(pca, min_periods=27), batch, "folds"),
        (WalkForward(PCAModel(PCAConfig(n_factors=2)), min_periods=28), batch, "model"),
        (WalkForward(pca, min_periods=27, warm_start=False), panel(1), "data, warm start, folds"),
    ):
        said = f"same model, folds and data; .* has a run of other {other}: use another folder"
        with pytest.raises(ValueError, match=said):
            walk.run(data, folder=tmp_path)
    pca.fit(batch)
    WalkForward(pca, min_periods=28).run(batch, folder=tmp_path)
    with pytest.raises(TypeError, match="folder needs a model with save; got Greedy"):
        WalkForward(Greedy(), min_periods=28).run(windows(), folder=tmp_path / "other")


@given(
    st.integers(2, 60),
    st.integers(1, 20),
    st.none() | st.integers(1, 25),
    st.integers(1, 7),
    st.integers(0, 4),
)
def test_folds_predict_every_date_once_and_never_see_it(n, min_periods, window, every, gap):
    rule = {"min_periods": min_periods, "window": window, "refit_every": every, "gap": gap}
    if n <= min_periods + gap:
        with pytest.raises(ValueError, match="must be below the number of dates"):
            schedule(n, **rule)
        return
    folds = schedule(n, **rule)
    predicted = [t for fold in folds for t in range(fold.predict_start, fold.predict_stop)]
    assert predicted == list(range(min_periods + gap, n))
    for fold in folds:
        assert fold.predict_start - fold.train_stop == gap
        length = fold.train_stop - fold.train_start
        assert length == min(fold.train_stop, window or n)


def test_the_model_that_was_passed_stays_as_it_is():
    model = PCAModel(PCAConfig(n_factors=1))
    WalkForward(model, min_periods=28).run(panel())
    assert not model.is_fitted


@pytest.mark.parametrize("make", [ipca, pipeline])
@pytest.mark.parametrize("workers", [None, 2])
def test_observed_factors_follow_the_windows(tmp_path, make, workers):
    batch = cross_sections()
    g = 0.05 * np.random.default_rng(4).standard_normal((T, 1))
    with ThreadPoolExecutor(2) as pool:
        walk = WalkForward(
            make(), min_periods=20, window=15, refit_every=4, executor=pool if workers else None
        )
        result = walk.run(batch, observed_factors=g, folder=tmp_path)
        planted = walk.run(batch, observed_factors=np.where(np.arange(T)[:, None] < 28, g, 9.0))
    for one in result.folds:
        fold, model = one.fold, ipca()
        window = batch.slice(fold.train_start, fold.train_stop)
        model.fit(window, observed_factors=g[fold.train_start : fold.train_stop])
        expected = getattr(one.model, "model", one.model)
        np.testing.assert_allclose(expected.gamma_observed, model.gamma_observed, atol=1e-6)
    state = getattr(result.result, "state", result.result)
    assert state.asset_betas.shape == (10, N, 3)
    np.testing.assert_array_equal(state.factor_returns[:, 2], g[20:, 0])
    for name, array in arrays(result.result).items():
        upto = 8 if name == "factors" else 10
        np.testing.assert_array_equal(arrays(planted.result)[name][:upto], array[:upto], name)
    with pytest.raises(ValueError, match="folder must be of the same model, folds and data"):
        walk.run(batch, observed_factors=2 * g, folder=tmp_path)


def test_observed_factors_are_checked():
    walk = WalkForward(PCAModel(PCAConfig(n_factors=1)), min_periods=20)
    with pytest.raises(ValueError, match="observed_factors must be None: PCAModel"):
        walk.run(panel(), observed_factors=np.ones((T, 1)))
    with pytest.raises(ValueError, match="observed_factors must have shape"):
        WalkForward(ipca(), min_periods=20).run(cross_sections(), observed_factors=np.ones(3))


KILLED = """
import os, signal, sys
from properties.test_walk_forward import T, WalkForward, cross_sections, ipca
from ml4t.models.walk_forward.fold_store import FoldStore
write = FoldStore.write
def die(self, number, outcome):
    if number == 4:  # after the model is on disk and before the fold is
        outcome.model.save(self._model_path(number))
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, number, outcome)
FoldStore.write = die
WalkForward(ipca(), min_periods=20).run(cross_sections(), folder=sys.argv[1])
"""


def test_a_run_goes_on_after_its_process_was_killed(tmp_path):
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), *sys.path])
    died = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "walk")],
        env=os.environ | {"PYTHONPATH": path},
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "walk").glob("fold_*.safetensors"))) == 4
    walk = WalkForward(ipca(), min_periods=20)
    got = walk.run(cross_sections(), folder=tmp_path / "walk")
    assert_same(got.result, walk.run(cross_sections()).result)


def test_progress_counts_folds(capsys):
    WalkForward(PCAModel(PCAConfig(n_factors=1)), min_periods=28, progress=True).run(panel())
    assert "folds: 100%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "data", "error", "message"),
    [
        ({"min_periods": 0}, None, ValueError, "min_periods must be an integer >= 1"),
        ({"min_periods": 5, "window": 0}, None, ValueError, "window must be an integer >= 1"),
        ({"min_periods": 5, "gap": -1}, None, ValueError, "gap must be an integer >= 0"),
        ({"min_periods": 5, "refit_every": 0}, None, ValueError, "refit_every must be"),
        ({"min_periods": 40}, None, ValueError, "must be below the number of dates, 30; got 40"),
        ({"min_periods": 5}, np.ones(3), TypeError, "data must be a batch or moments"),
    ],
)
def test_says_what_is_wrong(settings, data, error, message):
    with pytest.raises(error, match=message):
        WalkForward(PCAModel(PCAConfig(n_factors=1)), **settings).run(
            panel() if data is None else data
        )


def test_dates_that_go_back_are_refused():
    days = [dt.date(2020, 1, 1) + dt.timedelta(days=t) for t in range(T)]
    days[4], days[5] = days[5], days[4]
    walk = WalkForward(PCAModel(PCAConfig(n_factors=1)), min_periods=5)
    with pytest.raises(ValueError, match="got 2020-01-05 after 2020-01-06 at date 5"):
        walk.run(replace(panel(), timestamps=days))


class Causal:
    """Weights from features of each date; counts its predictions."""

    is_causal = True
    asked: ClassVar[list[int]] = []

    def fit(self, batch):
        self.scale = float(batch.returns.sum())
        return FitSummary(converged=True)

    def predict(self, batch, *, checkpoint=None):
        assert batch.returns is None or np.isnan(batch.returns[:, -1]).all()
        self.asked.append(batch.n_periods)
        weights = np.cumsum(batch.features[..., 0], axis=1) * self.scale
        return PortfolioWeightsResult(weights, timestamps=batch.timestamps)


class Heir(Causal):
    """It may override anything: the promise of its base is not its own."""


class Stumbling(Causal):
    is_causal = True

    def predict(self, batch, *, checkpoint=None):
        if batch.n_periods > 25:
            raise ValueError("too long")
        return super().predict(batch)


@pytest.mark.parametrize("gap", [0, 2])
def test_a_causal_model_predicts_a_fold_in_one_pass(gap):
    results, counts = [], []
    for model in (Causal(), Heir()):
        Causal.asked.clear()
        walk = WalkForward(model, min_periods=12, refit_every=6, gap=gap)
        results.append(walk.run(windows()).result)
        counts.append(len(Causal.asked))
    n_predicted = T - 12 - gap
    assert counts == [-(-n_predicted // 6), n_predicted]
    assert_same(*results)


def test_a_pass_that_fails_names_the_date():
    with pytest.raises(ValueError, match="too long") as caught:
        WalkForward(Stumbling(), min_periods=12, refit_every=6).run(windows())
    assert "at the date 25" in caught.value.__notes__


def test_a_model_may_give_its_own_reference_loadings_and_walk_data():
    class Halved(PCAModel):
        def walk_data(self, batch):
            return replace(batch, returns=0.5 * batch.returns)

        def reference_loadings(self, batch):
            return super().reference_loadings(batch)[:3]

        fit_windows = None

    result = WalkForward(Halved(PCAConfig(n_factors=2)), min_periods=12, refit_every=6).run(panel())
    alone = PCAModel(PCAConfig(n_factors=2))
    alone.fit(replace(panel().slice(0, 12), returns=0.5 * panel().returns[:12]))
    got = np.abs(result.models[0].train_factor_returns)
    np.testing.assert_allclose(got, np.abs(alone.train_factor_returns), rtol=1e-9)


def test_names_of_key_columns_travel_from_a_long_frame_to_the_frame_of_a_walk():
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "month": pl.Series([dt.date(2001 + i // 12, 1 + i % 12, 28) for i in range(30)])
            .repeat_by(3)
            .explode(),
            "portfolio": ["a", "b", "c"] * 30,
            "excess": 0.01 * rng.standard_normal(90),
        }
    )
    batch = persistent_panel_batch_from_long_frame(
        frame, return_col="excess", timestamp_col="month", entity_col="portfolio"
    )
    model = LatentFactorForecastPipeline(
        PCAModel(PCAConfig(n_factors=1)), ExpandingMeanFactorForecaster(), BetaLambdaMapper()
    )
    predicted = WalkForward(model, min_periods=24).run(batch).frame().to_polars()
    assert predicted.columns == ["month", "portfolio", "prediction_value"]
    assert predicted["month"].unique().sort().to_list() == sorted(set(frame["month"]))[24:]
