"""Long frames to batches and forecasts to frames, against the polars that one writes by hand.

Usage: python benches/python/bench_frames.py [--ten-million]
"""

from __future__ import annotations

import subprocess
import sys

import measure  # first: it pins the thread pools
import numpy as np
import polars as pl

from ml4t.models import (
    AssetForecastResult,
    cross_section_batch_from_long_frame,
    predictions_frame_from_asset_forecast,
)

FEATURES = [f"f{place:02d}" for place in range(20)]
SIZES = {"100k": (50, 2_000), "1M": (250, 4_000), "10M": (1_250, 8_000)}


def long_frame(size, order):
    """Rows x 20 features, a tenth of the cells absent."""
    n_dates, n_assets = SIZES[size]
    rng = np.random.default_rng(0)
    cells = np.flatnonzero(rng.random(n_dates * n_assets) < 0.9)
    if order == "shuffled":
        rng.shuffle(cells)
    ids = pl.Series([f"asset_{place:05d}" for place in range(n_assets)])
    days = pl.Series(range(n_dates)).cast(pl.Date)
    values = {name: rng.standard_normal(cells.size) for name in FEATURES}
    return pl.DataFrame(
        {"date": days.gather(cells // n_assets), "asset": ids.gather(cells % n_assets), **values}
    )


def ours(frame):
    return cross_section_batch_from_long_frame(frame, feature_cols=FEATURES).characteristics


def pivots(frame):
    """One pivot per feature, stacked: what one writes first."""
    tables = [
        frame.pivot(on="asset", index="date", values=name).sort("date").drop("date")
        for name in FEATURES
    ]
    return np.stack([table.to_numpy() for table in tables], axis=-1)


def grid_join(frame):
    """Join on the full grid and reshape: what one writes second."""
    grid = frame.select(pl.col("date").unique()).join(
        frame.select(pl.col("asset").unique()), how="cross"
    )
    full = grid.sort("date", "asset").join(frame, on=["date", "asset"], how="left")
    full = full.sort("date", "asset")
    n_dates, n_assets = full["date"].n_unique(), full["asset"].n_unique()
    return full.select(FEATURES).to_numpy().reshape(n_dates, n_assets, len(FEATURES))


def extra_memory(size, function):
    """Peak memory over the frame's own, as a multiple of the tensor, in a fresh process."""
    script = (
        "import bench_frames as b, measure;"
        f"frame = b.long_frame({size!r}, 'sorted');"
        f"extra = measure.extra_memory(lambda: b.{function}(frame));"
        f"n_dates, n_assets = b.SIZES[{size!r}];"
        "print(extra / (n_dates * n_assets * len(b.FEATURES) * 8))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=sys.path[0]
    )
    return float(done.stdout)


def one_row(size, order):
    frame, small = long_frame(size, order), size == "100k"
    contestants = {"ours": ours, "grid join": grid_join}
    if small:  # pivots take minutes beyond
        contestants["pivots"] = pivots
    timings = measure.compare(
        {name: lambda work=work: work(frame) for name, work in contestants.items()},
        min_runs=2,
        budget=1.0,
    )
    return (
        size,
        order,
        timings["ours"].cpu,
        measure.ratio(timings, "grid join", "ours"),
        measure.ratio(timings, "pivots", "ours") if small else "",
        *(extra_memory(size, function) for function in ("ours", "grid_join")),
        extra_memory(size, "pivots") if small else "",
    )


def predictions(n_dates=600, n_assets=8_000):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((n_dates, n_assets))
    values[rng.random(values.shape) < 0.1] = np.nan
    ids = [f"asset_{place:05d}" for place in range(n_assets)]
    dates = pl.Series(range(n_dates)).cast(pl.Date).to_list()
    forecast = AssetForecastResult(values, dates, ids)

    def by_hand():
        return pl.DataFrame(
            {
                "timestamp": pl.Series(np.repeat(np.array(dates, "M8[D]"), n_assets)),
                "asset": np.tile(np.array(ids), n_dates),
                "prediction_value": values.ravel(),
            }
        ).filter(pl.col("prediction_value").is_finite())

    timings = measure.compare(
        {
            "ours": lambda: predictions_frame_from_asset_forecast(forecast).to_polars(),
            "by hand": by_hand,
        },
        min_runs=3,
        budget=3.0,
    )
    return f"{n_dates} x {n_assets}", timings["ours"].cpu, measure.ratio(timings, "by hand", "ours")


def main():
    measure.require_release_build()
    sizes = [*SIZES] if "--ten-million" in sys.argv else ["100k", "1M"]
    measure.report(
        "Long frames to batches",
        (
            *("cells", "rows", "seconds", "grid join / ours", "pivots / ours"),
            *("memory: ours", "grid join", "pivots"),
        ),
        [one_row(size, order) for size in sizes for order in ("sorted", "shuffled")],
        note="20 features; memory: peak beyond the frame's own, as a multiple of the tensor.",
    )
    measure.report(
        "Forecasts to predictions frames", ("cells", "seconds", "by hand / ours"), [predictions()]
    )


if __name__ == "__main__":
    main()
