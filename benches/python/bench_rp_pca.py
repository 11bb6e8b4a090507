"""RP-PCA against NumPy in the primal (N x N) and the dual (T x T) form.

Every contestant goes all the way: eigenvectors, factors, betas by time-series regression.

Usage: python benches/python/bench_rp_pca.py
"""

from __future__ import annotations

import measure  # first: it pins the thread pools
import numpy as np
from bench_pca import N_DATES, N_FACTORS, panel

from ml4t.models.kernels import rp_pca

GAMMA = 20.0
SIZES = (500, 1_500, 3_000)


def regress(x, loadings):
    """Slopes of every asset on the factors and a constant."""
    factors = x @ loadings
    regressors = np.column_stack([np.ones(len(x)), factors])
    return np.linalg.lstsq(regressors, x, rcond=None)[0][1:].T


def ours(x):
    found = rp_pca(x, N_FACTORS, gamma=GAMMA)
    return found.loadings, found.asset_betas


def numpy_primal(x):
    mean = x.mean(axis=0)
    vectors = np.linalg.eigh(x.T @ x / len(x) + GAMMA * np.outer(mean, mean))[1]
    loadings = vectors[:, ::-1][:, :N_FACTORS]
    return loadings, regress(x, loadings)


def numpy_dual(x):
    # (I + c 11'/T) X has the wanted matrix as its Gram matrix.
    tilted = x + (np.sqrt(1 + GAMMA) - 1) * x.mean(axis=0)
    values, left = np.linalg.eigh(tilted @ tilted.T)
    loadings = tilted.T @ (left[:, ::-1][:, :N_FACTORS] / np.sqrt(values[::-1][:N_FACTORS]))
    return loadings, regress(x, loadings)


CONTESTANTS = {"ours": ours, "numpy dual eigh": numpy_dual, "numpy primal eigh": numpy_primal}


def rows_of(n_assets):
    x = panel(n_assets)
    runs = dict(CONTESTANTS)
    if n_assets > N_DATES * 3:
        del runs["numpy primal eigh"]
    timings = measure.compare(
        {name: lambda run=run: run(x) for name, run in runs.items()}, min_runs=5, budget=10.0
    )
    exact = numpy_dual(x)[0]
    for name, timing in timings.items():
        found = runs[name](x)[0]
        apart = float(np.linalg.norm(found - exact @ (exact.T @ found), 2))
        assert apart <= 1e-11, (name, apart)
        slower = measure.ratio(timings, name, "ours")
        yield n_assets, name, timing.cpu * 1e3, slower, f"{apart:.0e}"


def main():
    measure.require_release_build()
    with measure.single_thread():
        rows = [row for n_assets in SIZES for row in rows_of(n_assets)]
    measure.report(
        "RP-PCA",
        ["N", "contestant", "CPU ms", "x ours", "angle to numpy dual"],
        rows,
        note=f"T = {N_DATES}, K = {N_FACTORS}, gamma = {GAMMA:g}.",
    )


if __name__ == "__main__":
    main()
