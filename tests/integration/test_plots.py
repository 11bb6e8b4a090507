"""Figures hold the model's own numbers, and render."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ml4t.models import (
    BootstrapTest,
    CharacteristicImportance,
    CrossSectionBatch,
    FitSummary,
    IPCAConfig,
    IPCAModel,
    LatentFactorState,
    PCAConfig,
    PCAModel,
    PersistentPanelBatch,
    RegimeSwitchingMapper,
    plots,
)

T, N, L = 30, 10, 3
NAMES = ("size", "value", "momentum")


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    z = rng.uniform(-0.5, 0.5, (T, N, L))
    f = 0.02 + 0.05 * rng.standard_normal((T, 2))
    r = (1 + z[:, :, 0]) * f[:, :1] + z[:, :, 1] * f[:, 1:] + 0.01 * rng.standard_normal((T, N))
    return CrossSectionBatch(z, returns=r, feature_names=NAMES)


@pytest.fixture(scope="module")
def model(batch):
    fitted = IPCAModel(IPCAConfig(n_factors=2, intercept=True))
    fitted.fit(batch)
    return fitted


def rendered(figure):
    page = figure.to_html(include_plotlyjs=False)
    assert "Plotly.newPlot" in page
    return figure


def test_the_heat_map_is_gamma(model):
    figure = rendered(plots.plot_gamma(model))
    (heat,) = figure.data
    np.testing.assert_array_equal(heat.z, np.column_stack([model.gamma, model.alpha]))
    assert tuple(heat.x) == ("f1", "f2", "alpha")
    assert tuple(heat.y) == ("constant", *NAMES)
    assert heat.zmax == -heat.zmin == np.abs(heat.z).max()


@pytest.mark.parametrize("cumulative", [False, True])
def test_paths_are_the_factors(model, batch, cumulative):
    state = model.extract(batch)
    labelled = LatentFactorState(
        state.asset_betas, factor_returns=state.factor_returns, timestamps=tuple(range(2000, 2030))
    )
    figure = rendered(plots.plot_factors(labelled, cumulative=cumulative))
    want = state.factor_returns.cumsum(axis=0) if cumulative else state.factor_returns
    for k, line in enumerate(figure.data):
        np.testing.assert_array_equal(line.y, want[:, k])
        assert list(line.x) == list(range(2000, 2030))
    assert [line.name for line in figure.data] == ["f1", "f2", "f3"]


def test_paths_of_a_model_are_its_training_factors(model, batch):
    pca = PCAModel(PCAConfig(n_factors=2))
    pca.fit(PersistentPanelBatch(batch.returns))
    for fitted in (model, pca):
        figure = rendered(plots.plot_factors(fitted))
        got = np.column_stack([line.y for line in figure.data])
        np.testing.assert_array_equal(got, fitted.train_factor_returns)
    with pytest.raises(ValueError, match="source must have factor_returns"):
        plots.plot_factors(LatentFactorState(np.ones((2, 1, 1))))


def test_bars_are_the_importance_in_order(model, batch):
    importance = model.characteristic_importance(batch)
    (bars,) = rendered(plots.plot_importance(importance)).data
    assert dict(zip(bars.y, bars.x, strict=True)) == dict(
        zip(importance.names, importance.drop, strict=True)
    )
    assert list(bars.x) == sorted(bars.x)
    with pytest.raises(TypeError, match="importance"):
        plots.plot_importance(model)
    nothing = CharacteristicImportance(("a",), 0.0, np.zeros(1))
    rendered(plots.plot_importance(nothing))


def test_histograms_are_the_draws_that_did_not_fail():
    draws = np.array([0.1, np.nan, 0.3, 0.2])
    one = BootstrapTest(0.25, 1 / 3, draws, 1, "alpha = 0")
    other = BootstrapTest(0.5, 0.0, draws * 2, 1)
    figure = rendered(plots.plot_bootstrap(one))
    np.testing.assert_array_equal(figure.data[0].x, [0.1, 0.3, 0.2])
    assert figure.layout.shapes[0].x0 == 0.25
    assert figure.layout.annotations[0].text == "alpha = 0: p = 0.333"
    figure = rendered(plots.plot_bootstrap({"size": one, "value": other}))
    assert [shape.x0 for shape in figure.layout.shapes] == [0.25, 0.5]
    texts = [note.text for note in figure.layout.annotations]
    assert texts == ["size: p = 0.333", "value: p = 0.000"]
    with pytest.raises(ValueError, match="at least one test"):
        plots.plot_bootstrap({})


def test_the_tests_of_a_model_are_drawn(model):
    test = model.test_alpha(n_draws=20)
    (bars,) = rendered(plots.plot_bootstrap(test)).data
    np.testing.assert_array_equal(bars.x, test.draws)
    each = model.test_characteristics(n_draws=5)
    assert len(rendered(plots.plot_bootstrap(each)).data) == L


def test_convergence_is_the_history_or_the_certificate(model, batch):
    mapper = RegimeSwitchingMapper()
    summary = mapper.fit(model.extract(batch))
    (line,) = rendered(plots.plot_convergence(summary)).data
    assert list(line.y) == [entry["log_posterior"] for entry in summary.history]
    assert list(line.x) == [entry["step"] for entry in summary.history]
    figure = rendered(plots.plot_convergence(model))
    objective, steps, bars = figure.data
    proof = model.certificate
    assert list(objective.y) == list(proof.objectives)
    assert list(objective.x) == list(range(proof.n_als + proof.n_newton + 1))
    assert list(steps.y) == list(proof.steps)
    assert list(steps.x) == list(objective.x)[1:]
    assert list(bars.y) == [proof.gamma_condition, proof.factor_condition, proof.subspace_step]
    assert [line.y0 for line in figure.layout.shapes] == [model.config.tol] * 2
    with pytest.raises(ValueError, match="history"):
        plots.plot_convergence(FitSummary(converged=True))


def test_a_file_from_before_the_sweeps_were_kept_shows_where_they_ended(model):
    artifact = model.to_artifact()
    state = copy.deepcopy(artifact.state)
    got = state["fit"]["fields"]["certificate"]["fields"]
    got.pop("objectives")
    got.pop("steps")
    older = IPCAModel.from_artifact(replace(artifact, state=state))
    (bars,) = rendered(plots.plot_convergence(older)).data
    assert bars.y[2] == model.certificate.subspace_step
    assert older.summary().table("Convergence") == model.summary().table("Convergence")


def test_entries_of_a_history_may_differ():
    history = ({"epoch": 1, "train_loss": 0.5, "phase": "a"}, {"epoch": 2, "val_loss": 0.4})
    figure = rendered(plots.plot_convergence(FitSummary(converged=True, history=history)))
    assert {line.name: (list(line.x), list(line.y)) for line in figure.data} == {
        "train_loss": ([1.0], [0.5]),
        "val_loss": ([2.0], [0.4]),
    }


def test_an_unfitted_model_has_no_figure():
    with pytest.raises(RuntimeError, match="fitted before"):
        plots.plot_gamma(IPCAModel(IPCAConfig()))


def test_without_plotly_the_module_loads_and_figures_say_what_to_install():
    script = f"""
import sys
sys.path[:0] = {sys.path!r}
import ml4t.models
from ml4t.models import plots
assert "plotly" not in sys.modules
sys.modules["plotly"] = None
sys.modules["plotly.graph_objects"] = None
from ml4t.models import FitSummary
try:
    plots.plot_convergence(FitSummary(converged=True, history=({{"step": 1, "x": 2.0}},)))
except ModuleNotFoundError as error:
    assert "ml4t-models[plot]" in str(error) and error.name == "plotly", error
else:
    raise SystemExit("a figure without plotly")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (plots.plot_gamma, "model must be a IPCAModel"),
        (plots.plot_factors, "source must be a LatentFactorState or a model with"),
        (plots.plot_importance, "importance must be a CharacteristicImportance"),
        (plots.plot_bootstrap, "tests must be a BootstrapTest"),
        (plots.plot_convergence, "source must be a FitSummary or IPCAModel"),
    ],
)
def test_what_cannot_be_drawn_is_rejected(draw, message):
    with pytest.raises(TypeError, match=f"{message}.*; got int"):
        draw(3)
