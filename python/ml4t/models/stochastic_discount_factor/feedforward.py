r"""A network of two hidden layers over rows of cells, forward and backward block by block.

.. math:: w = v'\,d(\max(U_2\,d(\max(U_1 z + c_{t}, 0)) + c_2, 0)) + c_3

:math:`d` drops hidden units, :math:`c_t` is what the state of date t adds. The loss needs all
weights of a date before any gradient is known, so activations are kept between the passes: in
blocks that are allocated once per fit, since fresh memory of that size costs more than the
arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ml4t.models.training.noise import draw_bits, drop_, keep_scale


def block_rows(device: torch.device) -> int:
    """Rows per block: what stays in a core's cache, or what keeps a GPU busy."""
    return 4096 if device.type == "cpu" else 1 << 18


@dataclass(frozen=True, slots=True)
class Rows:
    """Cells of a panel in date order.

    Attributes
    ----------
    characteristics : Tensor, shape (R, L)
    dates : Tensor of int64, shape (R,)
        Ascending.
    """

    characteristics: Tensor
    dates: Tensor

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Cut characteristics and dates into blocks."""
        size = block_rows(self.dates.device)
        yield from zip(
            torch.split(self.characteristics, size), torch.split(self.dates, size), strict=True
        )


@dataclass(slots=True)
class Workspace:
    """Activations of both hidden layers, (H, b) per block, used again in every epoch."""

    blocks: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def block(self, index: int, n_hidden: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Memory for a block of as many rows as `like` has."""
        if index == len(self.blocks):
            shape = (n_hidden, len(like))
            self.blocks.append((like.new_empty(shape), like.new_empty(shape)))
        return self.blocks[index]


@dataclass(frozen=True, slots=True)
class Call:
    """What a forward pass needs besides parameters.

    Attributes
    ----------
    rows : Rows
    workspace : Workspace
    rate : float
        Of dropout.
    source : torch.Generator or None
        None in evaluation.
    """

    rows: Rows
    workspace: Workspace
    rate: float
    source: torch.Generator | None

    @property
    def scale(self) -> float:
        """Factor on the weights of layers whose inputs were dropped."""
        return 1.0 if self.source is None else keep_scale(self.rate)

    def rectify(self, x: Tensor) -> None:
        """Rectify in place, and drop."""
        x.relu_()
        if self.source is not None and self.rate > 0.0:
            drop_(x, draw_bits(x.shape, self.source), self.rate)


class _Feedforward(torch.autograd.Function):
    """Inputs: U1 (H, L), c (H, T) or (H, 1), U2 (H, H), c2 (H, 1), v (1, H), c3 (1,)."""

    @staticmethod
    def forward(ctx: Any, call: Call, *parameters: Tensor) -> Tensor:
        first, by_date, second, shift, last, bias = parameters
        second, last = second * call.scale, last * call.scale
        out = []
        for index, (rows, dates) in enumerate(call.rows.blocks()):
            one, two = call.workspace.block(index, len(first), rows)
            torch.mm(first, rows.T, out=one)
            one += _at(by_date, dates)
            call.rectify(one)
            torch.addmm(shift, second, one, out=two)
            call.rectify(two)
            out.append((last @ two)[0] + bias)
        ctx.call = call
        ctx.save_for_backward(first, by_date, second, last)
        return torch.cat(out)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        first, by_date, second, last = ctx.saved_tensors
        call: Call = ctx.call
        sums = [torch.zeros_like(x) for x in (first, by_date, second, first[:, :1], last)]
        d_first, d_by_date, d_second, d_shift, d_last = sums
        start = 0
        for (rows, dates), (one, two) in zip(
            call.rows.blocks(), call.workspace.blocks, strict=True
        ):
            slope = outer[0][start : start + len(rows)]
            start += len(rows)
            d_last[0].addmv_(two, slope)
            at_two = torch.ops.aten.threshold_backward(torch.outer(last[0], slope), two, 0)
            d_second.addmm_(at_two, one.T)
            d_shift += at_two.sum(dim=1, keepdim=True)
            at_one = torch.ops.aten.threshold_backward(second.T @ at_two, one, 0)
            d_first.addmm_(at_one, rows)
            if by_date.shape[1] == 1:
                d_by_date += at_one.sum(dim=1, keepdim=True)
            else:
                _add_by_date(d_by_date, dates, at_one)
        scale = call.scale
        d_bias = outer[0].sum().view(1)
        return None, d_first, d_by_date, d_second * scale, d_shift, d_last * scale, d_bias


def _at(by_date: Tensor, dates: Tensor) -> Tensor:
    """Columns of `by_date` (H, T) at every row; the same for all when it is (H, 1)."""
    if by_date.shape[1] == 1:
        return by_date
    return torch.gather(by_date, 1, dates.expand(len(by_date), -1))


def _add_by_date(sums: Tensor, dates: Tensor, values: Tensor) -> None:
    """Add columns of `values` (H, b) to the columns of their dates in `sums` (H, T).

    Rows come in date order, so that the columns of a date are a segment: no scattered writes.
    """
    present, counts = torch.unique_consecutive(dates, return_counts=True)
    lengths = counts.expand(len(values), -1).contiguous()
    sums.index_add_(1, present, torch.segment_reduce(values, "sum", lengths=lengths, axis=1))


def feedforward(call: Call, *parameters: Tensor) -> Tensor:
    """One number per row, shape (R,).

    Parameters
    ----------
    call : Call
        Its workspace holds the activations until the backward pass.
    *parameters : Tensor
        U1 (H, L), c (H, T) or (H, 1), U2 (H, H), c2 (H, 1), v (1, H), c3 (1,).
    """
    out: Tensor = _Feedforward.apply(call, *parameters)
    return out


def evaluate(rows: Rows, *parameters: Tensor) -> Tensor:
    """Return the same (R,) without dropout and gradient; nothing is kept."""
    first, by_date, second, shift, last, bias = (p.detach() for p in parameters)
    out = []
    for block, dates in rows.blocks():
        one = (first @ block.T).add_(_at(by_date, dates)).relu_()
        two = torch.addmm(shift, second, one).relu_()
        out.append((last @ two)[0] + bias)
    return torch.cat(out)
