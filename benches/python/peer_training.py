"""Time fits of the installed ml4t-models 0.1.x in its own interpreter; `bench_training.py` runs it.

The panel comes as one .npz file of the fields of a `CrossSectionBatch`. What a fit costs besides
its epochs is taken out: the time of an epoch is the difference of two fits of unlike length.

Usage: PEER-PYTHON peer_training.py PANEL.npz CASE, a JSON object of `model` (name of the class),
`config` (its settings) and `epochs` (settings that count the epochs of one unit of time).
"""

from __future__ import annotations

import json
import os
import sys
import time

for _pool in ("OPENBLAS_NUM", "MKL_NUM", "OMP_NUM"):
    os.environ[f"{_pool}_THREADS"] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402

from ml4t import models  # noqa: E402

SHORT, LONG = 1, 3
N_RUNS = 2


def seconds(batch, case, times):
    """CPU time of a fit of `times` units."""
    name = case["model"]
    epochs = {key: count * times for key, count in case["epochs"].items()}
    config = getattr(models, name.replace("Model", "Config"))(**case["config"], **epochs)
    model = getattr(models, name)(config)
    start = time.process_time()
    model.fit(batch)
    return time.process_time() - start


def main(path, case):
    torch.set_num_threads(1)
    case = json.loads(case)
    with np.load(path) as file:
        batch = models.CrossSectionBatch(**file)
    seconds(batch, case, SHORT)  # the first optimizer imports seconds of machinery
    short, long = (
        min(seconds(batch, case, times) for _ in range(N_RUNS)) for times in (SHORT, LONG)
    )
    print(json.dumps((long - short) / (LONG - SHORT)))


if __name__ == "__main__":
    main(*sys.argv[1:])
