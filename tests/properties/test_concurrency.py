"""Kernels in forked children, from many threads, and beside a running interpreter."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import ml4t.models
from ml4t.models.kernels import get_num_threads, panel_moments, set_num_threads

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def panel(n_dates=20, n_assets=200, n_chars=10):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n_dates, n_assets, n_chars)), rng.standard_normal(
        (n_dates, n_assets)
    )


def digest(_=None):
    moments = panel_moments(*panel())
    return moments.gram.tobytes() + moments.cross.tobytes()


@pytest.fixture
def two_threads():
    before = get_num_threads()
    set_num_threads(2)
    yield
    set_num_threads(before)


@needs_fork
@pytest.mark.usefixtures("two_threads")
def test_a_forked_child_computes_what_its_parent_does():
    want = digest()
    with warnings.catch_warnings():
        # Python 3.12 warns that threads do not survive; that ours need not is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os._exit(0 if digest() == want else 1)
    deadline = time.monotonic() + 60.0
    finished, status = os.waitpid(child, os.WNOHANG)
    while not finished and time.monotonic() < deadline:
        time.sleep(0.01)
        finished, status = os.waitpid(child, os.WNOHANG)
    if not finished:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert (finished, status) == (child, 0)


@needs_fork
@pytest.mark.usefixtures("two_threads")
def test_a_pool_of_forked_workers_computes_what_the_parent_does():
    want = digest()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with multiprocessing.get_context("fork").Pool(2) as workers:
            got = workers.map_async(digest, range(4)).get(timeout=60.0)
    assert got == [want] * 4


@pytest.mark.usefixtures("two_threads")
def test_concurrent_callers_do_not_disturb_each_other():
    want = digest()
    with ThreadPoolExecutor(8) as callers:
        assert list(callers.map(digest, range(32))) == [want] * 32


def test_the_interpreter_runs_beside_a_kernel():
    z, r = panel(n_dates=400, n_assets=2_000, n_chars=40)
    before, interval = get_num_threads(), sys.getswitchinterval()
    set_num_threads(1)
    started, done, beats = threading.Event(), threading.Event(), 0

    def work():
        started.set()
        panel_moments(z, r)
        done.set()

    worker = threading.Thread(target=work)
    try:
        worker.start()
        started.wait()
        while not done.is_set():
            beats += 1
            time.sleep(0.0005)
        worker.join()
    finally:
        set_num_threads(before)
        sys.setswitchinterval(interval)
    # A kernel that held the interpreter would let this thread beat once or twice.
    assert beats >= 5


def test_the_cap_is_public_and_refuses_what_is_no_number_of_threads(two_threads):
    ml4t.models.set_num_threads(np.int64(3))
    assert ml4t.models.get_num_threads() == get_num_threads() == 3
    for wrong in (0, -1, 4097, 2**70, 1.0, True, "2", None):
        with pytest.raises((ValueError, TypeError), match=r"n must be .*; got"):
            ml4t.models.set_num_threads(wrong)
    assert get_num_threads() == 3


@pytest.mark.parametrize("text", ["two", "0", "-1", "5000", "1.5"])
def test_a_bad_number_of_threads_in_the_environment_is_warned_of(text):
    script = "import warnings; warnings.simplefilter('error'); import ml4t.models.kernels"
    for value, fails in ((text, True), ("2", False), (" 02", False), ("", False)):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"ML4T_NUM_THREADS": value},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ("ML4T_NUM_THREADS must be" in done.stderr) is fails, done.stderr


def test_the_environment_counts_at_import_and_never_after():
    script = (
        "import os; from ml4t.models import kernels; os.environ['ML4T_NUM_THREADS'] = '5'; "
        "kernels.average_ranks([[1.0, 2.0]]); print(kernels.get_num_threads())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"ML4T_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["3"]
