"""A long table of returns in, a folder for the backtester out.

Usage: python examples/integration_handoff.py --output handoff
"""

from __future__ import annotations

import argparse

import numpy as np
import polars as pl

from ml4t.models import (
    BetaLambdaMapper,
    ExpandingMeanFactorForecaster,
    LatentFactorForecastPipeline,
    PCAConfig,
    PCAModel,
    PersistentPanelBatch,
    persistent_panel_batch_from_long_frame,
    predictions_frame_from_asset_forecast,
    write_backtest_frames,
)


def main(output: str) -> None:
    """Rows of date, symbol and return; a panel; a forecast; rows again, as Parquet."""
    rng = np.random.default_rng(0)
    months = [f"2024-{month:02d}-28" for month in range(1, 13)]
    symbols = ["AAA", "BBB", "CCC", "DDD"]
    market = rng.normal(0.01, 0.04, 12)
    table = {  # any order, any frame library, or plain lists
        "timestamp": [month for month in months for _ in symbols],
        "symbol": symbols * 12,
        "returns": (np.repeat(market, 4) + 0.01 * rng.standard_normal(48)).tolist(),
    }
    panel = persistent_panel_batch_from_long_frame(table, return_col="returns")

    pipeline = LatentFactorForecastPipeline(
        PCAModel(PCAConfig(n_factors=1)), ExpandingMeanFactorForecaster(), BetaLambdaMapper()
    )
    pipeline.fit(panel)
    future = PersistentPanelBatch(None, timestamps=("2025-01-28",), asset_ids=panel.asset_ids)
    forecast = pipeline.predict(future).asset_forecast
    frame = predictions_frame_from_asset_forecast(forecast)
    written = write_backtest_frames(output, predictions=frame)
    print(pl.read_parquet(written["predictions"]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="handoff", help="folder to write")
    main(parser.parse_args().output)
