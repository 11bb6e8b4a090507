"""Run the Monte Carlo of Gu, Kelly and Xiu (2021), section 4: does a network beat IPCA.

Betas are linear in three of fifty characteristics in one design, and nonlinear (a square, a
product, a sign) in the other. The factor network is fed the simulated x_t, as in the paper. With
linear betas IPCA is as good as the truth; with nonlinear ones the autoencoder explains more than
twice as much of the returns.

Usage: python examples/conditional_autoencoder.py [--html figure.html]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ml4t.models import CAEConfig, CAEModel, CrossSectionBatch, IPCAConfig, IPCAModel

N_ASSETS, N_CHARS, SPAN = 200, 50, 60  # dates in each of training, validation and test


@dataclass(frozen=True, slots=True)
class Simulation:
    """Three batches in time, and the R2 of the true betas and factors on the last."""

    train: CrossSectionBatch
    validation: CrossSectionBatch
    test: CrossSectionBatch
    oracle: float


def characteristics(rng: np.random.Generator) -> np.ndarray:
    """Draw persistent characteristics, ranked into (-1, 1) at every date, shape (T, N, P)."""
    persistence = rng.uniform(0.9, 1.0, N_CHARS)
    levels = np.empty((3 * SPAN, N_ASSETS, N_CHARS))
    level = rng.standard_normal((N_ASSETS, N_CHARS))
    for date in range(3 * SPAN):
        level = persistence * level + rng.standard_normal((N_ASSETS, N_CHARS))
        levels[date] = level
    ranks = levels.argsort(axis=1).argsort(axis=1) + 1
    return 2.0 * ranks / (N_ASSETS + 1) - 1.0


def betas(c: np.ndarray, *, nonlinear: bool) -> np.ndarray:
    """Give the true betas of both designs, shape (T, N, 3)."""
    first, second, third = c[..., 0], c[..., 1], c[..., 2]
    if nonlinear:
        return np.stack([first**2, 2.0 * first * second, 0.6 * np.sign(third)], axis=-1)
    return np.stack([1.2 * first, second, 0.8 * third], axis=-1)


def simulate(seed: int, *, nonlinear: bool) -> Simulation:
    """Draw one panel of 200 assets and 180 dates."""
    rng = np.random.default_rng(seed)
    c = characteristics(rng)
    x = 0.03 + 0.1 * rng.standard_normal((3 * SPAN, N_CHARS))
    factors = x[:, :3] + 0.01 * rng.standard_normal((3 * SPAN, 3))
    systematic = np.einsum("tnk,tk->tn", betas(c, nonlinear=nonlinear), factors)
    r = systematic + 0.1 * rng.standard_t(5, systematic.shape)

    batch = CrossSectionBatch(c, returns=r, context_features=x)
    train, validation, test = (
        batch.slice(start, start + SPAN) for start in range(0, 3 * SPAN, SPAN)
    )
    return Simulation(train, validation, test, total_r2(test, systematic[2 * SPAN :]))


def total_r2(batch: CrossSectionBatch, fitted: np.ndarray) -> float:
    """Share of squared returns that the fit explains (benchmark zero)."""
    residual = np.square(batch.returns - fitted).sum()
    return float(1.0 - residual / np.square(batch.returns).sum())


def ipca_r2(simulation: Simulation) -> float:
    """IPCA with three factors, realised factors out of sample."""
    model = IPCAModel(IPCAConfig(n_factors=3, constant=False))
    model.fit(simulation.train)
    state = model.extract(simulation.test)
    return total_r2(
        simulation.test, np.einsum("tnk,tk->tn", state.asset_betas, state.factor_returns)
    )


def cae_r2(simulation: Simulation, *, n_ensemble: int = 3, progress: bool = False) -> float:
    """CA1 (one hidden layer of 32 units) with the penalty on all weights."""
    config = CAEConfig(
        n_factors=3,
        n_ensemble=n_ensemble,
        n_epochs=150,
        checkpoint_interval=None,
        lr=0.01,
        lambda_l1=1e-4,
        l1_scope="all",
        factor_inputs="context",
    )
    model = CAEModel(config)
    model.fit(
        simulation.train, validation_batch=simulation.validation, patience=10, progress=progress
    )
    return total_r2(simulation.test, model.fitted_returns(simulation.test).expected_returns)


def figure(rows: list[tuple[str, float, float, float]]) -> object:
    """Bars of total R2: the truth, IPCA and the autoencoder in both designs."""
    import plotly.graph_objects as go  # noqa: PLC0415 - only for the figure

    bars = [
        go.Bar(name=name, x=[row[0] for row in rows], y=[row[1 + index] for row in rows])
        for index, name in enumerate(("truth", "IPCA", "CA1"))
    ]
    layout = {"title": "Out-of-sample total R2", "barmode": "group", "template": "plotly_white"}
    return go.Figure(bars, layout)


def main() -> None:
    """Run both designs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--html", type=Path, help="also draw the table")
    parser.add_argument("--progress", action="store_true", help="show a bar per fit")
    asked = parser.parse_args()
    rows = []
    print(f"{'betas':<12}{'truth':>8}{'IPCA':>8}{'CA1':>8}")
    for name, nonlinear in (("linear", False), ("nonlinear", True)):
        simulation = simulate(0, nonlinear=nonlinear)
        cae = cae_r2(simulation, progress=asked.progress)
        row = (name, simulation.oracle, ipca_r2(simulation), cae)
        print(f"{row[0]:<12}" + "".join(f"{value:>8.3f}" for value in row[1:]))
        rows.append(row)
    if asked.html is not None:
        figure(rows).write_html(asked.html)


if __name__ == "__main__":
    main()
