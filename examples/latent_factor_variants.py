"""RP-PCA, IPCA and the conditional autoencoder through one pipeline.

Each model learns exposures and realised factors; the same forecaster turns realised factors into
ex-ante premia, the same mapper premia into expected returns.

Usage: python examples/latent_factor_variants.py
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ml4t.models import (
    BetaLambdaMapper,
    CAEConfig,
    CAEModel,
    CrossSectionBatch,
    ExpandingMeanFactorForecaster,
    IPCAConfig,
    IPCAModel,
    LatentFactorForecastPipeline,
    PersistentPanelBatch,
    RPPCAConfig,
    RPPCAModel,
)

N_DATES, N_ASSETS = 48, 30


def simulate(seed: int) -> tuple[PersistentPanelBatch, CrossSectionBatch]:
    """One factor whose betas are a characteristic that drifts slowly."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(-1.0, 1.0, (N_ASSETS, 3))
    drift = 0.02 * rng.standard_normal((N_DATES, N_ASSETS, 3)).cumsum(axis=0)
    z = start + drift
    factor = rng.normal(0.02, 0.04, N_DATES)
    r = factor[:, None] * z[..., 0] + 0.02 * rng.standard_normal((N_DATES, N_ASSETS))
    labels = {
        "timestamps": tuple(range(N_DATES)),
        "asset_ids": tuple(f"asset_{i:02d}" for i in range(N_ASSETS)),
    }
    return (
        PersistentPanelBatch(returns=r, **labels),
        CrossSectionBatch(z, returns=r, **labels),
    )


def main() -> None:
    """Fit the three on 36 dates and compare forecasts of the mean return of the last 12."""
    panel, sections = simulate(0)
    models = {
        "RP-PCA": (RPPCAModel(RPPCAConfig(n_factors=1, gamma=1.0)), panel),
        "IPCA": (IPCAModel(IPCAConfig(n_factors=1, max_iter=200)), sections),
        "CAE": (
            CAEModel(
                CAEConfig(n_factors=1, hidden_units=(8,), n_ensemble=3, n_epochs=150, lr=0.01)
            ),
            sections,
        ),
    }
    realised = panel.returns[36:].mean(axis=0)
    for name, (model, batch) in models.items():
        pipeline = LatentFactorForecastPipeline(
            model=model, forecaster=ExpandingMeanFactorForecaster(), mapper=BetaLambdaMapper()
        )
        pipeline.fit(batch.slice(0, 36))
        prediction = pipeline.predict(replace(batch.slice(36), returns=None))
        forecast = prediction.asset_forecast.expected_returns.mean(axis=0)
        print(
            f"{name:<7} correlation with realised means {np.corrcoef(forecast, realised)[0, 1]:.2f}"
        )


if __name__ == "__main__":
    main()
