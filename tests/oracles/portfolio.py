"""Slow obvious twins of the portfolio objective, slot by slot."""

from __future__ import annotations

import numpy as np


def net_returns(weights, returns, mask, price, *, vol_scale=None, previous=None):
    n_windows, n_dates, n_assets = weights.shape
    out = np.zeros((n_windows, n_dates))
    for b in range(n_windows):
        held = np.zeros(n_assets) if previous is None else previous[b].copy()
        for t in range(n_dates):
            earned, paid, n_known = 0.0, 0.0, 0
            for i in range(n_assets):
                position = 0.0
                if mask[b, t, i]:
                    if not np.isnan(returns[b, t, i]):
                        earned += weights[b, t, i] * returns[b, t, i]
                        n_known += 1
                    position = weights[b, t, i] * (1.0 if vol_scale is None else vol_scale[b, t, i])
                paid += price[i] * abs(position - held[i])
                held[i] = position
            out[b, t] = earned / max(n_known, 1) - paid / max(mask[b, t].sum(), 1)
            if mask[b, t].any() and not n_known:
                out[b, t] = np.nan
    return out


def objective(net, factor, eps, *, tau, share, burn_in):
    """Pooled Sharpe ratio plus the soft minimum of the windows', over the dates that are no NaN."""
    windows = [x[burn_in:][~np.isnan(x[burn_in:])] for x in net]
    ratios = np.array([sharpe(x, factor, eps) for x in windows if x.size])
    worst = -tau * np.log(np.mean(np.exp(-ratios / tau)))
    return sharpe(np.concatenate(windows), factor, eps) + share * worst


def sharpe(x, factor, eps):
    return np.sqrt(factor) * x.mean() / np.sqrt(x.var() + eps)


def sharpe_gradient(x, factor, eps):
    """Closed form of the derivative of the Sharpe ratio by every return."""
    n, mean, scale = x.size, x.mean(), np.sqrt(x.var() + eps)
    return np.sqrt(factor) * (1.0 / (n * scale) - mean * (x - mean) / (n * scale**3))
