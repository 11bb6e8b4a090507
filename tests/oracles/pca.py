"""PCA of a panel, straight from its definition with a full singular value decomposition."""

from __future__ import annotations

import numpy as np


def signs(factors, loadings):
    """+1 or -1 by the factor's mean, by its largest loading where the mean is nothing."""
    out = np.ones(loadings.shape[1])
    for k, factor in enumerate(factors.T):
        present = factor[np.isfinite(factor)]
        mean = present.mean()
        if abs(mean) > 1e-10 * np.sqrt(np.mean(present**2)):
            out[k] = np.sign(mean)
        else:
            size = np.abs(loadings[:, k])
            out[k] = np.sign(loadings[np.argmax(size >= size.max() * (1 - 1e-9)), k])
    return out


def pca(returns, n_factors):
    """Mean, loadings, factors, singular values, explained variance ratio."""
    returns = np.where(np.isfinite(returns), returns.astype(float), np.nan)
    mean = np.nanmean(returns, axis=0)
    centred = np.nan_to_num(returns - mean)
    _, values, right = np.linalg.svd(centred, full_matrices=False)
    loadings = right[:n_factors].T
    factors = centred @ loadings + mean @ loadings
    flip = signs(factors, loadings)
    ratio = values[:n_factors] ** 2 / np.sum(centred**2)
    return mean, loadings * flip, factors * flip, values[:n_factors], ratio
