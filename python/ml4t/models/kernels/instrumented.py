"""Instrumented principal components on per-date moments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np

from ml4t.models import _core
from ml4t.models.checks import (
    NOT_FINITE_IS_A_RESULT,
    require_int,
    require_one_of,
    require_real,
)
from ml4t.models.kernels._arrays import float64s

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ml4t.models.kernels.panel import Moments


class IPCASettings(TypedDict, total=False):
    """Settings of `ipca`, all with defaults.

    Attributes
    ----------
    tol : float, default 1e-6
        Bound on the last step of the identified loadings and on both first-order conditions.
    max_iter : int, default 500
        Most sweeps, alternating and Newton together.
    factor_ridge, gamma_ridge : float, default 1e-6
        Pseudo-assets added to every date, and to all dates together: each weighs as an average
        asset with return zero.
    weighting : {"panel", "portfolio"}, default "panel"
        Whether assets or dates count the same.
    min_assets : int, default 2
        Dates with fewer usable rows are left out.
    rank_tolerance : float, default 1e-11
        Directions with less than this share of the largest eigenvalue of the instruments' pooled
        correlation matrix (about their means, where the first instrument is a constant) count as
        spanned by no date. Moments computed in single precision need
        1e-6: it must exceed their relative error.
    """

    tol: float
    max_iter: int
    factor_ridge: float
    gamma_ridge: float
    weighting: str
    min_assets: int
    rank_tolerance: float


@dataclass(frozen=True, slots=True)
class IPCACertificate:
    """Evidence that loadings solve the estimation problem, or that they do not.

    With e_t = Z_t'(r_t - Z_t Gamma f_t) in instruments whose pooled second moment is the identity.

    Attributes
    ----------
    stopping : {"converged", "max_iter"}
        Convergence is "converged" alone.
    gamma_condition, factor_condition : float
        ||sum_t e_t f_t'|| / ||sum_t Z_t'r_t f_t'|| and ||Gamma'e|| / ||Gamma'Z'r||: relative
        norms of the first-order conditions.
    subspace_step : float
        Last step: the larger of ||(I - PP')Q|| between successive spans of the latent loadings, in
        original and in whitened instruments, and of the relative change of the observed ones.
    objective_delta : float
        Fall of the objective in the last sweep, relative to the sum of squared returns.
    forecast_delta : float
        Largest change of Gamma mean(f) in the last sweep, return per period.
    n_als, n_newton : int
        Sweeps of alternating least squares, and Newton steps.
    objective : float
        Ridged and weighted sum of squared residuals, relative to that of returns.
    ssr : float
        Sum of squared residuals over the dates used, without ridge and weights.
    normal_condition : float
        Condition number (1-norm, estimated) of the last matrix solved for the loadings; infinite
        when the factors were collinear.
    date_condition : float
        Largest condition number (1-norm) of a date's matrix Gamma'Z_t'Z_t Gamma, with the ridge.
    n_singular_dates : int
        Dates whose matrix is numerically singular without the ridge.
    n_unidentified : int
        Directions of the instruments that no date spans; the loadings are zero along them.
    monotone : bool
        Whether no sweep raised the objective beyond rounding.
    objectives : tuple of float, length n_als + n_newton + 1
        `objective` at the start and after each sweep; empty in earlier files.
    steps : tuple of float, length n_als + n_newton
        `subspace_step` of each sweep; empty likewise.
    """

    stopping: str
    gamma_condition: float
    factor_condition: float
    subspace_step: float
    objective_delta: float
    forecast_delta: float
    n_als: int
    n_newton: int
    objective: float
    ssr: float
    normal_condition: float = field(metadata=NOT_FINITE_IS_A_RESULT)
    date_condition: float = field(metadata=NOT_FINITE_IS_A_RESULT)
    n_singular_dates: int
    n_unidentified: int
    monotone: bool
    objectives: tuple[float, ...] = ()
    steps: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class IPCASolution:
    """Loadings and factors in the identified form of Kelly, Pruitt and Su.

    Attributes
    ----------
    gamma : ndarray of float64, shape (P, K)
        Loadings on the latent factors: orthonormal columns.
    gamma_observed : ndarray of float64, shape (P, M)
        Loadings on the observed factors: orthogonal to `gamma`.
    factors : ndarray of float64, shape (T_used, K)
        Latent factors, return per period: second moment diagonal and descending, means >= 0.
    dates_used : ndarray of int64, shape (T_used,)
        Dates with at least `min_assets` usable rows.
    instrument_second_moment : ndarray of float64, shape (P, P)
        Pooled second moment of the instruments per asset: the metric of the ridge.
    ridge : float
        Pseudo-assets a date.
    certificate : IPCACertificate
        Evidence of convergence.
    unidentified : ndarray of int64
        Instruments that take part in directions that no date spans, ascending.
    """

    gamma: NDArray[np.float64]
    gamma_observed: NDArray[np.float64]
    factors: NDArray[np.float64]
    dates_used: NDArray[np.int64]
    instrument_second_moment: NDArray[np.float64]
    ridge: float
    certificate: IPCACertificate
    unidentified: NDArray[np.int64]

    @property
    def converged(self) -> bool:
        """Whether the fit converged by its certificate."""
        return self.certificate.stopping == "converged"


@dataclass(frozen=True, slots=True)
class IPCAFitMeasures:
    """Uncentred coefficients of determination, 1 - sum residual^2 / sum target^2.

    Attributes
    ----------
    total, predictive : float
        Asset returns explained by the factors of their date, and by the mean factors.
    managed_total, managed_predictive : float
        The same for the managed portfolios Z_t'r_t / n_t.
    """

    total: float
    predictive: float
    managed_total: float
    managed_predictive: float


def ipca(
    moments: Moments,
    n_factors: int,
    *,
    observed: ArrayLike | None = None,
    start: ArrayLike | None = None,
    **settings: Unpack[IPCASettings],
) -> IPCASolution:
    r"""Estimate instrumented principal components.

    .. math:: r_t = Z_t (\Gamma_\beta f_t + \Gamma_g g_t) + \epsilon_t

    Alternating least squares, then Newton steps on the loadings with the factors projected out.

    Parameters
    ----------
    moments : Moments
        Of T dates over P instruments.
    n_factors : int
        K, from 1 to P; 0 is allowed with observed factors.
    observed : array_like, shape (T, M), optional
        Observed factors g; a column of ones is an instrumented alpha.
    start : array_like, shape (P, K + M), optional
        Loadings to start from, latent ones first; by default they come from the data.
    **settings
        See `IPCASettings`.

    Returns
    -------
    IPCASolution
        Check `converged` or the certificate: running out of sweeps is not an error.

    Raises
    ------
    ValueError
        When shapes or settings make no sense, no date is usable, an observed factor is not finite,
        or instruments, dates or returns do not carry this many factors.

    References
    ----------
    Kelly, Pruitt and Su (2019), Characteristics are covariances, JFE 134(3), 501-524.
    """
    solution = _core.ipca(
        moments.arrays,
        require_int("n_factors", n_factors, at_least=0),
        optional_panel("observed", observed, len(moments.n_assets)),
        None if start is None else float64s("start", start, 2),
        ipca_options(**settings),
    )
    gamma, gamma_observed, factors, dates, second_moment, ridge, unidentified, evidence = solution
    stopping, steps, changes, sweeps, sizes, lost, monotone, *paths = evidence
    numbers = (*steps, *changes, *sweeps, *sizes, *lost, monotone)
    path = (tuple(one) for both in paths for one in both)
    certificate = IPCACertificate(stopping, *numbers, *path)
    return IPCASolution(
        gamma,
        gamma_observed,
        factors,
        dates.astype(np.int64),
        second_moment,
        ridge,
        certificate,
        unidentified.astype(np.int64),
    )


def ipca_factors(
    moments: Moments,
    gamma: ArrayLike,
    *,
    gamma_observed: ArrayLike | None = None,
    observed: ArrayLike | None = None,
    ridge: float = 0.0,
    instrument_second_moment: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Latent factors of every date for given loadings: the factor step of `ipca` alone.

    Parameters
    ----------
    moments : Moments
        Of T dates over P instruments.
    gamma : array_like, shape (P, K)
        Loadings on the latent factors.
    gamma_observed : array_like, shape (P, M), optional
        Loadings on the observed factors.
    observed : array_like, shape (T, M), optional
        Observed factors of these dates.
    ridge : float, default 0
        Pseudo-assets a date.
    instrument_second_moment : array_like, shape (P, P), optional
        Second moment of a pseudo-asset's instruments; by default the identity.

    Returns
    -------
    ndarray of float64, shape (T, K)
        Return per period; NaN on dates without a usable row, minimum norm on singular ones.

    Raises
    ------
    ValueError
        When the shapes do not line up.
    """
    n_dates, n_instruments = moments.cross.shape
    metric = np.eye(n_instruments) if instrument_second_moment is None else instrument_second_moment
    return _core.ipca_factors(
        moments.arrays,
        float64s("gamma", gamma, 2),
        optional_panel("gamma_observed", gamma_observed, n_instruments),
        optional_panel("observed", observed, n_dates),
        require_real("ridge", ridge, at_least=0.0),
        float64s("instrument_second_moment", metric, 2),
    )


def ipca_fit_measures(moments: Moments, gamma: ArrayLike, factors: ArrayLike) -> IPCAFitMeasures:
    """Coefficients of determination of loadings and factors.

    Parameters
    ----------
    moments : Moments
        Of T dates over P instruments.
    gamma : array_like, shape (P, Q)
        Loadings, latent and observed side by side.
    factors : array_like, shape (T, Q)
        Factors in the same order. Dates with one that is not finite do not count.

    Returns
    -------
    IPCAFitMeasures
        The predictive ones use the mean of `factors` over the dates that count.

    Raises
    ------
    ValueError
        When the shapes do not line up.
    """
    return IPCAFitMeasures(
        *_core.ipca_fit_measures(
            moments.arrays, float64s("gamma", gamma, 2), float64s("factors", factors, 2)
        )
    )


def ipca_options(
    *,
    tol: float = 1e-6,
    max_iter: int = 500,
    factor_ridge: float = 1e-6,
    gamma_ridge: float = 1e-6,
    weighting: str = "panel",
    min_assets: int = 2,
    rank_tolerance: float = 1e-11,
) -> _core._IPCAOptions:
    """Check settings and give them as the compiled kernels take them."""
    return {
        "tol": require_real("tol", tol, above=0.0),
        "max_iter": require_int("max_iter", max_iter, at_least=1),
        "factor_ridge": require_real("factor_ridge", factor_ridge, at_least=0.0),
        "gamma_ridge": require_real("gamma_ridge", gamma_ridge, at_least=0.0),
        "portfolio": require_one_of("weighting", weighting, ("panel", "portfolio")) == "portfolio",
        "min_assets": require_int("min_assets", min_assets, at_least=1),
        "rank_tolerance": require_real("rank_tolerance", rank_tolerance, at_least=0.0, below=1.0),
    }


def optional_panel(name: str, values: ArrayLike | None, n_rows: int) -> NDArray[np.float64]:
    """Return `values`, or an array without columns."""
    return np.zeros((n_rows, 0)) if values is None else float64s(name, values, 2)
