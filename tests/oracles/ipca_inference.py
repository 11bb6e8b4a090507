"""Inference on IPCA, slowly: the bootstrap draw by draw, derivatives by differences.

Managed portfolios `x` (T, P) and second moments `w` (T, P, P) per asset, `n` (T,) assets.
"""

from __future__ import annotations

import numpy as np


def best_factors(x, w, latent, own, g):
    """f_t = (Γ_β'W_tΓ_β)⁻¹ Γ_β'(x_t - W_tΓ_g g_t), shape (T, K)."""
    rows = zip(x, w, g, strict=True)
    return np.array(
        [
            np.linalg.solve(latent.T @ w_t @ latent, latent.T @ (x_t - w_t @ own @ g_t))
            for x_t, w_t, g_t in rows
        ]
    ).reshape(len(x), latent.shape[1])


def orthonormal(gamma, k):
    """Latent loadings orthonormal, the observed ones orthogonal to them."""
    latent = np.linalg.qr(gamma[:, :k])[0]
    own = gamma[:, k:]
    return np.hstack([latent, own - latent @ (latent.T @ own)])


def estimate(x, w, n, g, gamma, k, *, tol=1e-10, max_iter=5000):
    """Alternating least squares on managed portfolios from `gamma`, shape (P, K + M)."""
    p, q = gamma.shape
    for _ in range(max_iter):
        f = np.hstack([best_factors(x, w, gamma[:, :k], gamma[:, k:], g), g])
        lhs = np.einsum("t,tij,ta,tb->iajb", n, w, f, f).reshape(p * q, p * q)
        rhs = np.einsum("t,ti,ta->ia", n, x, f).ravel()
        new = orthonormal(np.linalg.solve(lhs, rhs).reshape(p, q), k)
        # Compare what the basis of the latent space does not change.
        step = np.abs(new[:, :k] @ new[:, :k].T - gamma[:, :k] @ gamma[:, :k].T).max(initial=0.0)
        step = max(step, np.abs(new[:, k:] - gamma[:, k:]).max(initial=0.0))
        gamma = new
        if step <= tol:
            break
    return gamma


def bootstrap(x, w, n, g, gamma, weights, k, multipliers, donors):
    """Statistics of the draws with these multipliers and donor dates, both (n_draws, T)."""
    null = np.where(weights > 0, 0.0, gamma)
    f = np.hstack([best_factors(x, w, gamma[:, :k], gamma[:, k:], g), g])
    left = x - np.einsum("tij,tj->ti", w, f @ gamma.T)
    base = np.einsum("tij,tj->ti", w, f @ null.T)
    found = []
    for q, s in zip(multipliers, donors, strict=True):
        drawn = estimate(base + q[:, None] * left[s], w, n, g, null, k)
        found.append((weights * drawn**2).sum())
    return np.array(found)


def influence(x, w, n, g, gamma, k, *, step=1e-5):
    """Contributions (T, P, K + M) of the dates, from one-sided date weights: d Gamma / d n_t.

    A date of weight n_t (1 + h) moves the solution by h H^{-1} s_t to first order.
    """
    out = np.empty((len(x), *gamma.shape))
    for t in range(len(x)):
        moved = []
        for h in (step, -step):
            weight = n.astype(float).copy()
            weight[t] *= 1 + h
            moved.append(nearest(estimate(x, w, weight, g, gamma, k, tol=1e-13), gamma, k))
        out[t] = (moved[0] - moved[1]) / (2 * step)
    return out


def nearest(gamma, to, k):
    """Rotate latent loadings towards those of `to`."""
    u, _, v = np.linalg.svd(gamma[:, :k].T @ to[:, :k])
    return np.hstack([gamma[:, :k] @ (u @ v), gamma[:, k:]])
