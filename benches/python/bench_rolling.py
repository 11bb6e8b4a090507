"""Windows of PCA against fits by scikit-learn, which are timed on some of the windows.

Usage: python benches/python/bench_rolling.py
"""

from __future__ import annotations

import measure  # first: it pins the thread pools
import numpy as np
from bench_pca import N_FACTORS, panel
from sklearn.decomposition import PCA

from ml4t.models.kernels import pca, rolling_pca, rolling_rp_pca, rp_pca

LATER = range(301, 601)
SPANS = {
    "monthly, rolling 240": (600, [(end - 240, end) for end in LATER]),
    "monthly, expanding": (600, [(0, end) for end in LATER]),
    "daily, rolling 250 every 21": (6_000, [(end - 250, end) for end in range(250, 6_001, 21)]),
}
SIZES = {
    "monthly, rolling 240": (500, 3_000),
    "monthly, expanding": (500, 3_000),
    "daily, rolling 250 every 21": (300, 1_600),
}
GAMMA = 20.0


def sklearn(x, windows, solver):
    for start, stop in windows:
        PCA(N_FACTORS, svd_solver=solver, random_state=0).fit(x[start:stop])


def rows_of(n_assets, span):
    n_dates, windows = SPANS[span]
    x = panel(n_assets, n_dates=n_dates)
    every = 10 if n_assets <= 500 else 50
    some = windows[every // 2 :: every]
    share = len(windows) / len(some)
    timings = measure.compare(
        {
            "ours": lambda: rolling_pca(x, N_FACTORS, windows),
            "ours, RP-PCA": lambda: rolling_rp_pca(x, N_FACTORS, windows, gamma=GAMMA),
            "our single fits": lambda: [pca(x[a:b], N_FACTORS) for a, b in some],
            "our single fits, RP-PCA": lambda: [
                rp_pca(x[a:b], N_FACTORS, gamma=GAMMA) for a, b in some
            ],
            "sklearn arpack": lambda: sklearn(x, some, "arpack"),
            "sklearn full": lambda: sklearn(x, some, "full"),
        },
        min_runs=3,
        budget=5.0,
    )
    found = rolling_pca(x, N_FACTORS, windows).loadings
    single = np.stack([pca(x[a:b], N_FACTORS).loadings for a, b in some])
    apart = np.abs(found[every // 2 :: every] - single).max()
    assert apart <= 1e-9, apart
    ours = timings["ours"].cpu
    for name, timing in timings.items():
        seconds = timing.cpu * (1.0 if name.startswith("ours") else share)
        yield n_assets, span, len(windows), name, seconds, seconds / ours


def memory_of(span):
    n_dates, windows = SPANS[span]
    n_assets = SIZES[span][-1]
    x = panel(n_assets, n_dates=n_dates)
    extra = measure.extra_memory(lambda: rolling_pca(x, N_FACTORS, windows).loadings.nbytes)
    return n_assets, span, len(windows), "ours, MiB beside the panel", extra / 2**20, float("nan")


def main():
    measure.require_release_build()
    with measure.single_thread():
        rows = [row for span in SPANS for n in SIZES[span] for row in rows_of(n, span)]
        rows += [memory_of(span) for span in SPANS]
    measure.report(
        "rolling PCA",
        ["N", "windows", "number", "contestant", "CPU s", "x ours"],
        rows,
        note=f"Monthly: T = 600, daily: T = 6000; K = {N_FACTORS}.",
    )


if __name__ == "__main__":
    main()
