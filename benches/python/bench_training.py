"""Training epochs of CAE, SDF and SAE against plain PyTorch loops and ml4t-models 0.1.x.

The twins are the loops of `tests/oracles`: the panel expanded to observations, one member at a
time, `nn` layers, `nn.Dropout`, frozen networks run again in every epoch. Same network, same data,
same number of updates; tests/properties hold both to the same loss curves (dropout off). The
installed 0.1.x trains the same sizes on the same panel in an interpreter of its own.

Usage: python benches/python/bench_training.py [--peer-python PATH] [cae sdf sae]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import measure  # first: it pins the thread pools
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from ml4t.models import CAEConfig, CrossSectionBatch, SAEConfig, StochasticDiscountFactorConfig
from ml4t.models.asset_prediction.sae import net as sae_net
from ml4t.models.asset_prediction.sae import sample as sae_sample
from ml4t.models.asset_prediction.sae import train as own_sae
from ml4t.models.latent_factors.cae import sample as cae_sample
from ml4t.models.latent_factors.cae import train as own_cae
from ml4t.models.stochastic_discount_factor import model as sdf_model
from ml4t.models.stochastic_discount_factor import train as phases
from oracles import cae as plain_cae
from oracles import sae as plain_sae
from oracles import sdf as plain_sdf

DTYPES = {"float64": torch.float64, "float32": torch.float32}
N_CONTEXT = 8
FIELDS = ("characteristics", "returns", "mask", "context_features")


def batch(n_dates, n_assets, n_chars):
    rng = np.random.default_rng(0)
    z = rng.uniform(-1, 1, (n_dates, n_assets, n_chars))
    factors = rng.normal(0.01, 0.05, (n_dates, 3))
    r = np.einsum("tnk,tk->tn", z[..., :3], factors)
    r += 0.1 * rng.standard_normal(r.shape)
    mask = rng.random(r.shape) < 0.9
    context = rng.standard_normal((n_dates, N_CONTEXT))
    return CrossSectionBatch(z, returns=r, mask=mask, context_features=context)


def tensors(dtype, *arrays):
    return [torch.from_numpy(np.array(a)).to(DTYPES[dtype]) for a in arrays]


class Installed:
    """Fits of 0.1.x by the interpreter at `python`; NaN without one."""

    def __init__(self, python):
        self.python = python

    def epoch(self, panel, model, config, **epochs):
        """CPU seconds of as many epochs as told by name."""
        if self.python is None:
            return float("nan")
        case = json.dumps({"model": model, "config": config, "epochs": epochs})
        script = Path(__file__).with_name("peer_training.py")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "panel.npz"
            np.savez(path, **{name: getattr(panel, name) for name in FIELDS})
            command = [self.python, str(script), str(path), case]
            alone = {**os.environ, "PYTHONPATH": ""}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=alone)
        return float(json.loads(done.stdout))


def row(case, dtype, timings, installed, *, members=1, epochs=1):
    """Milliseconds of one member and epoch, and how many times ours the others take."""
    own = timings["ours"].cpu / epochs / members
    twin = timings["twin"].cpu / epochs
    return case, dtype, own * 1e3, twin * 1e3, twin / own, installed * 1e3, installed / own


def bench_cae(dtype, peer):
    panel, epochs = batch(60, 1_000, 50), 8
    settings = {"n_factors": 5, "dtype": dtype, "checkpoint_interval": None}
    rows, inputs = cae_sample.training_sample(panel, CAEConfig(**settings), "bench")
    cells = rows.cells
    z, x, y = tensors(dtype, cells.characteristics[:, :-1], inputs[cells.dates], rows.targets)

    def ours(n_ensemble):
        config = CAEConfig(**settings, n_epochs=epochs, n_ensemble=n_ensemble)
        own_cae.learn(config, rows, inputs, None, patience=1)

    def twin():
        net = plain_cae.PlainCAE(z.shape[1], x.shape[1], (32,), 5).to(z.dtype)
        orders = (torch.randperm(len(y)) for _ in range(epochs))
        plain_cae.train(net, z, x, y, orders=orders, batch_size=10_000, lr=1e-3, l1=1e-4)

    case = f"R{len(y)} L50 K5 hidden 32"
    for members in (1, 10):
        timings = measure.compare(
            {"ours": partial(ours, members), "twin": twin}, min_runs=3, budget=6.0
        )
        more = 8 if members == 1 else 2  # long enough for the clock
        given = {**settings, "n_ensemble": members}
        installed = peer.epoch(panel, "CAEModel", given, n_epochs=more) / more
        name = f"{case}, {members} member(s)"
        yield row(name, dtype, timings, installed / members, members=members, epochs=epochs)


def bench_sdf(dtype, peer):
    panel, counts = batch(60, 800, 46), (4, 1, 16)
    named = dict(zip(("n_epochs_unc", "n_epochs_moment", "n_epochs_cond"), counts, strict=True))
    config = StochasticDiscountFactorConfig(**named, dtype=dtype)
    data = phases.panel(config, sdf_model._sample(panel, "timestamps", dtype, "bench"))
    z, r, context = tensors(dtype, panel.characteristics, panel.returns, panel.context_features)
    mask = torch.from_numpy(np.array(panel.mask))

    def ours():
        phases.learn(config, data, None, patience=None)

    def twin():
        weights = plain_sdf.PlainWeights(46, N_CONTEXT, 4, 64, 0.05).to(z.dtype)
        moments = plain_sdf.PlainMoments(46, N_CONTEXT, 32, 8, 0.05).to(z.dtype)
        plain_sdf.train(weights, moments, z, r, mask, context, epochs=counts, lr=1e-3)

    timings = measure.compare({"ours": ours, "twin": twin}, min_runs=2, budget=6.0)
    case = f"R{len(data.returns)} L46 Q8, three phases 4:1:16"
    name, epochs = "StochasticDiscountFactorModel", sum(counts)
    installed = peer.epoch(panel, name, {"dtype": dtype}, **named)
    yield row(case, dtype, timings, installed / epochs, epochs=epochs)


def products(dtype, n_rows):
    """The matrix products of one SAE epoch and nothing else: the least that any loop can take."""
    pairs = [(50, 96), (96, 50), (50, 96), (146, 896), (896, 448), (448, 448), (448, 256)]

    def random(n_units):
        # Units begin at cache lines, as the products like it best.
        step = -(-n_rows // 16) * 16
        return torch.randn(n_units, step, dtype=DTYPES[dtype])[:, :n_rows]

    layers = [
        (torch.randn(n_out, n_in, dtype=DTYPES[dtype]), random(n_in), random(n_out))
        for n_in, n_out in pairs
    ]
    spare = [(random(len(x)), random(len(y))) for _, x, y in layers]

    def run():
        for (w, x, y), (by_x, out) in zip(layers, spare, strict=True):
            torch.mm(w, x, out=out)
            torch.mm(y, x.T)
            torch.mm(w.T, y, out=by_x)

    return run


def bench_sae(dtype, peer):
    panel, epochs = batch(20, 500, 50), 2
    for batch_size in (4_096, None):
        settings = {"dtype": dtype, "batch_size": batch_size, "checkpoint_interval": None}
        config = SAEConfig(**settings, n_epochs=epochs)
        rows = sae_sample.training_sample(panel, config, "bench")
        x, y = tensors(dtype, rows.cells.characteristics, rows.targets)

        def ours(config=config, rows=rows):
            own_sae.learn(config, rows, None)

        def twin(x=x, y=y, size=batch_size):
            net = plain_sae.PlainSAE(
                50, 96, 96, (896, 448, 448, 256), 1, sae_net.PUBLISHED_RATES, 0.035
            ).to(x.dtype)
            orders = (torch.randperm(len(y)) for _ in range(epochs))
            plain_sae.train(net, x, y, orders=orders, batch_size=size or len(y), lr=1e-4)

        contestants = {"ours": ours, "twin": twin, "products": products(dtype, len(y))}
        timings = measure.compare(contestants, min_runs=2, budget=6.0)
        case = f"R{len(y)} L50, batches of {batch_size or 'all'}"
        installed = peer.epoch(panel, "SAEModel", settings, n_epochs=1)
        floor = timings["products"].cpu * 1e3
        yield (*row(case, dtype, timings, installed, epochs=epochs), floor)


BENCHES = {"cae": bench_cae, "sdf": bench_sdf, "sae": bench_sae}
NOTES = {
    "cae": "CPU ms per epoch and member; others train one member at a time.",
    "sdf": "CPU ms, mean over the epochs of the three phases.",
    "sae": "CPU ms per epoch. Products: the matrix products of an epoch alone, which all of them "
    "do, at the rate of the BLAS; no loop of the same network takes less.",
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", choices=list(BENCHES), default=list(BENCHES))
    parser.add_argument("--peer-python", help="an interpreter with ml4t-models 0.1.x and PyTorch")
    given = parser.parse_args()
    measure.require_release_build()
    torch.set_num_threads(1)
    peer = Installed(given.peer_python)
    for name in given.names:
        with measure.single_thread():
            rows = [line for dtype in DTYPES for line in BENCHES[name](dtype, peer)]
        columns = ["case", "type", "ours ms", "plain loop ms", "x ours", "0.1.5 ms", "x ours"]
        columns += ["products ms"] if name == "sae" else []
        note = f"{NOTES[name]} Tests hold ours and the plain loop to the same loss curves."
        measure.report(f"training of {name.upper()}", columns, rows, note=note)


if __name__ == "__main__":
    main()
