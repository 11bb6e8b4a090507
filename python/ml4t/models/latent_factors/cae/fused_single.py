r"""Mean error of networks with at most one hidden layer, and its gradient, block by block of rows.

With the first batch norm folded into its weights, a row's error depends on no other row:

.. math:: s = f_{t}'(V\,\max(Uz, 0) + b)

So loss and gradients of all members are summed over blocks small enough to stay in cache, and no
activation of a whole batch is ever stored. The derivative of the error with respect to the score is
written :math:`d`; then :math:`\partial V = d f_t h'`, :math:`\partial h = V'f_t d`, and so on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator

# Rows per block: the activations of ten members stay in cache.
BLOCK = 768
# Products of float64 with a width that is no multiple of it take a fifth longer.
WIDTH = 4


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets of the scores of a batch.

    Attributes
    ----------
    rows : Tensor, shape (B, L + 1)
    dates : Tensor of int64, shape (B,)
    values : Tensor, shape (B,)
    classification : bool
        Scores are logits and the error is cross-entropy; squared error otherwise.
    """

    rows: Tensor
    dates: Tensor
    values: Tensor
    classification: bool

    def blocks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Cut rows, dates and values into blocks."""
        parts = (torch.split(x, BLOCK) for x in (self.rows, self.dates, self.values))
        yield from zip(*parts, strict=True)

    def error(self, scores: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of errors (E,) and their derivatives (E, B); overwrites `scores`."""
        if not self.classification:
            residual = scores.sub_(values)
            return residual.square().sum(dim=1), residual.mul_(2.0)
        labels = values.expand_as(scores)
        total = functional.binary_cross_entropy_with_logits(scores, labels, reduction="none")
        return total.sum(dim=1), torch.sigmoid_(scores).sub_(values)


class _MeanError(torch.autograd.Function):
    """Inputs: U (E, H, L + 1) or None, V (E, K, H), b (E, K, 1), f (E, K, T). Output: (E,)."""

    @staticmethod
    def forward(ctx: Any, targets: Targets, *networks: Tensor) -> Tensor:
        sums = _Sums(*networks, n_rows=min(BLOCK, len(targets.rows)))
        for rows, dates, values in targets.blocks():
            sums.add(targets, rows, dates, values)
        n_rows = len(targets.rows)
        ctx.save_for_backward(*(gradient.div_(n_rows) for gradient in sums.gradients()))
        return sums.loss.div_(n_rows)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        scale = outer[0][:, None, None]
        return (None, *(scale * gradient for gradient in ctx.saved_tensors))


class _Sums:
    """Loss and gradients so far, and memory for blocks of `n_rows` rows."""

    def __init__(
        self, first: Tensor, output: Tensor, bias: Tensor, factors: Tensor, *, n_rows: int
    ) -> None:
        self.output, self.bias, self.factors = output, bias, factors
        self.n_members, self.n_hidden, _ = first.shape
        self.width = first.shape[2]
        padding = -self.width % WIDTH
        self.first = functional.pad(first.flatten(0, 1), (0, padding))
        self._rows = first.new_zeros(n_rows, self.width + padding)
        self.loss = bias.new_zeros(self.n_members)
        self._first = self.first.new_zeros(
            self.first.shape[::-1]
        )  # so laid out, its products are faster
        self._output = torch.zeros_like(output)
        self._bias = torch.zeros_like(bias)
        self._factors = torch.zeros_like(factors)
        self._hidden = first.new_empty(self.n_members * self.n_hidden * n_rows)
        self._by_hidden = torch.empty_like(self._hidden)

    def gradients(self) -> tuple[Tensor, ...]:
        """Return the sums of gradients, in the order of the inputs."""
        first = self._first[: self.width].T.reshape(self.n_members, self.n_hidden, -1)
        return first, self._output, self._bias, self._factors

    def add(self, targets: Targets, rows: Tensor, dates: Tensor, values: Tensor) -> None:
        """Add a block of rows."""
        shape = (self.n_members, self.n_hidden, len(rows))
        size = math.prod(shape)
        hidden, by_hidden = (x[:size].view(shape) for x in (self._hidden, self._by_hidden))
        padded = self._rows[: len(rows)]
        padded[:, : self.width] = rows
        torch.mm(self.first, padded.T, out=hidden.flatten(0, 1)).relu_()
        betas = torch.baddbmm(self.bias, self.output, hidden)
        index = dates.expand(*betas.shape[:2], -1)
        factors = torch.gather(self.factors, 2, index)
        total, slope = targets.error((betas * factors).sum(dim=1), values)
        self.loss += total
        by_beta = factors.mul_(slope[:, None])
        self._bias += by_beta.sum(dim=2, keepdim=True)
        self._factors.scatter_add_(2, index, betas.mul_(slope[:, None]))
        self._output.baddbmm_(by_beta, hidden.transpose(1, 2))
        torch.bmm(self.output.transpose(1, 2), by_beta, out=by_hidden)
        passed = torch.ops.aten.threshold_backward.grad_input(
            by_hidden, hidden, 0, grad_input=by_hidden
        )
        self._first.addmm_(padded.T, passed.flatten(0, 1).T)


def mean_error(
    targets: Targets, first: Tensor, output: Tensor, bias: Tensor, factors: Tensor
) -> Tensor:
    """Mean error of every member over the rows of a batch, shape (E,), with its gradient.

    Parameters
    ----------
    targets : Targets
    first : Tensor, shape (E, H, L + 1)
        Weights on [z, 1] of the hidden layer, batch norm folded in.
    output : Tensor, shape (E, K, H)
    bias : Tensor, shape (E, K, 1)
    factors : Tensor, shape (E, K, T)
    """
    loss: Tensor = _MeanError.apply(targets, first, output, bias, factors)
    return loss
