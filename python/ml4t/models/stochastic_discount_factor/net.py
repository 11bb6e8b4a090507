"""The networks of Chen, Pelger and Zhu (2024): weights, and the moments they must price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ml4t.models.stochastic_discount_factor import fused_layers as feedforward
from ml4t.models.stochastic_discount_factor.fused_layers import Call, Workspace
from ml4t.models.training import initialization as initial
from ml4t.models.training.noise import dropout

if TYPE_CHECKING:
    from ml4t.models.stochastic_discount_factor.fused_layers import Rows


@dataclass(frozen=True, slots=True)
class Widths:
    """Sizes of a network.

    Attributes
    ----------
    n_characteristics : int
        L.
    n_context : int
        Q; 0 means that there is no recurrent part.
    state : int
        Of the recurrent part.
    out : int
        Hidden units of the weight network, instruments of the moment network.
    """

    n_characteristics: int
    n_context: int
    state: int
    out: int


class _Conditioned(nn.Module):
    """A first layer on characteristics and the state of an LSTM over the context.

    The state's share of the layer is computed once per date: it is never tiled to the assets.
    """

    def __init__(self, widths: Widths, source: torch.Generator, dtype: torch.dtype) -> None:
        super().__init__()
        device = source.device
        n_chars, n_state = widths.n_characteristics, widths.state if widths.n_context else 0
        self.lstm = (
            initial.lstm(widths.n_context, n_state, source, device=device, dtype=dtype)
            if n_state
            else None
        )
        both = initial.empty(widths.out, n_chars + n_state, device=device, dtype=dtype)
        bias = initial.empty(widths.out, device=device, dtype=dtype)
        initial.linear_(both, bias, source)
        self.weight = nn.Parameter(both.detach()[:, :n_chars].clone())
        self.state_weight = nn.Parameter(both.detach()[:, n_chars:].clone()) if n_state else None
        self.bias = nn.Parameter(bias.detach().view(-1, 1))

    def states(self, context: Tensor | None) -> Tensor:
        """States of every date, (S, T); S = 0 without a recurrence."""
        if self.lstm is None or context is None:
            return self.bias.new_empty(0, 1)
        if not len(context):  # the recurrence refuses an empty sequence
            return context.new_empty(self.lstm.hidden_size, 0)
        states: Tensor = self.lstm(context.unsqueeze(0))[0][0]
        return states.T

    def joined(self) -> Tensor:
        """Weights of characteristics, of one, and of states: (out, L + 1 + S)."""
        parts: list[Tensor] = [self.weight, self.bias]
        if self.state_weight is not None:
            parts.append(self.state_weight)
        return torch.cat(parts, dim=1)

    def by_date(self, context: Tensor | None) -> Tensor:
        """Contribution of the context (T, Q) to the first layer, (out, T) or (out, 1)."""
        if self.state_weight is None:
            return self.bias
        return torch.addmm(self.bias, self.state_weight, self.states(context))


class WeightNet(nn.Module):
    """One number per cell: portfolio weights, or the betas of the beta head.

    Parameters
    ----------
    widths : Widths
    source : torch.Generator
        Of the initial parameters; its device is the network's.
    dtype : torch.dtype
    """

    def __init__(self, widths: Widths, source: torch.Generator, dtype: torch.dtype) -> None:
        super().__init__()
        hidden, device = widths.out, source.device
        self.first = _Conditioned(widths, source, dtype)
        self.second_weight = initial.empty(hidden, hidden, device=device, dtype=dtype)
        self.second_bias = initial.empty(hidden, 1, device=device, dtype=dtype)
        initial.linear_(self.second_weight, self.second_bias, source)
        self.last_weight = initial.empty(1, hidden, device=device, dtype=dtype)
        self.last_bias = initial.empty(1, device=device, dtype=dtype)
        initial.linear_(self.last_weight, self.last_bias, source)

    def _parameters_at(self, context: Tensor | None) -> tuple[Tensor, ...]:
        return (
            self.first.states(context),
            self.first.joined(),
            self.second_weight,
            self.second_bias,
            self.last_weight,
            self.last_bias,
        )

    def train_on(
        self,
        rows: Rows,
        context: Tensor | None,
        workspace: Workspace,
        *,
        rate: float,
        source: torch.Generator,
    ) -> Tensor:
        """Values with dropout and gradient, shape (R,)."""
        call = Call(rows, workspace, rate, source)
        return feedforward.feedforward(call, *self._parameters_at(context))

    @torch.no_grad()
    def read(self, rows: Rows, context: Tensor | None) -> Tensor:
        """Values without dropout and gradient, shape (R,)."""
        return feedforward.evaluate(rows, *self._parameters_at(context))


class MomentNet(nn.Module):
    """Instruments in (-1, 1): one layer, tanh, dropout.

    Parameters
    ----------
    widths : Widths
    source : torch.Generator
    dtype : torch.dtype
    """

    def __init__(self, widths: Widths, source: torch.Generator, dtype: torch.dtype) -> None:
        super().__init__()
        self.first = _Conditioned(widths, source, dtype)

    def forward(
        self, rows: Rows, context: Tensor | None, *, rate: float, source: torch.Generator | None
    ) -> Tensor:
        """Instruments of every cell, shape (D, R); no dropout without a source."""
        raw = self.first.weight @ rows.characteristics.T
        shift = self.first.by_date(context)
        if shift.shape[1] > 1:
            shift = torch.gather(shift, 1, rows.dates.expand(len(shift), -1))
        return dropout(torch.tanh(raw + shift), rate, source)
