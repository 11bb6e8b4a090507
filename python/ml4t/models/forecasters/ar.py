"""The premium as the conditional mean of a first-order autoregression."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ml4t.models.checks import require_finite
from ml4t.models.configs import AR1ForecasterConfig
from ml4t.models.forecasters.base import HistoryForecaster, require_same_length
from ml4t.models.lifecycle.estimator import Estimated
from ml4t.models.premia.history import finite_mean, last_finite
from ml4t.models.premia.recursion import one_step_path
from ml4t.models.types import FitSummary, LatentFactorState

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class AR1Fit:
    """Fitted parameters of `AR1FactorForecaster`, one number for each factor.

    Attributes
    ----------
    intercepts, slopes : ndarray of float64, shape (K,)
        Of x_t on [1, x_{t-1}], after shrinkage.
    last_values : ndarray of float64, shape (K,)
        Last finite realisation of the training history.
    fallback_mean : ndarray of float64, shape (K,)
        Mean of the training history.
    """

    intercepts: NDArray[np.float64]
    slopes: NDArray[np.float64]
    last_values: NDArray[np.float64]
    fallback_mean: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Reject a record whose parts disagree; `load` relies on it."""
        require_same_length(
            self, self.intercepts, self.slopes, self.last_values, self.fallback_mean
        )


def regress_on_lag(x: NDArray[np.float64], mean: float) -> tuple[float, float]:
    """Intercept and slope of x_t on [1, x_{t-1}] over adjacent finite pairs.

    With fewer than two pairs, or a lag that does not vary, the slope is 0 and the intercept `mean`.
    """
    paired = np.isfinite(x[:-1]) & np.isfinite(x[1:])
    lag, lead = x[:-1][paired], x[1:][paired]
    if lag.size < 2:
        return mean, 0.0
    deviation = lag - lag.mean()
    variation = float(deviation @ deviation)
    if variation <= (1e-14 * float(np.abs(lag).max())) ** 2 * lag.size:
        return mean, 0.0
    centre = float(lead.mean())
    slope = float(deviation @ (lead - centre)) / variation
    return centre - slope * float(lag.mean()), slope


def capped(line: tuple[float, float], mean: float, limit: float) -> tuple[float, float]:
    """Intercept and slope; a slope beyond the limit is cut to it, around the mean.

    A history on a straight line has the slope 1, which is not explosive: it goes on.
    """
    _, slope = line
    if abs(slope) <= limit or abs(slope - 1.0) <= _ROUNDING:
        return line
    slope = math.copysign(limit, slope)
    return mean - slope * mean, slope


class AR1FactorForecaster(HistoryForecaster[AR1ForecasterConfig, AR1Fit]):
    r"""Forecast by a first-order autoregression of each factor.

    .. math:: \hat x_{t} = a + b\,x_{t-1}

    The recursion starts from the last finite realisation of the training history. Where the state
    to predict brings realised factors, the forecast of a period starts from the realisation of the
    period before it: a one-step forecast, which never reads the period it forecasts. A step that
    is not finite becomes the training mean. A slope beyond `max_root` is no model of returns: it is
    cut to that size around the training mean, as the root of `VAR1FactorForecaster` is, and the
    fit's notes say so.

    Parameters
    ----------
    config : AR1ForecasterConfig, optional
        `shrinkage` s in [0, 1] replaces (a, b) by ((1 - s) a + s mean, (1 - s) b): 0 is least
        squares, 1 the training mean.
    """

    config_type: ClassVar[type] = AR1ForecasterConfig
    fit_type: ClassVar[type] = AR1Fit

    def _estimate(self, factors: NDArray[np.float64]) -> Estimated[AR1Fit]:
        mean = finite_mean(factors)
        require_finite(f"{type(self).__name__} fallback_mean", mean)
        columns = list(factors.T)
        lines = [regress_on_lag(x, float(m)) for x, m in zip(columns, mean, strict=True)]
        limit = self.config.max_root
        bounded = [capped(line, float(m), limit) for line, m in zip(lines, mean, strict=True)]
        notes = tuple(
            f"The slope {line[1]:.4g} of factor {k} was cut to {math.copysign(limit, line[1]):.4g}."
            for k, (line, kept) in enumerate(zip(lines, bounded, strict=True))
            if kept != line
        )
        intercepts, slopes = np.array(bounded).T
        keep = 1.0 - self.config.shrinkage
        fit = AR1Fit(
            intercepts=keep * intercepts + self.config.shrinkage * mean,
            slopes=keep * slopes,
            last_values=np.array([last_finite(x) for x in columns]),
            fallback_mean=mean,
        )
        metrics = {"n_train_periods": float(len(factors))}
        return Estimated(fit, FitSummary(converged=True, train_metrics=metrics, notes=notes))

    def _forecast(self, fit: AR1Fit, state: LatentFactorState) -> NDArray[np.float64]:
        def step(level: NDArray[np.float64]) -> NDArray[np.float64]:
            return fit.intercepts + fit.slopes * level

        return one_step_path(step, fit.last_values, fit.fallback_mean, state)
