"""The discount factor as a plain PyTorch loop: states tiled to all assets, padded panels."""

from __future__ import annotations

import torch
from torch import nn


class PlainWeights(nn.Module):
    """LSTM state next to every asset's characteristics, then two hidden layers."""

    def __init__(self, n_chars, n_context, state, hidden, dropout):
        super().__init__()
        self.lstm = nn.LSTM(n_context, state, batch_first=True) if n_context else None
        width = n_chars + (state if n_context else 0)
        self.ffn = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, 1),
        )  # fmt: skip

    def forward(self, z, context, mask):
        return torch.zeros(mask.shape, dtype=z.dtype).masked_scatter(
            mask, self.ffn(tiled(self.lstm, z, context)[mask])[:, 0]
        )


class PlainMoments(nn.Module):
    """Instruments (T, N, D), zero outside the mask."""

    def __init__(self, n_chars, n_context, state, n_instruments, dropout):
        super().__init__()
        self.lstm = nn.LSTM(n_context, state, batch_first=True) if n_context else None
        width = n_chars + (state if n_context else 0)
        self.ffn = nn.Sequential(nn.Linear(width, n_instruments), nn.Tanh(), nn.Dropout(dropout))

    def forward(self, z, context, mask):
        return self.ffn(tiled(self.lstm, z, context)) * mask[..., None]


def tiled(lstm, z, context):
    if lstm is None:
        return z
    states = lstm(context[None])[0][0]
    return torch.cat([z, states[:, None, :].expand(-1, z.shape[1], -1)], dim=2)


def pricing_loss(weights, returns, mask, instruments=None):
    """The formula of the paper on padded panels; assets without a date are left out."""
    r = torch.where(mask, returns, 0.0)
    sdf = 1.0 - (weights * r).sum(dim=1)
    counts = mask.sum(dim=0)
    there = counts > 0
    h = torch.ones_like(r)[..., None] if instruments is None else instruments
    moments = (sdf[:, None, None] * r[..., None] * h).sum(dim=0) / counts.clamp_min(1)[:, None]
    return ((counts / counts.max())[:, None] * moments.square())[there].mean()


def copy_weights(net, plain):
    """Give a plain network the parameters of a `WeightNet`."""
    with torch.no_grad():
        both = [net.first.weight] + ([net.first.state_weight] if plain.lstm is not None else [])
        plain.ffn[0].weight.copy_(torch.cat(both, dim=1))
        plain.ffn[0].bias.copy_(net.first.bias[:, 0])
        if plain.lstm is not None:
            plain.lstm.load_state_dict(net.first.lstm.state_dict())
        if hasattr(net, "second_weight"):
            plain.ffn[3].weight.copy_(net.second_weight)
            plain.ffn[3].bias.copy_(net.second_bias[:, 0])
            plain.ffn[6].weight.copy_(net.last_weight)
            plain.ffn[6].bias.copy_(net.last_bias)
    return plain


def train(plain, moments, z, returns, mask, context, *, epochs, lr):
    """All three phases; returns the losses of the first and of the last."""
    n_unconditional, n_moment, n_conditional = epochs
    optimizer = torch.optim.Adam(plain.parameters(), lr=lr)
    adversary = torch.optim.Adam(moments.parameters(), lr=lr)
    first, last = [], []

    def step(opt, loss):
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss.item()

    plain.train()
    for _ in range(n_unconditional):
        loss = pricing_loss(plain(z, context, mask), returns, mask)
        first.append(step(optimizer, loss))
    plain.eval()
    best, state = -1.0, None
    for _ in range(n_moment):
        moments.train()
        with torch.no_grad():
            weights = plain(z, context, mask)
        step(adversary, -pricing_loss(weights, returns, mask, moments(z, context, mask)))
        moments.eval()
        with torch.no_grad():
            now = float(pricing_loss(weights, returns, mask, moments(z, context, mask)))
        if now > best:
            best, state = now, {k: v.clone() for k, v in moments.state_dict().items()}
    moments.load_state_dict(state)
    plain.train()
    for _ in range(n_conditional):
        with torch.no_grad():
            instruments = moments(z, context, mask)
        loss = pricing_loss(plain(z, context, mask), returns, mask, instruments)
        last.append(step(optimizer, loss))
    return first, last
