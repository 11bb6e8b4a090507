"""How much of a panel IPCA explains, and the portfolios of its factors and its alpha."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models import kernels
from ml4t.models.checks import require_real
from ml4t.models.latent_factors.ipca.inference import kept_sample
from ml4t.models.latent_factors.ipca.inputs import (
    factors_of,
    fitted_moments,
    require_fitted_features,
    require_same_panel,
    sample_with_factors,
)
from ml4t.models.moments.characteristic_moments import CharacteristicMoments
from ml4t.models.panel.imputation import fill_with_median, present_rows
from ml4t.models.panel.masks import known, require_returns
from ml4t.models.types import CrossSectionBatch
from ml4t.models.types.base import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.latent_factors.ipca.fit import FittedIPCA, Sample


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RSquared(Record):
    r"""One minus the ratio of squared errors to those of a benchmark forecast.

    NaN where the benchmark leaves nothing to explain or is not determined by the input.

    Attributes
    ----------
    against_zero : float
        Uncentered: the benchmark is zero, as in Kelly, Pruitt and Su.
    against_mean : float
        The benchmark is each asset's (or portfolio's) own mean.
    against_pooled_mean : float
        The benchmark is one mean of all.
    """

    against_zero: float
    against_mean: float
    against_pooled_mean: float


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FitLevel(Record):
    r"""Coefficients of determination of one kind of assets, y.

    Attributes
    ----------
    total : RSquared
        :math:`1 - \sum (y_{it} - \beta_{it}'f_t)^2 / \sum (y_{it} - b)^2`: realized factors.
    predictive : RSquared
        The same with the mean factors of the fit in place of the realized ones.
    cross_sectional : RSquared
        :math:`1 - \sum_i \bar\varepsilon_i^2 / \sum_i (\bar y_i - b)^2`: time averages of the
        errors of `total`, each asset once.
    """

    total: RSquared
    predictive: RSquared
    cross_sectional: RSquared


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FitMeasures(Record):
    """Measures of fit of IPCA on a panel.

    Attributes
    ----------
    assets : FitLevel
        Of asset returns. From moments, which hold no single assets, the benchmark of
        own means and the cross section are NaN.
    managed_portfolios : FitLevel
        Of the managed portfolios Z_t'r_t / n_t, one for each instrument.
    without_alpha : FitMeasures or None
        The same with the alpha left out and the factors as they are; None for a model without one.
    n_dates : int
        Dates with at least `min_assets` usable rows.
    n_cells : int
        Usable rows on these dates.
    """

    assets: FitLevel
    managed_portfolios: FitLevel
    without_alpha: FitMeasures | None
    n_dates: int
    n_cells: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FactorPortfolio(Record):
    """Weights and returns of a portfolio.

    Attributes
    ----------
    weights : ndarray of float64, shape (K,) or (P,)
        On the latent factors; on the instruments' loadings for the arbitrage portfolio. Scaled so
        that the standard deviation over the training dates is the target.
    returns : ndarray of float64, shape (T,)
        Per period; NaN on dates without a realized factor.
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


def realized_sample(
    fitted: FittedIPCA,
    batch: CrossSectionBatch | CharacteristicMoments,
    observed_factors: NDArray[Any] | None,
) -> tuple[Sample, NDArray[np.float64]]:
    """Sample of a batch and its realized factors (T, K + M), as `extract` gives them."""
    require_fitted_features(fitted.fit, batch)
    sample = sample_with_factors(fitted, batch, observed_factors)
    if isinstance(batch, CrossSectionBatch) and batch.returns is None:
        raise ValueError("IPCAModel requires returns to realize factors; the batch has none")
    if sample is None:
        raise ValueError("realized factors need observed_factors; got none")
    factors = factors_of(fitted, sample).astype(fitted.fit.gamma.dtype, copy=False)
    return sample, factors.astype(np.float64)


def fit_measures(
    fitted: FittedIPCA,
    batch: CrossSectionBatch | CharacteristicMoments,
    observed_factors: NDArray[Any] | None,
) -> FitMeasures:
    """Measure the fit on a panel with returns."""
    sample, factors = realized_sample(fitted, batch, observed_factors)
    factors[sample.moments.n_assets < fitted.config.min_assets] = np.nan
    return measures_of(fitted, sample.moments, factors, batch)


