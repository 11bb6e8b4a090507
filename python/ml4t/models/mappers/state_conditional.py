"""Premia that depend on an observed state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ml4t.models.checks import NAN_IS_MISSING, require_shape
from ml4t.models.configs import StateConditionalMapperConfig
from ml4t.models.lifecycle.estimator import Estimated
from ml4t.models.mappers.base import ConditionalMapper
from ml4t.models.panel.context import require_context, require_context_history
from ml4t.models.premia.history import finite_mean, history
from ml4t.models.premia.line import NOTHING, Line, fit_line, least_squares
from ml4t.models.types import FitSummary, LatentFactorState

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Past dates; premia are means over those with a similar state.

    Attributes
    ----------
    states : ndarray of float64, shape (T, Q)
    factors : ndarray of float64, shape (T, K)
        Return per period; NaN is missing.
    bandwidths : ndarray of float64, shape (Q,)
        In units of the states.
    """

    states: NDArray[np.float64]
    factors: NDArray[np.float64] = field(metadata=NAN_IS_MISSING)
    bandwidths: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Reject a record whose parts disagree; `load` relies on it."""
        n_dates, n_states = self.states.shape
        require_shape("factors", (n_dates, self.factors.shape[1]), self.factors.shape)
        require_shape("bandwidths", (n_states,), self.bandwidths.shape)


@dataclass(frozen=True, slots=True)
class StateConditionalFit:
    """Fitted parameters of `StateConditionalMapper`.

    Attributes
    ----------
    mean_premia : ndarray of float64, shape (K,)
        Whatever the state, return per period.
    n_states : int
        Q.
    surface : Neighbours or Line
        Premia as a function of the state.
    """

    mean_premia: NDArray[np.float64]
    n_states: int
    surface: Neighbours | Line

    def __post_init__(self) -> None:
        """Reject a record whose parts disagree; `load` relies on it."""
        wanted = (self.n_states, self.mean_premia.size)
        require_shape("mean_premia", wanted[1:], self.mean_premia.shape)
        if isinstance(self.surface, Line):
            require_shape("intercepts", wanted[1:], self.surface.intercepts.shape)
            require_shape("slopes", wanted, self.surface.slopes.shape)
        else:
            got = self.surface.states.shape[1], self.surface.factors.shape[1]
            require_shape("states and factors", wanted, got, axes="(Q, K)")


def kernel_premia(neighbours: Neighbours, states: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Means of past factors, weighted by how close the states are, shape (T, K).

    .. math:: \lambda(s) = \sum_t K_h(s_t - s) f_t \Big/ \sum_t K_h(s_t - s)

    with a Gaussian product kernel. Far from all past states the nearest of them decides.
    """
    n_dates, n_states = states.shape
    distance = np.zeros((n_dates, len(neighbours.states)))
    for q in range(n_states):
        difference = states[:, q, None] - neighbours.states[None, :, q]
        distance += (difference / neighbours.bandwidths[q]) ** 2
    premia = np.empty((n_dates, neighbours.factors.shape[1]))
    for k, factor in enumerate(neighbours.factors.T):
        known_dates = np.isfinite(factor)
        near = distance[:, known_dates]
        weights = np.exp(-0.5 * (near - near.min(axis=1, keepdims=True)))
        premia[:, k] = weights @ factor[known_dates] / weights.sum(axis=1)
    return premia


class StateConditionalMapper(ConditionalMapper[StateConditionalMapperConfig, StateConditionalFit]):
    r"""Map exposures to expected returns with premia that depend on an observed state.

    The state is `context_features`, known before the returns of its row; a pipeline takes it over
    from its batch. Premia are a kernel mean over past dates with a similar state, or a line in it.
    The premia of the forecaster move with them: with the mean forecaster, they are the conditional
    premia; where a state is missing, they stay.

    Parameters
    ----------
    config : StateConditionalMapperConfig, optional

    References
    ----------
    Pelger and Xiong (2022), State-varying factor models of large dimensions, JBES 40(3).

    Examples
    --------
    >>> import numpy as np
    >>> from ml4t.models.types import FactorForecastResult, LatentFactorState
    >>> calm_or_not = np.array([[0.0], [0.0], [1.0], [1.0]])
    >>> past = LatentFactorState(
    ...     np.ones((4, 1, 1)),
    ...     factor_returns=[[0.01], [0.03], [-0.02], [-0.04]],
    ...     context_features=calm_or_not,
    ... )
    >>> mapper = StateConditionalMapper(StateConditionalMapperConfig(bandwidth=0.1))
    >>> _ = mapper.fit(past)
    >>> now = LatentFactorState(np.ones((1, 1, 1)), context_features=[[1.0]])
    >>> mapper.premia(now).factor_premia.round(6)
    array([[-0.03]])
    """

    config_type: ClassVar[type] = StateConditionalMapperConfig
    fit_type: ClassVar[type] = StateConditionalFit

    @classmethod
    def _require_settings(
        cls, config: StateConditionalMapperConfig, fit: StateConditionalFit
    ) -> None:
        wanted = Line if config.method == "linear" else Neighbours
        if not isinstance(fit.surface, wanted):
            raise ValueError(f"surface must be a {wanted.__name__} with method={config.method!r}")

    def _learn(self, state: LatentFactorState) -> Estimated[StateConditionalFit]:
        name = type(self).__name__
        factors, states = history(name, state), require_context_history(name, state)
        known = np.isfinite(states).all(axis=1)
        empty = np.flatnonzero(~np.isfinite(factors[known]).any(axis=0))
        if empty.size:
            raise ValueError(
                f"{name} requires a date with the state and every factor; "
                f"factor {empty[0]} has none over {len(factors)} periods"
            )
        surface = self._surface(states[known], factors[known])
        fit = StateConditionalFit(finite_mean(factors), states.shape[1], surface)
        metrics = {"n_train_periods": float(known.sum()), "n_states": float(states.shape[1])}
        return Estimated(fit, FitSummary(converged=True, train_metrics=metrics))

    def _surface(
        self, states: NDArray[np.float64], factors: NDArray[np.float64]
    ) -> Neighbours | Line:
        if self.config.method == "linear":
            lines = []
            for factor in factors.T:
                known_dates = np.isfinite(factor)
                lines.append(
                    fit_line(states[known_dates], factor[known_dates, None], least_squares)
                )
            return Line(
                np.concatenate([line.intercepts for line in lines]),
                np.hstack([line.slopes for line in lines]),
            )
        n_dates, n_states = states.shape
        width = self.config.bandwidth or n_dates ** (-1.0 / (n_states + 4))
        spread = states.std(axis=0)
        varies = spread > NOTHING * np.abs(states).max(axis=0)
        return Neighbours(states, factors, width * np.where(varies, spread, 1.0))

    def _premia(self, fit: StateConditionalFit, state: LatentFactorState) -> NDArray[np.float64]:
        states = require_context(type(self).__name__, state)
        if states.shape[1] != fit.n_states:
            raise ValueError(
                f"{type(self).__name__}: context_features must have the fitted "
                f"{fit.n_states} columns; got {states.shape[1]}"
            )
        premia = np.tile(fit.mean_premia, (state.n_periods, 1))
        known = np.isfinite(states).all(axis=1)
        if isinstance(fit.surface, Line):
            premia[known] = fit.surface.intercepts + states[known] @ fit.surface.slopes
        else:
            premia[known] = kernel_premia(fit.surface, states[known])
        return premia

    def _mean_premia(self, fit: StateConditionalFit) -> NDArray[np.float64]:
        return fit.mean_premia
