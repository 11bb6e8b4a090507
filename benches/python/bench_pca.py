"""PCA against every public way to the leading factors of a panel, at equal accuracy.

T = 600 dates, K = 5 factors. The panel has six factors of falling strength and noise; accuracy is
the largest angle between a contestant's loadings and those of LAPACK's full decomposition.

Usage: python benches/python/bench_pca.py
"""

from __future__ import annotations

import measure  # first: it pins the thread pools
import numpy as np
from scipy.sparse.linalg import svds
from sklearn.decomposition import PCA

from ml4t.models.kernels import pca

N_DATES, N_FACTORS = 600, 5
SIZES = (500, 3000, 20000)


def panel(n_assets, seed=0, n_dates=N_DATES):
    """Returns per month: a market, five weaker factors, noise as large as in single stocks."""
    rng = np.random.default_rng(seed)
    strength = np.array([0.045, 0.03, 0.025, 0.02, 0.017, 0.006])
    factors = rng.standard_normal((n_dates, 6)) * strength + 0.003
    loadings = rng.standard_normal((6, n_assets))
    loadings[0] = 1 + 0.4 * loadings[0]
    return factors @ loadings + 0.1 * rng.standard_normal((n_dates, n_assets))


def numpy_svd(x):
    return np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2][:N_FACTORS].T


def numpy_dual(x):
    centred = x - x.mean(axis=0)
    values, left = np.linalg.eigh(centred @ centred.T)
    return centred.T @ (left[:, ::-1][:, :N_FACTORS] / np.sqrt(values[::-1][:N_FACTORS]))


def scipy_svds(x):
    return svds(x - x.mean(axis=0), N_FACTORS, random_state=0)[2][::-1].T


def sklearn(solver):
    return lambda x: PCA(N_FACTORS, svd_solver=solver, random_state=0).fit(x).components_.T


CONTESTANTS = {
    "ours": lambda x: pca(x, N_FACTORS).loadings,
    "numpy svd": numpy_svd,
    "numpy dual eigh": numpy_dual,
    "scipy svds": scipy_svds,
    "sklearn arpack": sklearn("arpack"),
    "sklearn randomized": sklearn("randomized"),
    "sklearn full": sklearn("full"),
}


def angle(found, exact):
    """Largest principal angle between the spans, in radians."""
    outside = found - exact @ (exact.T @ found)
    return float(np.linalg.norm(outside, 2))


def rows_of(n_assets):
    x = panel(n_assets)
    exact = numpy_svd(x)
    works = {name: lambda run=run: run(x) for name, run in CONTESTANTS.items()}
    timings = measure.compare(works, min_runs=4, budget=20.0)
    accuracy = {name: angle(run(x), exact) for name, run in CONTESTANTS.items()}
    assert accuracy["ours"] <= 1e-11, accuracy
    single = x.astype(np.float32)
    works = {"float32": lambda: pca(single, N_FACTORS), "ours": lambda: pca(x, N_FACTORS)}
    halved = measure.compare(works, min_runs=5, budget=5.0)
    timings["ours, float32 panel"] = halved["float32"]
    accuracy["ours, float32 panel"] = angle(pca(single, N_FACTORS).loadings, exact)
    for name, timing in timings.items():
        slower = measure.ratio(timings, name, "ours")
        yield n_assets, name, timing.cpu * 1e3, slower, f"{accuracy[name]:.0e}"


def main():
    measure.require_release_build()
    with measure.single_thread():
        rows = [row for n_assets in SIZES for row in rows_of(n_assets)]
    measure.report(
        "PCA",
        ["N", "contestant", "CPU ms", "x ours", "angle to LAPACK"],
        rows,
        note=f"T = {N_DATES}, K = {N_FACTORS}.",
    )


if __name__ == "__main__":
    main()
