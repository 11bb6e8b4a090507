r"""A network of two hidden layers over rows of cells, forward and backward block by block.

.. math:: w = v'\,d(\max(U_2\,d(\max(U_1 x, 0)) + c_2, 0)) + c_3, \qquad x = (z, 1, h_t)

:math:`d` drops hidden units, :math:`h_t` is the state of date t. The loss needs all weights of a
date before any gradient is known, so activations are kept between the passes: in blocks that are
allocated once per fit, since fresh memory of that size costs more than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ml4t.models.training.noise import draw_bits, drop_, keep_scale


def block_rows(device: torch.device) -> int:
    """Rows per block, for the cache of a core or the occupation of a GPU."""
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


@dataclass(frozen=True, slots=True)
class Block:
    """Memory of b rows.

    Attributes
    ----------
    inputs : Tensor, shape (L + 1 + S, b)
        Characteristics and ones, written once; states, written in every forward pass.
    one, two : Tensor, shape (H, b)
        Activations of the hidden layers.
    dates : Tensor of int64, shape (b,)
    """

    inputs: Tensor
    one: Tensor
    two: Tensor
    dates: Tensor

    @classmethod
    def of(cls, rows: Tensor, dates: Tensor, n_hidden: int, n_states: int) -> Block:
        """Allocate for characteristics (b, L)."""
        n_rows, n_chars = rows.shape
        inputs = rows.new_ones(n_chars + 1 + n_states, n_rows)
        inputs[:n_chars] = rows.T
        shape = (n_hidden, n_rows)
        return cls(inputs, rows.new_empty(shape), rows.new_empty(shape), dates)

    def take_in(self, states: Tensor) -> None:
        """Write the states (S, T) of the rows' dates, all at once or none."""
        if len(states):
            dates = self.dates.expand(len(states), -1)
            torch.gather(states, 1, dates, out=self.inputs[-len(states) :])


@dataclass(slots=True)
class Workspace:
    """Blocks of the rows of a fit, used again in every epoch."""

    blocks: list[Block] = field(default_factory=list)

    def of(self, rows: Rows, n_hidden: int, n_states: int) -> list[Block]:
        """Give the blocks, which hold the same rows in every call."""
        if not self.blocks:
            self.blocks = [Block.of(*some, n_hidden, n_states) for some in rows.blocks()]
        return self.blocks


@dataclass(frozen=True, slots=True)
class Call:
    """Arguments of a forward pass besides parameters.

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
    """Inputs: h (S, T), U1 (H, L + 1 + S), U2 (H, H), c2 (H, 1), v (1, H), c3 (1,)."""

    @staticmethod
    def forward(ctx: Any, call: Call, *parameters: Tensor) -> Tensor:
        states, first, second, shift, last, bias = parameters
        second, last = second * call.scale, last * call.scale
        out = []
        for block in call.workspace.of(call.rows, len(first), len(states)):
            block.take_in(states)
            torch.mm(first, block.inputs, out=block.one)
            call.rectify(block.one)
            torch.addmm(shift, second, block.one, out=block.two)
            call.rectify(block.two)
            out.append((last @ block.two)[0] + bias)
        ctx.call = call
        ctx.save_for_backward(states, first, second, last)
        return torch.cat(out)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        states, first, second, last = ctx.saved_tensors
        call: Call = ctx.call
        of_states = first[:, first.shape[1] - len(states) :]
        # The transpose of U1's gradient: a product half as fast again.
        sums = [torch.zeros_like(x) for x in (states, first.T, second, first[:, :1], last)]
        d_states, d_first, d_second, d_shift, d_last = sums
        start = 0
        spare = torch.empty_like(call.workspace.blocks[0].two)
        for block in call.workspace.blocks:
            slope = outer[0][start : start + len(block.dates)]
            start += len(block.dates)
            d_last[0].addmv_(block.two, slope)
            at_two = spare.view(-1)[: block.two.numel()].view(block.two.shape)
            _passed(torch.outer(last[0], slope, out=at_two), block.two)
            d_second.addmm_(at_two, block.one.T)
            d_shift += at_two.sum(dim=1, keepdim=True)
            # What the second layer put out is needed no more: a gradient takes its place.
            at_one = _passed(torch.mm(second.T, at_two, out=block.two), block.one)
            d_first.addmm_(block.inputs, at_one.T)
            if len(states):
                _add_by_date(d_states, block.dates, of_states.T @ at_one)
        scale = call.scale
        d_bias = outer[0].sum().view(1)
        return None, d_states, d_first.T, d_second * scale, d_shift, d_last * scale, d_bias


def _passed(slope: Tensor, out: Tensor) -> Tensor:
    """Zero the gradient `slope` in place where the layer put out nothing."""
    torch.ops.aten.threshold_backward.grad_input(slope, out, 0, grad_input=slope)
    return slope


def _at(by_date: Tensor, dates: Tensor) -> Tensor:
    """Columns of `by_date` (H, T) at every row; the same for all when it is (H, 1)."""
    if by_date.shape[1] == 1:
        return by_date
    return torch.gather(by_date, 1, dates.expand(len(by_date), -1))


def _add_by_date(sums: Tensor, dates: Tensor, values: Tensor) -> None:
    """Add columns of `values` (S, b) to the columns of their dates in `sums` (S, T).

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
        Its workspace holds the activations until the backward pass, which can be done once.
    *parameters : Tensor
        h (S, T), S perhaps 0; U1 (H, L + 1 + S), U2 (H, H), c2 (H, 1), v (1, H), c3 (1,).
    """
    out: Tensor = _Feedforward.apply(call, *parameters)
    return out


def evaluate(rows: Rows, *parameters: Tensor) -> Tensor:
    """Return the same (R,) without dropout and gradient; nothing is kept."""
    states, first, second, shift, last, bias = (p.detach() for p in parameters)
    n_chars = rows.characteristics.shape[1]
    by_date = first[:, n_chars : n_chars + 1]
    if len(states):
        by_date = torch.addmm(by_date, first[:, n_chars + 1 :], states)
    out = []
    for block, dates in rows.blocks():
        one = (first[:, :n_chars] @ block.T).add_(_at(by_date, dates)).relu_()
        two = torch.addmm(shift, second, one).relu_()
        out.append((last @ two)[0] + bias)
    return torch.cat(out)
