"""Loss of the conditional autoencoder, on tensors of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from ml4t.models.latent_factors.cae import fused_ensemble as batchwise
from ml4t.models.latent_factors.cae import fused_single as rowwise
from ml4t.models.latent_factors.cae.fused_single import Targets
from ml4t.models.latent_factors.cae.net import EPSILON

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ml4t.models.latent_factors.cae.net import CAENet, Moments

# Rows that are evaluated at once: the activations of ten members stay within a few MB.
BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Rows:
    """Usable cells of a batch as rows, and the factor inputs of its dates.

    Attributes
    ----------
    design : Tensor, shape (R, L + 1)
        Characteristics and a constant.
    targets : Tensor, shape (R,)
        Returns, or labels in [0, 1].
    dates : Tensor of int64, shape (R,)
        Row of `inputs` that belongs to each cell.
    inputs : Tensor, shape (T, P)
        Inputs of the factor network, per date.
    """

    design: Tensor
    targets: Tensor
    dates: Tensor
    inputs: Tensor

    def like(self, n_rows: int) -> Rows:
        """Memory for `n_rows` rows, on the same dates."""
        parts = (self.design, self.targets, self.dates)
        design, targets, dates = (x.new_empty(n_rows, *x.shape[1:]) for x in parts)
        return Rows(design, targets, dates, self.inputs)

    def take(self, rows: Tensor, into: Rows) -> Rows:
        """Cut out some rows into memory that is used again and again: fresh pages cost more."""
        n_rows = len(rows)
        torch.index_select(self.design, 0, rows, out=into.design[:n_rows])
        torch.index_select(self.targets, 0, rows, out=into.targets[:n_rows])
        torch.index_select(self.dates, 0, rows, out=into.dates[:n_rows])
        return Rows(into.design[:n_rows], into.targets[:n_rows], into.dates[:n_rows], self.inputs)

    def blocks(self) -> Iterator[Rows]:
        """Cut into pieces of at most `BLOCK` rows."""
        parts = (torch.split(x, BLOCK) for x in (self.design, self.targets, self.dates))
        for design, targets, dates in zip(*parts, strict=True):
            yield Rows(design, targets, dates, self.inputs)


def mean_error(
    net: CAENet,
    rows: Rows,
    moments: Moments | None,
    *,
    classification: bool,
    workspace: batchwise.Workspace | None = None,
) -> Tensor:
    """Mean squared error, or cross-entropy of the logits, over a training batch, shape (E,)."""
    targets = Targets(rows.design, rows.dates, rows.targets, classification)
    one_layer = len(net.sizes.hidden) == 1
    if moments is None and one_layer and len(net.factor_weight) == 1:
        call = batchwise.Call(targets, workspace or batchwise.Workspace(), EPSILON)
        return net.alone(call, rows.inputs)
    if moments is not None and one_layer:
        factors = net.factors(rows.inputs)
        return rowwise.mean_error(
            targets, net.first_layer(moments), net.output_weight, net.output_bias, factors
        )
    return errors(net, rows, moments, classification=classification).mean(dim=1)


def errors(
    net: CAENet, rows: Rows, moments: Moments | None = None, *, classification: bool
) -> Tensor:
    """Squared errors, or cross-entropies of the logits, shape (E, B); see `CAENet.betas`."""
    factors = net.factors(rows.inputs)
    betas = net.betas(rows.design, moments)
    index = rows.dates.expand(*betas.shape[:2], -1)
    scores = (betas * torch.gather(factors, 2, index)).sum(dim=1)
    targets = rows.targets.expand_as(scores)
    if classification:
        return functional.binary_cross_entropy_with_logits(scores, targets, reduction="none")
    return functional.mse_loss(scores, targets, reduction="none")


def penalty(net: CAENet, scope: str) -> Tensor:
    """Sum of absolute weights of every member, shape (E,)."""
    total = net.factor_weight.new_zeros(len(net.factor_weight))
    for weight in net.weights(scope):
        total = total + weight.abs().sum(dim=(1, 2))
    return total


def validation_loss(net: CAENet, rows: Rows, *, classification: bool) -> Tensor:
    """Mean over dates of the mean error of a date, shape (E,)."""
    counts = torch.bincount(rows.dates, minlength=len(rows.inputs))
    weights = 1.0 / (counts[rows.dates] * (counts > 0).sum())
    total = net.factor_weight.new_zeros(len(net.factor_weight))
    for block, weight in zip(rows.blocks(), torch.split(weights, BLOCK), strict=True):
        total += errors(net, block, classification=classification) @ weight.to(total.dtype)
    return total
