"""Bootstrap p-values beside PyPI `ipca` on the same panel.

The bench holds the panel and the peer's process; there both draw more often, and are timed.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ipca", reason="needs PyPI ipca")

BENCHES = Path(__file__).parents[2] / "benches/python"
N_FACTORS, PEER_DRAWS = 2, 200


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHES))
        yield import_module("bench_bootstrap")


@pytest.mark.parametrize("test", ["alpha", "3", "delta"])
def test_p_values_agree_within_the_error_of_the_draws(bench, test):
    sizes = {"noise": 0.03, "alpha": 0.003, "observed": 0.1, "silent": 1}
    batch, g = bench.panel((60, 40, 3), N_FACTORS, seed=11, **sizes)
    peer = bench.run_peer(sys.executable, batch, g, N_FACTORS, PEER_DRAWS, test)["p_value"]
    p_value, _ = bench.ours(batch, g, test, 20 * PEER_DRAWS, N_FACTORS)
    assert 0.05 < p_value < 0.95  # so that there is something to agree on
    error = np.sqrt(p_value * (1 - p_value) * (1 + 1 / 20) / PEER_DRAWS)
    assert abs(peer - p_value) < 4 * error
