"""Twelve months of six stocks to expected returns for the next two: the shortest way through.

Usage: python examples/latent_factor_pipeline.py
"""

from __future__ import annotations

import numpy as np

from ml4t.models import (
    BetaLambdaMapper,
    ExpandingMeanFactorForecaster,
    LatentFactorForecastPipeline,
    PCAConfig,
    PCAModel,
    PersistentPanelBatch,
)


def main() -> None:
    """Two principal components, the mean of each so far, betas times means."""
    rng = np.random.default_rng(0)
    tickers = tuple("ABCDEF")
    factors = rng.normal(0.01, 0.04, (12, 2))
    returns = factors @ rng.normal(1.0, 0.5, (2, 6)) + 0.01 * rng.standard_normal((12, 6))
    months = tuple(f"2024-{month:02d}" for month in range(1, 13))

    pipeline = LatentFactorForecastPipeline(
        PCAModel(PCAConfig(n_factors=2)), ExpandingMeanFactorForecaster(), BetaLambdaMapper()
    )
    pipeline.fit(PersistentPanelBatch(returns, timestamps=months, asset_ids=tickers))
    # Months to come have labels and nothing else.
    future = PersistentPanelBatch(None, timestamps=("2025-01", "2025-02"), asset_ids=tickers)
    prediction = pipeline.predict(future)

    forecast = prediction.asset_forecast.expected_returns
    print("forecast shape:", forecast.shape)
    print("largest expected return:", tickers[int(forecast[0].argmax())])
    print("largest mean so far:", tickers[int(returns.mean(axis=0).argmax())])


if __name__ == "__main__":
    main()
