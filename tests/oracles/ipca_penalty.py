"""The penalized problem of IPCA from its formula, without any of its algebra.

Each date brings instruments `z[t]` (n_t, P) and returns `r[t]` (n_t,); slopes are b (T, P).
"""

from __future__ import annotations

import numpy as np


def objective(zs, rs, slopes, size, l1_ratio):
    """Half the share of squared returns left, and the penalty, row by row."""
    n_rows = sum(len(r) for r in rs)
    total = sum((r**2).sum() for r in rs)
    left = sum(((r - z @ b) ** 2).sum() for z, r, b in zip(zs, rs, slopes, strict=True))
    s = np.sqrt(np.mean(np.vstack(zs) ** 2, axis=0))
    sigma = np.sqrt(total / n_rows)
    u = s / sigma * np.sqrt((slopes**2).mean(axis=0))
    return 0.5 * left / total + size * (l1_ratio * u + 0.5 * (1 - l1_ratio) * u**2).sum()


def slopes(zs, rs, n_factors, size, l1_ratio, *, seed=0, n_sweeps=3000):
    """Minimize over slopes of rank K by majorisation alone: a ridge for each instrument, renewed.

    Slow, and rows never become zero exactly; every sweep is two regressions.
    """
    n_dates, p = len(zs), zs[0].shape[1]
    total = sum((r**2).sum() for r in rs)
    n_rows = sum(len(r) for r in rs)
    scale = np.mean(np.vstack(zs) ** 2, axis=0) / (total / n_rows)
    gram = np.array([z.T @ z for z in zs]) / total
    cross = np.array([z.T @ r for z, r in zip(zs, rs, strict=True)]) / total
    gamma = np.linalg.svd(cross.T @ cross)[0][:, :n_factors]
    gamma = gamma + 0.01 * np.random.default_rng(seed).standard_normal(gamma.shape)
    f = np.array(
        [
            np.linalg.lstsq(gamma.T @ s @ gamma, gamma.T @ c)[0]
            for s, c in zip(gram, cross, strict=True)
        ]
    )
    for _ in range(n_sweeps):
        u = np.sqrt(scale * ((f @ gamma.T) ** 2).mean(axis=0))
        bound = size * (l1_ratio / np.maximum(u, 1e-9) + 1 - l1_ratio) * scale / n_dates
        curved = gram + np.diag(bound)
        f = np.array(
            [
                np.linalg.solve(gamma.T @ s @ gamma, gamma.T @ c)
                for s, c in zip(curved, cross, strict=True)
            ]
        )
        lhs = np.einsum("tpq,tj,tk->pjqk", curved, f, f).reshape(p * n_factors, -1)
        gamma = np.linalg.solve(lhs, np.einsum("tp,tk->pk", cross, f).ravel()).reshape(p, -1)
    return f @ gamma.T
