"""Bootstrap p-values of PyPI `ipca` in an interpreter of its own; `bench_bootstrap.py` runs it.

The panel comes as one .npz file of flat rows: `z` (rows, P) with the constant first, `r` (rows,),
`date` (rows,), `asset` (rows,), `g` (T,) an observed factor.

Usage: PEER-PYTHON peer_bootstrap.py PANEL.npz N_FACTORS N_DRAWS TEST, with TEST one of alpha, a
column of z, and delta; prints JSON.
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


def trace_of_scalars():
    """Let the peer take traces of numbers, as it does and as NumPy once allowed."""
    trace = np.trace
    np.trace = lambda a, *rest, **options: (
        np.asarray(a).item() if np.ndim(a) == 0 else trace(a, *rest, **options)
    )


def main(path, n_factors, n_draws, test):
    pd, peer = importlib.import_module("pandas"), importlib.import_module("ipca")
    with np.load(path) as file:
        panel = dict(file)
    index = pd.MultiIndex.from_arrays([panel["asset"], panel["date"]], names=["asset", "date"])
    x, y = pd.DataFrame(panel["z"], index=index), pd.Series(panel["r"], index=index)
    np.random.seed(0)  # noqa: NPY002 - the peer draws from the global generator
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        model = peer.InstrumentedPCA(int(n_factors), intercept=test == "alpha", iter_tol=1e-6)
        factor = {"PSF": panel["g"][None]} if test == "delta" else {}
        model = model.fit(X=x, y=y, data_type="panel", **factor)
        run = {
            "alpha": lambda n: model.BS_Walpha(ndraws=n),
            "delta": lambda n: model.BS_Wdelta(ndraws=n),
        }.get(test, lambda n: model.BS_Wbeta(int(test), ndraws=n))
        trace_of_scalars()
        run(2)  # compile outside the clock
        start = time.process_time()
        p_value = run(int(n_draws))
        seconds = time.process_time() - start
    print(json.dumps({"cpu": seconds, "p_value": float(p_value)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
