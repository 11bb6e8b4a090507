"""Net returns of weights, and the objective that weights are trained for.

A missing return (NaN) at an available cell has no part in the objective: its weight trades and
pays, but the return of the date is the mean over the slots whose return is known, and a date on
which none is known is no observation, neither of the mean nor of the variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class PortfolioLossOutput:
    """The objective and its parts.

    Attributes
    ----------
    loss : Tensor, shape ()
        Minus the objective.
    sharpe_pool : Tensor, shape ()
        Annualised Sharpe ratio of all periods of all windows.
    softmin_sharpe : Tensor, shape ()
        Soft minimum of the windows' Sharpe ratios.
    objective : Tensor, shape ()
    net_returns : Tensor, shape (B, T)
        Per period, burn-in included; NaN where no return is known.
    """

    loss: Tensor
    sharpe_pool: Tensor
    softmin_sharpe: Tensor
    objective: Tensor
    net_returns: Tensor


def observed_dates(forward_returns: Tensor, mask: Tensor | None) -> Tensor:
    """Mark the dates with a known return, or with no slot to hold, whose return is 0; (B, T).

    Parameters
    ----------
    forward_returns : Tensor, shape (B, T, N)
    mask : Tensor of bool, shape (B, T, N), or None
    """
    known = ~torch.isnan(forward_returns)
    if mask is None:
        return known.any(dim=2)
    return (known & mask.bool()).any(dim=2) | ~mask.bool().any(dim=2)


def compute_net_portfolio_returns(
    *,
    weights: Tensor,
    forward_returns: Tensor,
    vol_scale: Tensor | None,
    mask: Tensor | None,
    costs: Tensor | None,
    gamma_cost: float,
    prev_weights: Tensor | None = None,
    turnover_penalty: float = 0.0,
) -> Tensor:
    r"""Mean return of the tradable slots after costs.

    With positions :math:`s_{ti} = v_{ti}w_{ti}a_{ti}`, :math:`s_0` the previous weights,
    :math:`n_t = \max(\sum_i a_{ti}, 1)`, :math:`k_{ti} = a_{ti}` where the return is known
    and 0 where it is missing, and :math:`m_t = \max(\sum_i k_{ti}, 1)`:

    .. math:: x_t = \frac{1}{m_t}\sum_i k_{ti}w_{ti}r_{ti}
        - \frac{1}{n_t}\sum_i(\gamma c_i + \kappa)\,|s_{ti} - s_{t-1,i}|

    A slot that leaves the universe is closed and pays for it; one that comes back starts from flat.

    Parameters
    ----------
    weights, forward_returns : Tensor, shape (B, T, N)
        Values at masked cells are never used, nor do gradients come from there. A return that is
        NaN is missing.
    vol_scale : Tensor, shape (B, T, N), or None
        Positions per unit of weight, :math:`v`; 1 when None.
    mask : Tensor of bool, shape (B, T, N), or None
        :math:`a`; all available when None.
    costs : Tensor, shape (N,) or (N, 1), or None
        :math:`c`, per unit traded; 0 when None.
    gamma_cost : float
    prev_weights : Tensor, shape (B, N), or None
        Positions before the first period; flat when None.
    turnover_penalty : float, default 0.0
        :math:`\kappa`.

    Returns
    -------
    Tensor, shape (B, T)
        NaN at dates that are not among the `observed_dates`.
    """
    observed = observed_dates(forward_returns, mask)
    tradable = torch.ones_like(weights, dtype=torch.bool) if mask is None else mask.bool()
    nothing = weights.new_zeros(())
    book = torch.where(tradable, weights, nothing)
    n_tradable = tradable.sum(dim=2).clamp(min=1).to(weights.dtype)
    known = tradable & ~torch.isnan(forward_returns)
    n_known = known.sum(dim=2).clamp(min=1).to(weights.dtype)
    gross = (book * torch.where(known, forward_returns, nothing)).sum(dim=2) / n_known
    gross = torch.where(observed, gross, weights.new_full((), math.nan))
    if costs is None and turnover_penalty == 0.0:
        return gross
    position = book
    if vol_scale is not None:
        position = book * torch.where(tradable, vol_scale, nothing)
    start = torch.zeros_like(position[:, 0]) if prev_weights is None else prev_weights
    traded = (position - torch.cat([start[:, None], position[:, :-1]], dim=1)).abs()
    if costs is None:
        return gross - turnover_penalty * traded.sum(dim=2) / n_tradable
    price = gamma_cost * costs.reshape(-1).to(weights.dtype) + turnover_penalty
    return gross - (traded * price).sum(dim=2) / n_tradable


def sharpe_ratio(
    returns: Tensor,
    *,
    annualization_factor: float,
    eps: float,
    dim: int | None = None,
    observed: Tensor | None = None,
) -> Tensor:
    """Annualised mean over the root of population variance plus `eps`, over `dim` or everything.

    Only the `observed` returns count; all of them where None.
    """
    dims = tuple(range(returns.dim())) if dim is None else (dim,)
    if observed is None:
        mean, variance = returns.mean(dim=dims), returns.var(dim=dims, correction=0)
    else:
        nothing = returns.new_zeros(())
        count = observed.sum(dim=dims, keepdim=True).clamp(min=1)
        values = torch.where(observed, returns, nothing)
        centre = values.sum(dim=dims, keepdim=True) / count
        deviation = torch.where(observed, values - centre, nothing)
        mean = centre.squeeze(dims)
        variance = (deviation.square().sum(dim=dims, keepdim=True) / count).squeeze(dims)
    return math.sqrt(annualization_factor) * mean / (variance + eps).sqrt()


def softmin_sharpe(window_sharpes: Tensor, *, tau: float) -> Tensor:
    r"""Soft minimum :math:`-\tau\log\frac1B\sum_b e^{-S_b/\tau}`, between minimum and mean.

    Parameters
    ----------
    window_sharpes : Tensor, shape (B,)
    tau : float
        Temperature: the minimum as it goes to 0, the mean as it grows.

    Returns
    -------
    Tensor, shape ()
    """
    count = math.log(window_sharpes.numel())
    return -tau * (torch.logsumexp(-window_sharpes.reshape(-1) / tau, dim=0) - count)


def objective_of_returns(
    net_returns: Tensor,
    *,
    annualization_factor: float,
    sharpe_eps: float,
    softmin_tau: float,
    softmin_lambda: float,
    burn_in: int,
    observed: Tensor | None = None,
) -> PortfolioLossOutput:
    """Pooled Sharpe ratio plus the soft minimum of the windows'.

    Parameters
    ----------
    net_returns : Tensor, shape (B, T)
    annualization_factor, sharpe_eps, softmin_tau, softmin_lambda : float
    burn_in : int
        First periods that are left out.
    observed : Tensor of bool, shape (B, T), or None
        Dates that count; all of them where None. A window without one has no Sharpe ratio.

    Raises
    ------
    ValueError
        When the burn-in leaves nothing, or no date that counts.
    """
    if burn_in >= net_returns.shape[1]:
        raise ValueError(
            f"burn_in must be less than the {net_returns.shape[1]} periods of a window; "
            f"got {burn_in}"
        )
    kept = net_returns[:, burn_in:]
    rule = partial(sharpe_ratio, annualization_factor=annualization_factor, eps=sharpe_eps)
    if observed is None:
        pooled, by_window = rule(kept), rule(kept, dim=1)
    else:
        counted = observed[:, burn_in:]
        values = counted.any(dim=1)
        if not bool(values.any()):
            raise ValueError(f"no return is known after the burn-in of {burn_in} periods")
        pooled = rule(kept, observed=counted)
        by_window = rule(kept[values], dim=1, observed=counted[values])
    worst = softmin_sharpe(by_window, tau=softmin_tau)
    objective = pooled + softmin_lambda * worst
    return PortfolioLossOutput(-objective, pooled, worst, objective, net_returns)


def robust_sharpe_loss(
    *,
    weights: Tensor,
    forward_returns: Tensor,
    vol_scale: Tensor | None,
    mask: Tensor | None,
    costs: Tensor | None,
    gamma_cost: float,
    annualization_factor: float,
    sharpe_eps: float,
    softmin_tau: float,
    softmin_lambda: float,
    burn_in: int = 0,
    prev_weights: Tensor | None = None,
    turnover_penalty: float = 0.0,
) -> PortfolioLossOutput:
    """Objective of weights: `compute_net_portfolio_returns`, then `objective_of_returns`."""
    net = compute_net_portfolio_returns(
        weights=weights,
        forward_returns=forward_returns,
        vol_scale=vol_scale,
        mask=mask,
        costs=costs,
        gamma_cost=gamma_cost,
        prev_weights=prev_weights,
        turnover_penalty=turnover_penalty,
    )
    return objective_of_returns(
        net,
        annualization_factor=annualization_factor,
        sharpe_eps=sharpe_eps,
        softmin_tau=softmin_tau,
        softmin_lambda=softmin_lambda,
        burn_in=burn_in,
        observed=observed_dates(forward_returns, mask),
    )
