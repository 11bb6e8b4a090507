r"""Pricing errors and the portfolio of a stochastic discount factor :math:`M_t = 1 - w_t'R_t`.

A moment is the time average of :math:`M_tR_{it}h_{d,it}` over the dates with a cell of asset i;
the loss is the mean of squared moments, each asset weighted by the share of those dates:

.. math:: \frac1D\sum_d\frac1N\sum_i\frac{T_i}{\max_jT_j}
          \Big(\frac1{T_i}\sum_{t\in T_i}M_tR_{it}h_{d,it}\Big)^2
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ml4t.models.stochastic_discount_factor.fused_layers import Rows


MIN_DEVIATION = 1e-8


@dataclass(frozen=True, slots=True)
class Panel:
    r"""The cells of a batch from which moments are taken.

    Attributes
    ----------
    rows : Rows
        Characteristics and dates of R cells.
    assets : Tensor of int64, shape (R,)
        Column of each cell, counted among assets with at least one cell.
    returns : Tensor, shape (R,)
    context : Tensor, shape (T, Q), or None
    present : Tensor of int64
        Dates with at least one cell.
    weights : Tensor, shape (N,)
        :math:`1/(N T_i\max_jT_j)`: what a squared sum over dates counts in the loss.
    n_dates : int
        T.
    """

    rows: Rows
    assets: Tensor
    returns: Tensor
    context: Tensor | None
    present: Tensor
    weights: Tensor
    n_dates: int

    @classmethod
    def of(
        cls, rows: Rows, assets: Tensor, returns: Tensor, context: Tensor | None, n_dates: int
    ) -> Panel:
        """Count dates and assets. Assets and dates without cells do not count."""
        _, column, counts = torch.unique(assets, return_inverse=True, return_counts=True)
        weights = 1.0 / (len(counts) * counts * counts.max()).to(returns.dtype)
        present = torch.unique(rows.dates)
        return cls(rows, column, returns, context, present, weights, n_dates)

    def portfolio(self, weights: Tensor) -> Tensor:
        """Portfolio return :math:`w_t'R_t` of every date, shape (T,), from weights (R,)."""
        out = self.returns.new_zeros(self.n_dates)
        return out.scatter_add(0, self.rows.dates, weights * self.returns)

    def discount_factor(self, weights: Tensor) -> Tensor:
        """M of every date, shape (T,)."""
        return 1.0 - self.portfolio(weights)

    def loss(self, sdf: Tensor, payoffs: Tensor | None = None) -> Tensor:
        """Mean squared pricing error.

        Parameters
        ----------
        sdf : Tensor, shape (T,)
        payoffs : Tensor, shape (D, R), optional
            Returns times instruments; the returns themselves when left out (unconditional).
        """
        what = self.returns.unsqueeze(0) if payoffs is None else payoffs
        discounted = torch.gather(sdf, 0, self.rows.dates) * what
        sums = discounted.new_zeros(len(what), len(self.weights))
        sums = sums.scatter_add(1, self.assets.expand_as(discounted), discounted)
        return (sums.square() @ self.weights).mean()

    def sharpe(self, sdf: Tensor) -> Tensor:
        """Sharpe ratio per period of :math:`1 - M` over dates with cells; 0 if not finite."""
        returns = 1.0 - sdf[self.present]
        deviation = returns.std(unbiased=False).clamp_min(MIN_DEVIATION)
        return torch.nan_to_num(returns.mean() / deviation, nan=0.0, posinf=0.0, neginf=0.0)
