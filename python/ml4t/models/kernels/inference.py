"""How sure the loadings of IPCA are: bootstrap draws under a null, contributions of dates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from ml4t.models import _core
from ml4t.models.checks import require_int, require_real
from ml4t.models.kernels._arrays import float64s
from ml4t.models.kernels.instrumented import (
    IPCASettings,
    ipca_options,
    optional_panel,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from ml4t.models.kernels.panel import Moments


def ipca_bootstrap(
    moments: Moments,
    gamma: ArrayLike,
    weights: ArrayLike,
    *,
    observed: ArrayLike | None = None,
    draws: range = range(1000),
    seed: int = 0,
    t_variance: float = 1.0,
    **settings: Unpack[IPCASettings],
) -> NDArray[np.float64]:
    r"""Draw test statistics of IPCA loadings under a null: residual wild bootstrap.

    .. math:: \tilde x_t = W_t \Gamma^0 f_t + q_t d_{s(t)}, \qquad d_t = x_t - W_t \Gamma f_t

    with :math:`x_t = Z_t'r_t / n_t`, :math:`W_t = Z_t'Z_t / n_t`, q Student's t with five degrees
    of freedom, scaled, and s uniform over the dates used. Each draw is estimated anew.

    Parameters
    ----------
    moments : Moments
        Of T dates over P instruments.
    gamma : array_like, shape (P, K + M)
        Estimated loadings, latent ones first.
    weights : array_like, shape (P, K + M)
        The statistic is sum(weights * Gamma**2); the null sets loadings of positive weight to zero.
    observed : array_like, shape (T, M), optional
        Observed factors.
    draws : range
        Numbers of the draws, in steps of one. Draw i is the same whatever others are asked for.
    seed : int
        Not negative.
    t_variance : float, default 1
        Variance of q; 5/3 is that of a t that is not scaled.
    **settings
        See `IPCASettings`; of the estimates.

    Returns
    -------
    ndarray of float64, shape (len(draws),)
        NaN where an estimate failed. The same bits for any number of threads.

    Raises
    ------
    ValueError
        As `ipca`, and for weights, draws, a seed or a variance that make no sense.

    References
    ----------
    Kelly, Pruitt and Su (2019), Characteristics are covariances, JFE 134(3), section 3.
    """
    return _core.ipca_bootstrap(
        moments.arrays,
        float64s("gamma", gamma, 2),
        optional_panel("observed", observed, len(moments.n_assets)),
        float64s("weights", weights, 2),
        _numbers(draws, seed, t_variance),
        ipca_options(**settings),
    )


def ipca_bootstrap_noise(
    n_dates: int, *, draws: range = range(1), seed: int = 0, t_variance: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.uint64]]:
    """Return the random numbers of `ipca_bootstrap`.

    Parameters
    ----------
    n_dates : int
        T, the dates used.
    draws, seed, t_variance
        See `ipca`.

    Returns
    -------
    multipliers : ndarray of float64, shape (len(draws), T)
    donors : ndarray of uint64, shape (len(draws), T)
        Dates whose residuals are taken.

    Raises
    ------
    ValueError
        For arguments that make no sense.
    """
    n_dates = require_int("n_dates", n_dates, at_least=0)
    return _core.ipca_bootstrap_noise(n_dates, _numbers(draws, seed, t_variance))


def ipca_influence(
    moments: Moments,
    gamma: ArrayLike,
    *,
    observed: ArrayLike | None = None,
    **settings: Unpack[IPCASettings],
) -> NDArray[np.float64]:
    r"""Compute what each date contributes to the deviation of IPCA loadings from the truth.

    To first order the deviation is :math:`\sum_t H^{-1} s_t`, with the scores
    :math:`s_t = e_t f_t'` and the Hessian H of half the objective, factors projected out.

    Parameters
    ----------
    moments : Moments
        Of T dates over P instruments.
    gamma : array_like, shape (P, K + M)
        Solution of the estimation problem, latent ones first: orthonormal, and orthogonal to the
        observed ones.
    observed : array_like, shape (T, M), optional
        Observed factors.
    **settings
        See `IPCASettings`; of the estimate.

    Returns
    -------
    ndarray of float64, shape (T_used, P, K + M)
        The sum of outer products over dates is the variance, clustered by date. Of the latent
        loadings it is the deviation of the space they span, in the basis of the estimate.

    Raises
    ------
    ValueError
        As `ipca`.
    RuntimeError
        When the objective has no strict minimum at `gamma`.

    References
    ----------
    Kelly, Pruitt and Su (2020), Instrumented principal component analysis, SSRN 2983919.
    """
    return _core.ipca_influence(
        moments.arrays,
        float64s("gamma", gamma, 2),
        optional_panel("observed", observed, len(moments.n_assets)),
        ipca_options(**settings),
    )


def _numbers(draws: range, seed: int, t_variance: float) -> tuple[int, int, int, float]:
    if draws.step != 1 or draws.start < 0:
        raise ValueError(f"draws must be a range in steps of one from 0 or more; got {draws}")
    seed = require_int("seed", seed)
    variance = require_real("t_variance", t_variance, above=0.0)
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be an integer >= 0 and < 2**64; got {seed}")
    return seed, draws.start, len(draws), variance