def measures_of(
    fitted: FittedIPCA,
    moments: kernels.Moments,
    factors: NDArray[np.float64],
    batch: CrossSectionBatch | CharacteristicMoments | None,
) -> FitMeasures:
    """Measure the fit on dates whose moments and factors are known."""
    config, fit, gamma = fitted.config, fitted.fit, fitted.loadings
    premia = np.concatenate([fit.train_factor_returns.mean(axis=0), fit.observed_means])
    if len(premia) != factors.shape[1]:  # an older file has no means of observed factors
        premia = np.nanmean(factors, axis=0)
    filled = config.missing == "median"
    panel = Explained(moments, batch, gamma, factors, premia, config.constant, filled)
    without = None
    n_dates, n_cells = int(panel.used.sum()), int(moments.n_assets[panel.used].sum())
    if config.intercept:
        cut = replace(panel, gamma=gamma[:, :-1], factors=factors[:, :-1], premia=premia[:-1])
        without = FitMeasures(*cut.levels(), None, n_dates, n_cells)
    return FitMeasures(*panel.levels(), without, n_dates, n_cells)


def tangency_portfolio(
    fitted: FittedIPCA,
    batch: CrossSectionBatch | CharacteristicMoments | None,
    observed_factors: NDArray[Any] | None,
    *,
    target_volatility: float,
) -> FactorPortfolio:
    """Combine the latent factors by their training moments."""
    target = require_real("target_volatility", target_volatility, above=0.0)
    n_latent, trained = fitted.n_latent, fitted.fit.train_factor_returns
    if n_latent == 0:
        raise ValueError("tangency_portfolio needs latent factors; the model has none")
    weights = tangency_weights(trained, target_volatility=target)
    if batch is None:
        return FactorPortfolio(weights, trained @ weights)
    _, factors = realized_sample(fitted, batch, observed_factors)
    return FactorPortfolio(weights, factors[:, :n_latent] @ weights, batch.timestamps)


def arbitrage_portfolio(
    fitted: FittedIPCA,
    batch: CrossSectionBatch | CharacteristicMoments | None,
    training: CrossSectionBatch | CharacteristicMoments | None,
    *,
    target_volatility: float,
) -> FactorPortfolio:
    """Earn the alpha without exposure to the latent factors."""
    target = require_real("target_volatility", target_volatility, above=0.0)
    if not fitted.config.intercept:
        raise ValueError("arbitrage_portfolio needs a model with intercept=True; got False")
    alpha = fitted.fit.gamma_observed[:, -1].astype(np.float64)
    moments = training_moments(fitted, training)
    earned = slopes_of(fitted, moments) @ alpha
    earned[moments.n_assets < fitted.config.min_assets] = np.nan
    weights = scaled(alpha, earned, target)
    if batch is None:
        return FactorPortfolio(weights, earned * (target / float(np.nanstd(earned))))
    slopes = slopes_of(fitted, fitted_moments(fitted, batch))
    return FactorPortfolio(weights, slopes @ weights, batch.timestamps)


def training_moments(
    fitted: FittedIPCA, batch: CrossSectionBatch | CharacteristicMoments | None
) -> kernels.Moments:
    """Moments of the training sample: kept, or those of `batch`."""
    if batch is None:
        return kept_sample(fitted).moments
    moments = fitted_moments(fitted, batch)
    require_same_panel(fitted, moments)
    return moments


def slopes_of(fitted: FittedIPCA, moments: kernels.Moments) -> NDArray[np.float64]:
    """Regress the returns of every date on its instruments, shape (T, P)."""
    return kernels.ipca_factors(
        moments,
        np.eye(len(fitted.fit.gamma)),
        instrument_second_moment=fitted.fit.instrument_second_moment,
    )


@dataclass(frozen=True, slots=True)
class Explained:
    """A panel with the loadings and factors that explain it.

    Attributes
    ----------
    moments : Moments
        Of T dates over P instruments.
    batch : CrossSectionBatch or CharacteristicMoments or None
        Where the moments come from, if that is known.
    gamma : ndarray, shape (P, Q)
        Loadings, latent and observed.
    factors : ndarray, shape (T, Q)
        Realized; NaN on dates that do not count.
    premia : ndarray, shape (Q,)
        Mean factors of the fit.
    constant : bool
        Whether the instruments begin with a constant.
    filled : bool
        Whether missing characteristics are filled.
    """

    moments: kernels.Moments
    batch: CrossSectionBatch | CharacteristicMoments | None
    gamma: NDArray[np.float64]
    factors: NDArray[np.float64]
    premia: NDArray[np.float64]
    constant: bool
    filled: bool = False

    @property
    def used(self) -> NDArray[np.bool_]:
        """Dates that count, shape (T,)."""
        counted: NDArray[np.bool_] = (self.moments.n_assets > 0) & np.isfinite(self.factors).all(1)
        return counted

    def levels(self) -> tuple[FitLevel, FitLevel]:
        """Measure assets, then managed portfolios."""
        path = np.where(self.used[:, None], self.premia, np.nan)
        total = kernels.ipca_fit_measures(self.moments, self.gamma, self.factors)
        predictive = kernels.ipca_fit_measures(self.moments, self.gamma, path)
        spreads, averages = _asset_spreads(self)
        assets = _level(total.total, predictive.total, spreads, averages)
        spreads, averages = _managed_spreads(self)
        managed = _level(total.managed_total, predictive.managed_total, spreads, averages)
        return assets, managed


