"""The supervised autoencoder; activations are laid out as (units, rows)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml4t.models.training import initialization as initial
from ml4t.models.training.noise import dropout, gaussian

if TYPE_CHECKING:
    from collections.abc import Iterable

EPSILON, MOMENTUM = 1e-3, 0.01
# Of the published network; the first is the deviation of its noise and drops nothing.
PUBLISHED_RATES = (0.035, 0.038, 0.424, 0.104, 0.492, 0.320, 0.272, 0.438)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Widths of the network.

    Attributes
    ----------
    n_features : int
        L.
    bottleneck, aux : int
    main : tuple of int
    n_targets : int
        J.
    """

    n_features: int
    bottleneck: int
    aux: int
    main: tuple[int, ...]
    n_targets: int


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise and dropout in training.

    Attributes
    ----------
    source : torch.Generator
    deviation : float
        Of the Gaussian noise on the standardised features.
    rates : tuple of 8 float
        Of dropout; the first is unused.
    """

    source: torch.Generator
    deviation: float
    rates: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Outputs:
    """Outputs of the network for B rows.

    Attributes
    ----------
    reconstruction : Tensor, shape (L, B)
    aux, main : Tensor, shape (J, B)
        Predictions; in classification logits.
    """

    reconstruction: Tensor
    aux: Tensor
    main: Tensor


class _Norm(nn.Module):
    """Batch norm of (units, rows)."""

    def __init__(self, units: int, like: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(like.new_ones(units))
        self.shift = nn.Parameter(like.new_zeros(units))
        self.register_buffer("mean", like.new_zeros(units))
        self.register_buffer("variance", like.new_ones(units))
        self.mean: Tensor
        self.variance: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(
            x.unsqueeze(0),
            self.mean,
            self.variance,
            self.scale,
            self.shift,
            training=self.training,
            momentum=MOMENTUM,
            eps=EPSILON,
        )[0]


class _Linear(nn.Module):
    """W x + b; without b when a batch norm follows, which would undo it."""

    def __init__(
        self, n_in: int, n_out: int, source: torch.Generator, dtype: torch.dtype, *, bias: bool
    ) -> None:
        super().__init__()
        self.weight = initial.empty(n_out, n_in, device=source.device, dtype=dtype)
        self.bias = initial.empty(n_out, 1, device=source.device, dtype=dtype) if bias else None
        initial.linear_(self.weight, self.bias, source)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (in, B)."""
        return self.weight @ x if self.bias is None else torch.addmm(self.bias, self.weight, x)


class SAENet(nn.Module):
    """Encoder, decoder, auxiliary head on the reconstruction, main head on features and code.

    Parameters
    ----------
    sizes : Sizes
    source : torch.Generator
        Of the initial parameters; its device is the network's.
    dtype : torch.dtype
    """

    def __init__(self, sizes: Sizes, source: torch.Generator, dtype: torch.dtype) -> None:
        super().__init__()
        n_features, code = sizes.n_features, sizes.bottleneck

        def linear(n_in: int, n_out: int, *, bias: bool = False) -> _Linear:
            return _Linear(n_in, n_out, source, dtype, bias=bias)

        like = torch.empty(0, device=source.device, dtype=dtype)
        self.input_norm = _Norm(n_features, like)
        self.encoder, self.encoder_norm = linear(n_features, code), _Norm(code, like)
        self.decoder = linear(code, n_features, bias=True)
        self.aux, self.aux_norm = linear(n_features, sizes.aux), _Norm(sizes.aux, like)
        self.aux_output = linear(sizes.aux, sizes.n_targets, bias=True)
        self.main_norm = _Norm(n_features + code, like)
        widths = (n_features + code, *sizes.main)
        self.main = nn.ModuleList(
            linear(n_in, n_out) for n_in, n_out in zip(widths, sizes.main, strict=False)
        )
        self.main_norms = nn.ModuleList(_Norm(n_out, like) for n_out in sizes.main)
        self.main_output = linear(widths[-1], sizes.n_targets, bias=True)

    def forward(self, features: Tensor, noise: Noise | None) -> Outputs:
        """Map features (L, B) to outputs; noise and dropout only where `noise` is given."""
        clean = self.input_norm(features)
        noisy = clean if noise is None else gaussian(clean, noise.deviation, noise.source)
        code = _hidden(noisy, [(self.encoder, self.encoder_norm)], None)
        reconstruction = self.decoder(_dropped(code, noise, 1))
        hidden = _hidden(reconstruction, [(self.aux, self.aux_norm)], noise, 2)
        return Outputs(reconstruction, self.aux_output(hidden), self._main(clean, code, noise))

    def predict(self, features: Tensor) -> Tensor:
        """Give the output of the main head alone, (J, B), without noise."""
        clean = self.input_norm(features)
        return self._main(clean, _hidden(clean, [(self.encoder, self.encoder_norm)], None), None)

    def _main(self, clean: Tensor, code: Tensor, noise: Noise | None) -> Tensor:
        x = _dropped(self.main_norm(torch.cat([clean, code])), noise, 3)
        pairs: Any = zip(self.main, self.main_norms, strict=True)
        out: Tensor = self.main_output(_hidden(x, pairs, noise, 4))
        return out


def _hidden(
    x: Tensor, layers: Iterable[tuple[_Linear, _Norm]], noise: Noise | None, first: int = 0
) -> Tensor:
    """Linear layers with batch norm, swish and dropout; `first` is the place of the first rate."""
    for index, (linear, norm) in enumerate(layers, first):
        x = _dropped(functional.silu(norm(linear(x))), noise, index)
    return x


def _dropped(x: Tensor, noise: Noise | None, index: int) -> Tensor:
    return x if noise is None else dropout(x, noise.rates[index], noise.source)
