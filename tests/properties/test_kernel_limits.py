"""Every kernel stops soon on Ctrl-C, and says by name what memory it cannot have."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import ml4t.models as m
from ml4t.models import kernels

RNG = np.random.default_rng(0)
#: Seconds from the signal to the exception, on a machine with other work to do.
SOON = 2.0


def like(row, *shape):
    """A large panel that takes the memory of one row."""
    return np.broadcast_to(np.asarray(row), shape)


def moments(n_dates=60, n_assets=300, n_chars=60):
    z = RNG.standard_normal((n_dates, n_assets, n_chars))
    return kernels.panel_moments(z, RNG.standard_normal((n_dates, n_assets)))


def a_digest(n):
    return lambda: kernels.content_digest(np.zeros(n, np.uint8))


def a_moment_pass(n_dates, n_assets, n_chars):
    z, r = RNG.standard_normal((2, n_assets, n_chars)), RNG.standard_normal(n_assets)
    cells = like(z[0], n_dates, n_assets, n_chars)
    return lambda: kernels.panel_moments(cells, like(r, n_dates, n_assets)).gram


def a_row_pass(n_rows, n_chars):
    z, r = like(RNG.standard_normal(n_chars), n_rows, n_chars), like(1.0, n_rows)
    return lambda: kernels.row_moments(z, r, np.array([0, n_rows])).gram


def portfolios(n_dates, n_assets, n_chars):
    z = like(RNG.standard_normal((n_assets, n_chars)), n_dates, n_assets, n_chars)
    r = like(RNG.standard_normal(n_assets), n_dates, n_assets)
    return lambda: kernels.managed_portfolios(z, r)


def ranks(n_dates, n_assets):
    values = like(RNG.standard_normal((n_assets, 1)), n_dates, n_assets, 1)
    return lambda: kernels.average_ranks(values)


def correlations(n_dates, n_assets):
    a, b = (like(RNG.standard_normal(n_assets), n_dates, n_assets) for _ in "ab")
    return lambda: kernels.cross_sectional_correlation(a, b, rank=True)


def components(kernel, n_dates, n_assets, **options):
    x = RNG.standard_normal((n_dates, n_assets))
    return lambda: kernel(x, 2, **options).loadings


def projection(kernel, n_dates, n_assets, *, gap=False):
    row, w = RNG.standard_normal(n_assets), RNG.standard_normal((n_assets, 3))
    row[0] = np.nan if gap else 0.0
    x = like(row, n_dates, n_assets)
    return lambda: kernel(x, w) if gap else kernel(x, np.zeros(n_assets), w)


def windows(kernel, n_dates, n_assets, width):
    x = RNG.standard_normal((n_dates, n_assets))
    spans = [(start, start + width) for start in range(n_dates - width)]
    return lambda: kernel(x, 2, spans).loadings


def instrumented(**sizes):
    found = moments(**sizes)
    return lambda: kernels.ipca(found, 3, tol=1e-15, max_iter=10_000).gamma


def factor_step(**sizes):
    found = moments(**sizes)
    gamma = np.linalg.qr(RNG.standard_normal((found.cross.shape[1], 3)))[0]
    return lambda: kernels.ipca_factors(found, gamma)


def measures(**sizes):
    found = moments(**sizes)
    gamma = RNG.standard_normal((found.cross.shape[1], 3))
    factors = RNG.standard_normal((len(found.cross), 3))
    return lambda: np.array(kernels.ipca_fit_measures(found, gamma, factors).total)


def draws(n):
    found = moments(n_chars=10)
    gamma = kernels.ipca(found, 2).gamma
    weights = np.zeros_like(gamma)
    weights[1] = 1.0
    return lambda: kernels.ipca_bootstrap(found, gamma, weights, draws=range(n))


def noise(n):
    return lambda: kernels.ipca_bootstrap_noise(500, draws=range(n))[0]


def contributions(**sizes):
    found = moments(**sizes)
    gamma = kernels.ipca(found, 2).gamma
    return lambda: kernels.ipca_influence(found, gamma)


def books(n_dates, n_assets):
    scores = like(RNG.standard_normal(n_assets), 1, n_dates, n_assets)
    groups = np.arange(n_assets) % 7, 0.2
    return lambda: kernels.normalize_weights(scores, gross=1.0, net=0.0, cap=0.1, groups=groups)


def walk(n_dates, n_assets):
    wanted = RNG.standard_normal((1, n_dates, n_assets))
    wanted -= wanted.mean(axis=2, keepdims=True)
    wanted /= np.abs(wanted).sum(axis=2, keepdims=True)
    limits = 1.0, 0.0, None
    return lambda: kernels.walk_within_turnover(wanted, limits=limits, turnover_limit=0.1)


#: By kernel: a call that takes long, and one that does not. Every kernel is here, or below.
CALLS = {
    "panel_moments": (lambda: a_moment_pass(500, 20_000, 100), lambda: a_moment_pass(3, 20, 4)),
    "row_moments": (lambda: a_row_pass(6_000_000, 80), lambda: a_row_pass(50, 4)),
    "managed_portfolios": (lambda: portfolios(500, 20_000, 90), lambda: portfolios(3, 20, 4)),
    "average_ranks": (lambda: ranks(4_000, 3_000), lambda: ranks(3, 20)),
    "cross_sectional_correlation": (
        lambda: correlations(30_000, 3_000),
        lambda: correlations(3, 20),
    ),
    "pca": (
        lambda: components(kernels.pca, 2_000, 2_100),
        lambda: components(kernels.pca, 30, 10),
    ),
    "rp_pca": (
        lambda: components(kernels.rp_pca, 1_500, 1_600, gamma=-3.0),
        lambda: components(kernels.rp_pca, 30, 10),
    ),
    "project_pca": (
        lambda: projection(kernels.project_pca, 200_000, 4_000),
        lambda: projection(kernels.project_pca, 20, 10),
    ),
    "project_rp_pca": (
        lambda: projection(kernels.project_rp_pca, 60_000, 4_000, gap=True),
        lambda: projection(kernels.project_rp_pca, 20, 10, gap=True),
    ),
    "rolling_pca": (
        lambda: windows(kernels.rolling_pca, 1_500, 300, 500),
        lambda: windows(kernels.rolling_pca, 30, 10, 20),
    ),
    "rolling_rp_pca": (
        lambda: windows(kernels.rolling_rp_pca, 1_500, 300, 500),
        lambda: windows(kernels.rolling_rp_pca, 30, 10, 20),
    ),
    "ipca": (lambda: instrumented(n_chars=120), lambda: instrumented(n_chars=4)),
    "ipca_factors": (lambda: factor_step(n_dates=300), lambda: factor_step(n_chars=4)),
    "ipca_fit_measures": (lambda: measures(n_dates=300), lambda: measures(n_chars=4)),
    "ipca_bootstrap": (lambda: draws(200_000), lambda: draws(3)),
    "ipca_bootstrap_noise": (lambda: noise(10_000), lambda: noise(3)),
    "ipca_influence": (lambda: contributions(n_dates=400), lambda: contributions(n_chars=4)),
    "normalize_weights": (lambda: books(8_000, 300), lambda: books(3, 30)),
    "walk_within_turnover": (lambda: walk(3_000, 300), lambda: walk(3, 30)),
}
#: Kernels that read each byte once, and functions that compute nothing.
BRIEF = {"content_digest", "get_num_threads", "set_num_threads"}


def test_every_kernel_has_a_call_here():
    functions = {
        name
        for name in kernels.__all__
        if callable(getattr(kernels, name)) and not inspect.isclass(getattr(kernels, name))
    }
    assert functions == CALLS.keys() | BRIEF


def work_and_wait(work):
    work()
    # It was done before the signal came.
    time.sleep(60.0)


def interrupted_after(seconds, work):
    """Seconds from Ctrl-C to the exception."""
    sent = []

    def send():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer, before = threading.Timer(seconds, send), signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            work_and_wait(work)
        return time.monotonic() - sent[0]
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("name", CALLS)
def test_a_kernel_stops_on_ctrl_c_and_gives_the_same_bits_after(name):
    long, short = CALLS[name][0](), CALLS[name][1]()
    want = np.asarray(short()).tobytes()
    assert interrupted_after(0.15, long) < SOON
    assert np.asarray(short()).tobytes() == want


class RaisedError(Exception):
    pass


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_what_a_signal_handler_raises_ends_the_kernel():
    def handler(*_):
        raise RaisedError("stop")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(RaisedError, match="stop"):
            walk(3_000, 300)()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_kernel_of_another_thread_goes_on():
    call = a_moment_pass(60, 5_000, 60)
    want, got = call().tobytes(), []
    other = threading.Thread(target=lambda: got.extend(call().tobytes() for _ in range(4)))
    other.start()
    interrupted_after(0.05, a_moment_pass(500, 20_000, 100))
    other.join()
    assert got == [want] * 4


def warm_walk():
    x = m.PersistentPanelBatch(0.02 * RNG.standard_normal((1_500, 300)))
    model = m.PCAModel(m.PCAConfig(n_factors=5))
    model.fit(x)
    return model, lambda: m.WalkForward(model, min_periods=500, window=500).run(x)


def ipca_model():
    z, r = RNG.standard_normal((60, 200, 20)), RNG.standard_normal((60, 200))
    model = m.IPCAModel(m.IPCAConfig(n_factors=3, intercept=True))
    batch = m.CrossSectionBatch(z, returns=r)
    model.fit(batch)
    return model, batch


def bootstrap_test():
    model, _ = ipca_model()
    return model, lambda: model.test_alpha(n_draws=100_000)


def path_of_penalties():
    model, batch = ipca_model()
    return model, lambda: model.penalty_path(batch, penalties=200, n_folds=10)


def large_refit():
    model, _ = ipca_model()
    z, r = RNG.standard_normal((100, 500, 300)), RNG.standard_normal((100, 500))
    return model, lambda: model.fit(m.CrossSectionBatch(z, returns=r))


def regimes():
    state = m.LatentFactorState(np.ones((5_000, 1, 3)), 0.01 * RNG.standard_normal((5_000, 3)))
    mapper = m.RegimeSwitchingMapper(m.RegimeSwitchingMapperConfig(n_regimes=4, tol=1e-15))
    short = m.LatentFactorState(state.asset_betas[:50], state.factor_returns[:50])
    mapper.fit(short)
    return mapper, lambda: mapper.fit(state)


def long_frame(n_dates=400, n_assets=3_000):
    n_rows = n_dates * n_assets
    columns = {f"x{i}": RNG.random(n_rows) for i in range(12)}
    dates = np.repeat(np.arange(n_dates), n_assets)
    return pl.DataFrame({"date": dates, "ret": RNG.standard_normal(n_rows)} | columns)


def scanned(frame, **options):
    names = [name for name in frame.columns if name.startswith("x")]
    keys = {"return_col": "ret", "timestamp_col": "date"}
    return m.CharacteristicMoments.scan(frame, feature_cols=names, rank=True, **keys, **options)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_scan_stops_on_ctrl_c_and_gives_the_same_bits_after(workers):
    frame = long_frame()
    want = scanned(frame.head(60_000))
    with ThreadPoolExecutor(2) as pool:
        options = {"executor": pool} if workers else {}
        assert interrupted_after(0.1, lambda: scanned(frame, **options)) < SOON
        assert scanned(frame.head(60_000), **options) == want


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_walk_by_workers_stops_on_ctrl_c_and_keeps_the_model():
    x = m.PersistentPanelBatch(0.02 * RNG.standard_normal((1_500, 300)))
    model = m.PCAModel(m.PCAConfig(n_factors=5))
    with ThreadPoolExecutor(2) as pool:
        walk = m.WalkForward(model, min_periods=500, window=500, executor=pool)
        assert interrupted_after(0.3, lambda: walk.run(x)) < SOON
    assert not model.is_fitted


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(
    "begin", [regimes, warm_walk, bootstrap_test, path_of_penalties, large_refit]
)
def test_a_long_loop_stops_on_ctrl_c_and_keeps_the_fit(begin):
    model, work = begin()
    before = model._state
    assert interrupted_after(0.3, work) < SOON
    assert model._state is before


def in_child(script, limit_gib=None):
    """Run Python apart; with a limit on the memory that it may address."""
    head = "import numpy as np, ml4t.models as m\nfrom ml4t.models import kernels\n"
    if limit_gib is not None:
        head += (
            "import resource\n"
            "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
            f"limit = used + int({limit_gib} * 2**30)\n"
            "kernels.panel_moments(np.ones((2, 5, 1)), np.ones((2, 5)))\n"
            "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        )
    done = subprocess.run(
        [sys.executable, "-c", head + script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ML4T_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_swapped_axes_are_a_memory_error_that_says_so():
    got = in_child(
        "z = np.broadcast_to(np.float32(.5), (600, 94, 60000))\n"
        "r = np.broadcast_to(np.float32(.01), (600, 94))\n"
        "model = m.IPCAModel(m.IPCAConfig(n_factors=3))\n"
        "try: model.fit(m.CrossSectionBatch(z, returns=r))\n"
        "except MemoryError as error: print(error, model.is_fitted)\n"
    )
    assert "gram of shape [600, 1800090001]" in got
    assert "[600, 94, 60000]: are the axes swapped? False" in got


#: Inputs of one row's memory, results that no machine has room for.
HUGE = {
    "panel_moments": "kernels.panel_moments(b(1., 10**6, 5, 10**5), b(1., 10**6, 5))",
    "row_moments": "kernels.row_moments(b(1., 9, 10**7), b(1., 9), np.array([0, 9]))",
    "managed_portfolios": "kernels.managed_portfolios(b(1., 9, 9, 10**7), b(1., 9, 9))",
    "average_ranks": "kernels.average_ranks(b(1., 10**6, 10**6, 10))",
    "cross_sectional_correlation": "kernels.cross_sectional_correlation(b(1., 9, 10**13), "
    "b(1., 9, 10**13))",
    "project_pca": "kernels.project_pca(b(1., 10**13, 1), b(1., 1), b(1., 1, 1))",
    "project_rp_pca": "kernels.project_rp_pca(b(1., 10**13, 1), b(1., 1, 1))",
    "ipca_bootstrap_noise": "kernels.ipca_bootstrap_noise(10**7, draws=range(10**7))",
    "normalize_weights": "kernels.normalize_weights(b(1., 10**5, 10**5, 10**3), gross=1., net=0.)",
    "walk_within_turnover": "kernels.walk_within_turnover(b(0., 10**5, 10**5, 10**3), "
    "limits=(1., 0., None), turnover_limit=.1)",
}


@pytest.mark.parametrize("name", HUGE)
def test_what_cannot_be_allocated_is_a_memory_error_by_name(name):
    got = in_child(
        "b = lambda value, *shape: np.broadcast_to(np.float64(value), shape)\n"
        f"try: {HUGE[name]}\n"
        "except MemoryError as error: print(error)\n"
        "print(kernels.average_ranks(np.ones((1, 2, 1))).ravel())\n"
    )
    assert "allocate" in got
    assert "shape" in got
    assert got.endswith("[1.5 1.5]\n")


#: Inputs that fit, work that does not fit under a limit of a few hundred megabytes.
LIMITED = {
    "pca": "kernels.pca(x, 3)",
    "rp_pca": "kernels.rp_pca(x, 3, gamma=-3.0)",
    "rp_pca of gaps": "kernels.rp_pca(np.where(x > 3, np.nan, x), 3)",
    "rolling_pca": "kernels.rolling_pca(x[:, :2000], 3, [(0, 2000)] * 2000)",
    "rolling_rp_pca": "kernels.rolling_rp_pca(x[:, :2000], 3, [(0, 2000)] * 2000)",
    "ipca": "kernels.ipca(mo, 3)",
    "ipca_factors": "kernels.ipca_factors(mo, np.ones((300, 40)))",
    "ipca_fit_measures": "kernels.ipca_fit_measures(mo, np.ones((300, 10**5)), f)",
    "ipca_bootstrap": "kernels.ipca_bootstrap(mo, np.eye(300, 3), np.ones((300, 3)))",
    "ipca_influence": "kernels.ipca_influence(mo, np.eye(300, 3))",
}
DATA = (
    "x = np.random.default_rng(0).standard_normal((3000, 4000))\n"
    "pairs = 300 * 301 // 2\n"
    "eye = np.eye(300)[np.triu_indices(300)]\n"
    "b = np.broadcast_to\n"
    "mo = kernels.Moments(n_assets=np.full(1000, 500, np.uint32), gram=b(eye, (1000, pairs)), "
    "cross=b(np.ones(300), (1000, 300)), return_squares=np.ones(1000))\n"
    "f = b(np.ones(10**5), (1000, 10**5))\n"
)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits of Linux")
@pytest.mark.parametrize("name", LIMITED)
def test_under_a_limit_a_kernel_raises_and_the_process_goes_on(name):
    got = in_child(
        DATA + f"try: {LIMITED[name]}\n"
        "except MemoryError as error: print(error)\n"
        "print(kernels.average_ranks(np.ones((1, 2, 1))).ravel())\n",
        limit_gib=0.35,
    )
    assert "allocate" in got, got
    assert got.endswith("[1.5 1.5]\n")
