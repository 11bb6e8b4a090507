"""Slow twin of the regime model: all paths of the regimes, one after the other."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.stats import multivariate_normal


def log_density(x, mean, covariance):
    return 0.0 if np.isnan(x).any() else multivariate_normal(mean, covariance).logpdf(x)


def enumerate_paths(x, initial, transition, means, covariances):
    """Likelihood, and probabilities given all dates: of regimes (T, S), of moves (S, S) summed."""
    n_dates, n_regimes = len(x), len(initial)
    total, regimes, moves = 0.0, np.zeros((n_dates, n_regimes)), np.zeros((n_regimes,) * 2)
    for path in product(range(n_regimes), repeat=n_dates):
        weight = initial[path[0]]
        for t, j in enumerate(path):
            weight *= np.exp(log_density(x[t], means[j], covariances[j]))
            if t:
                weight *= transition[path[t - 1], j]
        total += weight
        for t, j in enumerate(path):
            regimes[t, j] += weight
            if t:
                moves[path[t - 1], j] += weight
    return total, regimes / total, moves / total


def kernel_premia(states, factors, bandwidths, now):
    """Weighted mean of past factors, term by term."""
    weights = [np.exp(-0.5 * (((s - now) / bandwidths) ** 2).sum()) for s in states]
    return np.array(
        [
            sum(w * f for w, f in zip(weights, x, strict=True) if np.isfinite(f))
            / sum(w for w, f in zip(weights, x, strict=True) if np.isfinite(f))
            for x in factors.T
        ]
    )
