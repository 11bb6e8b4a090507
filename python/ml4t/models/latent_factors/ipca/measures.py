"""How much of returns IPCA explains, against named benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models import kernels
from ml4t.models.moments.characteristic_moments import CharacteristicMoments
from ml4t.models.panel.imputation import at_middle, rows_there
from ml4t.models.panel.masks import known, require_returns
from ml4t.models.types.base import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.types import CrossSectionBatch


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RSquared(Record):
    r"""One minus the ratio of squared errors to those of a benchmark forecast.

    NaN where the benchmark leaves nothing to explain, or cannot be known from what was given.

    Attributes
    ----------
    against_zero : float
        Uncentred: the benchmark is zero, as in Kelly, Pruitt and Su.
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
        :math:`1 - \sum (y_{it} - \beta_{it}'f_t)^2 / \sum (y_{it} - b)^2`: realised factors.
    predictive : RSquared
        The same with the mean factors of the fit in place of the realised ones.
    cross_sectional : RSquared
        :math:`1 - \sum_i \bar\varepsilon_i^2 / \sum_i (\bar y_i - b)^2`: time averages of the
        errors of `total`, each asset once.
    """

    total: RSquared
    predictive: RSquared
    cross_sectional: RSquared


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FitMeasures(Record):
    """How much of a panel a fitted IPCA explains.

    Attributes
    ----------
    assets : FitLevel
        Of asset returns. From moments, which do not know one asset from another, the benchmark of
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


@dataclass(frozen=True, slots=True)
class Explained:
    """A panel and what explains it.

    Attributes
    ----------
    moments : Moments
        Of T dates over P instruments.
    batch : CrossSectionBatch or CharacteristicMoments or None
        Where the moments come from, if that is known.
    gamma : ndarray, shape (P, Q)
        Loadings, latent and observed.
    factors : ndarray, shape (T, Q)
        Realised; NaN on dates that do not count.
    premia : ndarray, shape (Q,)
        Mean factors of the fit.
    constant : bool
        Whether the instruments begin with a constant.
    middle : bool
        Whether missing characteristics are filled.
    """

    moments: kernels.Moments
    batch: CrossSectionBatch | CharacteristicMoments | None
    gamma: NDArray[np.float64]
    factors: NDArray[np.float64]
    premia: NDArray[np.float64]
    constant: bool
    middle: bool = False

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


def _asset_spreads(found: Explained) -> tuple[tuple[float, float, float], _Averages]:
    used, moments = found.used, found.moments
    square, n = float(moments.return_squares[used].sum()), int(moments.n_assets[used].sum())
    if found.batch is None or isinstance(found.batch, CharacteristicMoments):
        sums = moments.cross if found.batch is None else found.batch.cross
        knows_sum = found.batch is not None or found.constant
        pooled = square - float(sums[used, 0].sum()) ** 2 / max(n, 1) if knows_sum else np.nan
        return (square, np.nan, pooled), _Averages(np.empty(0), np.empty(0))
    returns, errors, counts = _asset_sums(found, found.batch)
    there = counts > 0
    own = square - float((returns[there] ** 2 / counts[there]).sum())
    pooled = square - float(returns.sum()) ** 2 / max(n, 1)
    averages = _Averages(returns[there] / counts[there], errors[there] / counts[there])
    return (square, own, pooled), averages


def _asset_sums(found: Explained, batch: CrossSectionBatch) -> tuple[NDArray[Any], ...]:
    """Sum returns and errors over dates, and count the dates, each of shape (N,)."""
    usable = np.isfinite(require_returns("IPCAModel", batch.returns))
    there = known(batch)
    if found.middle:
        there = np.array([rows_there(batch, date) for date in range(len(usable))])
    usable &= there
    sums = np.zeros((3, batch.n_assets))
    first = int(found.constant)
    for date in np.flatnonzero(found.used):
        cells = np.flatnonzero(usable[date])
        loadings = found.gamma @ found.factors[date]
        returns = np.asarray(batch.returns)[date, cells].astype(np.float64)
        z = batch.characteristics[date]
        rows = (at_middle(z, there[date]) if found.middle else z)[cells]
        fitted = np.ascontiguousarray(rows, dtype=np.float64) @ loadings[first:]
        level = loadings[0] if first else 0.0
        sums[:, cells] += returns, returns - fitted - level, np.ones(len(cells))
    return sums[0], sums[1], sums[2]


def _managed_spreads(found: Explained) -> tuple[tuple[float, float, float], _Averages]:
    moments, used = found.moments, found.used
    n = moments.n_assets[used, None].astype(np.float64)
    x = moments.cross[used] / n
    betas = found.factors[used] @ found.gamma.T
    errors = x - np.einsum("tij,tj->ti", moments.full_gram[used], betas) / n
    about = (x, x - x.mean(axis=0), x - x.mean())
    zero, own, pooled = (float((part**2).sum()) for part in about)
    return (zero, own, pooled), _Averages(x.mean(axis=0), errors.mean(axis=0))
