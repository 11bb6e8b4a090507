"""The loss of a policy on windows, with an exact gradient however the windows are cut.

The pooled Sharpe ratio does not decompose over windows, so gradients of chunks cannot simply be
added. But the loss depends on the weights through the net returns x alone, a (B, T) array: a first
pass computes x and dL/dx without keeping any graph, a second runs each chunk once more and pushes
its share of dL/dx back. Memory is that of one chunk.

References
----------
Wood, Roberts and Zohren (2026), Deep Portfolio Management, arXiv 2601.05975, two-pass gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ml4t.models.portfolio.base import available, require_finite_features
from ml4t.models.portfolio.components import Noise
from ml4t.models.portfolio.losses import (
    PortfolioLossOutput,
    compute_net_portfolio_returns,
    objective_of_returns,
    observed_dates,
)
from ml4t.models.training.device import to_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from ml4t.models.configs.portfolio import PortfolioConfig
    from ml4t.models.types import PortfolioSequenceBatch

# Cells of one forward pass on a CPU. Tensors of more rows leave the cache, and from 32 MiB on the
# system hands out fresh pages for every one of them: half of the time of a step.
_PIECE = 1 << 13


@dataclass(frozen=True, slots=True)
class Windows:
    """A batch as tensors: arrays of every window, then arrays that windows share.

    Attributes
    ----------
    features : Tensor, shape (B, T, N, F)
    mask : Tensor of bool, shape (B, T, N)
    returns, vol_scale : Tensor, shape (B, T, N), or None
    prev_weights : Tensor, shape (B, N), or None
    group_ids : Tensor of int64, shape (N,), or None
    costs : Tensor, shape (N, 1), or None
    observed : Tensor of bool, shape (B, T), or None
        Dates that the objective counts; None for all of them.
    """

    features: Tensor
    mask: Tensor
    returns: Tensor | None
    vol_scale: Tensor | None
    prev_weights: Tensor | None
    group_ids: Tensor | None
    costs: Tensor | None
    observed: Tensor | None = None

    def take(self, windows: Tensor | slice) -> Windows:
        """Take some of the windows."""

        def cut(array: Tensor | None) -> Tensor | None:
            return None if array is None else array[windows]

        return replace(
            self,
            features=self.features[windows],
            mask=self.mask[windows],
            returns=cut(self.returns),
            vol_scale=cut(self.vol_scale),
            prev_weights=cut(self.prev_weights),
            observed=cut(self.observed),
        )

    def __len__(self) -> int:
        return self.features.shape[0]


def windows_of(
    batch: PortfolioSequenceBatch,
    *,
    device: torch.device,
    dtype: torch.dtype,
    group_ids: NDArray[np.int64] | None,
    costs: NDArray[Any] | None,
) -> Windows:
    """Hand a batch to torch. A return that is missing at an available cell has no part in the loss.

    Raises
    ------
    ValueError
        When a feature is not finite at an available cell.
    """
    tradable = available(batch)
    require_finite_features(batch, tradable)

    def tensor(array: NDArray[Any] | None) -> Tensor | None:
        return None if array is None else to_tensor(array, device=device, dtype=dtype)

    features = tensor(batch.features)
    if features is None:
        raise TypeError("features must be an array; got None")
    mask, returns = to_tensor(tradable, device=device), tensor(_known(batch.returns))
    observed = None if returns is None else observed_dates(returns, mask)
    return Windows(
        features,
        mask,
        returns,
        tensor(batch.vol_scale),
        tensor(batch.prev_weights),
        None if group_ids is None else to_tensor(group_ids, device=device),
        tensor(costs),
        None if observed is None or bool(observed.all()) else observed,
    )


def _known(returns: NDArray[Any] | None) -> NDArray[Any] | None:
    """Mark missing returns by NaN; infinite returns are missing, as for all models."""
    if returns is None or not np.isinf(returns).any():
        return returns
    return np.where(np.isinf(returns), np.nan, returns)


def weights_of(policy: nn.Module, data: Windows) -> Tensor:
    """Weights (B, T, N) that a policy chooses."""
    indices = torch.arange(data.features.shape[2], device=data.features.device)
    weights: Tensor = policy(
        data.features,
        mask=data.mask,
        asset_indices=indices,
        group_ids=data.group_ids,
        costs=data.costs,
    )
    return weights


def net_returns_of(policy: nn.Module, data: Windows, config: PortfolioConfig) -> Tensor:
    """Net returns (B, T) of the weights that a policy chooses."""
    if data.returns is None:
        raise ValueError("the objective requires returns; the batch has none")
    return compute_net_portfolio_returns(
        weights=weights_of(policy, data),
        forward_returns=data.returns,
        vol_scale=data.vol_scale,
        mask=data.mask,
        costs=data.costs,
        gamma_cost=config.gamma_cost,
        prev_weights=data.prev_weights,
        turnover_penalty=config.turnover_penalty,
    )


def score(
    net_returns: Tensor, config: PortfolioConfig, observed: Tensor | None
) -> PortfolioLossOutput:
    """Objective of net returns (B, T) under a config, over the observed dates."""
    return objective_of_returns(
        net_returns,
        annualization_factor=config.annualization_factor,
        sharpe_eps=config.sharpe_eps,
        softmin_tau=config.softmin_tau,
        softmin_lambda=config.softmin_lambda,
        burn_in=config.burn_in,
        observed=observed,
    )


@dataclass(frozen=True, slots=True)
class Objective:
    """A policy, the windows it is trained on, and how they are cut.

    Attributes
    ----------
    policy : nn.Module
        Called `policy(features, *, mask, asset_indices, group_ids, costs)`. If it has a `noise`
        (see `components.Noise`), the same dropout is drawn in both passes.
    data : Windows
    config : PortfolioConfig
    """

    policy: nn.Module
    data: Windows
    config: PortfolioConfig

    def loss(self, step: int, windows: Tensor) -> PortfolioLossOutput:
        """Loss of some windows, whose gradient is exact, in chunks of `batch_size`."""
        parts = torch.split(windows, self.config.batch_size)
        observed = None if self.data.observed is None else self.data.observed[windows]
        if len(parts) == 1:
            return score(self._net_returns(parts[0], step), self.config, observed)
        parameters = [p for p in self.policy.parameters() if p.requires_grad]

        def net_of(part: Tensor) -> Tensor:
            return self._net_returns(part, step)

        net: Tensor = _TwoPass.apply(net_of, parts, *parameters)
        return score(net, self.config, observed)

    def counts(self, windows: Tensor) -> bool:
        """Whether any date of these windows counts."""
        observed = self.data.observed
        return observed is None or bool(observed[windows, self.config.burn_in :].any())

    def net_returns(self) -> Iterator[Tensor]:
        """Net returns of all windows, piece by piece, without dropout."""
        for part in torch.split(torch.arange(len(self.data)), self.config.batch_size):
            for piece in self._pieces(part):
                yield net_returns_of(self.policy, self.data.take(piece), self.config)

    def _net_returns(self, windows: Tensor, step: int) -> Tensor:
        parts = [self._net_returns_of_piece(piece, step) for piece in self._pieces(windows)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _net_returns_of_piece(self, windows: Tensor, step: int) -> Tensor:
        noise = getattr(self.policy, "noise", None)
        if isinstance(noise, Noise) and self.policy.training:
            device = self.data.features.device
            noise.draw_for(windows.tolist(), self.config.seed, step, device)
        try:
            return net_returns_of(self.policy, self.data.take(windows), self.config)
        finally:
            if isinstance(noise, Noise):
                noise.rest()

    def _pieces(self, windows: Tensor) -> tuple[Tensor, ...]:
        """Cut windows to the size of a processor's cache; another device takes them whole."""
        _, n_dates, n_assets, _ = self.data.features.shape
        if self.data.features.device.type != "cpu":
            return (windows,)
        return torch.split(windows, max(1, _PIECE // max(n_dates * n_assets, 1)))


class _TwoPass(torch.autograd.Function):
    """Net returns of all chunks, whose graphs are built in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        net_of: Callable[[Tensor], Tensor],
        parts: tuple[Tensor, ...],
        *parameters: Tensor,
    ) -> Tensor:
        ctx.net_of, ctx.parts, ctx.parameters = net_of, parts, parameters
        with torch.no_grad():
            return torch.cat([net_of(part) for part in parts])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        totals: list[Tensor | None] = [None] * len(ctx.parameters)
        at = 0
        for part in ctx.parts:
            with torch.enable_grad():
                net = ctx.net_of(part)
            share = gradients[0][at : at + len(part)]
            at += len(part)
            parts = torch.autograd.grad(net, ctx.parameters, share, allow_unused=True)
            totals = [
                new if old is None else old if new is None else old.add_(new)
                for old, new in zip(totals, parts, strict=True)
            ]
        return (None, None, *totals)
