"""The premium as a regression on what is known before the period."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ml4t.models.checks import require_shape
from ml4t.models.configs import MacroForecasterConfig
from ml4t.models.forecasters.base import BaseFactorForecaster
from ml4t.models.lifecycle.estimator import Estimated
from ml4t.models.panel.context import require_context, require_context_history
from ml4t.models.premia.history import finite_mean, history
from ml4t.models.premia.line import (
    Line,
    fit_line,
    least_squares,
    ridge_slopes,
    three_pass_slopes,
)
from ml4t.models.types import FitSummary, LatentFactorState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.premia.line import Slopes


@dataclass(frozen=True, slots=True)
class MacroFit:
    """Fitted parameters of `MacroFactorForecaster`.

    Attributes
    ----------
    intercepts : ndarray of float64, shape (K,)
        Return per period.
    slopes : ndarray of float64, shape (Q, K)
        Return per period for one unit of a predictor.
    predictor_means : ndarray of float64, shape (Q,)
        Over the training history; what a missing predictor counts as.
    """

    intercepts: NDArray[np.float64]
    slopes: NDArray[np.float64]
    predictor_means: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Reject a record whose parts disagree; `load` relies on it."""
        shape = (self.predictor_means.size, self.intercepts.size)
        require_shape("predictor_means", shape[:1], self.predictor_means.shape)
        require_shape("intercepts", shape[1:], self.intercepts.shape)
        require_shape("slopes", shape, self.slopes.shape)


class MacroFactorForecaster(BaseFactorForecaster[MacroForecasterConfig, MacroFit]):
    r"""Forecast by a regression of factors on predictors that are known before them.

    .. math:: \hat f_{t} = a + B' x_{t-1}

    The predictors are the state's `context_features`, which a pipeline takes over from its batch.
    Row t of them is known before the returns of row t are earned, as row t of the characteristics
    is, and predicts row t of the factors. Only rows with all predictors are learned from; a
    missing predictor of a period to forecast counts as its training mean.

    Parameters
    ----------
    config : MacroForecasterConfig, optional
        `method`: "ols", "ridge" (on standardised predictors) or "three-pass" (for many predictors:
        the part of them that is relevant for each factor).

    References
    ----------
    Kelly and Pruitt (2015), The three-pass regression filter: a new approach to forecasting using
    many predictors, JoE 186(2).

    Examples
    --------
    >>> import numpy as np
    >>> from ml4t.models.types import LatentFactorState
    >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> past = LatentFactorState(
    ...     np.ones((4, 1, 1)), factor_returns=0.01 + 0.02 * x, context_features=x
    ... )
    >>> forecaster = MacroFactorForecaster()
    >>> _ = forecaster.fit(past)
    >>> coming = LatentFactorState(np.ones((1, 1, 1)), context_features=[[5.0]])
    >>> forecaster.predict(coming).factor_premia.round(6)
    array([[0.11]])
    """

    config_type: ClassVar[type] = MacroForecasterConfig
    fit_type: ClassVar[type] = MacroFit

    def _learn(self, state: LatentFactorState) -> Estimated[MacroFit]:
        name = type(self).__name__
        factors, predictors = history(name, state), require_context_history(name, state)
        config, n_predictors = self.config, predictors.shape[1]
        if config.method == "three-pass" and config.n_proxies >= n_predictors:
            raise ValueError(
                f"n_proxies must be below the number of predictors {n_predictors}; "
                f"got {config.n_proxies}"
            )
        return self._regress(factors, predictors)

    def _regress(
        self, factors: NDArray[np.float64], predictors: NDArray[np.float64]
    ) -> Estimated[MacroFit]:
        mean, means = finite_mean(factors), finite_mean(predictors)
        known = np.isfinite(predictors).all(axis=1)
        methods: dict[str, Slopes] = {
            "ols": least_squares,
            "ridge": partial(ridge_slopes, ridge=self.config.ridge),
            "three-pass": partial(three_pass_slopes, n_proxies=self.config.n_proxies),
        }
        slopes = methods[self.config.method]
        lines = []
        for k, factor in enumerate(factors.T):
            used = known & np.isfinite(factor)
            if used.sum() < 2:
                lines.append(Line(mean[k : k + 1], np.zeros((means.size, 1))))
            else:
                lines.append(fit_line(predictors[used], factor[used, None], slopes))
        fit = MacroFit(
            intercepts=np.concatenate([line.intercepts for line in lines]),
            slopes=np.hstack([line.slopes for line in lines]),
            predictor_means=means,
        )
        metrics = {
            "n_train_periods": float(len(factors)),
            "n_predictors": float(means.size),
            "r2": _explained(factors, predictors, fit),
        }
        return Estimated(fit, FitSummary(converged=True, train_metrics=metrics))

    def _forecast(self, fit: MacroFit, state: LatentFactorState) -> NDArray[np.float64]:
        predictors = require_context(type(self).__name__, state)
        if predictors.shape[1] != fit.predictor_means.size:
            raise ValueError(
                f"{type(self).__name__}: context_features must have the fitted "
                f"{fit.predictor_means.size} columns; got {predictors.shape[1]}"
            )
        known = np.isfinite(predictors)
        return fit.intercepts + np.where(known, predictors, fit.predictor_means) @ fit.slopes


def _explained(
    factors: NDArray[np.float64], predictors: NDArray[np.float64], fit: MacroFit
) -> float:
    """In sample, centred, over all factors together; 0 where nothing varies."""
    fitted = fit.intercepts + predictors @ fit.slopes
    used = np.isfinite(fitted)
    means = [x[ok].mean() if (ok := np.isfinite(x)).any() else 0.0 for x in factors.T]
    total = float(np.nansum(np.where(used, factors - np.array(means), np.nan) ** 2))
    left = float(np.nansum((factors - fitted) ** 2))
    return 1.0 - left / total if total > 0 else 0.0
