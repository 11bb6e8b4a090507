r"""Hidden layers, forward and backward: linear, batch norm, swish, dropout.

Activations are (units, rows). After each product a layer works on a few units at a time, in place,
so that they stay in the core's cache from the first step to the last; the large arrays are
allocated once per fit, since fresh memory of that size costs more than the arithmetic. With h
standardised, y = a h + b and g the gradient of y, the gradient of the linear output is
:math:`a s^{-1}(g - \bar g - h\,\overline{gh})`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from ml4t.models.training.noise import draw_bits, drop_, keep_scale

if TYPE_CHECKING:
    from collections.abc import Iterator

# Elements of a layer that are worked on at once on a CPU.
BLOCK = 1 << 18
LINE = 16  # float32 numbers of a cache line
EPSILON = 1e-3


class Norm(Protocol):
    """Keeps running moments."""

    def remember(self, mean: Tensor, variance: Tensor, n_rows: int) -> None:
        """Take in the moments of a batch."""


@dataclass(slots=True)
class Workspace:
    """Memory of the layers, used again in every step; units begin at cache lines.

    Products of float32 whose units begin elsewhere take half as long again.
    """

    buffers: dict[tuple[int, str], Tensor] = field(default_factory=dict)

    def array(self, layer: int, what: str, units: int, like: Tensor) -> Tensor:
        """Memory for (units, B) where `like` is (in, B)."""
        n_rows = like.shape[1]
        step = -(-n_rows // LINE) * LINE
        held = self.buffers.get((layer, what))
        if held is None or held.numel() < units * step:
            held = self.buffers[layer, what] = like.new_empty(units * step)
        return held[: units * step].view(units, step)[:, :n_rows]


@dataclass(frozen=True, slots=True)
class Call:
    """What a pass needs besides parameters.

    Attributes
    ----------
    norms : tuple of Norm
        One per layer.
    rates : tuple of float
        Of each layer's dropout.
    source : torch.Generator or None
        None: nothing is dropped.
    workspace : Workspace
    """

    norms: tuple[Norm, ...]
    rates: tuple[float, ...]
    source: torch.Generator | None
    workspace: Workspace

    def owed(self, layer: int) -> float:
        """Factor that the inputs of a layer still lack, since those before it dropped some."""
        dropped = self.source is not None and layer > 0
        return keep_scale(self.rates[layer - 1]) if dropped else 1.0


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the backward pass reads of a layer."""

    weight: Tensor  # (units, in), times what is owed
    hidden: Tensor  # (units, B), standardised
    inverse: Tensor  # (units, 1), one over the deviation
    bits: Tensor | None
    rate: float

    def scaled(self, some: slice, scale: Tensor, shift: Tensor) -> Tensor:
        return torch.mul(self.hidden[some], scale[some, None]).add_(shift[some, None])

    def blocks(self) -> Iterator[slice]:
        """Cut units into pieces of a core's cache; a GPU wants them all at once."""
        units, rows = self.hidden.shape
        step = max(1, BLOCK // rows) if self.hidden.device.type == "cpu" else units
        for start in range(0, units, step):
            yield slice(start, start + step)

    def activate(self, out: Tensor, scale: Tensor, shift: Tensor, norm: Norm) -> None:
        """Standardise `hidden` in place, and write swish and dropout of it to `out`."""
        n_rows = self.hidden.shape[1]
        mean, variance = torch.empty_like(self.inverse), torch.empty_like(self.inverse)
        for some in self.blocks():
            h = self.hidden[some]
            mean[some] = h.mean(dim=1, keepdim=True)
            h -= mean[some]
            variance[some] = torch.linalg.vector_norm(h, dim=1, keepdim=True).square() / n_rows
            self.inverse[some] = torch.rsqrt(variance[some] + EPSILON)
            h *= self.inverse[some]
            torch.ops.aten.silu.out(self.scaled(some, scale, shift), out=out[some])
            if self.bits is not None:
                drop_(out[some], self.bits[some], self.rate)
        norm.remember(mean[:, 0], variance[:, 0], n_rows)

    def pull_back(self, slope: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Turn the gradient of the output into that of the product, in place.

        Returns the gradients of scale and shift.
        """
        n_rows = self.hidden.shape[1]
        d_scale, d_shift = torch.empty_like(scale), torch.empty_like(shift)
        for some in self.blocks():
            h, g = self.hidden[some], slope[some]
            if self.bits is not None:
                drop_(g, self.bits[some], self.rate)
            y = self.scaled(some, scale, shift)
            torch.ops.aten.silu_backward.grad_input(g, y, grad_input=g)
            d_shift[some] = g.sum(dim=1)
            d_scale[some] = torch.linalg.vecdot(g, h)
            g -= d_shift[some, None] / n_rows
            g -= torch.mul(h, d_scale[some, None] / n_rows, out=y)
            g *= scale[some, None] * self.inverse[some]
        return d_scale, d_shift


class _Layers(torch.autograd.Function):
    """Inputs after x: W (units, in), scale (units,), shift (units,) of every layer."""

    @staticmethod
    def forward(ctx: Any, call: Call, x: Tensor, *parameters: Tensor) -> Tensor:
        space, last = call.workspace, len(call.norms) - 1
        kept: list[_Kept] = []
        inputs = [space.array(0, "in", len(x), x).copy_(x)]
        for index, norm in enumerate(call.norms):
            weight, scale, shift = parameters[3 * index : 3 * index + 3]
            weight = weight * call.owed(index)
            units, rate = len(weight), call.rates[index]
            hidden = space.array(index, "hidden", units, x)
            torch.mm(weight, inputs[index], out=hidden)
            bits = None
            if call.source is not None and rate > 0.0:
                bits = draw_bits(hidden.shape, call.source)
            kept.append(_Kept(weight, hidden, weight.new_empty(units, 1), bits, rate))
            # Autograd owns what is returned.
            own = index < last
            out = space.array(index, "out", units, x) if own else x.new_empty(hidden.shape)
            kept[index].activate(out, scale, shift, norm)
            inputs.append(out)
        out = inputs.pop()
        ctx.call, ctx.kept, ctx.inputs = call, kept, inputs
        ctx.save_for_backward(*parameters)
        return out

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        parameters, call = ctx.saved_tensors, ctx.call
        gradients: list[Tensor] = []
        slope = call.workspace.array(0, "slope", len(outer[0]), outer[0]).copy_(outer[0])
        for index in reversed(range(len(ctx.kept))):
            kept: _Kept = ctx.kept[index]
            below = ctx.inputs[index]
            moved = kept.pull_back(slope, *parameters[3 * index + 1 : 3 * index + 3])
            gradients[:0] = [(slope @ below.T).mul_(call.owed(index)), *moved]
            # What the layer below put out is needed no more: its gradient takes its place.
            slope = torch.mm(kept.weight.T, slope, out=below) if index else kept.weight.T @ slope
        return None, slope, *gradients


def layers(call: Call, x: Tensor, *parameters: Tensor) -> Tensor:
    """Pass x (in, B) through the layers: (units of the last, B), without its dropout's factor.

    Parameters
    ----------
    call : Call
        Its workspace holds the activations until the backward pass, which can be done once.
    x : Tensor
    *parameters : Tensor
        W (units, in), scale (units,) and shift (units,) of every layer.
    """
    out: Tensor = _Layers.apply(call, x, *parameters)
    return out
