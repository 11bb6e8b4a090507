"""Three hundred re-estimations of IPCA next to one; and how one grows with T, N, L, K, threads.

Usage: python benches/python/bench_walk_forward.py
"""

from __future__ import annotations

import time

import measure  # first: it pins the thread pools
import numpy as np

from ml4t.models import CharacteristicMoments, CrossSectionBatch, IPCAConfig, IPCAModel, WalkForward

BASE = {"T": 360, "N": 500, "L": 20, "K": 3}
LARGER = {"T": 720, "N": 1_000, "L": 40, "K": 6}


def panel(T, N, L, K, seed=0):
    """Returns of K factors whose loadings are linear in ranked characteristics."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(-0.5, 0.5, (T, N, L))
    gamma = np.linalg.qr(rng.standard_normal((L, K)))[0]
    f = 0.01 + np.linspace(0.06, 0.03, K) * rng.standard_normal((T, K))
    r = np.einsum("tnk,tk->tn", z @ gamma, f) + 0.1 * rng.standard_normal((T, N))
    return CrossSectionBatch(z, returns=r, mask=rng.random((T, N)) < 0.9)


def ipca(K):
    return IPCAModel(IPCAConfig(n_factors=K))


def best(work, n_runs=3):
    """Least wall and CPU seconds, and the last result."""
    wall, cpu = [], []
    for _ in range(n_runs):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        result = work()
        wall.append(time.perf_counter() - wall_start)
        cpu.append(time.process_time() - cpu_start)
    return min(wall), min(cpu), result


def walks():
    batch = panel(**BASE)
    first = BASE["T"] - 300
    cold_wall, cold_cpu, _ = best(lambda: ipca(BASE["K"]).fit(batch))
    rows = [("one cold fit from rows", 1, cold_wall, cold_cpu, 1.0, "")]
    found = {}
    for label, options in (
        ("expanding, warm", {}),
        ("expanding, cold", {"warm_start": False}),
        ("rolling 60, warm", {"window": 60}),
    ):
        walk = WalkForward(ipca(BASE["K"]), min_periods=first, **options)
        wall, cpu, found[label] = best(lambda walk=walk: walk.run(batch), n_runs=2)
        rows.append((label, 300, wall, cpu, wall / cold_wall, ""))
    warm, cold = (found[f"expanding, {how}"].result.factor_returns for how in ("warm", "cold"))
    gap = np.square(warm - cold).sum() / np.square(cold).sum()
    rows[1] = (*rows[1][:-1], f"{gap:.1e}")
    measure.report(
        "walk-forward of IPCA",
        ["what", "fits", "wall s", "CPU s", "x one fit", "squared gap to cold"],
        rows,
        note=f"{BASE}, ten percent of the cells masked; 300 windows, predictions and realised "
        "factors of every date included; 1 thread.",
    )


def cost(label, size, batch, n_threads=1):
    """One row: moments and estimate from them, and the wall time of both."""
    with measure.single_thread(n_threads):
        row_wall, row_cpu, moments = best(lambda: CharacteristicMoments.from_batch(batch), 5)
        fit_wall, fit_cpu, summary = best(lambda: ipca(size["K"]).fit(moments), 5)
    if not summary.converged:
        raise RuntimeError(f"{label} did not converge")
    wall = (row_wall + fit_wall) * 1e3
    return (label, *size.values(), n_threads, row_cpu * 1e3, fit_cpu * 1e3, wall)


def costs():
    rows = []
    for name in (None, *BASE):
        size = BASE if name is None else BASE | {name: LARGER[name]}
        label = "base" if name is None else f"{name} doubled"
        rows.append(cost(label, size, panel(**size)))
    batch = panel(**LARGER)
    for n_threads in (1, 2):
        label = f"all doubled, {n_threads} thread(s)"
        rows.append(cost(label, LARGER, batch, n_threads))
    measure.report(
        "cost of IPCA",
        ["what", "T", "N", "L", "K", "threads", "moments CPU ms", "estimate CPU ms", "wall ms"],
        rows,
        note="Moments cost T N L^2 and parallelise over dates; the estimate does not depend on N.",
    )


if __name__ == "__main__":
    measure.require_release_build()
    with measure.single_thread():
        walks()
        costs()
