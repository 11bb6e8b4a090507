"""Per-date moments, from the definition, one row at a time."""

from __future__ import annotations

import numpy as np


def panel_moments(characteristics, returns, mask, *, constant):
    """Return n (T,), Z'Z (T, P, P), Z'r (T, P), r'r (T,) in float64."""
    n_dates, n_assets, n_chars = characteristics.shape
    p = n_chars + constant
    n, gram = np.zeros(n_dates, dtype=int), np.zeros((n_dates, p, p))
    cross, squares = np.zeros((n_dates, p)), np.zeros(n_dates)
    for t in range(n_dates):
        for i in range(n_assets):
            z = np.asarray(characteristics[t, i], dtype=np.float64)
            r = float(returns[t, i])
            if not (mask[t, i] and np.isfinite(r) and np.isfinite(z).all()):
                continue
            if constant:
                z = np.concatenate([[1.0], z])
            n[t] += 1
            gram[t] += np.outer(z, z)
            cross[t] += z * r
            squares[t] += r * r
    return n, gram, cross, squares
