"""RP-PCA written out from Lettau and Pelger (2020), asset pair by asset pair, date by date."""

from __future__ import annotations

import numpy as np

from oracles.pca import signs


def moment_matrix(returns, gamma, base_moment):
    """Pairwise moments over jointly observed dates plus gamma times the product of the means."""
    n_assets = returns.shape[1]
    mean = np.nanmean(returns, axis=0)
    covariance = base_moment == "covariance"
    deviations = returns - mean if covariance else returns
    matrix = np.zeros((n_assets, n_assets))
    for i in range(n_assets):
        for j in range(n_assets):
            joint = deviations[:, i] * deviations[:, j]
            joint = joint[np.isfinite(joint)]
            matrix[i, j] = joint.sum() / max(joint.size - covariance, 1)
    return matrix + gamma * np.outer(mean, mean)


def factors_of(returns, weights):
    """W'r_t; with missing returns the least-squares coefficients in the scale of W."""
    q, upper = np.linalg.qr(weights)
    out = np.full((len(returns), weights.shape[1]), np.nan)
    for t, row in enumerate(returns):
        seen = np.isfinite(row)
        if seen.any():
            out[t] = upper.T @ np.linalg.lstsq(q[seen], row[seen], rcond=1e-6)[0]
    return out


def betas_of(returns, factors):
    """Slopes, intercepts and mean squared residuals, asset by asset."""
    rows = []
    for asset in returns.T:
        seen = np.isfinite(asset) & np.isfinite(factors).all(axis=1)
        y, x = asset[seen], factors[seen]
        slope = np.linalg.lstsq(x - x.mean(axis=0), y - y.mean(), rcond=1e-6)[0]
        alpha = y.mean() - x.mean(axis=0) @ slope
        rows.append((slope, alpha, np.mean((y - alpha - x @ slope) ** 2)))
    slopes, alphas, variances = zip(*rows, strict=True)
    return np.array(slopes), np.array(alphas), np.array(variances)


def rp_pca(
    returns,
    n_factors,
    *,
    gamma=0.0,
    base_moment="second_moment",
    scale_by_asset_volatility=False,
    normalize_loadings="unit_length",
    orthogonalize_factors=False,
):
    """A dict with the fields of the kernel's record."""
    returns = np.where(np.isfinite(returns), returns.astype(float), np.nan)
    variances = np.nanvar(returns, axis=0)
    scale = np.ones(returns.shape[1])
    if scale_by_asset_volatility:
        scale = 1 / np.sqrt(np.maximum(variances, 1e-12))
    values, vectors = np.linalg.eigh(moment_matrix(returns * scale, gamma, base_moment))
    values, vectors = values[::-1][:n_factors], vectors[:, ::-1][:, :n_factors]
    loadings = vectors / scale[:, None]
    weights = loadings @ np.linalg.inv(loadings.T @ loadings)
    weights = weights / np.linalg.norm(weights, axis=0)
    if normalize_loadings == "variance":
        roots = np.sqrt(np.maximum(values, 1e-12))
        loadings, weights = loadings * roots, weights / roots
    factors = factors_of(returns, weights)
    if orthogonalize_factors:
        present = factors[np.isfinite(factors).all(axis=1)]
        upper = np.linalg.qr((present - present.mean(axis=0)) / np.sqrt(len(present)))[1]
        rotation = np.linalg.inv(upper)
        if normalize_loadings == "unit_length":
            rotation = rotation * np.diag(upper)
            rotation = rotation / np.linalg.norm(weights @ rotation, axis=0)
        weights, factors = weights @ rotation, factors @ rotation
        loadings = loadings @ np.linalg.inv(rotation).T
    flip = signs(factors, loadings)
    factors = factors * flip
    betas, alphas, residual_variances = betas_of(returns, factors)
    return {
        "eigenvalues": values,
        "loadings": loadings * flip,
        "factor_weights": weights * flip,
        "factors": factors,
        "asset_betas": betas,
        "alphas": alphas,
        "residual_variances": residual_variances,
        "variances": variances,
    }
