r"""Mean error of one network with one hidden layer, and its gradient, a whole batch at a time.

.. math:: s = f_t'(V\,\max(\gamma\,\hat a + \delta, 0) + b),\quad \hat a = (Wz - m)/\sigma

The loss of a batch is known at the end of the forward pass, so the gradient is taken there, in
memory that is used for every batch: fresh pages of that size cost as much as the arithmetic. With
:math:`g` the derivative with respect to the normalised activation before its scale, that of `W` is

.. math:: \sigma^{-1}\gamma\,(g - \bar g - \hat a\,\overline{g\hat a})\,Z
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ml4t.models.latent_factors.cae.fused_single import Targets


@dataclass(slots=True)
class Workspace:
    """Three arrays of activations (H, B), as large as the largest batch so far."""

    memory: Tensor | None = None

    def arrays(self, n_hidden: int, like: Tensor) -> tuple[Tensor, ...]:
        """Memory for as many rows as `like` has."""
        size = n_hidden * len(like)
        if self.memory is None or self.memory.shape[1] < size:
            self.memory = like.new_empty(3, size)
        return tuple(part[:size].view(n_hidden, len(like)) for part in self.memory)


@dataclass(frozen=True, slots=True)
class Call:
    """Arguments of a pass besides parameters.

    Attributes
    ----------
    targets : Targets
    workspace : Workspace
    epsilon : float
        Added to the variance of the batch norm.
    """

    targets: Targets
    workspace: Workspace
    epsilon: float


class _MeanError(torch.autograd.Function):
    """Inputs: W (H, L), scale (H, 1), shift (H, 1), V (K, H), b (K, 1), f (K, T).

    Outputs: mean error (1,), and mean and population variance (H,) of the pre-activations.
    """

    @staticmethod
    def forward(ctx: Any, call: Call, *parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight, scale, shift, output, bias, factors = parameters
        targets, rows = call.targets, call.targets.rows[:, :-1]
        standard, hidden, slope = call.workspace.arrays(len(weight), rows)
        torch.mm(weight, rows.T, out=standard)
        mean = standard.mean(dim=1, keepdim=True)
        standard -= mean
        variance = torch.mul(standard, standard, out=hidden).mean(dim=1, keepdim=True)
        precision = torch.rsqrt(variance + call.epsilon)
        standard *= precision
        torch.addcmul(shift, standard, scale, out=hidden).relu_()

        betas = torch.addmm(bias, output, hidden)
        index = targets.dates.expand_as(betas)
        by_beta = torch.gather(factors, 1, index)
        total, by_score = targets.error((betas * by_beta).sum(dim=0, keepdim=True), targets.values)
        by_beta *= by_score
        by_factors = torch.zeros_like(factors).scatter_add_(1, index, betas.mul_(by_score))

        torch.mm(output.T, by_beta, out=slope)
        torch.ops.aten.threshold_backward.grad_input(slope, hidden, 0, grad_input=slope)
        by_output = by_beta @ hidden.T
        by_shift = slope.sum(dim=1, keepdim=True)
        by_scale = torch.mul(slope, standard, out=hidden).sum(dim=1, keepdim=True)
        n_rows = len(rows)
        slope -= by_shift / n_rows
        slope.addcmul_(standard, by_scale, value=-1.0 / n_rows)
        by_weight = (slope @ rows).mul_(precision * scale)

        by_bias = by_beta.sum(dim=1, keepdim=True)
        sums = (by_weight, by_scale, by_shift, by_output, by_bias, by_factors)
        ctx.save_for_backward(*(gradient.div_(n_rows) for gradient in sums))
        moments = mean[:, 0], variance[:, 0]
        ctx.mark_non_differentiable(*moments)
        return total / n_rows, *moments

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *(outer[0] * gradient for gradient in ctx.saved_tensors))


def mean_error(call: Call, *parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean error (1,) with its gradient; mean and variance (H,) of the pre-activations.

    Parameters
    ----------
    call : Call
    *parameters : Tensor
        W (H, L), scale (H, 1), shift (H, 1), V (K, H), b (K, 1), f (K, T).
    """
    result: tuple[Tensor, Tensor, Tensor] = _MeanError.apply(call, *parameters)
    return result