@dataclass(frozen=True, slots=True)
class _Averages:
    """Time averages of returns and of errors, for each asset; empty where unknown."""

    returns: NDArray[np.float64]
    errors: NDArray[np.float64]


def _level(
    total: float, predictive: float, spreads: tuple[float, float, float], averages: _Averages
) -> FitLevel:
    """Restate R2 against zero, given the squares (about zero, own means, the pooled mean)."""
    means, errors = averages.returns, (averages.errors**2).sum()
    about = ((means**2).sum(), np.nan, ((means - means.mean()) ** 2).sum() if means.size else 0.0)
    return FitLevel(
        total=RSquared(*(_r2((1.0 - total) * spreads[0], square) for square in spreads)),
        predictive=RSquared(*(_r2((1.0 - predictive) * spreads[0], square) for square in spreads)),
        cross_sectional=RSquared(*(_r2(errors, square) for square in about)),
    )


def _r2(errors: float, square: float) -> float:
    return float(1.0 - errors / square) if square > 0.0 else float("nan")


def _asset_spreads(panel: Explained) -> tuple[tuple[float, float, float], _Averages]:
    used, moments = panel.used, panel.moments
    square, n = float(moments.return_squares[used].sum()), int(moments.n_assets[used].sum())
    if panel.batch is None or isinstance(panel.batch, CharacteristicMoments):
        sums = moments.cross if panel.batch is None else panel.batch.cross
        has_sum = panel.batch is not None or panel.constant
        pooled = square - float(sums[used, 0].sum()) ** 2 / max(n, 1) if has_sum else np.nan
        return (square, np.nan, pooled), _Averages(np.empty(0), np.empty(0))
    returns, errors, counts = _asset_sums(panel, panel.batch)
    present = counts > 0
    own = square - float((returns[present] ** 2 / counts[present]).sum())
    pooled = square - float(returns.sum()) ** 2 / max(n, 1)
    averages = _Averages(returns[present] / counts[present], errors[present] / counts[present])
    return (square, own, pooled), averages


def _asset_sums(panel: Explained, batch: CrossSectionBatch) -> tuple[NDArray[Any], ...]:
    """Sum returns and errors over dates, and count the dates, each of shape (N,)."""
    usable = np.isfinite(require_returns("IPCAModel", batch.returns))
    admitted = known(batch)
    if panel.filled:
        admitted = np.array([present_rows(batch, date) for date in range(len(usable))])
    usable &= admitted
    sums = np.zeros((3, batch.n_assets))
    first = int(panel.constant)
    for date in np.flatnonzero(panel.used):
        cells = np.flatnonzero(usable[date])
        loadings = panel.gamma @ panel.factors[date]
        returns = np.asarray(batch.returns)[date, cells].astype(np.float64)
        z = batch.characteristics[date]
        rows = (fill_with_median(z, admitted[date]) if panel.filled else z)[cells]
        fitted = np.ascontiguousarray(rows, dtype=np.float64) @ loadings[first:]
        level = loadings[0] if first else 0.0
        sums[:, cells] += returns, returns - fitted - level, np.ones(len(cells))
    return sums[0], sums[1], sums[2]


def _managed_spreads(panel: Explained) -> tuple[tuple[float, float, float], _Averages]:
    moments, used = panel.moments, panel.used
    n = moments.n_assets[used, None].astype(np.float64)
    x = moments.cross[used] / n
    betas = panel.factors[used] @ panel.gamma.T
    errors = x - np.einsum("tij,tj->ti", moments.full_gram[used], betas) / n
    about = (x, x - x.mean(axis=0), x - x.mean())
    zero, own, pooled = (float((part**2).sum()) for part in about)
    return (zero, own, pooled), _Averages(x.mean(axis=0), errors.mean(axis=0))


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
