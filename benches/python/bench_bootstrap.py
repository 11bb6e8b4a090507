"""Bootstrap tests of IPCA: seconds, p-values beside a public peer, rejections under the null.

The peer leaves its multipliers at the variance 5/3 of a t with five degrees of freedom; so do ours
where they are compared. It runs in an interpreter of its own::

    python benches/python/bench_bootstrap.py --peer-python PATH --parts speed peer size

The gap is the difference of p-values in Monte-Carlo standard errors of both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import measure  # first: it pins the thread pools
import numpy as np

from ml4t.models import CrossSectionBatch, IPCAConfig, IPCAModel, kernels

T_VARIANCE = 5 / 3
PEER_DRAWS = 1000
PEER_FACTORS = 2
# Dates, assets, characteristics and factors of the panel that is timed.
LARGE = (250, 550, 19, 3)


def panel(shape, n_factors, *, seed, noise, alpha=0.0, observed=0.0, silent=0):
    """Uniform characteristics, of which the last `silent` do nothing; an observed factor g."""
    n_dates, _, n_chars = shape
    rng = np.random.default_rng(seed)
    z = rng.uniform(-0.5, 0.5, shape)
    gamma = np.zeros((n_chars + 1, n_factors))
    n_loud = n_chars + 1 - silent
    gamma[:n_loud] = np.linalg.qr(rng.standard_normal((n_loud, n_factors)))[0]
    strength = np.linspace(0.05, 0.03, n_factors)
    f = rng.standard_normal((n_dates, n_factors)) * strength + 0.01
    g = 0.03 * rng.standard_normal((n_dates, 1))
    own, level = rng.standard_normal((2, n_chars + 1))
    b = f @ gamma.T + observed * g @ own[None] + alpha * level
    r = np.einsum("tnl,tl->tn", z, b[:, 1:]) + b[:, :1]
    return CrossSectionBatch(z, returns=r + noise * rng.standard_normal(r.shape)), g


def fitted(batch, n_factors, *, observed_factors=None, intercept=False):
    model = IPCAModel(IPCAConfig(n_factors=n_factors, intercept=intercept))
    model.fit(batch, observed_factors=observed_factors)
    return model


def speed():
    """Seconds of the two tests, moments and fit included."""
    *shape, n_factors = LARGE
    batch, _ = panel(shape, n_factors, seed=0, noise=0.1)

    def every_row():
        return fitted(batch, n_factors, intercept=True).test_characteristics()

    works = {
        "W_alpha, 1,000 draws": lambda: fitted(batch, n_factors, intercept=True).test_alpha(),
        "W_beta of 19 characteristics, 19,000 draws": every_row,
    }
    for threads in (1, 2):
        with measure.single_thread(threads):
            for name, work in works.items():
                start, cpu = time.perf_counter(), time.process_time()
                work()
                yield name, threads, time.perf_counter() - start, time.process_time() - cpu
    kernels.set_num_threads(1)


def run_peer(python, batch, g, n_factors, n_draws, test):
    n_dates, n_assets, _ = batch.characteristics.shape
    z = np.concatenate([np.ones((n_dates, n_assets, 1)), batch.characteristics], axis=2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "panel.npz")
        date = np.repeat(np.arange(n_dates), n_assets)
        asset = np.tile(np.arange(n_assets), n_dates)
        flat = z.reshape(n_dates * n_assets, -1)
        np.savez(path, z=flat, r=batch.returns.ravel(), date=date, asset=asset, g=g[:, 0])
        script = Path(__file__).with_name("peer_bootstrap.py")
        # The peer counts an observed factor among its factors.
        count = n_factors + (test == "delta")
        done = subprocess.run(
            [python, str(script), *map(str, (path, count, n_draws, test))],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "NUMBA_NUM_THREADS": "1", "PYTHONPATH": ""},
        )
    return json.loads(done.stdout.strip().splitlines()[-1])


def ours(batch, g, test, n_draws, n_factors):
    """P-value and CPU seconds, without the fit, as for the peer."""
    observed = g if test == "delta" else None
    model = fitted(batch, n_factors, observed_factors=observed, intercept=test == "alpha")
    options = {"n_draws": n_draws, "t_variance": T_VARIANCE}
    start = time.process_time()
    found = {
        "alpha": lambda: model.test_alpha(**options),
        "delta": lambda: model.test_observed_factors(**options),
    }.get(test, lambda: model.test_characteristics(int(test), **options))()
    return found.p_value, time.process_time() - start


def beside_peer(python):
    """P-values of the same hypotheses on the same panels, and CPU seconds a draw."""
    for seed in (11, 12):
        sizes = {"noise": 0.03, "alpha": 0.003, "observed": 0.1, "silent": 1}
        batch, g = panel((60, 40, 3), PEER_FACTORS, seed=seed, **sizes)
        for test in ("alpha", "2", "3", "delta"):
            peer = run_peer(python, batch, g, PEER_FACTORS, PEER_DRAWS, test)
            p_value, cpu = ours(batch, g, test, 10 * PEER_DRAWS, PEER_FACTORS)
            spread = np.sqrt(max(p_value * (1 - p_value), 1e-4) * 1.1 / PEER_DRAWS)
            gap = (peer["p_value"] - p_value) / spread
            ratio = peer["cpu"] / PEER_DRAWS / (cpu / (10 * PEER_DRAWS))
            name = {"alpha": "W_alpha", "delta": "W_delta"}.get(test, f"W_beta, row {test}")
            yield f"60 x 40, L = 3, panel {seed}", name, p_value, peer["p_value"], gap, ratio
    *shape, n_factors = LARGE
    batch, g = panel(shape, n_factors, seed=0, noise=0.1)
    peer = run_peer(python, batch, g, n_factors, 10, "alpha")
    _, cpu = ours(batch, g, "alpha", 1000, n_factors)
    yield "250 x 550, L = 19", "W_alpha", "", "", "", peer["cpu"] / 10 / (cpu / 1000)


def size(n_panels=500, n_draws=199):
    """Share of panels in which a true null is rejected at five percent."""
    designs = {
        "T = 150, K = 1, noise 0.03": ((150, 40, 3), 1, 0.03),
        "T = 150, K = 2, noise 0.01": ((150, 40, 3), 2, 0.01),
        "T = 100, K = 1, noise 0.1 (weak)": ((100, 50, 3), 1, 0.1),
    }
    for name, (shape, n_factors, noise) in designs.items():
        rejected = np.zeros(3)
        for seed in range(n_panels):
            batch, g = panel(shape, n_factors, seed=1000 + seed, noise=noise, silent=1)
            model = fitted(batch, n_factors, observed_factors=g, intercept=True)
            options = {"n_draws": n_draws, "seed": seed}
            tests = (
                model.test_alpha(**options),
                model.test_characteristics(shape[2], **options),
                model.test_observed_factors(**options),
            )
            rejected += [(n_draws * t.p_value + 1) / (n_draws + 1) <= 0.05 for t in tests]
        yield name, *(rejected / n_panels)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", help="interpreter with the peer installed")
    parser.add_argument("--parts", nargs="+", choices=["speed", "peer", "size"], default=["speed"])
    arguments = parser.parse_args()
    measure.require_release_build()
    if "speed" in arguments.parts:
        columns = ["what", "threads", "wall s", "CPU s"]
        note = "T = 250, N = 550, L = 19, K = 3 and an alpha; moments and fit included."
        measure.report("bootstrap tests", columns, list(speed()), note=note, threads=2)
    with measure.single_thread():
        if "peer" in arguments.parts:
            columns = ["panel", "test", "p", "p of the peer", "gap", "x our CPU a draw"]
            rows = list(beside_peer(arguments.peer_python))
            note = "PyPI ipca, 1,000 draws (10 on the last panel); ours 10,000 (1,000)."
            measure.report("bootstrap tests beside a peer", columns, rows, note=note)
    if "size" in arguments.parts:
        columns = ["panel", "W_alpha", "W_beta", "W_delta"]
        note = "Share of 500 panels in which a true null is rejected at 5 %; 199 draws each."
        measure.report("size of the bootstrap tests", columns, list(size()), note=note, threads=2)


if __name__ == "__main__":
    main()
