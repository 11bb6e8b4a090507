"""How benches measure here, and the table they leave in `benches/RESULTS.md`.

A bench compares functions that do the same work on the same data in one process::

    with single_thread():
        timings = compare({"ours": lambda: kernel(x), "numpy": lambda: twin(x)})
    timings["ours"].cpu, ratio(timings, "numpy", "ours")

Rules: data are made outside the timed call; one thread for everyone; runs alternate, so that a busy
neighbour slows all contestants alike; the least CPU time of N runs counts, since noise only adds.
Import this module before numpy: it pins BLAS and OpenMP pools to one thread at start.
"""

from __future__ import annotations

import datetime
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

for _pool in ("OPENBLAS_NUM", "MKL_NUM", "OMP_NUM", "BLIS_NUM", "NUMEXPR_NUM", "POLARS_MAX"):
    os.environ[f"{_pool}_THREADS"] = "1"

import numpy as np  # noqa: E402

from ml4t.models import kernels  # noqa: E402

RESULTS = Path(__file__).parents[1] / "RESULTS.md"


@dataclass(frozen=True, slots=True)
class Timing:
    """Least seconds of several runs.

    Attributes
    ----------
    cpu : float
        Processor time of the whole process, all threads together.
    wall : float
        Elapsed time.
    n_runs : int
    """

    cpu: float
    wall: float
    n_runs: int


def require_release_build() -> None:
    """Refuse a debug build: it says nothing about speed."""
    if kernels.BUILD_PROFILE != "release":
        sys.exit(f"benches need a release build of the extension; got {kernels.BUILD_PROFILE}")


@contextmanager
def single_thread(n_threads: int = 1) -> Iterator[None]:
    """Let the kernels use `n_threads` threads inside the block."""
    before = kernels.get_num_threads()
    kernels.set_num_threads(n_threads)
    try:
        yield
    finally:
        kernels.set_num_threads(before)


def compare(
    contestants: Mapping[str, Callable[[], object]],
    *,
    min_runs: int = 5,
    max_runs: int = 200,
    budget: float = 5.0,
) -> dict[str, Timing]:
    """Time the contestants in alternating runs, after one run of each to warm up.

    Parameters
    ----------
    contestants : mapping of str to callable
        Same work, same data; results are thrown away.
    min_runs, max_runs : int
        Runs of each contestant.
    budget : float
        Seconds of wall time after which no further round starts (beyond `min_runs`).

    Returns
    -------
    dict of str to Timing
    """
    for work in contestants.values():
        work()
    cpu = {name: [] for name in contestants}
    wall = {name: [] for name in contestants}
    start = time.perf_counter()
    n_runs = 0
    while n_runs < min_runs or (n_runs < max_runs and time.perf_counter() - start < budget):
        for name, work in contestants.items():
            cpu_start, wall_start = time.process_time(), time.perf_counter()
            work()
            cpu[name].append(time.process_time() - cpu_start)
            wall[name].append(time.perf_counter() - wall_start)
        n_runs += 1
    return {name: Timing(min(cpu[name]), min(wall[name]), n_runs) for name in contestants}


def ratio(timings: Mapping[str, Timing], slow: str, fast: str) -> float:
    """How many times the CPU time of `fast` the contestant `slow` takes."""
    return timings[slow].cpu / timings[fast].cpu


def matrix_product(dtype: type[np.floating], n: int = 1024) -> Callable[[], object]:
    """The machine's own product of square matrices, 2 n^3 flops: the measure of peak."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((n, n)).astype(dtype) for _ in range(2))
    return lambda: a @ b


def extra_memory(work: Callable[[], object]) -> float:
    """Bytes by which one run raises resident memory at its peak; Linux only, NaN elsewhere."""
    forget_peak = Path("/proc/self/clear_refs")
    if not forget_peak.exists():
        return float("nan")
    forget_peak.write_text("5")
    before = _status_bytes("VmRSS")
    work()
    return _status_bytes("VmHWM") - before


def _status_bytes(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * int(next(line.split()[1] for line in lines if line.startswith(name)))


def machine() -> str:
    """Processor, cores, instruction set, in one line."""
    name, flags = platform.processor() or platform.machine(), set()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            if key.strip() == "flags":
                flags = set(value.split())
    wanted = ("avx512f", "avx2", "fma")
    isa = [flag for flag in wanted if flag in flags]
    return f"{name}, {os.cpu_count()} cores, {'+'.join(isa) or platform.machine()}"


def report(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    note: str = "",
    threads: int = 1,
    path: Path = RESULTS,
) -> None:
    """Print a table and put it under `## title` in the results, in place of an earlier one.

    Parameters
    ----------
    title : str
        Heading of the bench.
    columns, rows : sequences
        Cells: text as it is, floats with three significant digits.
    note : str
        One line on what the numbers mean.
    threads : int
        Threads of the kernels and of the contestants.
    path : Path
        The file of results.
    """
    when = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    where = f"{when}; {machine()}; numpy {np.__version__}; {threads} thread(s). {note}".rstrip()
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    body = "\n".join([where, "", *lines])
    print(f"## {title}\n\n{body}\n")
    _replace_section(path, title, body)


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _replace_section(path: Path, title: str, body: str) -> None:
    text = path.read_text() if path.exists() else "# Measured\n"
    head, *sections = text.split("\n## ")
    kept = [section for section in sections if section.partition("\n")[0] != title]
    kept.append(f"{title}\n\n{body}\n")
    path.write_text("\n## ".join([head.rstrip() + "\n", *sorted(kept)]))
