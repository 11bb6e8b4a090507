"""One training step of the portfolio policies against the plain PyTorch loop.

Same network, parameters, data and dropout. The plain loop embeds every feature on its own
(a tensor of B T N F d numbers), carries the context through every cell, uses torch dropout and
attention with weights, and passes all windows at once; it is what the formulas say, written down.
The last column is the plain network in pieces of windows that the cache holds, as ours runs.

Usage: python benches/python/bench_portfolio.py
"""

from __future__ import annotations

import measure  # first: it pins the thread pools
import numpy as np
import torch
import torch.nn.functional as fn

from ml4t.models import PortfolioSequenceBatch
from ml4t.models.configs import DeepPortfolioConfig, LSTMPortfolioConfig
from ml4t.models.portfolio import components
from ml4t.models.portfolio.components import Maker
from ml4t.models.portfolio.objective import Objective, net_returns_of, score, windows_of
from ml4t.models.portfolio.policies.deep import DeepPolicy
from ml4t.models.portfolio.policies.lstm import LSTMPolicy

SHAPE, N_FEATURES = (16, 84, 100), 10


class PlainNoise(components.Noise):
    def __call__(self, x, rate):
        return fn.dropout(x, rate)


class PlainSelection(components.VariableSelection):
    def forward(self, x, context, noise):
        told = context[:, None, :].expand(*x.shape[:3], -1)
        hidden = self.selector_in(torch.cat([x, told], dim=-1))
        share = torch.softmax(self.selector_out(noise(fn.elu(hidden), self._rate)), dim=-1)
        embedded = x[..., None] * self.feature_weight + self.feature_bias
        return self.output_norm((share[..., None] * embedded).sum(dim=-2))


class PlainAttention(components.Attention):
    def forward(self, query, memory, allowed, *, causal=False):
        if causal and allowed is None:
            n = query.shape[1]
            allowed = torch.ones(n, n, dtype=torch.bool).tril()[None]
        blocked = ~allowed
        if blocked.shape[0] not in (1, len(query)):
            blocked = blocked.expand(len(query), -1, -1)
        found, _ = fn.multi_head_attention_forward(
            query.transpose(0, 1),
            memory.transpose(0, 1),
            memory.transpose(0, 1),
            query.shape[-1],
            self._n_heads,
            self.in_proj_weight,
            self.in_proj_bias,
            None,
            None,
            False,
            0.0,
            self.out_proj.weight,
            self.out_proj.bias,
            need_weights=True,
            attn_mask=blocked[0]
            if blocked.shape[0] == 1
            else blocked.expand(-1, query.shape[1], -1).repeat_interleave(self._n_heads, dim=0),
        )
        return found.transpose(0, 1)


def plain(policy):
    """Make the plain loop of a policy, sharing nothing with it but the formulas."""
    for module in policy.modules():
        if type(module) is components.VariableSelection:
            module.__class__ = PlainSelection
        if type(module) is components.Attention:
            module.__class__ = PlainAttention
        for name in ("noise", "_noise"):
            if isinstance(vars(module).get(name), components.Noise):
                setattr(module, name, PlainNoise())
    return policy


def step(make, config, data, dtype):
    maker = Maker(torch.Generator().manual_seed(0), torch.device("cpu"), dtype)
    policy = make((SHAPE[2], N_FEATURES, 1), config, maker)
    return policy, data, config


def ours(policy, data, config):
    """Loss of all windows as the models compute it."""
    objective, windows = Objective(policy.train(), data, config), torch.arange(SHAPE[0])
    return lambda: objective.loss(1, windows).loss


def whole(policy, data, config):
    """Loss of all windows in one forward pass."""
    policy.train()
    return lambda: score(net_returns_of(policy, data, config), config).loss


def updater(loss_of, policy, data, config):
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-4)
    compute = loss_of(policy, data, config)

    def update():
        optimizer.zero_grad(set_to_none=True)
        loss = compute()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    return update


def one_row(name, make, config):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((*SHAPE, N_FEATURES)).astype(np.float32)
    batch = PortfolioSequenceBatch(features, returns=0.01 * rng.standard_normal(SHAPE))
    told = {"device": torch.device("cpu"), "dtype": torch.float32}
    data = windows_of(batch, group_ids=None, costs=None, **told)

    def contestant(loss_of, rewrite):
        policy, *rest = step(make, config, data, torch.float32)
        return updater(loss_of, rewrite(policy), *rest)

    timings = measure.compare(
        {
            "ours": contestant(ours, lambda policy: policy),
            "plain": contestant(whole, plain),
            "pieces": contestant(ours, plain),
        },
        min_runs=2,
        max_runs=4,
        budget=20.0,
    )
    return (
        name,
        f"{timings['ours'].cpu:.2f}",
        f"{timings['plain'].cpu:.2f}",
        f"{measure.ratio(timings, 'plain', 'ours'):.2f}",
        f"{measure.ratio(timings, 'pieces', 'ours'):.2f}",
    )


def main():
    measure.require_release_build()
    torch.set_num_threads(1)
    rows = [
        one_row("LSTM", LSTMPolicy, LSTMPortfolioConfig(dtype="float32")),
        one_row("deep", DeepPolicy, DeepPortfolioConfig(dtype="float32")),
    ]
    measure.report(
        "portfolio training step",
        ["policy", "ours s", "plain loop s", "x plain", "x plain in pieces"],
        rows,
        note="B=16, T=84, N=100, F=10, float32, width 64, default settings.",
    )


if __name__ == "__main__":
    main()
