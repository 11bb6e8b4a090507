"""IPCA by alternating least squares, from the formulas of the paper, one date at a time.

Each date brings one array of instruments `z[t]` (n_t, P) and one of returns `r[t]` (n_t,).
"""

from __future__ import annotations

import numpy as np


def factor_step(z, r, gamma_latent, gamma_observed, observed):
    """Return f_t, the regression of r - z Gamma_g g on z Gamma_beta; minimum norm when singular."""
    target = r - z @ (gamma_observed @ observed)
    return np.linalg.lstsq(z @ gamma_latent, target, rcond=1e-10)[0]


def loadings_step(zs, rs, factors, weights):
    """Return Gamma (P, Q), the weighted pooled regression of r on the products z x f."""
    p, q = zs[0].shape[1], factors.shape[1]
    lhs, rhs = np.zeros((p * q, p * q)), np.zeros(p * q)
    for z, r, f, w in zip(zs, rs, factors, weights, strict=True):
        for z_i, r_i in zip(z, r, strict=True):
            regressor = np.outer(z_i, f).ravel()
            lhs += w * np.outer(regressor, regressor)
            rhs += w * r_i * regressor
    return np.linalg.lstsq(lhs, rhs, rcond=1e-13)[0].reshape(p, q)


def identify(gamma_latent, gamma_observed, factors, observed):
    """Rotate into the normalisation of Kelly, Pruitt and Su."""
    k = gamma_latent.shape[1]
    if k == 0:
        return gamma_latent, gamma_observed, factors
    r1 = np.linalg.cholesky(gamma_latent.T @ gamma_latent).T
    gamma_latent = gamma_latent @ np.linalg.inv(r1)
    shift = gamma_latent.T @ gamma_observed
    factors = factors @ r1.T + observed @ shift.T
    gamma_observed = gamma_observed - gamma_latent @ shift
    r2 = np.linalg.svd(factors.T @ factors)[0]
    gamma_latent, factors = gamma_latent @ r2, factors @ r2
    signs = np.where(factors.mean(axis=0) < 0, -1.0, 1.0)
    return gamma_latent * signs, gamma_observed, factors * signs


def objective(zs, rs, gamma, factors, weights):
    """Return the weighted sum of squared residuals."""
    return sum(
        w * ((r - z @ (gamma @ f)) ** 2).sum()
        for z, r, f, w in zip(zs, rs, factors, weights, strict=True)
    )


def ipca(zs, rs, n_factors, *, observed=None, weights=None, start=None, tol=1e-12, max_iter=2000):
    """Return Gamma_beta (P, K), Gamma_g (P, M), f (T, K) and the objective of every sweep."""
    n_dates, p = len(zs), zs[0].shape[1]
    g = np.zeros((n_dates, 0)) if observed is None else np.asarray(observed)
    w = np.ones(n_dates) if weights is None else weights
    if start is None:
        cross = np.array([z.T @ r for z, r in zip(zs, rs, strict=True)])
        latent = np.linalg.svd(cross.T @ cross)[0][:, :n_factors]
        own = np.zeros((p, g.shape[1]))
    else:
        latent, own = start[:, :n_factors], start[:, n_factors:]
    path = []
    for _ in range(max_iter):
        f = np.array(
            [factor_step(z, r, latent, own, g_t) for z, r, g_t in zip(zs, rs, g, strict=True)]
        )
        both = np.hstack([f, g])
        gamma = loadings_step(zs, rs, both, w)
        path.append(objective(zs, rs, gamma, both, w))
        before = np.hstack([latent, own])
        latent, own, f = identify(gamma[:, :n_factors], gamma[:, n_factors:], f, g)
        if np.abs(np.hstack([latent, own]) - before).max() <= tol:
            break
    f = np.array([factor_step(z, r, latent, own, g_t) for z, r, g_t in zip(zs, rs, g, strict=True)])
    latent, own, f = identify(latent, own, f, g)
    return latent, own, f, path
