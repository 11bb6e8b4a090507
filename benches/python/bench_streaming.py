"""IPCA of a panel on disk: time next to reading alone, memory next to the number of rows.

Every measurement is a process of its own, so that its peak memory is its own. Panels are generated
once (uniform random characteristics, which no compression shrinks) and kept in the folder given.

Usage: python benches/python/bench_streaming.py --help
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure  # first: it pins the thread pools
import numpy as np

# Polars starts with the first use: as many threads as the measurement says.
os.environ["POLARS_MAX_THREADS"] = os.environ.get("ML4T_BENCH_THREADS", "1")

import polars as pl

from ml4t.models import (
    CharacteristicMoments,
    CrossSectionBatch,
    IPCAConfig,
    IPCAModel,
)
from ml4t.models.kernels import set_num_threads
from ml4t.models.moments.blocks import block_rows, opened

N_CHARS, N_ASSETS, N_FACTORS = 94, 7_470, 6
TYPES = {"float64": np.float64, "float32": np.float32}
# All rows each, so that nothing but the way of reading differs.
PLANS = {
    "lazy frame": lambda frame: frame,
    "lazy frame, filter": lambda frame: frame.filter(pl.col("ret") > -100),
    "lazy frame, join": lambda frame: frame.join(
        pl.LazyFrame({"date": [0]}).cast(pl.Date), on="date", how="left", maintain_order="left"
    ),
}


def columns():
    return [f"c{i}" for i in range(N_CHARS)]


def generate(folder, dtype, part, n_rows):
    """Write one file of whole dates, in order of date, in polars' own row groups."""
    path = folder / f"{dtype}_{n_rows}_{part}.parquet"
    if path.exists():
        return path
    rng = np.random.default_rng(part)
    n_dates = n_rows // N_ASSETS
    dates = np.repeat(np.arange(part * n_dates, (part + 1) * n_dates, dtype=np.int32), N_ASSETS)
    z = {name: rng.random(len(dates), dtype=TYPES[dtype]) - TYPES[dtype](0.5) for name in columns()}
    premium = np.repeat(0.01 + 0.05 * rng.standard_normal(n_dates), N_ASSETS)
    signal = sum(z[name] for name in columns()[:3]) * premium
    frame = pl.DataFrame(
        {
            "date": pl.Series(dates).cast(pl.Date),
            "ret": (signal + 0.1 * rng.standard_normal(len(dates))).astype(TYPES[dtype]),
            **z,
        }
    )
    frame.write_parquet(path)
    return path


def do(what, paths, n_threads):
    """What one process measures: seconds and MiB at the peak."""

    set_num_threads(n_threads)
    model = IPCAModel(IPCAConfig(n_factors=N_FACTORS))
    options = {"feature_cols": columns(), "return_col": "ret"}
    start = peak()
    began = time.perf_counter(), time.process_time()
    if what == "read":
        wanted = ["date", "ret", *columns()]
        for block in opened(paths).blocks(wanted, block_rows(len(wanted))):
            block.read(wanted)
    else:
        source = PLANS[what](pl.scan_parquet(paths)) if what in PLANS else paths
        moments = CharacteristicMoments.scan(source, rank=what == "rank", **options)
        if what != "rank":
            model.fit(moments)
    return measured(began, start)


def in_memory(dtype, n_rows, n_threads):
    """Fit a padded panel that lies in memory; the panel itself is the start."""

    set_num_threads(n_threads)
    rng = np.random.default_rng(0)
    z = rng.random((n_rows // N_ASSETS, N_ASSETS, N_CHARS), dtype=TYPES[dtype])
    z -= TYPES[dtype](0.5)
    f = 0.01 + 0.05 * rng.standard_normal(len(z))
    r = np.empty(z.shape[:2], dtype=TYPES[dtype])
    for t, cross_section in enumerate(z):
        r[t] = cross_section[:, :3].sum(axis=1) * f[t] + 0.1 * rng.standard_normal(N_ASSETS)
    batch = CrossSectionBatch(z, returns=r)
    model = IPCAModel(IPCAConfig(n_factors=N_FACTORS, dtype=dtype))
    start = peak()
    began = time.perf_counter(), time.process_time()
    model.fit(batch)
    return measured(began, start)


def measured(began, start):
    """Wall and CPU seconds since, MiB before and at the peak."""
    wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    return {"wall": wall, "cpu": cpu, "start": start, "peak": peak()}


def peak():
    """Largest resident set of this process so far, MiB; unlike rusage, it forgets the parent."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(row.split()[1] for row in status if row.startswith("VmHWM"))) / 1024


def apart(*task):
    """Measure in a fresh process."""
    command = [sys.executable, __file__, "--task", json.dumps(task)]
    environment = dict(os.environ) | {"ML4T_BENCH_THREADS": str(task[-1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def least(task, n_runs):
    """Least seconds of some runs; the peak of the last."""
    runs = [apart(*task) for _ in range(n_runs)]
    return runs[-1] | {clock: min(run[clock] for run in runs) for clock in ("wall", "cpu")}


def main(folder, n_rows, types, n_runs, ranks, n_threads=2):
    measure.require_release_build()
    rows = []
    for dtype in types:
        one, two = (str(generate(folder, dtype, part, n_rows)) for part in (0, 1))
        reading = least(("read", [one], n_threads), n_runs)
        rows.append(line(dtype, "reading alone", n_rows, reading, reading))
        tasks = [("fit", "scan and fit", [one]), ("fit", "scan and fit", [one, two])]
        tasks += [(plan, plan, paths) for plan in PLANS for paths in ([one], [one, two])]
        if ranks:
            tasks.append(("rank", "scan with ranks", [one]))
        for what, label, paths in tasks:
            got = least((what, paths, n_threads), n_runs)
            rows.append(line(dtype, label, n_rows * len(paths), got, reading, len(paths)))
        got = least(("memory", dtype, n_rows, n_threads), n_runs)
        rows.append(line(dtype, "fit in memory", n_rows, got, reading))
    measure.report(
        "streaming",
        ["type", "what", "rows", "wall s", "CPU s", "x wall", "x CPU", "peak MiB", "above start"],
        rows,
        note=f"L = {N_CHARS}, K = {N_FACTORS}; {n_threads} threads for kernels and polars. The "
        "ratios are to reading the same columns and throwing them away. The second file brings as "
        "many dates again, and what is kept and estimated from grows with dates, not with rows. A "
        "join is streamed by polars, which reads ahead; other lazy frames are read in parts.",
    )


def line(dtype, label, n_rows, got, reading, files=1):
    walls, cpus = (got[clock] / (files * reading[clock]) for clock in ("wall", "cpu"))
    above = got["peak"] - got["start"]
    return (dtype, label, n_rows, got["wall"], got["cpu"], walls, cpus, got["peak"], above)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--task"]:
        what, *rest = json.loads(sys.argv[2])
        print(json.dumps(in_memory(*rest) if what == "memory" else do(what, *rest)))
    else:
        parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
        parser.add_argument("--folder", type=Path, default=None, help="where panels are kept")
        parser.add_argument("--rows", type=int, default=4_482_000)
        parser.add_argument("--types", nargs="*", default=list(TYPES), choices=list(TYPES))
        parser.add_argument("--runs", type=int, default=2)
        parser.add_argument("--no-ranks", action="store_true")
        asked = parser.parse_args()
        place = asked.folder or Path(tempfile.mkdtemp())
        place.mkdir(parents=True, exist_ok=True)
        main(place, asked.rows, asked.types, asked.runs, not asked.no_ranks)
