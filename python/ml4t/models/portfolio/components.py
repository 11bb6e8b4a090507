"""Parts of the policies: context, variable selection, attention, heads.

Axes: `B` windows, `T` dates, `N` slots, `F` features, `d` width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as fn
from torch import nn

from ml4t.models.training import initialization as initial
from ml4t.models.training.device import generator, resolve_device, resolve_dtype
from ml4t.models.training.noise import dropout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ml4t.models.configs.portfolio import NeuralPortfolioConfig


@dataclass(frozen=True, slots=True)
class Maker:
    """Device, dtype and random source of parameters."""

    source: torch.Generator
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, config: NeuralPortfolioConfig) -> Maker:
        """Draw from the config's seed, on its device and in its dtype."""
        device = resolve_device(config.device)
        return cls(generator(config.seed, device), device, resolve_dtype(config.dtype))

    @classmethod
    def default(cls) -> Maker:
        """Draw from seed 0 on the CPU."""
        source = torch.Generator().manual_seed(0)
        return cls(source, torch.device("cpu"), torch.get_default_dtype())

    def empty(self, *shape: int) -> nn.Parameter:
        """Make a parameter to be filled."""
        return initial.empty(*shape, device=self.device, dtype=self.dtype)


class Linear(nn.Module):
    """An affine map with parameters from `initial.linear_`."""

    def __init__(self, n_in: int, n_out: int, maker: Maker) -> None:
        super().__init__()
        self.weight, self.bias = maker.empty(n_out, n_in), maker.empty(n_out)
        initial.linear_(self.weight, self.bias, maker.source)

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis."""
        return fn.linear(x, self.weight, self.bias)


def layer_norm(width: int, maker: Maker) -> nn.LayerNorm:
    """Make a layer norm, which draws nothing."""
    return nn.LayerNorm(width, device=maker.device, dtype=maker.dtype)


class Noise:
    """Dropout drawn window by window, so that it does not depend on how windows are batched.

    Silent until `draw_for` names the windows, and again after `rest`.
    """

    def __init__(self) -> None:
        self._sources: list[torch.Generator] = []

    def draw_for(self, windows: Sequence[int], seed: int, step: int, device: torch.device) -> None:
        """Start the streams of these windows at this step."""
        self._sources = [
            torch.Generator(device=device).manual_seed(_stream(seed, step, int(window)))
            for window in windows
        ]

    def rest(self) -> None:
        """Drop nothing any more."""
        self._sources = []

    def __call__(self, x: Tensor, rate: float) -> Tensor:
        """Drop elements of x, shape (B, ...), with probability `rate`."""
        if not self._sources or rate == 0.0:
            return x
        parts = [dropout(one, rate, g) for one, g in zip(x, self._sources, strict=True)]
        return torch.stack(parts)


def _stream(seed: int, step: int, window: int) -> int:
    """Give every window a seed of its own at every step."""
    return ((seed * 1_000_003 + step) * 1_000_003 + window) % (1 << 63)


class StaticContext(nn.Module):
    """Static context of a slot: its embedding, and those of its group and its cost."""

    def __init__(self, n_assets: int, n_groups: int, *, config: Any, maker: Maker) -> None:
        super().__init__()
        self.asset_embedding = maker.empty(n_assets, config.asset_embedding_dim)
        self.asset_embedding.data.normal_(generator=maker.source)
        self.group_embedding: nn.Parameter | None = None
        self.width = config.asset_embedding_dim + int(config.use_cost_in_context)
        if config.use_group_embedding:
            self.group_embedding = maker.empty(n_groups, config.group_embedding_dim)
            self.group_embedding.data.normal_(generator=maker.source)
            self.width += config.group_embedding_dim
        self._with_costs = config.use_cost_in_context

    def forward(
        self, asset_indices: Tensor, group_ids: Tensor | None, costs: Tensor | None
    ) -> Tensor:
        """Context of every slot, shape (N, width)."""
        parts: list[Tensor] = [self.asset_embedding[asset_indices]]
        if self.group_embedding is not None and group_ids is not None:
            parts.append(self.group_embedding[group_ids])
        if self._with_costs and costs is not None:
            parts.append(costs.reshape(-1, 1).to(parts[0].dtype))
        return torch.cat(parts, dim=1)


class VariableSelection(nn.Module):
    r"""Softmax weights over features, and the weighted sum of their embeddings.

    .. math:: \sum_f \pi_f (x_f W_f + b_f) = (\pi \circ x) W + \pi b

    so that no (B, N, T, F, d) tensor is made; the context's share of the selector is computed once
    per slot.
    """

    def __init__(self, n_features: int, width: int, context: int, *, config: Any, maker: Maker):
        super().__init__()
        self.feature_weight = maker.empty(n_features, width)
        self.feature_bias = maker.empty(n_features, width)
        initial.uniform_(self.feature_weight, 1.0, maker.source)
        initial.uniform_(self.feature_bias, 1.0, maker.source)
        self.selector_in = Linear(n_features + context, config.vvsn_hidden_dim, maker)
        self.selector_out = Linear(config.vvsn_hidden_dim, n_features, maker)
        self.output_norm = layer_norm(width, maker)
        self._rate = config.dropout

    def forward(self, x: Tensor, context: Tensor, noise: Noise) -> Tensor:
        """Map x (B, N, T, F) and context (N, C) to (B, N, T, d)."""
        n_features = x.shape[-1]
        weight = self.selector_in.weight
        shift = fn.linear(context, weight[:, n_features:], self.selector_in.bias)
        hidden = fn.linear(x, weight[:, :n_features]).add_(shift[:, None])
        hidden = noise(fn.elu_(hidden), self._rate)
        share = torch.softmax(self.selector_out(hidden), dim=-1)
        mixed = torch.cat([share * x, share], dim=-1)
        embedding = torch.cat([self.feature_weight, self.feature_bias])
        y: Tensor = self.output_norm(mixed @ embedding)
        return y


class Attention(nn.Module):
    """Multi-head attention over the last but one axis."""

    def __init__(self, width: int, n_heads: int, maker: Maker) -> None:
        super().__init__()
        self.in_proj_weight = maker.empty(3 * width, width)
        self.in_proj_bias = nn.Parameter(
            torch.zeros(3 * width, device=maker.device, dtype=maker.dtype)
        )
        initial.uniform_(self.in_proj_weight, (6.0 / (4 * width)) ** 0.5, maker.source)
        self.out_proj = Linear(width, width, maker)
        self._n_heads = n_heads

    def forward(
        self, query: Tensor, memory: Tensor, allowed: Tensor | None, *, causal: bool = False
    ) -> Tensor:
        """Attend from (R, Q, d) to (R, K, d); `allowed` (R or 1, Q, K) is True where it may."""
        width = query.shape[-1]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if query is memory:
            q, k, v = fn.linear(query, weight, bias).chunk(3, dim=-1)
        else:
            q = fn.linear(query, weight[:width], bias[:width])
            k, v = fn.linear(memory, weight[width:], bias[width:]).chunk(2, dim=-1)
        q, k, v = self._split(q), self._split(k), self._split(v)
        where = None if allowed is None else allowed[:, None]
        attended = fn.scaled_dot_product_attention(
            q, k, v, attn_mask=where, is_causal=causal and where is None
        )
        y: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return y

    def _split(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        return x.view(rows, length, self._n_heads, width // self._n_heads).transpose(1, 2)


class TemporalBlock(nn.Module):
    """Causal self-attention over dates, then a GELU adapter; both residual."""

    def __init__(self, width: int, n_heads: int, *, hidden_mult: int, rate: float, maker: Maker):
        super().__init__()
        self.attention = Attention(width, n_heads, maker)
        self.layer_norm = layer_norm(width, maker)
        self.adapter_in = Linear(width, hidden_mult * width, maker)
        self.adapter_out = Linear(hidden_mult * width, width, maker)
        self.adapter_norm = layer_norm(width, maker)
        self._rate = rate

    def forward(self, x: Tensor, allowed: Tensor | None, noise: Noise) -> Tensor:
        """Map x (B, N, T, d); `allowed` (B N, T, T) leaves out dates, None is causal alone."""
        rows = x.flatten(0, 1)
        attended = self.attention(rows, rows, allowed, causal=True).view_as(x)
        x = self.layer_norm(x + noise(attended, self._rate))
        adapted = self.adapter_out(noise(fn.gelu(self.adapter_in(x)), self._rate))
        y: Tensor = self.adapter_norm(x + noise(adapted, self._rate))
        return y


class CrossSectionalAttention(nn.Module):
    """Attention over assets, each seeing the others as they were `lag` dates ago.

    The first `lag` dates attend to zeros, as does a date whose lagged assets are all masked.

    Parameters
    ----------
    d_model, n_heads : int
    dropout : float
    lag : int
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        dropout: float,
        lag: int,
        *,
        noise: Noise | None = None,
        maker: Maker | None = None,
    ) -> None:
        super().__init__()
        maker = maker or Maker.default()
        self.attention = Attention(d_model, n_heads, maker)
        self.layer_norm = layer_norm(d_model, maker)
        self._rate, self._lag, self._noise = dropout, lag, noise or Noise()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map x (B, T, N, d) under a mask (B, T, N); masked slots give zeros."""
        tradable = (
            torch.ones(x.shape[:3], dtype=torch.bool, device=x.device) if mask is None else mask
        )
        tradable = tradable.bool()
        x = torch.where(tradable[..., None], x, x.new_zeros(()))
        memory, known = _delayed(x, self._lag), _delayed(tradable, self._lag)
        # A row without keys attends to the zeros that are there.
        allowed = (known | ~known.any(dim=2, keepdim=True)).flatten(0, 1)[:, None, :]
        attended = self.attention(x.flatten(0, 1), memory.flatten(0, 1), allowed).view_as(x)
        y = self.layer_norm(x + self._noise(attended, self._rate))
        return torch.where(tradable[..., None], y, y.new_zeros(()))


class MacroGraphAttention(nn.Module):
    """Attention over the assets that a graph joins, date by date.

    An asset whose neighbours are all blocked or masked attends to itself, and if it is masked too,
    to all: outputs and gradients stay finite.

    Parameters
    ----------
    d_model, n_heads : int
    dropout : float
    adjacency_mask : Tensor of bool, shape (N, N)
        True blocks.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        dropout: float,
        adjacency_mask: Tensor,
        *,
        noise: Noise | None = None,
        maker: Maker | None = None,
    ) -> None:
        super().__init__()
        maker = maker or Maker.default()
        self.attention = Attention(d_model, n_heads, maker)
        self.layer_norm = layer_norm(d_model, maker)
        blocked = torch.as_tensor(adjacency_mask, dtype=torch.bool).to(maker.device)
        self.register_buffer("_adjacency_mask_buffer", blocked, persistent=False)
        self._rate, self._noise = dropout, noise or Noise()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map x (B, T, N, d) under a mask (B, T, N); masked slots give zeros."""
        tradable = (
            torch.ones(x.shape[:3], dtype=torch.bool, device=x.device) if mask is None else mask
        )
        tradable = tradable.bool()
        x = torch.where(tradable[..., None], x, x.new_zeros(()))
        joined = ~self.get_buffer("_adjacency_mask_buffer")
        allowed = joined & tradable.flatten(0, 1)[:, None, :]
        itself = torch.eye(x.shape[2], dtype=torch.bool, device=x.device)
        itself = itself & tradable.flatten(0, 1)[:, None, :]
        allowed = torch.where(allowed.any(dim=2, keepdim=True), allowed, itself)
        allowed = allowed | ~allowed.any(dim=2, keepdim=True)
        rows = x.flatten(0, 1)
        attended = self.attention(rows, rows, allowed).view_as(x)
        y = self.layer_norm(x + self._noise(attended, self._rate))
        return torch.where(tradable[..., None], y, y.new_zeros(()))


def _delayed(x: Tensor, lag: int) -> Tensor:
    """Shift x (B, T, ...) by `lag` dates; zeros, or False, come in."""
    if lag == 0:
        return x
    late = torch.zeros_like(x)
    if lag < x.shape[1]:
        late[:, lag:] = x[:, :-lag]
    return late


def head_weights(score: Tensor, mask: Tensor, head: str, gross: float) -> Tensor:
    """Turn scores (B, T, N) into weights; 0 where the mask is false.

    `tanh`: each slot on its own, within ±1. `long_short`: scores less their cross-sectional mean,
    scaled to the gross exposure; net 0. `long_only`: a softmax times the gross exposure. A date
    whose available scores are all equal, or with one slot, holds nothing under `long_short`.
    """
    nothing = score.new_zeros(())
    if head == "tanh":
        return torch.where(mask, torch.tanh(score), nothing)
    if head == "long_only":
        # Not -inf: a date without slots would be 0 / 0.
        shifted = torch.where(mask, score, score.new_full((), torch.finfo(score.dtype).min))
        return torch.where(mask, gross * torch.softmax(shifted, dim=2), nothing)
    score = torch.where(mask, score, nothing)
    mean = score.sum(dim=2, keepdim=True) / mask.sum(dim=2, keepdim=True).clamp(min=1)
    away = torch.where(mask, score - mean, nothing)
    total = away.abs().sum(dim=2, keepdim=True)
    tiny = 4.0 * torch.finfo(score.dtype).eps * score.abs().amax(dim=2, keepdim=True)
    return torch.where(total > tiny, gross * away / torch.where(total > tiny, total, 1.0), nothing)
