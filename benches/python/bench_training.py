"""Training epochs of CAE, SDF and SAE against plain PyTorch loops.

The twins are the loops of `tests/oracles`: the panel expanded to observations, one member at a
time, `nn` layers, `nn.Dropout`, frozen networks run again in every epoch. Same network, same data,
same number of updates; tests/properties hold both to the same loss curves (dropout off).

Usage: python benches/python/bench_training.py [cae sdf sae]
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import measure  # first: it pins the thread pools
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from ml4t.models import CAEConfig, CrossSectionBatch, SAEConfig, StochasticDiscountFactorConfig
from ml4t.models.asset_prediction.sae import estimate as own_sae
from ml4t.models.asset_prediction.sae import net as sae_net
from ml4t.models.asset_prediction.sae import sample as sae_sample
from ml4t.models.latent_factors.cae import estimate as own_cae
from ml4t.models.latent_factors.cae import sample as cae_sample
from ml4t.models.stochastic_discount_factor import cells, phases
from oracles import cae as plain_cae
from oracles import sae as plain_sae
from oracles import sdf as plain_sdf

DTYPES = {"float64": torch.float64, "float32": torch.float32}
N_CONTEXT = 8


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


def row(model, case, dtype, timings, members=1, epochs=1):
    own = timings["ours"].cpu / epochs / members
    twin = timings["twin"].cpu / epochs
    return model, case, dtype, own * 1e3, twin * 1e3, twin / own


def bench_cae(dtype):
    panel, epochs = batch(60, 1_000, 50), 8
    config = CAEConfig(n_factors=5, n_epochs=epochs, dtype=dtype, checkpoint_interval=None)
    rows, inputs = cae_sample.prepared(panel, config, "bench")
    z, x, y = tensors(dtype, rows.design[:, :-1], inputs[rows.dates], rows.targets)

    def ours(n_ensemble):
        many = CAEConfig(
            n_factors=5,
            n_epochs=epochs,
            dtype=dtype,
            checkpoint_interval=None,
            n_ensemble=n_ensemble,
        )
        own_cae.learn(many, rows, inputs, None, patience=1)

    def twin():
        net = plain_cae.PlainCAE(z.shape[1], x.shape[1], (32,), 5).to(z.dtype)
        orders = (torch.randperm(len(y)) for _ in range(epochs))
        plain_cae.train(net, z, x, y, orders=orders, batch_size=10_000, lr=1e-3, l1=1e-4)

    case = f"R{len(y)} L50 K5 hidden 32"
    for members in (1, 10):
        timings = measure.compare(
            {"ours": partial(ours, members), "twin": twin}, min_runs=3, budget=6.0
        )
        yield row("CAE", f"{case}, {members} member(s)", dtype, timings, members, epochs)


def bench_sdf(dtype):
    panel, epochs = batch(60, 800, 46), (4, 1, 16)
    config = StochasticDiscountFactorConfig(
        n_epochs_unc=epochs[0],
        n_epochs_moment=epochs[1],
        n_epochs_cond=epochs[2],
        dtype=dtype,
        checkpoint_epochs=(),
    )
    data = phases.panel(config, cells.training(panel, dtype, "bench", "bench"))
    z, r, context = tensors(dtype, panel.characteristics, panel.returns, panel.context_features)
    mask = torch.from_numpy(np.array(panel.mask))

    def ours():
        phases.learn(config, data, None, patience=None)

    def twin():
        weights = plain_sdf.PlainWeights(46, N_CONTEXT, 4, 64, 0.05).to(z.dtype)
        moments = plain_sdf.PlainMoments(46, N_CONTEXT, 32, 8, 0.05).to(z.dtype)
        plain_sdf.train(weights, moments, z, r, mask, context, epochs=epochs, lr=1e-3)

    timings = measure.compare({"ours": ours, "twin": twin}, min_runs=2, budget=6.0)
    case = f"R{len(data.returns)} L46 Q8, three phases 4:1:16"
    yield row("SDF", case, dtype, timings, epochs=sum(epochs))


def bench_sae(dtype):
    panel, epochs = batch(20, 500, 50), 2
    for batch_size in (4_096, None):
        config = SAEConfig(n_epochs=epochs, dtype=dtype, batch_size=batch_size)
        rows = sae_sample.rows_of(panel, config, "bench")
        x, y = tensors(dtype, rows.features, rows.targets)

        def ours(config=config, rows=rows):
            own_sae.learn(config, rows, None)

        def twin(x=x, y=y, size=batch_size):
            net = plain_sae.PlainSAE(
                50, 96, 96, (896, 448, 448, 256), 1, sae_net.PUBLISHED_RATES, 0.035
            ).to(x.dtype)
            orders = (torch.randperm(len(y)) for _ in range(epochs))
            plain_sae.train(net, x, y, orders=orders, batch_size=size or len(y), lr=1e-4)

        timings = measure.compare({"ours": ours, "twin": twin}, min_runs=2, budget=6.0)
        case = f"R{len(y)} L50, batches of {batch_size or 'all'}"
        yield row("SAE", case, dtype, timings, epochs=epochs)


def main():
    measure.require_release_build()
    torch.set_num_threads(1)
    benches = {"cae": bench_cae, "sdf": bench_sdf, "sae": bench_sae}
    asked = sys.argv[1:] or list(benches)
    with measure.single_thread():
        rows = [line for name in asked for dtype in DTYPES for line in benches[name](dtype)]
    measure.report(
        "training",
        ["model", "case", "type", "ours ms", "plain loop ms", "ratio"],
        rows,
        note="CPU ms per epoch and member (SDF: mean over the epochs of its three phases); the "
        "plain loop trains one member at a time. Tests hold both to the same loss curves. Three "
        "quarters of SAE's time are matrix products that both do, at the rate of the BLAS.",
    )


if __name__ == "__main__":
    main()
