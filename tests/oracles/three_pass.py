"""Slow twin of the three-pass regression filter: the passes, one regression at a time."""

from __future__ import annotations

import numpy as np


def regression(x, y):
    """Coefficients of y on [1, x]."""
    design = np.column_stack([np.ones(len(x)), x])
    return np.linalg.lstsq(design, y, rcond=None)[0]


def forecasts(predictors, target, coming, n_proxies):
    """Forecast of the target in sample, and for further rows of predictors."""
    scale = predictors.std(axis=0)
    x, new = predictors / scale, coming / scale
    proxies = [target]
    for _ in range(n_proxies):
        z = np.column_stack(proxies)
        loadings = np.array([regression(z, column)[1:] for column in x.T])
        factors = np.array([regression(loadings, row)[1:] for row in x])
        line = regression(factors, target)
        fitted = line[0] + factors @ line[1:]
        proxies.append(target - fitted)
    ahead = np.array([regression(loadings, row)[1:] for row in new])
    return fitted, line[0] + ahead @ line[1:]
