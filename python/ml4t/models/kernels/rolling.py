"""PCA and RP-PCA over many windows of one panel, for little more than the price of one fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from numpy.typing import ArrayLike

from ml4t.models import _core
from ml4t.models.checks import require_int
from ml4t.models.kernels._arrays import Float64Array, floats
from ml4t.models.kernels.factors import count_of_factors, is_em, rp_settings


@dataclass(frozen=True, slots=True, eq=False)
class RollingPCAFactors:
    """Principal components of B windows; each equals the fit of its window to about 1e-11.

    Attributes
    ----------
    mean : ndarray of float64, shape (B, N)
        Mean of each asset's finite returns in the window, per period.
    loadings : ndarray of float64, shape (B, N, K)
        Orthonormal; every factor's mean over its window is >= 0.
    singular_values : ndarray of float64, shape (B, K)
        Of the centred window, descending.
    explained_variance_ratio : ndarray of float64, shape (B, K)
        Share of the centred window's sum of squares.
    """

    mean: Float64Array
    loadings: Float64Array
    singular_values: Float64Array
    explained_variance_ratio: Float64Array


@dataclass(frozen=True, slots=True, eq=False)
class CompletedRollingPCAFactors(RollingPCAFactors):
    """Principal components of B windows that were completed by them.

    Attributes
    ----------
    step : ndarray of float64, shape (B,)
        See `CompletedPCAFactors`.
    """

    step: Float64Array


@dataclass(frozen=True, slots=True, eq=False)
class RollingRPPCAFactors:
    """Risk-premium principal components of B windows; each equals the fit of its window.

    Attributes
    ----------
    eigenvalues : ndarray of float64, shape (B, K)
    loadings : ndarray of float64, shape (B, N, K)
    factor_weights : ndarray of float64, shape (B, N, K)
    asset_betas : ndarray of float64, shape (B, N, K)
    alphas : ndarray of float64, shape (B, N)
        Return per period.
    residual_variances : ndarray of float64, shape (B, N)
    factor_means : ndarray of float64, shape (B, K)
        Mean of the factors over the window, per period; >= 0.
    factor_covariances : ndarray of float64, shape (B, K, K)
        Covariance of the factors over the window, divisor n.
    """

    eigenvalues: Float64Array
    loadings: Float64Array
    factor_weights: Float64Array
    asset_betas: Float64Array
    alphas: Float64Array
    residual_variances: Float64Array
    factor_means: Float64Array
    factor_covariances: Float64Array


def rolling_pca(
    returns: ArrayLike,
    n_factors: int,
    windows: Iterable[tuple[int, int]],
    *,
    missing: str = "mean",
) -> RollingPCAFactors:
    """Fit `pca` to every window of dates.

    Parameters
    ----------
    returns : array_like, shape (T, N)
        Return per period; what is not finite is missing.
    n_factors : int
        K, between 1 and the lesser of N and the shortest window.
    windows : iterable of (int, int), B of them
        First date and the date after the last, as in a slice. Windows that follow one another
        closely are fastest.
    missing : {"mean", "em"}
        As in `pca`.

    Raises
    ------
    ValueError
        When a window is empty or not within the panel, or `pca` rejects one.
    """
    count, spans = count_of_factors(n_factors), _spans(windows)
    panel, completed = floats("returns", returns, 2), is_em(missing)
    mean, loadings, values, shares, step = _core.rolling_pca(panel, count, spans, completed)
    if completed:
        return CompletedRollingPCAFactors(mean, loadings, values, shares, step)
    return RollingPCAFactors(mean, loadings, values, shares)


def rolling_rp_pca(
    returns: ArrayLike,
    n_factors: int,
    windows: Iterable[tuple[int, int]],
    *,
    gamma: float = 0.0,
    base_moment: str = "second_moment",
    scale_by_asset_volatility: bool = False,
    normalize_loadings: str = "unit_length",
    orthogonalize_factors: bool = False,
) -> RollingRPPCAFactors:
    """Fit `rp_pca`, whose settings these are, to every window of dates.

    Parameters
    ----------
    returns : array_like, shape (T, N)
        Excess return per period; what is not finite is missing.
    n_factors : int
        K, between 1 and the lesser of N and the shortest window.
    windows : iterable of (int, int), B of them
        First date and the date after the last, as in a slice.
    gamma, base_moment, scale_by_asset_volatility, normalize_loadings, orthogonalize_factors
        As in `rp_pca`.

    Raises
    ------
    ValueError
        When a window is empty or not within the panel, or `rp_pca` rejects one.
    """
    settings = rp_settings(
        n_factors,
        gamma,
        base_moment,
        scale_by_asset_volatility,
        normalize_loadings,
        orthogonalize_factors,
    )
    panel = floats("returns", returns, 2)
    return RollingRPPCAFactors(*_core.rolling_rp_pca(panel, settings, _spans(windows)))


def _spans(windows: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    return [
        (
            require_int("start of a window", start, at_least=0),
            require_int("end of a window", stop, at_least=0),
        )
        for start, stop in windows
    ]
