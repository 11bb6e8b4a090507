"""The content digest of a panel against the hashes of the standard library, and a plain sum.

The sum reads the same memory and does the least one can do with it: what is left of its rate is
what a fit record costs.

Usage: python benches/python/bench_digest.py
"""

from __future__ import annotations

import hashlib
import zlib

import measure  # first: it pins the thread pools
import numpy as np

from ml4t.models.kernels import content_digest

SIZES = {"T240_N3000_L40": (240, 3_000, 40), "T600_N1000": (600, 1_000)}


def numpy_twin(panel):
    """Same promise in plain NumPy and zlib: chunks in C order, one NaN, checksums in order."""
    words = np.ascontiguousarray(panel).reshape(-1)
    marks = [
        zlib.crc32(np.where(np.isnan(chunk), np.nan, chunk))
        for chunk in np.split(words, range(1 << 15, words.size, 1 << 15))
    ]
    return hashlib.sha256(np.array(marks)).digest()


def one_row(size, layout, missing):
    rng = np.random.default_rng(0)
    panel = rng.standard_normal(SIZES[size])
    panel[rng.random(panel.shape) < missing] = np.nan
    if layout == "F":
        panel = np.asfortranarray(panel)
    timings = measure.compare(
        {
            "ours": lambda: content_digest(panel),
            "numpy": lambda: numpy_twin(panel),
            "sha256": lambda: hashlib.sha256(np.ascontiguousarray(panel)).digest(),
            "blake2b": lambda: hashlib.blake2b(np.ascontiguousarray(panel)).digest(),
            "sum": panel.sum,
        },
        budget=3.0,
    )
    return (
        size,
        layout,
        f"{missing:.0%}",
        panel.nbytes / timings["ours"].cpu / 1e9,
        *(measure.ratio(timings, other, "ours") for other in ("numpy", "sha256", "blake2b", "sum")),
    )


def main():
    measure.require_release_build()
    with measure.single_thread():
        rows = [
            one_row(size, layout, missing)
            for size in SIZES
            for layout in "CF"
            for missing in (0.0, 0.1)
        ]
    measure.report(
        "digest",
        ["size", "order", "NaN", "GB/s", "x numpy+crc32", "x sha256", "x blake2b", "x sum"],
        rows,
        note="float64; below 1 in the last column: a plain sum is faster.",
    )


if __name__ == "__main__":
    main()
