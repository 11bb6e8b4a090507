"""The supervised autoencoder as plain PyTorch layers, rows first."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def norm(units):
    return nn.BatchNorm1d(units, eps=1e-3, momentum=0.01)


class PlainSAE(nn.Module):
    """Layer by layer as the contract lists them."""

    def __init__(self, n_features, code, aux, main, n_targets, rates, noise):
        super().__init__()
        self.noise = noise
        self.input_norm = norm(n_features)
        self.encoder = nn.Sequential(nn.Linear(n_features, code), norm(code), nn.SiLU())
        self.decoder = nn.Sequential(nn.Dropout(rates[1]), nn.Linear(code, n_features))
        self.aux = nn.Sequential(
            nn.Linear(n_features, aux), norm(aux), nn.SiLU(), nn.Dropout(rates[2]),
            nn.Linear(aux, n_targets),
        )  # fmt: skip
        layers, width = [norm(n_features + code), nn.Dropout(rates[3])], n_features + code
        for index, units in enumerate(main):
            layers += [
                nn.Linear(width, units),
                norm(units),
                nn.SiLU(),
                nn.Dropout(rates[4 + index]),
            ]
            width = units
        self.main = nn.Sequential(*layers, nn.Linear(width, n_targets))

    def forward(self, x):
        clean = self.input_norm(x)
        noisy = clean + self.noise * torch.randn_like(clean) if self.training else clean
        code = self.encoder(noisy)
        reconstruction = self.decoder(code)
        main = self.main(torch.cat([clean, code], dim=1))
        return reconstruction, self.aux(reconstruction), main


def plain_copy(net, sizes, rates=(0.0,) * 8, noise=0.0):
    """A plain network with the parameters of a `SAENet`."""
    plain = PlainSAE(
        sizes.n_features, sizes.bottleneck, sizes.aux, sizes.main, sizes.n_targets, rates, noise
    ).to(net.encoder.weight.dtype)
    linears = [
        (net.encoder, plain.encoder[0]),
        (net.decoder, plain.decoder[1]),
        (net.aux, plain.aux[0]),
        (net.aux_output, plain.aux[4]),
        *((layer, plain.main[2 + 4 * i]) for i, layer in enumerate(net.main)),
        (net.main_output, plain.main[-1]),
    ]
    with torch.no_grad():
        for own, other in linears:
            other.weight.copy_(own.weight)
            other.bias.zero_() if own.bias is None else other.bias.copy_(own.bias[:, 0])
    return plain


def loss(outputs, x, y, *, alpha, aux_weight, classification=False):
    reconstruction, aux, main = outputs
    error = functional.binary_cross_entropy_with_logits if classification else functional.mse_loss
    return (
        functional.mse_loss(reconstruction, x) + alpha * error(main, y) + aux_weight * error(aux, y)
    )


def train(plain, x, y, *, orders, batch_size, lr, alpha=1.0, aux_weight=1.0):
    """Returns the mean loss of every epoch."""
    optimizer = torch.optim.Adam(plain.parameters(), lr=lr)
    curve = []
    plain.train()
    for order in orders:
        losses = []
        for rows in order.split(batch_size):
            value = loss(plain(x[rows]), x[rows], y[rows], alpha=alpha, aux_weight=aux_weight)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.item())
        curve.append(sum(losses) / len(losses))
    return curve
