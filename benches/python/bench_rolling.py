"""Windows of PCA against fits by scikit-learn, which are timed on some of the windows.

Usage: python benches/python/bench_rolling.py
"""

from __future__ import annotations

import measure  # first: it pins the thread pools
import numpy as np
from bench_pca import N_DATES, N_FACTORS, panel
from sklearn.decomposition import PCA

from ml4t.models.kernels import pca, rolling_pca, rolling_rp_pca

N_WINDOWS = 300
SPANS = {
    "rolling 240": [(end - 240, end) for end in range(N_DATES - N_WINDOWS + 1, N_DATES + 1)],
    "expanding": [(0, end) for end in range(N_DATES - N_WINDOWS + 1, N_DATES + 1)],
}
EVERY = {500: 10, 3_000: 50}


def sklearn(x, windows, solver):
    for start, stop in windows:
        PCA(N_FACTORS, svd_solver=solver, random_state=0).fit(x[start:stop])


def rows_of(n_assets, span):
    x, windows = panel(n_assets), SPANS[span]
    every = EVERY[n_assets]
    some = windows[every // 2 :: every]
    share = len(windows) / len(some)
    timings = measure.compare(
        {
            "ours": lambda: rolling_pca(x, N_FACTORS, windows),
            "ours, RP-PCA": lambda: rolling_rp_pca(x, N_FACTORS, windows, gamma=20.0),
            "our single fits": lambda: [pca(x[a:b], N_FACTORS) for a, b in some],
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
        yield n_assets, span, name, seconds, seconds / ours


def main():
    measure.require_release_build()
    with measure.single_thread():
        rows = [row for n in EVERY for span in SPANS for row in rows_of(n, span)]
    measure.report(
        "rolling PCA",
        ["N", "windows", "contestant", "CPU s", "x ours"],
        rows,
        note=f"{N_WINDOWS} windows of T = {N_DATES}, K = {N_FACTORS}.",
    )


if __name__ == "__main__":
    main()
