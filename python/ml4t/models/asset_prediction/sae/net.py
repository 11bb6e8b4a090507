"""The supervised autoencoder; activations are laid out as (units, rows)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml4t.models.asset_prediction.sae.fused_layers import EPSILON, Call, Workspace, layers
from ml4t.models.training import initialization as initial
from ml4t.models.training.noise import dropout, gaussian, keep_scale

if TYPE_CHECKING:
    from collections.abc import Sequence

MOMENTUM = 0.01
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
    """What is random in training.

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
    """What the network says about B rows.

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

    def remember(self, mean: Tensor, variance: Tensor, n_rows: int) -> None:
        """Move the running moments towards those of a batch."""
        self.mean.lerp_(mean, MOMENTUM)
        self.variance.lerp_(variance * (n_rows / (n_rows - 1)), MOMENTUM)

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

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """Apply to (in, B), whose dropped units still lack the factor `scale`."""
        weight = self.weight if scale == 1.0 else self.weight * scale
        return weight @ x if self.bias is None else torch.addmm(self.bias, weight, x)


def _owed(rates: tuple[float, ...]) -> float:
    """Factor that the outputs of hidden layers lack, since the last of them dropped some."""
    return keep_scale(rates[-1]) if rates else 1.0


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
        self._workspaces = {name: Workspace() for name in ("encoder", "aux", "main")}

    def forward(self, features: Tensor, noise: Noise | None) -> Outputs:
        """Read features (L, B); noise and dropout only where `noise` is given."""
        clean = self.input_norm(features)
        code = self._encoded(self._blurred(clean, noise))
        reconstruction = self.decoder(self._dropped(code, 1, noise))
        rates = () if noise is None else noise.rates[2:3]
        hidden = self._hidden("aux", reconstruction, [(self.aux, self.aux_norm)], rates, noise)
        aux = self.aux_output(hidden, _owed(rates))
        return Outputs(reconstruction, aux, self._predicted(clean, code, noise))

    def predict(self, features: Tensor) -> Tensor:
        """Read the main head alone, (J, B), without noise."""
        clean = self.input_norm(features)
        return self._predicted(clean, self._encoded(clean), None)

    def _predicted(self, clean: Tensor, code: Tensor, noise: Noise | None) -> Tensor:
        hidden = self._dropped(self.main_norm(torch.cat([clean, code])), 3, noise)
        rates = () if noise is None else noise.rates[4:]
        pairs: Any = list(zip(self.main, self.main_norms, strict=True))
        out: Tensor = self.main_output(
            self._hidden("main", hidden, pairs, rates, noise), _owed(rates)
        )
        return out

    def _encoded(self, x: Tensor) -> Tensor:
        return self._hidden("encoder", x, [(self.encoder, self.encoder_norm)], (), None)

    def _hidden(
        self,
        name: str,
        x: Tensor,
        pairs: Sequence[tuple[_Linear, _Norm]],
        rates: tuple[float, ...],
        noise: Noise | None,
    ) -> Tensor:
        """Linear layers with their norms, swish and dropout; the last dropout's factor is owed."""
        if not self.training:
            for layer, norm in pairs:
                x = functional.silu(norm(layer(x)))
            return x
        norms = tuple(norm for _, norm in pairs)
        source = None if noise is None or not rates else noise.source
        call = Call(norms, rates or (0.0,) * len(norms), source, self._workspaces[name])
        parameters = [p for layer, norm in pairs for p in (layer.weight, norm.scale, norm.shift)]
        return layers(call, x, *parameters)

    @staticmethod
    def _blurred(x: Tensor, noise: Noise | None) -> Tensor:
        return x if noise is None else gaussian(x, noise.deviation, noise.source)

    @staticmethod
    def _dropped(x: Tensor, which: int, noise: Noise | None) -> Tensor:
        return x if noise is None else dropout(x, noise.rates[which], noise.source)
