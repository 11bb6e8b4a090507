"""Ranks by counting, correlations by the textbook formula."""

from __future__ import annotations

import numpy as np


def average_ranks(values):
    """Rank along axis 1: values below, plus half of the equal ones, the value itself included."""
    if values.ndim == 3:
        return np.stack([average_ranks(values[..., k]) for k in range(values.shape[2])], axis=2)
    ranks = np.full(values.shape, np.nan)
    for t, i in zip(*np.nonzero(~np.isnan(values)), strict=True):
        x = values[t, i]
        ranks[t, i] = (values[t] < x).sum() + 0.5 * ((values[t] == x).sum() + 1)
    return ranks


def scaled_ranks(values):
    """(rank - 1) / (n - 1) - 0.5, and 0 for a single value."""
    n = (~np.isnan(values)).sum(axis=1, keepdims=True)
    scaled = (average_ranks(values) - 1) / np.maximum(n - 1, 1) - 0.5
    return np.where((n == 1) & ~np.isnan(values), 0.0, scaled)


def correlation(a, b, mask):
    """Pearson, date by date."""
    out = np.full(len(a), np.nan)
    for t in range(len(a)):
        seen = mask[t] & np.isfinite(a[t]) & np.isfinite(b[t])
        x, y = a[t, seen].astype(np.float64), b[t, seen].astype(np.float64)
        if len(x) >= 2 and np.ptp(x) > 0 and np.ptp(y) > 0:
            x, y = x - x.mean(), y - y.mean()
            out[t] = (x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum())
    return out


def cross_sectional_ranks(characteristics):
    """Scaled ranks of one date, what is not finite in the middle."""
    known = np.where(np.isfinite(characteristics), characteristics, np.nan)
    return np.nan_to_num(scaled_ranks(known[None])[0])
