"""Weight normalisation and the turnover walk: against the best NumPy twin where there is one.

Usage: python benches/python/bench_weights.py
"""

from __future__ import annotations

import measure  # first: it pins the thread pools
import numpy as np

from ml4t.models.kernels import normalize_weights, walk_within_turnover

SIZES = {"T2500_N500": 500, "T2500_N2000": 2_000, "T2500_N5000": 5_000}


def numpy_twin(scores, mask):
    """Mask, demean, split, scale: whole arrays at a time."""
    away = np.where(mask, scores, 0.0)
    away -= away.sum(axis=-1, keepdims=True) / mask.sum(axis=-1, keepdims=True)
    away *= mask
    up, down = np.maximum(away, 0.0), np.minimum(away, 0.0)
    up *= 0.5 / up.sum(axis=-1, keepdims=True)
    down *= -0.5 / down.sum(axis=-1, keepdims=True)
    up += down
    return up


def one_row(name, n_assets):
    rng = np.random.default_rng(0)
    scores, mask = rng.standard_normal((1, 2_500, n_assets)), rng.random((1, 2_500, n_assets)) > 0.2
    small, cap = 1e-3 * scores, 20.0 / n_assets
    timings = measure.compare(
        {
            "rust": lambda: normalize_weights(scores, mask, gross=1.0, net=0.0),
            "numpy": lambda: numpy_twin(scores, mask),
            "capped": lambda: normalize_weights(scores, mask, gross=1.0, net=0.0, cap=cap),
            "small": lambda: normalize_weights(small, mask, gross=1.0, net=0.0, cap=cap),
        },
        min_runs=3,
    )
    wanted = normalize_weights(small[:, :50], mask[:, :50], gross=1.0, net=0.0, cap=cap)
    limits = (1.0, 0.0, cap)
    walk = measure.compare(
        {"walk": lambda: walk_within_turnover(wanted, limits=limits, turnover_limit=0.2)},
        min_runs=1,
        max_runs=3,
    )
    return (
        name,
        f"{1e3 * timings['rust'].cpu:.1f}",
        f"{measure.ratio(timings, 'numpy', 'rust'):.2f}",
        f"{timings['numpy'].wall / timings['rust'].wall:.2f}",
        f"{1e3 * timings['capped'].cpu:.0f}",
        f"{1e3 * timings['small'].cpu:.0f}",
        f"{1e3 * walk['walk'].cpu / 50:.2f}",
    )


def main():
    measure.require_release_build()
    with measure.single_thread():
        rows = [one_row(name, n_assets) for name, n_assets in SIZES.items()]
    measure.report(
        "weights",
        [
            "size",
            "uncapped ms",
            "x numpy CPU",
            "x numpy wall",
            "capped ms",
            "overlap ms",
            "walk ms",
        ],
        rows,
        note="20% masked. Overlap: scores so low that the split has to be searched. Walk: a date.",
    )


if __name__ == "__main__":
    main()
