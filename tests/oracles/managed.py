"""Managed portfolios by numpy's least squares, date by date."""

from __future__ import annotations

import numpy as np


def managed_portfolios(characteristics, returns, usable):
    """Shortest least-squares coefficients on [characteristics, 1], shape (T, L + 1)."""
    n_dates, _, n_chars = characteristics.shape
    out = np.zeros((n_dates, n_chars + 1))
    for t in range(n_dates):
        z = characteristics[t, usable[t]].astype(np.float64)
        if len(z):
            z = np.column_stack([z, np.ones(len(z))])
            r = returns[t, usable[t]].astype(np.float64)
            out[t] = np.linalg.lstsq(z, r, rcond=None)[0]
    return out
