"""Premia under a latent Markov regime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ml4t.models.checks import require_shape, require_type
from ml4t.models.configs import RegimeSwitchingMapperConfig
from ml4t.models.lifecycle.estimator import Estimated
from ml4t.models.mappers.base import ConditionalMapper
from ml4t.models.mappers.markov import (
    Chain,
    hamilton_filter,
    log_densities,
    maximum_likelihood,
    starting_chains,
)
from ml4t.models.premia.history import finite_mean, history
from ml4t.models.types import FitSummary, LatentFactorState

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RegimeSwitchingFit:
    """Fitted parameters of `RegimeSwitchingMapper`.

    Attributes
    ----------
    mean_premia : ndarray of float64, shape (K,)
        Mean of the training history, return per period.
    regime_premia : ndarray of float64, shape (S, K)
        Mean in each regime, the calmest first.
    transition : ndarray of float64, shape (S, S)
        Row i: probabilities of the next regime after regime i.
    initial, last : ndarray of float64, shape (S,)
        Probabilities of the regimes at the first date, and at the last given the whole history.
    varying : ndarray of int64
        Factors that vary; an observed factor that is always 1 does not.
    covariances : ndarray of float64, shape (S, V, V)
        Of the factors that vary.
    log_likelihood : float
    """

    mean_premia: NDArray[np.float64]
    regime_premia: NDArray[np.float64]
    transition: NDArray[np.float64]
    initial: NDArray[np.float64]
    last: NDArray[np.float64]
    varying: NDArray[np.int64]
    covariances: NDArray[np.float64]
    log_likelihood: float

    def __post_init__(self) -> None:
        """Reject a record whose parts disagree; `load` relies on it."""
        (n_factors,), (n_regimes,), n_varying = (
            self.mean_premia.shape,
            self.last.shape,
            len(self.varying),
        )
        if not np.isin(self.varying, np.arange(n_factors)).all():
            raise ValueError(f"varying must be among the {n_factors} factors; got {self.varying}")
        require_shape("regime_premia", (n_regimes, n_factors), self.regime_premia.shape)
        require_shape("transition", (n_regimes, n_regimes), self.transition.shape)
        require_shape("initial", (n_regimes,), self.initial.shape)
        require_shape("covariances", (n_regimes, n_varying, n_varying), self.covariances.shape)

    def continued(self) -> Chain:
        """Give the chain that goes on where the training history ended."""
        return Chain(
            self.last @ self.transition,
            self.transition,
            self.regime_premia[:, self.varying],
            self.covariances,
        )


class RegimeSwitchingMapper(ConditionalMapper[RegimeSwitchingMapperConfig, RegimeSwitchingFit]):
    r"""Map exposures to expected returns with premia that depend on a hidden regime.

    Factors are Gaussian within a regime, and regimes follow a Markov chain. What is known of the
    regime of a period comes from the factors realised before it (training history first, then what
    the state brings), by Hamilton's filter:

    .. math:: \lambda_t = \sum_j P(s_t = j \mid f_{t-1}, f_{t-2}, \dots)\, \mu_j

    The premia of the forecaster move with them: with the mean forecaster, they are these. Estimated
    by expectation and maximisation from several starts; a date with a missing factor has no
    influence on its regime.

    Parameters
    ----------
    config : RegimeSwitchingMapperConfig, optional

    References
    ----------
    Hamilton (1989), A new approach to the economic analysis of nonstationary time series and the
    business cycle, Econometrica 57(2). Ang and Timmermann (2012), Regime changes and financial
    markets, ARFE 4.

    Examples
    --------
    >>> import numpy as np
    >>> from ml4t.models.types import LatentFactorState
    >>> rng = np.random.default_rng(0)
    >>> calm, turbulent = 0.01 * rng.standard_normal(80), 0.10 * rng.standard_normal(40)
    >>> returns = np.concatenate([0.01 + calm, -0.05 + turbulent])
    >>> past = LatentFactorState(np.ones((120, 1, 1)), factor_returns=returns[:, None])
    >>> mapper = RegimeSwitchingMapper()
    >>> mapper.fit(past).converged
    True
    >>> now = LatentFactorState(np.ones((1, 1, 1)))  # the last forty dates were turbulent
    >>> bool(mapper.premia(now).factor_premia[0, 0] < -0.02)
    True
    """

    config_type: ClassVar[type] = RegimeSwitchingMapperConfig
    fit_type: ClassVar[type] = RegimeSwitchingFit

    def probabilities(self, state: LatentFactorState) -> NDArray[np.float64]:
        """Probabilities of the regimes of every period from the factors before it, (T, S).

        Parameters
        ----------
        state : LatentFactorState
            Periods that follow the training history.

        Raises
        ------
        RuntimeError
            Before a fit.
        """
        require_type("state", state, LatentFactorState)
        return self._predicted(self._fitted("probabilities"), state)

    @classmethod
    def _require_settings(
        cls, config: RegimeSwitchingMapperConfig, fit: RegimeSwitchingFit
    ) -> None:
        require_shape("last", (config.n_regimes,), fit.last.shape, axes="(n_regimes,)")

    def _learn(self, state: LatentFactorState) -> Estimated[RegimeSwitchingFit]:
        name, config = type(self).__name__, self.config
        factors = history(name, state)
        size = np.nanmax(np.abs(factors), axis=0)
        varying = np.flatnonzero(np.nanstd(factors, axis=0) > 1e-12 * size)
        n_dates = int(np.isfinite(factors[:, varying]).all(axis=1).sum())
        if not varying.size or n_dates < 2 * config.n_regimes:
            raise ValueError(
                f"{name} requires factors that vary, realised together on at least "
                f"{2 * config.n_regimes} dates; got {varying.size} such factors on {n_dates} dates"
            )
        x = factors[:, varying]
        climb = maximum_likelihood(
            x,
            starting_chains(x, config.n_regimes, config.n_starts, config.seed),
            prior_weight=config.prior_weight,
            tol=config.tol,
            max_iter=config.max_iter,
        )
        chain, mean = climb.chain, finite_mean(factors)
        premia = np.tile(mean, (config.n_regimes, 1))
        premia[:, varying] = chain.means
        fit = RegimeSwitchingFit(
            mean_premia=mean,
            regime_premia=premia,
            transition=chain.transition,
            initial=chain.initial,
            last=hamilton_filter(log_densities(x, chain), chain).filtered[-1],
            varying=varying,
            covariances=chain.covariances,
            log_likelihood=climb.log_likelihood,
        )
        metrics = {"log_likelihood": climb.log_likelihood, "n_train_periods": float(len(factors))}
        steps: tuple[dict[str, float | str], ...] = tuple(
            {"step": float(step), "log_posterior": height}
            for step, height in enumerate(climb.history)
        )
        return Estimated(fit, FitSummary(climb.converged, train_metrics=metrics, history=steps))

    def _predicted(self, fit: RegimeSwitchingFit, state: LatentFactorState) -> NDArray[np.float64]:
        chain = fit.continued()
        if not state.n_periods:
            return np.empty((0, len(chain.initial)))
        x = np.full((state.n_periods, len(fit.varying)), np.nan)
        realised = state.factor_returns
        if realised is not None and realised.shape[1] == fit.mean_premia.size:
            x = np.asarray(realised, dtype=np.float64)[:, fit.varying]
        return hamilton_filter(log_densities(x, chain), chain).predicted

    def _premia(self, fit: RegimeSwitchingFit, state: LatentFactorState) -> NDArray[np.float64]:
        return self._predicted(fit, state) @ fit.regime_premia

    def _mean_premia(self, fit: RegimeSwitchingFit) -> NDArray[np.float64]:
        return fit.mean_premia
