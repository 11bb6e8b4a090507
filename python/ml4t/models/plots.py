"""Figures of fits and tests, in plotly (`pip install "ml4t-models[plot]"`).

| function | shows |
|---|---|
| `plot_gamma` | loadings of factors on characteristics, as a heat map |
| `plot_factors` | realized factors through time |
| `plot_importance` | fall of the R squared without each characteristic |
| `plot_bootstrap` | draws under the null, and the statistic among them |
| `plot_convergence` | objective and steps of a fit, and its convergence certificate |

Each returns a plotly `Figure`; plotly is imported when the first one is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from ml4t.models.checks import require_type
from ml4t.models.latent_factors.ipca.inference import BootstrapTest
from ml4t.models.latent_factors.ipca.model import IPCAModel
from ml4t.models.latent_factors.ipca.report import CharacteristicImportance, loading_names
from ml4t.models.latent_factors.statistics import factor_names
from ml4t.models.types import FitSummary, LatentFactorState

__all__ = [
    "plot_bootstrap",
    "plot_convergence",
    "plot_factors",
    "plot_gamma",
    "plot_importance",
]

# A diverging scale whose ends differ in brightness as well as in hue.
_DIVERGING = "RdBu"
_HEIGHT_OF_A_ROW = 22


def plot_gamma(model: IPCAModel) -> Any:
    """Heat map of Gamma: instruments down, factors across.

    Parameters
    ----------
    model : IPCAModel
        Fitted.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ModuleNotFoundError
        Without plotly.
    RuntimeError
        Before a fit.
    """
    require_type("model", model, IPCAModel)
    graphs = _graphs()
    gamma = np.hstack([model.gamma, model.gamma_observed])
    if model.alpha is not None:
        gamma = np.column_stack([gamma, model.alpha])
    n_latent = model.gamma.shape[1]
    columns = loading_names(n_latent, gamma.shape[1] - n_latent, intercept=model.config.intercept)
    reach = float(np.abs(gamma).max(initial=0.0)) or 1.0
    heat = graphs.Heatmap(
        z=gamma,
        x=list(columns),
        y=list(model.instrument_names),
        zmin=-reach,
        zmax=reach,
        colorscale=_DIVERGING,
        colorbar={"title": "loading"},
    )
    height = 160 + _HEIGHT_OF_A_ROW * len(gamma)
    layout = {"title": "Gamma", "yaxis": {"autorange": "reversed"}, "height": height}
    return graphs.Figure(heat, layout)


def plot_factors(source: Any, *, cumulative: bool = False) -> Any:
    """Paths of realized factors.

    Parameters
    ----------
    source : LatentFactorState, or a fitted latent factor model
        Of a model, the factors of its training dates.
    cumulative : bool, default False
        Sums through time; a missing factor adds nothing.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ModuleNotFoundError
        Without plotly.
    ValueError
        When the state has no realized factors.
    """
    graphs = _graphs()
    if isinstance(source, LatentFactorState):
        factors, dates = source.factor_returns, list(source.timestamps)
        if factors is None:
            raise ValueError("source must have factor_returns; the state has none")
    elif hasattr(type(source), "train_factor_returns"):
        factors, dates = source.train_factor_returns, []
    else:
        raise TypeError(
            "source must be a LatentFactorState or a model with train_factor_returns; "
            f"got {type(source).__name__}"
        )
    values = np.nancumsum(factors, axis=0) if cumulative else factors
    figure = graphs.Figure(layout={"title": "Factors"})
    for k, name in enumerate(factor_names(values.shape[1])):
        figure.add_scatter(x=dates or np.arange(len(values)), y=values[:, k], name=name)
    figure.update_yaxes(title="sum of returns" if cumulative else "return per period")
    return figure


def plot_importance(importance: CharacteristicImportance) -> Any:
    """Bars of the fall of the R squared without each characteristic, the largest on top.

    Parameters
    ----------
    importance : CharacteristicImportance
        Of `IPCAModel.characteristic_importance`.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ModuleNotFoundError
        Without plotly.
    """
    require_type("importance", importance, CharacteristicImportance)
    graphs = _graphs()
    order = np.argsort(importance.drop, kind="stable")
    bars = graphs.Bar(
        x=importance.drop[order],
        y=[importance.names[i] for i in order],
        orientation="h",
    )
    layout = {
        "title": f"Importance (total R squared {importance.total_r2:.4f})",
        "xaxis": {"title": "fall of the total R squared"},
        "height": 160 + _HEIGHT_OF_A_ROW * len(order),
    }
    return graphs.Figure(bars, layout)


def plot_bootstrap(tests: BootstrapTest | Mapping[str, BootstrapTest]) -> Any:
    """Histograms of draws under the null, with a line at the statistic.

    Parameters
    ----------
    tests : BootstrapTest, or mapping of name to BootstrapTest
        One panel for each; see `IPCAModel.test_alpha`.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ModuleNotFoundError
        Without plotly.
    ValueError
        Without a test.
    """
    named = dict(tests) if isinstance(tests, Mapping) else {"": tests}
    if not named:
        raise ValueError("tests must hold at least one test; got none")
    for test in named.values():
        require_type("tests", test, BootstrapTest)
    _graphs()
    titles = [f"{name or test.hypothesis}: p = {test.p_value:.3f}" for name, test in named.items()]
    figure = import_module("plotly.subplots").make_subplots(
        rows=len(named), cols=1, subplot_titles=titles
    )
    for row, test in enumerate(named.values(), start=1):
        draws = np.asarray(test.draws)
        figure.add_histogram(x=draws[np.isfinite(draws)], row=row, col=1, name="draws")
        figure.add_vline(x=float(test.statistic), row=row, col=1, line={"color": "firebrick"})
    figure.update_layout(showlegend=False, height=100 + 220 * len(named))
    return figure


def plot_convergence(source: FitSummary | IPCAModel) -> Any:
    """Course of a fit.

    Parameters
    ----------
    source : FitSummary or IPCAModel
        A summary shows what its history has, by step or epoch. IPCA shows its certificate: the
        objective and the step of every sweep, then the distances from a solution at the end, steps
        and distances on a logarithmic scale, with the tolerance. A file from before the sweeps were
        kept has the last panel alone.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ModuleNotFoundError
        Without plotly.
    ValueError
        When there is neither a history nor a certificate.
    """
    require_type("source", source, FitSummary, IPCAModel)
    return _certificate(source) if isinstance(source, IPCAModel) else _history(source)


def _history(summary: FitSummary) -> Any:
    if not summary.history:
        raise ValueError("source must be a summary with a history; it has none")
    figure = _graphs().Figure(layout={"title": "Convergence"})
    clock = next((name for name in ("step", "epoch") if name in summary.history[0]), None)
    positions = [entry.get(clock, i) if clock else i for i, entry in enumerate(summary.history)]
    names = dict.fromkeys(
        name
        for entry in summary.history
        for name, value in entry.items()
        if name != clock and not isinstance(value, str)
    )
    for name in names:
        present = [i for i, entry in enumerate(summary.history) if name in entry]
        figure.add_scatter(
            x=[positions[i] for i in present],
            y=[summary.history[i][name] for i in present],
            name=name,
        )
    figure.update_xaxes(title=clock or "entry")
    return figure


def _certificate(model: IPCAModel) -> Any:
    certificate = model.certificate
    if certificate is None:
        raise ValueError("source must have a certificate; a fit of 0.1.x has none")
    panels = (
        ("objective", "step", "conditions at the end") if certificate.steps else ("conditions",)
    )
    _graphs()
    figure = import_module("plotly.subplots").make_subplots(
        rows=len(panels), cols=1, subplot_titles=panels
    )
    if certificate.steps:
        sweeps = np.arange(len(certificate.objectives))
        figure.add_scatter(x=sweeps, y=certificate.objectives, row=1, col=1, name="objective")
        figure.add_scatter(x=sweeps[1:], y=certificate.steps, row=2, col=1, name="step")
        figure.update_xaxes(title="sweep", rangemode="tozero", row=2, col=1)
    names = ("gamma_condition", "factor_condition", "subspace_step")
    values = [getattr(certificate, name) for name in names]
    figure.add_bar(x=list(names), y=values, row=len(panels), col=1, name="conditions")
    for row in range(min(2, len(panels)), len(panels) + 1):
        figure.update_yaxes(type="log", exponentformat="power", row=row, col=1)
        tol = {"y": model.config.tol, "line": {"dash": "dash"}, "annotation_text": "tol"}
        figure.add_hline(**tol, row=row, col=1)
    title = (
        f"Convergence: {certificate.stopping}, {certificate.n_als} + {certificate.n_newton} steps"
    )
    figure.update_layout(title=title, showlegend=False, height=160 + 220 * len(panels))
    return figure


def _graphs() -> Any:
    """Import the graph objects of plotly."""
    try:
        return import_module("plotly.graph_objects")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "plotly":
            raise
        raise ModuleNotFoundError(
            'figures need plotly: pip install "ml4t-models[plot]"', name="plotly"
        ) from error
