"""Regressions of premia on predictors: arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ml4t.models.checks import require_finite

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Slopes = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

# Columns whose spread is below this share of their size do not vary, and singular values below it
# times the largest do not count.
NOTHING = 1e-10


@dataclass(frozen=True, slots=True)
class Line:
    """A linear forecast.

    Attributes
    ----------
    intercepts : ndarray of float64, shape (K,)
    slopes : ndarray of float64, shape (Q, K)
    """

    intercepts: NDArray[np.float64]
    slopes: NDArray[np.float64]


def fit_line(x: NDArray[np.float64], y: NDArray[np.float64], slopes: Slopes) -> Line:
    """Run a line through the centre of the data, with slopes of standardised predictors.

    Parameters
    ----------
    x : ndarray of float64, shape (T, Q)
    y : ndarray of float64, shape (T, K)
    slopes : callable
        Takes the columns of x that vary, with mean 0 and variance 1, and y with columns of mean 0;
        gives slopes, one row for each column taken.
    """
    mean, centre = x.mean(axis=0), y.mean(axis=0)
    spread = x.std(axis=0)
    varies = spread > NOTHING * np.abs(x).max(axis=0, initial=0.0)
    beta = np.zeros((x.shape[1], y.shape[1]))
    if varies.any():
        require_finite("deviation of the predictors", spread)
        standard = (x[:, varies] - mean[varies]) / spread[varies]
        beta[varies] = slopes(standard, y - centre) / spread[varies, None]
    return Line(centre - mean @ beta, beta)


def least_squares(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slopes of minimum norm."""
    beta = np.linalg.lstsq(x, y, rcond=NOTHING)[0]
    return beta.astype(np.float64, copy=False)


def ridge_slopes(
    x: NDArray[np.float64], y: NDArray[np.float64], ridge: float
) -> NDArray[np.float64]:
    r"""Slopes :math:`(x'x / T + \rho I)^{-1} x'y / T`; those of least squares for no ridge."""
    if ridge == 0:
        return least_squares(x, y)
    n_dates, n_predictors = x.shape
    return np.linalg.solve(x.T @ x / n_dates + ridge * np.eye(n_predictors), x.T @ y / n_dates)


def three_pass_slopes(
    x: NDArray[np.float64], y: NDArray[np.float64], n_proxies: int
) -> NDArray[np.float64]:
    r"""Slopes of the three-pass regression filter with automatic proxies.

    For one target and proxies Z, with J the matrix that demeans,

    .. math:: W = J x' J Z, \qquad \alpha = W (W' x'J x\, W)^{-1} W' x'J y

    which is what regressing every predictor on the proxies, every date's predictors on the
    loadings, and the target on the resulting factors gives. The first proxy is the target,
    each further one the residual of the forecast with those before.

    References
    ----------
    Kelly and Pruitt (2015), The three-pass regression filter, JoE 186(2): proposition 1, table 2.
    """
    beta = np.zeros((x.shape[1], y.shape[1]))
    for k, target in enumerate(y.T):
        proxies = target[:, None]
        for _ in range(n_proxies):
            loadings = x.T @ (proxies - proxies.mean(axis=0))
            loadings -= loadings.mean(axis=0)
            size = np.sqrt((loadings**2).sum(axis=0))
            loadings /= np.where(size > 0, size, 1.0)
            factors = x @ loadings
            beta[:, k] = loadings @ least_squares(factors, target)
            proxies = np.column_stack([proxies, target - x @ beta[:, k]])
    return beta
