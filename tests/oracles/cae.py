"""The conditional autoencoder as a plain PyTorch loop: every cell carries its date's portfolios."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class PlainCAE(nn.Module):
    """One member, layer by layer, as the paper's figure 2 draws it."""

    def __init__(self, n_characteristics, n_inputs, hidden, n_factors):
        super().__init__()
        layers, width = [], n_characteristics
        for units in hidden:
            layers += [nn.Linear(width, units), nn.BatchNorm1d(units), nn.ReLU()]
            width = units
        layers.append(nn.Linear(width, n_factors))
        self.beta = nn.Sequential(*layers)
        self.factor = nn.Linear(n_inputs, n_factors, bias=False)

    def forward(self, z, x):
        return (self.beta(z) * self.factor(x)).sum(dim=1)

    def hidden_weights(self):
        return [m.weight for m in list(self.beta)[:-1] if isinstance(m, nn.Linear)]


def plain_copy(net, member, dtype=torch.float64):
    """A plain network with the parameters of one member of a `CAENet`."""
    sizes = net.sizes
    plain = PlainCAE(sizes.n_characteristics, sizes.n_inputs, sizes.hidden, sizes.n_factors)
    plain = plain.to(dtype)
    with torch.no_grad():
        for layer in range(len(sizes.hidden)):
            linear, norm = plain.beta[3 * layer], plain.beta[3 * layer + 1]
            linear.weight.copy_(getattr(net, f"weight_{layer}")[member])
            linear.bias.zero_()
            norm.weight.copy_(getattr(net, f"scale_{layer}")[member])
            norm.bias.copy_(getattr(net, f"shift_{layer}")[member])
            norm.running_mean.copy_(getattr(net, f"mean_{layer}")[member])
            norm.running_var.copy_(getattr(net, f"variance_{layer}")[member])
        plain.beta[-1].weight.copy_(net.output_weight[member])
        plain.beta[-1].bias.copy_(net.output_bias[member, :, 0])
        plain.factor.weight.copy_(net.factor_weight[member])
    return plain


def train(net, z, x_by_cell, y, *, orders, batch_size, lr, l1, classification=False):
    """Train one member; `orders` gives the row order of every epoch. Returns mean losses."""
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    curve = []
    net.train()
    for order in orders:
        losses = []
        for rows in order.split(batch_size):
            scores = net(z[rows], x_by_cell[rows])
            if classification:
                loss = functional.binary_cross_entropy_with_logits(scores, y[rows])
            else:
                loss = functional.mse_loss(scores, y[rows])
            loss = loss + l1 * sum(w.abs().sum() for w in net.hidden_weights())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curve.append(np.mean(losses))
    return np.array(curve)
