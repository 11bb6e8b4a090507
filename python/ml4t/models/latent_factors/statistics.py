"""Statistics of realized factors, and the share of returns that factors explain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ml4t.models.latent_factors.tables import Table
from ml4t.models.types.base import Record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from ml4t.models.types import FitRunRecord


def factor_names(n_factors: int) -> tuple[str, ...]:
    """Names of latent factors: f1, f2, ..."""
    return tuple(f"f{k + 1}" for k in range(n_factors))


def counted(n_factors: int) -> str:
    """Write a number of factors."""
    return f"{n_factors} factor{'' if n_factors == 1 else 's'}"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FactorStatistics(Record):
    r"""Moments of realized factors over the dates with a value; population moments.

    Attributes
    ----------
    mean, volatility : ndarray of float64, shape (K,)
        Mean and standard deviation of the return per period.
    sharpe : ndarray of float64, shape (K,)
        Mean over volatility, per period; NaN for a factor that does not vary.
    t : ndarray of float64, shape (K,)
        Of the mean, for independent periods.
    tangency_sharpe : float
        :math:`\sqrt{\mu'\Sigma^{-1}\mu}`, the largest Sharpe ratio that portfolios of the factors
        have in this sample.
    """

    mean: NDArray[np.float64]
    volatility: NDArray[np.float64]
    sharpe: NDArray[np.float64]
    t: NDArray[np.float64]
    tangency_sharpe: float


def factor_statistics(factors: NDArray[Any]) -> FactorStatistics:
    """Summarize realized factors (T, K); NaN is missing."""
    values = factors.astype(np.float64)
    columns = [x[np.isfinite(x)] for x in values.T]
    mean = np.array([x.mean() if x.size else np.nan for x in columns])
    volatility = np.array([x.std() if x.size else np.nan for x in columns])
    count = np.array([x.size for x in columns])
    varies = volatility > 1e-12 * np.abs(mean)
    sharpe = np.where(varies, mean, np.nan) / np.where(varies, volatility, 1.0)
    whole = values[np.isfinite(values).all(axis=1)][:, varies]
    tangency = float("nan")
    if len(whole) > 1 and whole.shape[1]:
        centre, covariance = whole.mean(axis=0), np.cov(whole.T, ddof=0)
        inverse = np.linalg.pinv(np.atleast_2d(covariance), hermitian=True)
        tangency = float(np.sqrt(max(0.0, centre @ inverse @ centre)))
    t = sharpe * np.sqrt(np.maximum(count - 1, 0))
    return FactorStatistics(mean, volatility, sharpe, t, tangency)


def statistics_table(factors: NDArray[Any], names: Sequence[str]) -> Table:
    """One row for each factor, and one for the best portfolio of them."""
    statistics = factor_statistics(factors)
    columns = (statistics.mean, statistics.volatility, statistics.sharpe, statistics.t)
    rows: list[tuple[str, tuple[float | None, ...]]] = [
        (name, tuple(float(column[k]) for column in columns)) for k, name in enumerate(names)
    ]
    if len(names):
        rows.append(("tangency", (None, None, statistics.tangency_sharpe, None)))
    return Table("Factors", ("mean", "volatility", "Sharpe", "t"), tuple(rows))


@dataclass(frozen=True, slots=True)
class PanelMeasures:
    """Uncentered coefficients of determination on a panel of assets.

    Attributes
    ----------
    total : float
        1 - sum (r - beta'f)^2 / sum r^2, with the factors of the date.
    predictive : float
        The same with the premia in place of the factors.
    cross_sectional : float
        1 - sum_i (mean_t (r - beta'f))^2 / sum_i (mean_t r)^2.
    """

    total: float
    predictive: float
    cross_sectional: float


def panel_measures(
    returns: NDArray[Any], betas: NDArray[Any], factors: NDArray[Any], premia: NDArray[Any]
) -> PanelMeasures:
    """Measure how well exposures and factors explain returns.

    Parameters
    ----------
    returns : ndarray, shape (T, N)
        NaN is missing.
    betas : ndarray, shape (N, K)
    factors : ndarray, shape (T, K)
        NaN on dates that do not count.
    premia : ndarray, shape (K,)
    """
    r = np.where(np.isfinite(factors).all(axis=1)[:, None], returns, np.nan).astype(np.float64)
    unexplained = r - factors @ betas.T
    unpredicted = r - betas @ premia
    n_observed = np.isfinite(r).sum(axis=0)
    count = np.maximum(n_observed, 1)
    means, errors = np.nansum(r, axis=0) / count, np.nansum(unexplained, axis=0) / count
    total = float(np.nansum(r**2))
    return PanelMeasures(
        1.0 - float(np.nansum(unexplained**2)) / total,
        1.0 - float(np.nansum(unpredicted**2)) / total,
        1.0 - float((errors**2).sum()) / float((means**2).sum()),
    )


def measures_table(measures: PanelMeasures) -> Table:
    """One row for each measure."""
    rows = (
        ("total", (measures.total,)),
        ("predictive", (measures.predictive,)),
        ("cross-sectional", (measures.cross_sectional,)),
    )
    return Table("R squared (uncentered)", ("assets",), rows)


def sample_table(record: FitRunRecord, sizes: dict[str, int]) -> Table:
    """List sizes, stopping reason, input and version of a fit."""
    values: dict[str, int | float | str] = {
        **sizes,
        "Stopping": record.stopping_reason,
        "Seconds": float(record.elapsed_seconds),
        "Input SHA-256": record.input_sha256[:12],
        "ml4t-models": record.package_version,
    }
    return Table("Sample", (), tuple((name, (value,)) for name, value in values.items()))
