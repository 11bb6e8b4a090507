"""IPCA from rows to loadings: ours, the NumPy twin on moments, and public peers.

Ours and the twin are timed with the moments included; `solve` is ours without them. The angle is
the sine of the largest principal angle to the fully converged loadings (ours, tolerance 1e-12).
Peers run in an interpreter of their own, so that their dependencies are not ours::

    python benches/python/bench_ipca.py --peer-python PATH --sizes small medium hard large

A peer that cannot run there is left out. `large` leaves out the twin and PyPI `ipca`, which needs
half a minute for two sweeps there. Extra memory is what one estimate from rows adds to the resident
set at its peak.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import measure  # first: it pins the thread pools
import numpy as np

from ml4t.models.kernels import ipca, row_moments

# Dates, assets (80 to 100 % of them there), characteristics, factors estimated, factors in the data
SIZES = {
    "small": (240, 550, 12, 3, 3),
    "medium": (600, 3_300, 40, 5, 5),
    "hard": (240, 440, 30, 5, 3),
    "large": (600, 8_300, 94, 6, 6),
}
PEERS = ("ipca", "ml4t-models 0.1")
# Runs of a peer: its slow sizes take minutes.
PEER_RUNS = {"small": 3, "medium": 1, "hard": 1, "large": 1}
MAX_PEER_ITER = 2_000


def panel(size):
    """Ranked characteristics with a constant, factors of falling strength, idiosyncratic noise."""
    n_dates, n_assets, n_chars, _, k = SIZES[size]
    rng = np.random.default_rng(0)
    gamma = np.linalg.qr(rng.standard_normal((n_chars + 1, k)))[0]
    f = rng.standard_normal((n_dates, k)) * np.linspace(0.05, 0.02, k) + 0.005
    sizes = rng.integers(int(0.8 * n_assets), n_assets + 1, n_dates)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    z = rng.random((offsets[-1], n_chars))
    z -= 0.5  # in place: `large` fills gigabytes
    r = np.empty(len(z))
    for t, slope in enumerate(f @ gamma.T):
        rows = slice(offsets[t], offsets[t + 1])
        r[rows] = slope[0] + z[rows] @ slope[1:]
    r += 0.1 * rng.standard_normal(len(r))
    asset = np.concatenate([rng.permutation(n_assets)[:n] for n in sizes])
    return z, r, offsets, asset


def describe(size):
    """The dimensions in words."""
    return "T = {}, at most {} assets, L = {} and a constant, K = {} of {}.".format(*SIZES[size])


def numpy_moments(z, r, offsets):
    """Z'Z and Z'r of every date, the constant first."""
    p = z.shape[1] + 1
    gram, cross = np.empty((len(offsets) - 1, p, p)), np.empty((len(offsets) - 1, p))
    for t in range(len(offsets) - 1):
        rows = slice(offsets[t], offsets[t + 1])
        x = np.empty((offsets[t + 1] - offsets[t], p))
        x[:, 0], x[:, 1:] = 1.0, z[rows]
        gram[t], cross[t] = x.T @ x, x.T @ r[rows]
    return gram, cross


def numpy_twin(z, r, offsets, k, *, tol=1e-6, max_iter=5_000):
    """Alternating least squares on moments, all dates at once, stopped by the subspace step."""
    gram, cross = numpy_moments(z, r, offsets)
    n_dates, p = cross.shape
    flat = gram.reshape(n_dates, p * p)
    gamma = np.linalg.eigh(cross.T @ cross)[1][:, -k:]
    for _ in range(max_iter):
        half = (gram.reshape(-1, p) @ gamma).reshape(n_dates, p, k)
        f = np.linalg.solve(gamma.T @ half, (cross @ gamma)[..., None])[..., 0]
        outer = (f[:, :, None] * f[:, None, :]).reshape(n_dates, k * k)
        normal = (flat.T @ outer).reshape(p, p, k, k).transpose(0, 2, 1, 3).reshape(p * k, p * k)
        new = np.linalg.qr(np.linalg.solve(normal, (cross.T @ f).ravel()).reshape(p, k))[0]
        step = angle(gamma, new)
        gamma = new
        if step <= tol:
            break
    return gamma


def angle(a, b):
    """Sine of the largest principal angle between the columns of `a` and of `b`."""
    a, b = np.linalg.qr(a)[0], np.linalg.qr(b)[0]
    return float(np.linalg.norm(b - a @ (a.T @ b), 2))


def run_peer(python, peer, size, data, k):
    """CPU seconds and loadings of a peer; None where it cannot run."""
    z, r, offsets, asset = data
    n_runs = PEER_RUNS.get(size)
    if python is None or n_runs is None or (peer, size) == ("ipca", "large"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "panel.npz")
        date = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        np.savez(path, z=np.column_stack([np.ones(len(r)), z]), r=r, date=date, asset=asset)
        script = Path(__file__).with_name("peer_ipca.py")
        arguments = [peer, path, k, MAX_PEER_ITER, n_runs]
        done = subprocess.run(
            [python, str(script), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "NUMBA_NUM_THREADS": "1", "PYTHONPATH": ""},
        )
    if done.returncode != 0:
        print(f"{peer} did not run: {done.stderr.strip().splitlines()[-1:]}")
        return None
    found = json.loads(done.stdout)
    return found["cpu"], np.array(found["gamma"])


def rows_of(size, python):
    data = panel(size)
    z, r, offsets, _ = data
    k = SIZES[size][3]
    moments = row_moments(z, r, offsets)
    best = ipca(moments, k, tol=1e-12, start=ipca(moments, k).gamma).gamma
    memory = measure.extra_memory(lambda: ipca(row_moments(z, r, offsets), k)) / 2**20
    contestants = {
        "ours": lambda: ipca(row_moments(z, r, offsets), k),
        "solve": lambda: ipca(moments, k),
    }
    if size != "large":
        contestants["numpy"] = lambda: numpy_twin(z, r, offsets, k)
    timings = measure.compare(contestants, min_runs=3, budget=10.0)
    loadings = {"ours": ipca(moments, k).gamma}
    if size != "large":
        loadings["numpy"] = numpy_twin(z, r, offsets, k)
    cpu = {name: timing.cpu for name, timing in timings.items()}
    for peer in PEERS:
        if (found := run_peer(python, peer, size, data, k)) is not None:
            cpu[peer], loadings[peer] = found
    yield (size, "solve", cpu["solve"] * 1e3, "", "", "")
    for name, gamma in loadings.items():
        gap = f"{angle(best, gamma):.0e}"
        extra = f"{memory:.3g}" if name == "ours" else ""
        yield (size, name, cpu[name] * 1e3, f"{cpu[name] / cpu['ours']:.3g}", gap, extra)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", help="interpreter with the peers installed")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["small", "medium", "hard"])
    arguments = parser.parse_args()
    measure.require_release_build()
    for size in arguments.sizes:
        with measure.single_thread():
            rows = list(rows_of(size, arguments.peer_python))
        measure.report(
            f"ipca, {size}",
            ["size", "who", "CPU ms", "x ours", "angle", "extra MiB"],
            rows,
            note="Moments included, except in `solve`; tolerance 1e-6 for all. " + describe(size),
        )


if __name__ == "__main__":
    main()
