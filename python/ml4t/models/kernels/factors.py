"""Latent factors of a panel of returns: PCA, RP-PCA and their projections.

With missing returns, PCA sets a return to its asset's mean, or completes the panel by its own
factors (EM): a missing return is what the loadings of its asset make of the factors of its date,
both by least squares on what is observed. RP-PCA takes the moment of two assets
over the dates when both are observed (0 where there is none) and the means over all observed dates;
a date's factors are the least-squares coefficients of its observed returns on their loadings, in
the scale of the weights.

References
----------
Lettau and Pelger (2020), Factors that fit the time series and cross-section of stock returns,
Review of Financial Studies 33(5). Xiong and Pelger (2023), Large dimensional latent factor modeling
with missing observations, Journal of Econometrics 233(1).
"""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike

from ml4t.models import _core
from ml4t.models.checks import require_bool, require_int, require_one_of, require_real
from ml4t.models.kernels._arrays import Float64Array, float64s, floats


@dataclass(frozen=True, slots=True, eq=False)
class PCAFactors:
    """Principal components of a panel of returns.

    Attributes
    ----------
    mean : ndarray of float64, shape (N,)
        Mean of each asset's finite returns, per period.
    loadings : ndarray of float64, shape (N, K)
        Orthonormal; every factor's mean over the sample is >= 0.
    factors : ndarray of float64, shape (T, K)
        Raw returns times loadings, a missing return at its asset's mean; per period.
    singular_values : ndarray of float64, shape (K,)
        Of the centred panel, descending.
    explained_variance_ratio : ndarray of float64, shape (K,)
        Share of the centred panel's sum of squares.
    """

    mean: Float64Array
    loadings: Float64Array
    factors: Float64Array
    singular_values: Float64Array
    explained_variance_ratio: Float64Array


@dataclass(frozen=True, slots=True, eq=False)
class CompletedPCAFactors(PCAFactors):
    """Principal components of a panel that was completed by them.

    Attributes
    ----------
    step : float
        How far the last round of EM moved the missing returns, relative to the panel; 0 where
        nothing is missing.
    """

    step: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class RPPCAFactors:
    """Risk-premium principal components of a panel of returns.

    Attributes
    ----------
    eigenvalues : ndarray of float64, shape (K,)
        Leading eigenvalues of the moment matrix, descending.
    loadings : ndarray of float64, shape (N, K)
        Rotated along with the factors when these are orthogonalised.
    factor_weights : ndarray of float64, shape (N, K)
        Portfolio weights: the factors of a complete date are its returns times these.
    factors : ndarray of float64, shape (T, K)
        Return per period, every mean >= 0; NaN at a date without a finite return.
    asset_betas : ndarray of float64, shape (N, K)
        Slopes of the time-series regressions on the factors and a constant.
    alphas : ndarray of float64, shape (N,)
        Their intercepts, per period.
    residual_variances : ndarray of float64, shape (N,)
        Their mean squared residuals.
    variances : ndarray of float64, shape (N,)
        Variance of each asset over its finite returns, divisor n.
    """

    eigenvalues: Float64Array
    loadings: Float64Array
    factor_weights: Float64Array
    factors: Float64Array
    asset_betas: Float64Array
    alphas: Float64Array
    residual_variances: Float64Array
    variances: Float64Array


def pca(returns: ArrayLike, n_factors: int, *, missing: str = "mean") -> PCAFactors:
    r"""Leading principal components of returns.

    With :math:`C` the panel less every asset's mean, missing entries 0, and :math:`\Lambda` its
    leading right singular vectors, the factors are :math:`F = C \Lambda + 1 \bar r'\Lambda`: they
    keep the premium that the means hold.

    Parameters
    ----------
    returns : array_like, shape (T, N)
        Return per period; what is not finite is missing.
    n_factors : int
        K, between 1 and min(T, N).
    missing : {"mean", "em"}
        A missing return counts as its asset's mean; or the factors complete it, means are those of
        the completed panel, and a date's factors are the least-squares coefficients of its observed
        returns.

    Returns
    -------
    PCAFactors
        `CompletedPCAFactors` with "em".

    Raises
    ------
    ValueError
        When K is out of range, an asset has no finite return, or the rank of the centred panel is
        below K.

    Notes
    -----
    A factor whose mean is nothing beside its variation has its largest loading positive.
    Eigenvectors come from block Krylov iteration to an angle of about 1e-12 where the gaps of
    the spectrum allow it, else by full decomposition.
    """
    count = count_of_factors(n_factors)
    completed = is_em(missing)
    mean, loadings, factors, values, shares, step = _core.pca(
        floats("returns", returns, 2), count, completed
    )
    if completed:
        return CompletedPCAFactors(mean, loadings, factors, values, shares, step)
    return PCAFactors(mean, loadings, factors, values, shares)


