"""Time a public IPCA in an interpreter of its own; `bench_ipca.py` runs it, results as JSON.

The panel comes as one .npz file of flat rows: `z` (rows, P) with the constant first, `r` (rows,),
`date` (rows,), `asset` (rows,).

Usage: PEER-PYTHON peer_ipca.py PEER PANEL.npz N_FACTORS MAX_ITER N_RUNS
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
import time
import warnings

import numpy as np


def pypi_ipca(panel, n_factors, max_iter):
    """PyPI `ipca` with its panel regressions."""
    pd, peer = importlib.import_module("pandas"), importlib.import_module("ipca")
    index = pd.MultiIndex.from_arrays([panel["asset"], panel["date"]], names=["asset", "date"])
    x, y = pd.DataFrame(panel["z"], index=index), pd.Series(panel["r"], index=index)

    def run():
        model = peer.InstrumentedPCA(n_factors=n_factors, iter_tol=1e-6, max_iter=max_iter)
        model = model.fit(X=x, y=y, data_type="panel")
        return np.asarray(model.get_factors(label_ind=False)[0])

    return run


def ml4t_models_0_1(panel, n_factors, max_iter):
    """ml4t-models 0.1.x, which adds the constant itself."""
    peer = importlib.import_module("ml4t.models")
    dates, date = np.unique(panel["date"], return_inverse=True)
    assets, asset = np.unique(panel["asset"], return_inverse=True)
    z = np.full((len(dates), len(assets), panel["z"].shape[1] - 1), np.nan)
    r = np.full(z.shape[:2], np.nan)
    z[date, asset], r[date, asset] = panel["z"][:, 1:], panel["r"]
    batch = peer.CrossSectionBatch(characteristics=z, returns=r)
    config = peer.IPCAConfig(n_factors=n_factors, max_iter=max_iter, tol=1e-6)

    def run():
        model = peer.IPCAModel(config)
        model.fit(batch)
        return np.asarray(model.gamma)

    return run


PEERS = {"ipca": pypi_ipca, "ml4t-models 0.1": ml4t_models_0_1}


def main(peer, path, n_factors, max_iter, n_runs):
    with np.load(path) as file:
        panel = dict(file)
    run = PEERS[peer](panel, int(n_factors), int(max_iter))
    seconds = []
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if int(n_runs) > 1:
            run()  # compile and import outside the clock
        for _ in range(int(n_runs)):
            start = time.process_time()
            gamma = run()
            seconds.append(time.process_time() - start)
    print(json.dumps({"cpu": min(seconds), "gamma": gamma.tolist()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
