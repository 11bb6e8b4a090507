"""The HTML report of `french_portfolios.py`: one file, figures inside, opens anywhere."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

if TYPE_CHECKING:
    from pathlib import Path

    from french_portfolios import Walk

    from ml4t.models import CrossSectionBatch, LatentFactorState, PersistentPanelBatch

BLUE, ORANGE, INK = "#2563a8", "#d9772b", "#1f2933"
COLOURS = (BLUE, ORANGE, "#3d8f5f", "#8a4fa3", "#b03a48")
STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; color: #1f2933; max-width: 1060px;
       margin: 2.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2.4rem }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .3rem 1rem; text-align: right; border-bottom: 1px solid #d8dee6 }
th:first-child, td:first-child { text-align: left } p.note { color: #5b6776 }
"""


def styled(figure: go.Figure, height: int) -> go.Figure:
    """Give every figure the same quiet look."""
    return figure.update_layout(
        template="plotly_white",
        height=height,
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        margin={"l": 60, "r": 20, "t": 40, "b": 40},
        legend={"orientation": "h", "y": -0.12},
    )


def factor_paths(states: dict[str, LatentFactorState]) -> go.Figure:
    """Realised factors of the whole sample, cumulated, each at a volatility of 10 % a year."""
    figure = make_subplots(rows=1, cols=len(states), subplot_titles=list(states), shared_yaxes=True)
    for column, state in enumerate(states.values(), start=1):
        scaled = 0.10 / np.sqrt(12) * state.factor_returns / state.factor_returns.std(axis=0)
        for k, path in enumerate(np.cumsum(scaled, axis=0).T):
            figure.add_scatter(
                x=list(state.timestamps),
                y=path,
                name=f"factor {k + 1}",
                line={"color": COLOURS[k % len(COLOURS)], "width": 1.4},
                showlegend=column == 1,
                row=1,
                col=column,
            )
    figure.update_yaxes(tickformat=".0%")
    return styled(figure, 380)


def loadings(
    states: dict[str, LatentFactorState], walks: dict[str, Walk], instruments: tuple[str, ...]
) -> go.Figure:
    """Exposures of the portfolios (PCA, RP-PCA) and of the characteristics (IPCA)."""
    blocks = {
        name: (list(states[name].asset_ids), states[name].asset_betas[0])
        for name in ("PCA", "RP-PCA")
    }
    blocks["IPCA Gamma"] = (list(instruments), walks["IPCA"].pipeline.model.gamma)
    figure = make_subplots(
        rows=1, cols=len(blocks), subplot_titles=list(blocks), horizontal_spacing=0.13
    )
    for column, (rows, values) in enumerate(blocks.values(), start=1):
        unit = values / np.abs(values).max(axis=0)
        figure.add_heatmap(
            z=unit,
            y=rows,
            x=[f"{k + 1}" for k in range(values.shape[1])],
            customdata=values,
            hovertemplate="%{y}, factor %{x}: %{customdata:.3f}<extra></extra>",
            colorscale="RdBu",
            zmid=0.0,
            showscale=column == len(blocks),
            row=1,
            col=column,
        )
    figure.update_yaxes(autorange="reversed")
    return styled(figure, 640)


def tangency_wealth(
    tangency: dict[tuple[str, int], np.ndarray], months: list[object], n_factors: int
) -> go.Figure:
    """Out-of-sample wealth of the tangency portfolios, both at 10 % volatility a year."""
    figure = go.Figure()
    for name, colour in (("PCA", BLUE), ("RP-PCA", ORANGE)):
        returns = tangency[name, n_factors]
        wealth = np.cumprod(1.0 + 0.10 / np.sqrt(12) * returns / returns.std())
        figure.add_scatter(x=months, y=wealth, name=name, line={"color": colour, "width": 2})
    figure.update_yaxes(type="log", title="wealth from 1")
    return styled(figure, 380)


def sharpe_by_count(tangency: dict[tuple[str, int], np.ndarray]) -> go.Figure:
    """Monthly Sharpe ratio out of sample against the number of factors."""
    counts = sorted({k for _, k in tangency})
    figure = go.Figure()
    for name, colour in (("PCA", BLUE), ("RP-PCA", ORANGE)):
        heights = [tangency[name, k].mean() / tangency[name, k].std() for k in counts]
        figure.add_bar(
            x=[str(k) for k in counts],
            y=heights,
            name=name,
            marker_color=colour,
            text=[f"{height:.3f}" for height in heights],
        )
    figure.update_xaxes(title="factors").update_yaxes(title="Sharpe ratio per month")
    return styled(figure, 360)


def table(walks: dict[str, Walk]) -> str:
    """Forecast measures of the three pipelines as an HTML table."""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{len(one.realised)}</td>"
        f"<td>{one.predictive_r2:.2%}</td><td>{one.rank_correlation:.3f}</td></tr>"
        for name, one in walks.items()
    )
    heads = ("model", "months", "predictive R²", "rank correlation")
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{rows}</table>"


def write_report(
    path: Path,
    walks: dict[str, Walk],
    tangency: dict[tuple[str, int], np.ndarray],
    batches: dict[str, PersistentPanelBatch | CrossSectionBatch],
    instruments: tuple[str, ...],
) -> Path:
    """Write the report and return its path."""
    states = {name: one.pipeline.model.extract(batches[name]) for name, one in walks.items()}
    months = list(batches["PCA"].timestamps)[-len(next(iter(tangency.values()))) :]
    shown = max(k for _, k in tangency if k <= 4)
    sections = [
        ("Forecasts of the next month", table(walks), None),
        (
            f"RP-PCA against PCA: tangency portfolio of {shown} factors",
            "<p class='note'>Loadings, means and covariance from the past 240 months only; "
            "both scaled to a volatility of 10 % a year.</p>",
            tangency_wealth(tangency, months, shown),
        ),
        ("Sharpe ratio by number of factors", "", sharpe_by_count(tangency)),
        (
            "Realised factors, whole sample",
            "<p class='note'>Cumulated, each at 10 % a year.</p>",
            factor_paths(states),
        ),
        (
            "Loadings of portfolios and characteristics",
            "<p class='note'>Each column scaled to a largest entry of 1; hover for values.</p>",
            loadings(states, walks, instruments),
        ),
    ]
    body, script = [], "inline"
    for title, text, figure in sections:
        body.append(f"<h2>{escape(title)}</h2>{text}")
        if figure is not None:
            body.append(
                figure.to_html(
                    full_html=False, include_plotlyjs=script, config={"displayModeBar": False}
                )
            )
            script = False  # the library once, with the first figure
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f"<title>Factor models on French portfolios</title><style>{STYLE}</style></head><body>"
        "<h1>Factor models on French portfolios</h1>"
        f"<p class='note'>30 portfolios, monthly excess returns, {months[0]:%Y-%m} to "
        f"{months[-1]:%Y-%m} out of sample.</p>{''.join(body)}</body></html>",
        encoding="utf-8",
    )
    return path
