"""Average ranks, correlations and managed portfolios of each date, beside NumPy, scipy and polars.

Every contestant gets the panel in the form it likes best, made outside the clock: arrays for NumPy
and scipy, a long frame sorted by date for polars. Ten percent of the cells are missing; "complete"
says that none is, which spares the NumPy twins their masks. Returned arrays are checked to agree.

Usage: python benches/python/bench_cross_sections.py
"""

from __future__ import annotations

import measure  # first: it pins the thread pools
import numpy as np
import polars as pl
from scipy.stats import rankdata

from ml4t.models import kernels

SIZES = {"T240 N500": (240, 500), "T600 N3000": (600, 3_000)}
N_CHARACTERISTICS = 12


def panel(size, missing):
    """Two variables (T, N) with `missing` of the first NaN, and their long frame."""
    rng = np.random.default_rng(0)
    shape = SIZES[size]
    a, b = rng.standard_normal(shape), rng.standard_normal(shape)
    a[rng.random(shape) < missing] = np.nan
    date = np.repeat(np.arange(shape[0]), shape[1])
    frame = pl.DataFrame({"date": date, "a": a.ravel(), "b": b.ravel()})
    return a, b, frame.with_columns(pl.col("a").fill_nan(None)).set_sorted("date")


def numpy_correlation(a, b):
    """Pearson of all dates at once, masked cells as zeros."""
    seen = np.isfinite(a) & np.isfinite(b)
    n = seen.sum(axis=1)
    x, y = np.where(seen, a, 0.0), np.where(seen, b, 0.0)
    x -= (x.sum(axis=1) / n)[:, None]
    y -= (y.sum(axis=1) / n)[:, None]
    if not seen.all():
        x, y = np.where(seen, x, 0.0), np.where(seen, y, 0.0)
    products = [np.einsum("ij,ij->i", *pair) for pair in ((x, y), (x, x), (y, y))]
    return products[0] / np.sqrt(products[1] * products[2])


def numpy_rank_correlation(a, b):
    """Ranks among the cells that both have, then Pearson."""
    seen = np.isfinite(a) & np.isfinite(b)
    ranks = (
        rankdata(np.where(seen, x, np.nan), axis=1, nan_policy="omit") if not seen.all() else None
        for x in (a, b)
    )
    return numpy_correlation(
        *(rankdata(x, axis=1) if r is None else r for x, r in zip((a, b), ranks, strict=True))
    )


def polars_correlation(frame, method):
    both = pl.col("a").is_not_null() & pl.col("b").is_not_null()
    pair = [pl.col(name).filter(both) for name in ("a", "b")]
    found = frame.group_by("date", maintain_order=True).agg(pl.corr(*pair, method=method))
    return found["a"].to_numpy()


def numpy_portfolios(z, r):
    """Batched normal equations of complete dates: the quickest NumPy, not the most exact."""
    x = np.concatenate([z, np.ones((*r.shape, 1))], axis=2)
    xt = x.transpose(0, 2, 1)
    return np.linalg.solve(xt @ x, xt @ r[..., None])[..., 0]


def numpy_gathered_portfolios(z, r):
    """Normal equations date by date, on the rows that are complete."""
    out = np.empty((len(r), z.shape[2] + 1))
    for t in range(len(r)):
        seen = np.isfinite(r[t]) & np.isfinite(z[t]).all(axis=1)
        x = np.empty((seen.sum(), z.shape[2] + 1))
        x[:, :-1], x[:, -1] = z[t, seen], 1.0
        out[t] = np.linalg.solve(x.T @ x, x.T @ r[t, seen])
    return out


def numpy_lstsq(z, r):
    """Least squares date by date, as exact as ours."""
    out = np.empty((len(r), z.shape[2] + 1))
    for t in range(len(r)):
        seen = np.isfinite(r[t]) & np.isfinite(z[t]).all(axis=1)
        x = np.column_stack([z[t, seen], np.ones(seen.sum())])
        out[t] = np.linalg.lstsq(x, r[t, seen], rcond=None)[0]
    return out


def contestants(size, missing):
    """Name of the kernel -> name of the contestant -> work."""
    a, b, frame = panel(size, missing)
    z = np.random.default_rng(1).standard_normal((*SIZES[size], N_CHARACTERISTICS))
    rank = pl.col("a").rank("average")
    omit = {"nan_policy": "omit"} if missing else {}
    both = kernels.cross_sectional_correlation
    yield (
        "average ranks",
        {
            "ours": lambda: kernels.average_ranks(a),
            "polars over": lambda: frame.select(rank.over("date"))["a"].to_numpy().reshape(a.shape),
            "scipy rankdata": lambda: rankdata(a, axis=1, **omit),
        },
    )
    yield (
        "Pearson",
        {
            "ours": lambda: both(a, b),
            "polars group_by": lambda: polars_correlation(frame, "pearson"),
            "numpy": lambda: numpy_correlation(a, b),
        },
    )
    yield (
        "Spearman",
        {
            "ours": lambda: both(a, b, rank=True),
            "polars group_by": lambda: polars_correlation(frame, "spearman"),
            "scipy rankdata + numpy": lambda: numpy_rank_correlation(a, b),
        },
    )
    batched = {} if missing else {"numpy batched solve": lambda: numpy_portfolios(z, a)}
    yield (
        f"managed portfolios, L = {N_CHARACTERISTICS}",
        {
            "ours": lambda: kernels.managed_portfolios(z, a),
            "numpy solve": lambda: numpy_gathered_portfolios(z, a),
            "numpy lstsq": lambda: numpy_lstsq(z, a),
            **batched,
        },
    )


def rows():
    for size in SIZES:
        for missing in (0.0, 0.1):
            for kernel, works in contestants(size, missing):
                results = {name: work() for name, work in works.items()}
                for result in results.values():
                    np.testing.assert_allclose(result, results["ours"], rtol=1e-7, atol=1e-9)
                timings = measure.compare(works, min_runs=3, budget=1.0)
                for name, timing in timings.items():
                    times = measure.ratio(timings, name, "ours")
                    gaps = "10% missing" if missing else "complete"
                    yield kernel, size, gaps, name, timing.cpu * 1e3, times


def main():
    measure.require_release_build()
    with measure.single_thread():
        found = sorted(rows(), key=lambda row: row[0])
    measure.report(
        "cross-sections",
        ["kernel", "size", "cells", "contestant", "CPU ms", "x ours"],
        found,
        note="Below 1: the contestant is faster.",
    )


if __name__ == "__main__":
    main()
