"""Per-date moments against the best NumPy twin, and as a share of DGEMM.

The share counts useful flops: n Q (Q + 1) for the upper triangle of n rows with Q = L + 2 columns
(constant and return included), over the rate of a square matrix product in the same run and type.
A product that computes the full square, as the twin's does, would reach half of it at best.

Measured at the best instruction set of the machine, and on one with AVX-512 at AVX2 too, in a
process whose BLAS keeps to AVX2 as well.

Usage: python benches/python/bench_moments.py [LEVEL], for one instruction set alone
"""

from __future__ import annotations

import os
import subprocess
import sys

if sys.argv[1:] == ["avx2"]:
    os.environ["OPENBLAS_CORETYPE"] = "Haswell"  # before numpy loads it

import measure  # first: it pins the thread pools
import numpy as np

from ml4t.models import _core

SIZES = {"L94": (100, 3_000, 94), "L40": (200, 3_000, 40), "L12": (240, 3_000, 12)}


def panel(size, dtype, missing):
    rng = np.random.default_rng(0)
    n_dates, n_assets, n_chars = SIZES[size]
    z = rng.standard_normal((n_dates, n_assets, n_chars), dtype=dtype)
    r = rng.standard_normal((n_dates, n_assets), dtype=dtype)
    mask = rng.random((n_dates, n_assets)) >= missing
    return z, r, mask


def numpy_twin(z, r, mask):
    """The best plain NumPy we know: gather once per date, let BLAS work."""
    n_dates, _, n_chars = z.shape
    gram = np.empty((n_dates, n_chars + 2, n_chars + 2))
    for date in range(n_dates):
        usable = mask[date] & np.isfinite(r[date]) & np.isfinite(z[date]).all(axis=1)
        rows = np.empty((usable.sum(), n_chars + 2))
        rows[:, 0] = 1.0
        rows[:, 1:-1] = z[date, usable]
        rows[:, -1] = r[date, usable]
        gram[date] = rows.T @ rows
    return gram


def one_row(level, size, dtype, missing, gemm_n=1024):
    z, r, mask = panel(size, dtype, missing)
    columns = z.shape[2] + 2
    flops = mask.sum() * columns * (columns + 1)
    timings = measure.compare(
        {
            "ours": lambda: _core.panel_moments(z, r, mask.view(np.uint8), True, level),
            "numpy": lambda: numpy_twin(z, r, mask),
            "gemm": measure.matrix_product(dtype, gemm_n),
        },
        budget=3.0,
    )
    ours = flops / timings["ours"].cpu / 1e9
    gemm = 2 * gemm_n**3 / timings["gemm"].cpu / 1e9
    return (
        size,
        np.dtype(dtype).name,
        f"{missing:.0%}",
        timings["ours"].cpu * 1e3,
        ours,
        gemm,
        f"{ours / gemm:.0%}",
        measure.ratio(timings, "numpy", "ours"),
    )


def main(level=None):
    measure.require_release_build()
    with measure.single_thread():
        rows = [
            one_row(level, size, dtype, missing)
            for dtype in (np.float64, np.float32)
            for size in SIZES
            for missing in (0.0, 0.2)
        ]
    measure.report(
        "moments" if level is None else f"moments, {level}",
        ["size", "type", "masked", "CPU ms", "useful GF/s", "GEMM GF/s", "share", "x numpy"],
        rows,
        note="Useful flops n Q (Q + 1), Q = L + 2; GEMM of the same type, same run.",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
    if len(sys.argv) == 1 and "avx512f" in measure.machine():
        subprocess.run([sys.executable, __file__, "avx2"], check=True)
