"""The attentive policy: temporal, lagged cross-sectional and graph attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ml4t.models.portfolio.components import (
    CrossSectionalAttention,
    Linear,
    MacroGraphAttention,
    Maker,
    TemporalBlock,
    head_weights,
)
from ml4t.models.portfolio.policies.lstm import Recurrent, mask_or_all

if TYPE_CHECKING:
    from torch import Tensor

    from ml4t.models.configs import DeepPortfolioConfig


class DeepPolicy(nn.Module):
    """The recurrent states, temporal attention, lagged cross-sectional attention, graph attention.

    Parameters
    ----------
    sizes : (N, F, G)
        Slots, features, groups.
    config : DeepPortfolioConfig
    maker : Maker
    adjacency_mask : Tensor of bool, shape (N, N), optional
        True blocks; without it there is no graph attention.

    References
    ----------
    Wood, Roberts and Zohren (2026), Deep Portfolio Management, arXiv 2601.05975.
    """

    def __init__(
        self,
        sizes: tuple[int, int, int],
        config: DeepPortfolioConfig,
        maker: Maker,
        adjacency_mask: Tensor | None = None,
    ) -> None:
        super().__init__()
        width, rate = config.d_model, config.dropout
        self.recurrent = Recurrent(
            sizes, width=width, n_layers=config.lstm_layers, config=config, maker=maker
        )
        self.noise, self._config = self.recurrent.noise, config
        self.temporal_blocks = nn.ModuleList(
            TemporalBlock(
                width,
                config.n_heads,
                hidden_mult=config.adapter_hidden_mult,
                rate=rate,
                maker=maker,
            )
            for _ in range(config.temporal_mha_layers)
        )
        self.cross_attention = CrossSectionalAttention(
            width,
            config.cross_attention_heads,
            rate,
            config.cross_attention_lag,
            noise=self.noise,
            maker=maker,
        )
        self.graph_attention: MacroGraphAttention | None = None
        if adjacency_mask is not None:
            self.graph_attention = MacroGraphAttention(
                width, config.macro_gnn_heads, rate, adjacency_mask, noise=self.noise, maker=maker
            )
        self.output_head = Linear(width, 1, maker)

    def forward(
        self,
        features: Tensor,
        *,
        mask: Tensor | None = None,
        asset_indices: Tensor,
        group_ids: Tensor | None = None,
        costs: Tensor | None = None,
    ) -> Tensor:
        """Weights (B, T, N) from features (B, T, N, F); the weights of a date see no later one."""
        tradable = mask_or_all(features, mask)
        context = self.recurrent.context_encoder(asset_indices, group_ids, costs)
        state = self.recurrent(features, tradable, context)
        allowed = None if bool(tradable.all()) else _causal_mask(tradable)
        for block in self.temporal_blocks:
            state = block(state, allowed, self.noise)
        state = self.cross_attention(state.transpose(1, 2), tradable)
        if self.graph_attention is not None:
            state = self.graph_attention(state, tradable)
        score = self.output_head(self.noise(state, self._config.dropout))[..., 0]
        return head_weights(score, tradable, self._config.head, self._config.gross_exposure)


def _causal_mask(tradable: Tensor) -> Tensor:
    """Dates that a date may attend to, shape (B N, T, T): available ones up to it, and itself."""
    by_slot = tradable.transpose(1, 2).flatten(0, 1)
    n_dates = by_slot.shape[1]
    causal = torch.ones(n_dates, n_dates, dtype=torch.bool, device=tradable.device).tril()
    itself = torch.eye(n_dates, dtype=torch.bool, device=tradable.device)
    return (causal & by_slot[:, None, :]) | itself