def project_pca(
    returns: ArrayLike, mean: ArrayLike, loadings: ArrayLike, *, missing: str = "mean"
) -> Float64Array:
    """Factors of new returns, shape (T, K).

    Parameters
    ----------
    returns : array_like, shape (T, N)
    mean : array_like, shape (N,)
    loadings : array_like, shape (N, K)
    missing : {"mean", "em"}
        A missing return counts as its asset's training mean; or factors are the least-squares
        coefficients of what is observed.

    Raises
    ------
    ValueError
        When the shapes do not line up.
    """
    return _core.project_pca(
        floats("returns", returns, 2),
        float64s("mean", mean, 1),
        float64s("loadings", loadings, 2),
        is_em(missing),
    )


def rp_pca(
    returns: ArrayLike,
    n_factors: int,
    *,
    gamma: float = 0.0,
    base_moment: str = "second_moment",
    scale_by_asset_volatility: bool = False,
    normalize_loadings: str = "unit_length",
    orthogonalize_factors: bool = False,
) -> RPPCAFactors:
    r"""Risk-premium principal components.

    Loadings are the leading eigenvectors of

    .. math:: M = X'X / T + \gamma \bar x \bar x' \quad\text{or}\quad
              M = (X - 1\bar x')'(X - 1\bar x') / (T - 1) + \gamma \bar x \bar x'

    with :math:`X` the returns, or returns over their standard deviations.

    Parameters
    ----------
    returns : array_like, shape (T, N)
        Excess return per period; what is not finite is missing.
    n_factors : int
        K, between 1 and min(T, N).
    gamma : float, default 0.0
        Weight of the squared means; -1 on second moments is PCA.
    base_moment : {"second_moment", "covariance"}
    scale_by_asset_volatility : bool, default False
        Take moments of returns over their standard deviations (variance at least 1e-12).
    normalize_loadings : {"unit_length", "variance"}
        Weights of length one, or loadings times and weights over the root of the eigenvalue.
    orthogonalize_factors : bool, default False
        Rotate to factors that are uncorrelated in the sample.

    Returns
    -------
    RPPCAFactors

    Raises
    ------
    ValueError
        When a setting is out of range, an asset has no finite return, the moment matrix has fewer
        than K positive eigenvalues, or factors to be orthogonalised are collinear.
    """
    settings = rp_settings(
        n_factors,
        gamma,
        base_moment,
        scale_by_asset_volatility,
        normalize_loadings,
        orthogonalize_factors,
    )
    return RPPCAFactors(*_core.rp_pca(floats("returns", returns, 2), settings))


def project_rp_pca(returns: ArrayLike, factor_weights: ArrayLike) -> Float64Array:
    """Factors of new returns, shape (T, K), by regression on the observed assets.

    A complete date has factors `returns @ factor_weights`; fewer observed assets than factors give
    the solution of least length; a date without a finite return gives NaN.

    Parameters
    ----------
    returns : array_like, shape (T, N)
    factor_weights : array_like, shape (N, K)

    Raises
    ------
    ValueError
        When the shapes do not line up.
    """
    return _core.project_rp_pca(
        floats("returns", returns, 2), float64s("factor_weights", factor_weights, 2)
    )


def rp_settings(
    n_factors: int,
    gamma: float,
    base_moment: str,
    scale_by_asset_volatility: bool,
    normalize_loadings: str,
    orthogonalize_factors: bool,
) -> tuple[int, float, bool, bool, bool, bool]:
    """Check the settings of RP-PCA and order them as the compiled kernel takes them."""
    base = require_one_of("base_moment", base_moment, ("second_moment", "covariance"))
    length = require_one_of("normalize_loadings", normalize_loadings, ("unit_length", "variance"))
    return (
        count_of_factors(n_factors),
        require_real("gamma", gamma),
        base == "covariance",
        require_bool("scale_by_asset_volatility", scale_by_asset_volatility),
        length == "variance",
        require_bool("orthogonalize_factors", orthogonalize_factors),
    )


def is_em(missing: str) -> bool:
    """Check what becomes of missing returns."""
    return require_one_of("missing", missing, ("mean", "em")) == "em"


def count_of_factors(value: int) -> int:
    """Check K as far as it can be without the data."""
    return require_int("n_factors", value, at_least=1)
