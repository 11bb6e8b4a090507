"""Portfolios that the factors of IPCA span: tangency, and the one that lives on alpha alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models.types.base import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FactorPortfolio(Record):
    """A portfolio and what it earned.

    Attributes
    ----------
    weights : ndarray of float64, shape (K,) or (P,)
        On the latent factors; on the instruments' loadings for the arbitrage portfolio. Scaled so
        that the standard deviation over the training dates is the target.
    returns : ndarray of float64, shape (T,)
        Per period; NaN on dates without a realised factor.
    timestamps : sequence of length T
        As in the panel; empty for training dates.
    """

    weights: NDArray[np.float64]
    returns: NDArray[np.float64]
    timestamps: Any = ()

    @property
    def mean(self) -> float:
        """Mean return per period."""
        return float(np.nanmean(self.returns))

    @property
    def volatility(self) -> float:
        """Population standard deviation per period."""
        return float(np.nanstd(self.returns))

    @property
    def sharpe_ratio(self) -> float:
        """Mean over standard deviation, per period; NaN when nothing varies."""
        return self.mean / self.volatility if self.volatility > 0.0 else float("nan")


def tangency_weights(factors: NDArray[Any], *, target_volatility: float) -> NDArray[np.float64]:
    r"""Weights :math:`c\,\Sigma_f^{-1}\bar f` with standard deviation `target_volatility`.

    Parameters
    ----------
    factors : ndarray, shape (T, K)
        Of the training dates.
    target_volatility : float
        Standard deviation per period.
    """
    factors = factors.astype(np.float64)
    mean, covariance = factors.mean(axis=0), np.atleast_2d(np.cov(factors.T, ddof=0))
    weights = np.linalg.pinv(covariance, hermitian=True) @ mean
    return scaled(weights, factors @ weights, target_volatility)


def scaled(
    weights: NDArray[np.float64], returns: NDArray[np.float64], target_volatility: float
) -> NDArray[np.float64]:
    """Scale weights so that returns (T,) get the standard deviation `target_volatility`."""
    volatility = float(np.nanstd(returns))
    if volatility == 0.0:
        raise ValueError("target_volatility cannot be met: the portfolio does not vary")
    result: NDArray[np.float64] = weights * (target_volatility / volatility)
    return result
