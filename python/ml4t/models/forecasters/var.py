"""The premium as the conditional mean of a first-order vector autoregression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ml4t.models.checks import require_finite, require_shape
from ml4t.models.configs import VAR1ForecasterConfig
from ml4t.models.forecasters.base import HistoryForecaster, require_same_length
from ml4t.models.lifecycle.estimator import Estimated
from ml4t.models.premia.history import finite_mean, last_finite
from ml4t.models.premia.line import Line, fit_line, least_squares
from ml4t.models.premia.recursion import one_step_path
from ml4t.models.types import FitSummary, LatentFactorState

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class VAR1Fit:
    """Fitted parameters of `VAR1FactorForecaster`.

    Attributes
    ----------
    intercepts : ndarray of float64, shape (K,)
    slopes : ndarray of float64, shape (K, K)
        Row k holds the weights of all factors in the forecast of factor k.
    last_values : ndarray of float64, shape (K,)
        Last finite realisation of each factor in the training history.
    fallback_mean : ndarray of float64, shape (K,)
        Mean of the training history.
    """

    intercepts: NDArray[np.float64]
    slopes: NDArray[np.float64]
    last_values: NDArray[np.float64]
    fallback_mean: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Reject a record whose parts disagree; `load` relies on it."""
        require_same_length(self, self.intercepts, self.last_values, self.fallback_mean)
        n_factors = self.intercepts.size
        require_shape("slopes", (n_factors, n_factors), self.slopes.shape)


def autoregression(factors: NDArray[np.float64], mean: NDArray[np.float64]) -> Line:
    """Least squares of x_t on [1, x_{t-1}] over adjacent pairs that are finite throughout.

    With fewer than K + 2 pairs there is nothing to learn: slopes are zero, intercepts the mean.
    """
    n_factors = factors.shape[1]
    paired = np.isfinite(factors[:-1]).all(axis=1) & np.isfinite(factors[1:]).all(axis=1)
    if paired.sum() < n_factors + 2:
        return Line(mean, np.zeros((n_factors, n_factors)))
    return fit_line(factors[:-1][paired], factors[1:][paired], least_squares)


def largest_root(slopes: NDArray[np.float64]) -> float:
    """Modulus of the largest eigenvalue: below 1, the autoregression is stationary."""
    return float(np.abs(np.linalg.eigvals(slopes)).max())


class VAR1FactorForecaster(HistoryForecaster[VAR1ForecasterConfig, VAR1Fit]):
    r"""Forecast by a first-order vector autoregression of all factors.

    .. math:: \hat x_t = a + A x_{t-1}

    The recursion starts as that of `AR1FactorForecaster` does: from the last realisation of the
    training history, or from that of the period before where the state brings one. An estimate
    whose largest root exceeds `max_root` is no model of returns: its slopes are scaled down to that
    root around the training mean, and the fit's notes say so.

    Parameters
    ----------
    config : VAR1ForecasterConfig, optional
        `shrinkage` s in [0, 1] replaces (a, A) by ((1 - s) a + s mean, (1 - s) A).

    References
    ----------
    Lütkepohl (2005), New Introduction to Multiple Time Series Analysis, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from ml4t.models.types import LatentFactorState
    >>> x = np.array([[1.0, 0.5], [0.5, 1.0], [0.0, 0.5], [-0.5, 0.0], [0.0, -0.5], [0.5, 0.0]])
    >>> forecaster = VAR1FactorForecaster()
    >>> _ = forecaster.fit(LatentFactorState(np.ones((6, 1, 2)), factor_returns=x))
    >>> forecaster.predict(LatentFactorState(np.ones((1, 1, 2)))).factor_premia.shape
    (1, 2)
    """

    config_type: ClassVar[type] = VAR1ForecasterConfig
    fit_type: ClassVar[type] = VAR1Fit

    def _estimate(self, factors: NDArray[np.float64]) -> Estimated[VAR1Fit]:
        mean = finite_mean(factors)
        require_finite(f"{type(self).__name__} fallback_mean", mean)
        line = autoregression(factors, mean)
        require_finite(type(self).__name__, line)
        root, limit = largest_root(line.slopes), self.config.max_root
        notes: tuple[str, ...] = ()
        intercepts, slopes = line.intercepts, line.slopes.T
        if root > limit:
            slopes = slopes * (limit / root)
            intercepts = mean - slopes @ mean
            notes = (f"The largest root {root:.4g} was scaled down to {limit:.4g}.",)
        keep = 1.0 - self.config.shrinkage
        fit = VAR1Fit(
            intercepts=keep * intercepts + self.config.shrinkage * mean,
            slopes=keep * slopes,
            last_values=np.array([last_finite(x) for x in factors.T]),
            fallback_mean=mean,
        )
        metrics = {"n_train_periods": float(len(factors)), "largest_root": root}
        return Estimated(fit, FitSummary(converged=True, train_metrics=metrics, notes=notes))

    def _forecast(self, fit: VAR1Fit, state: LatentFactorState) -> NDArray[np.float64]:
        def step(level: NDArray[np.float64]) -> NDArray[np.float64]:
            return fit.intercepts + fit.slopes @ level

        return one_step_path(step, fit.last_values, fit.fallback_mean, state)
