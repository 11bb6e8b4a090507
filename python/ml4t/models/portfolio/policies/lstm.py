"""The recurrent policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ml4t.models.portfolio.components import (
    Linear,
    Maker,
    Noise,
    StaticContext,
    VariableSelection,
    head_weights,
    layer_norm,
)
from ml4t.models.training import initialization as initial

if TYPE_CHECKING:
    from torch import Tensor

    from ml4t.models.configs import LSTMPortfolioConfig
    from ml4t.models.configs.portfolio import NeuralPortfolioConfig


class Recurrent(nn.Module):
    """Context, FiLM, variable selection and an LSTM: the part that policies share."""

    def __init__(
        self,
        sizes: tuple[int, int, int],
        *,
        width: int,
        n_layers: int,
        config: NeuralPortfolioConfig,
        maker: Maker,
    ) -> None:
        super().__init__()
        n_assets, n_features, n_groups = sizes
        self.context_encoder = StaticContext(n_assets, n_groups, config=config, maker=maker)
        n_context = self.context_encoder.width
        self.film = Linear(n_context, 2 * n_features, maker)
        self.variable_selection = VariableSelection(
            n_features, width, n_context, config=config, maker=maker
        )
        self.h0_projection = Linear(n_context, n_layers * width, maker)
        self.c0_projection = Linear(n_context, n_layers * width, maker)
        self.lstm = nn.ModuleList(
            initial.lstm(width, width, maker.source, device=maker.device, dtype=maker.dtype)
            for _ in range(n_layers)
        )
        self.noise = Noise()
        self._rate = config.dropout

    def forward(self, features: Tensor, mask: Tensor, context: Tensor) -> Tensor:
        """Map features (B, T, N, F) to states (B, N, T, d); masked cells are never read."""
        x = torch.where(mask[..., None], features, features.new_zeros(())).transpose(1, 2)
        scale, shift = self.film(context).chunk(2, dim=1)
        x = x * (1.0 + scale[:, None]) + shift[:, None]
        x = self.variable_selection(x, context, self.noise)
        n_windows = x.shape[0]
        start_h = torch.tanh(self.h0_projection(context)).chunk(len(self.lstm), dim=1)
        start_c = torch.tanh(self.c0_projection(context)).chunk(len(self.lstm), dim=1)
        for place, layer in enumerate(self.lstm):
            if place:
                x = self.noise(x, self._rate)
            starts = [
                start[place].repeat(n_windows, 1)[None].contiguous() for start in (start_h, start_c)
            ]
            hidden: Tensor = layer(x.flatten(0, 1), tuple(starts))[0]
            x = hidden.view_as(x)
        return x


class LSTMPolicy(nn.Module):
    """Static context, FiLM, variable selection, LSTM, layer norm, head.

    Parameters
    ----------
    sizes : (N, F, G)
        Slots, features, groups.
    config : LSTMPortfolioConfig
    maker : Maker
    """

    def __init__(
        self, sizes: tuple[int, int, int], config: LSTMPortfolioConfig, maker: Maker
    ) -> None:
        super().__init__()
        width = config.hidden_size
        self.recurrent = Recurrent(
            sizes, width=width, n_layers=config.n_layers, config=config, maker=maker
        )
        self.output_norm = layer_norm(width, maker)
        self.output_head = Linear(width, 1, maker)
        self.noise, self._config = self.recurrent.noise, config

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
        state = self.output_norm(self.recurrent(features, tradable, context))
        score = self.output_head(self.noise(state, self._config.dropout))[..., 0].transpose(1, 2)
        return head_weights(score, tradable, self._config.head, self._config.gross_exposure)


def mask_or_all(features: Tensor, mask: Tensor | None) -> Tensor:
    """Mask (B, T, N) as bool; all true when None."""
    if mask is None:
        return torch.ones(features.shape[:3], dtype=torch.bool, device=features.device)
    return mask.bool()
