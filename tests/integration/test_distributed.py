"""Moments by a Dask cluster: worker processes, started fresh."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from integration.test_scan import sample_frame, scan
from ml4t.models import CharacteristicMoments
from ml4t.models.moments import blocks as sources

distributed = pytest.importorskip("distributed")

pytestmark = [
    pytest.mark.slow,
    # The cluster's own: ports in use, slow starts, sockets closed at the end.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def client():
    """Two worker processes; Dask spawns them, so nothing is inherited by fork."""
    settings = {
        "distributed.worker.multiprocessing-method": "spawn",
        "distributed.admin.log-format": "%(message)s",
        "logging.distributed": "critical",
    }
    dask = pytest.importorskip("dask")
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Five files whose ends cut dates, in blocks of at most 16 rows."""
    frame = sample_frame(n_dates=20, n_assets=9)
    monkeypatch.setattr(sources, "BLOCK_BYTES", 8 * frame.width * 16)
    for i, first in enumerate(range(0, frame.height, 40)):
        frame.slice(first, 40).write_parquet(tmp_path / f"{i}.parquet")
    return tmp_path


@pytest.mark.parametrize("rank", [False, True])
def test_a_cluster_gives_the_bits_of_one_machine(client, files, rank):
    alone = scan(files, ["c0", "c1"], rank=rank)
    assert scan(files, ["c0", "c1"], rank=rank, executor=client) == alone


def test_a_worker_that_dies_changes_nothing(client, files, monkeypatch):
    alone = scan(files, ["c0", "c1"])
    victims = list(client.run(os.getpid).values())
    killer = threading.Timer(0.5, os.kill, (victims[0], signal.SIGKILL))
    killer.start()
    got = CharacteristicMoments.scan(
        files, feature_cols=["c0", "c1"], return_col="ret", executor=_Slowly(client)
    )
    killer.join()
    assert got == alone
    deadline = time.monotonic() + 30
    while victims[0] in list(client.run(os.getpid).values()):
        assert time.monotonic() < deadline
        time.sleep(0.1)


class _Slowly:
    """A client whose tasks take long enough to be killed in the middle."""

    def __init__(self, client):
        self._client = client

    def submit(self, function, *arguments):
        def slowly(*arguments):  # travels by value: workers cannot import this file
            time.sleep(0.2)
            return function(*arguments)

        return self._client.submit(slowly, *arguments)
