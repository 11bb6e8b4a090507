"""Weights learned straight from the objective, on 68 years of portfolio returns, net of costs.

Twenty-five of the Ken French portfolios that the PyPI package linearmodels ships (monthly excess
returns), cut into windows of 60 months. The first windows train, the next choose the step, the last
are the test. A regression, a recurrent and an attentive policy are compared with equal weight and
inverse volatility: Sharpe ratio after costs of 20 basis points, turnover, gross exposure.

Usage: python examples/portfolio_learning.py --output demo-output
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import torch
from linearmodels.datasets import french
from plotly.subplots import make_subplots

from ml4t.models import (
    DeepPortfolioConfig,
    DeepPortfolioModel,
    LinearFeaturePortfolioModel,
    LinearPortfolioConfig,
    LSTMPortfolioConfig,
    LSTMPortfolioModel,
    PortfolioAllocationPipeline,
    PortfolioSequenceBatch,
    WeightConstraintPostprocessor,
)

MONTHS, COST = 60, 0.002
TRAINING = {
    "max_iters": 15,
    "eval_every": 5,
    "checkpoint_every": None,
    "default_checkpoint": "best",
    "learning_rate": 3e-3,
    "annualization_factor": 12.0,
    "gamma_cost": 1.0,
    "head": "long_only",
    "vvsn_hidden_dim": 16,
    "dtype": "float32",
}


def features_of(returns: np.ndarray) -> np.ndarray:
    """Past returns over 1, 3 and 12 months in units of volatility, and log volatility."""
    n_dates, n_assets = returns.shape
    out = np.zeros((n_dates, n_assets, 4))
    for date in range(12, n_dates):
        past = returns[date - 12 : date]  # the return of `date` is not known yet
        volatility = past.std(axis=0) + 1e-6
        sums = [past[-months:].sum(axis=0) / np.sqrt(months) for months in (1, 3, 12)]
        out[date] = np.column_stack([one / volatility for one in sums] + [np.log(volatility)])
    return out[12:]


def windows(start: int, stop: int, features: np.ndarray, returns: np.ndarray, step: int):
    """Cut [start, stop) into windows of 60 months that begin `step` months apart."""
    begins = range(start, stop - MONTHS + 1, step)
    cut = [slice(begin, begin + MONTHS) for begin in begins]
    return PortfolioSequenceBatch(
        np.stack([features[one] for one in cut]),
        returns=np.stack([returns[one] for one in cut]),
        costs=np.full(returns.shape[1], COST),
    )


def results(weights: np.ndarray, batch: PortfolioSequenceBatch) -> dict[str, float | np.ndarray]:
    """Put the windows one after the other, after costs; every window starts flat."""
    before = np.concatenate([np.zeros_like(weights[:, :1]), weights[:, :-1]], axis=1)
    turnover = np.abs(weights - before).sum(axis=2)
    net = ((weights * batch.returns).sum(axis=2) - COST * turnover).ravel()
    return {
        "net": net,
        "turnover": turnover.ravel(),
        "sharpe": float(np.sqrt(12) * net.mean() / net.std()),
        "gross": float(np.abs(weights).sum(axis=2).mean()),
    }


def learned(train, validation, test) -> dict[str, np.ndarray]:
    """Fit the three models and give their test weights, long only with gross exposure 1."""
    limits = WeightConstraintPostprocessor(1.0, 1.0, max_abs_weight=0.2, turnover_limit=0.5)
    linear = LinearPortfolioConfig(net_exposure=1.0, max_abs_weight=0.2)
    models = {
        "linear": LinearFeaturePortfolioModel(linear),
        "LSTM": LSTMPortfolioModel(LSTMPortfolioConfig(hidden_size=16, **TRAINING)),
        "deep": DeepPortfolioModel(DeepPortfolioConfig(d_model=16, **TRAINING)),
    }
    found = {}
    for name, model in models.items():
        pipeline = PortfolioAllocationPipeline(model, postprocessors=[limits])
        pipeline.fit(train, validation_batch=validation)
        prediction = pipeline.predict(replace(test, returns=None))
        found[name] = np.asarray(prediction.processed_weights.weights)
    return found


def write_report(found: dict[str, dict], path: Path) -> None:
    """Equity and turnover as one self-contained page."""
    figure = make_subplots(
        rows=2, cols=1, subplot_titles=["Growth of 1, net", "Turnover, 12 months"]
    )
    for name, one in found.items():
        smooth = np.convolve(one["turnover"], np.ones(12) / 12, mode="valid")
        figure.add_trace(go.Scatter(y=np.cumprod(1 + one["net"]), name=name), row=1, col=1)
        figure.add_trace(go.Scatter(y=smooth, name=name, showlegend=False), row=2, col=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.write_html(path)


def main() -> None:
    """Train, test, print the table, write the plots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("demo-output"))
    output = parser.parse_args().output
    torch.set_num_threads(2)
    panel = french.load().dropna()
    wanted = [c for c in panel.columns if c not in ("dates", "MktRF", "SMB", "HML", "Mom", "RF")]
    returns = panel[wanted[:25]].to_numpy(dtype=float)
    features, returns = features_of(returns), returns[12:]
    n_dates = len(returns)
    split = n_dates - 5 * MONTHS, n_dates - 3 * MONTHS
    train = windows(0, split[0], features, returns, step=24)
    validation = windows(split[0], split[1], features, returns, step=24)
    test = windows(split[1], n_dates, features, returns, step=MONTHS)
    volatility = np.exp(test.features[..., 3])
    weights = learned(train, validation, test)
    weights["equal weight"] = np.full(volatility.shape, 1.0 / volatility.shape[2])
    weights["inverse volatility"] = (1 / volatility) / (1 / volatility).sum(axis=2, keepdims=True)
    found = {name: results(one, test) for name, one in weights.items()}
    print(f"{'test, net of costs':20} {'Sharpe':>8} {'turnover':>9} {'gross':>6}")
    for name, one in found.items():
        print(f"{name:20} {one['sharpe']:8.2f} {one['turnover'].mean():9.3f} {one['gross']:6.2f}")
    write_report(found, output / "portfolio_learning.html")
    print(f"plots: {output / 'portfolio_learning.html'}")


if __name__ == "__main__":
    main()
