"""Asymptotic standard errors of IPCA loadings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ml4t.models import kernels
from ml4t.models.types.base import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ml4t.models.latent_factors.ipca.fit import Sample


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class IPCAStandardErrors(Record):
    """Standard errors of loadings, in the units of the loadings.

    Attributes
    ----------
    gamma : ndarray of float64, shape (P, K)
        Of the latent loadings.
    alpha : ndarray of float64, shape (P,), or None
        Of the instrumented alpha, return per period; None without one.
    gamma_observed : ndarray of float64, shape (P, M)
        Of the observed factors that were passed to `fit`.
    covariance : ndarray of float64, shape (P (K + M'), P (K + M'))
        Of all loadings, one factor after the other, latent ones first and the alpha last.
    """

    gamma: NDArray[np.float64]
    alpha: NDArray[np.float64] | None
    gamma_observed: NDArray[np.float64]
    covariance: NDArray[np.float64]


def standard_errors(
    sample: Sample,
    gamma: NDArray[np.float64],
    settings: kernels.IPCASettings,
    *,
    n_latent: int,
    intercept: bool,
    identity_on: Sequence[int] = (),
) -> IPCAStandardErrors:
    r"""Sum the contributions of dates, :math:`\sum_t \psi_t\psi_t'`: the sandwich by date."""
    psi = kernels.ipca_influence(sample.moments, gamma, observed=sample.observed, **settings)
    if identity_on:
        psi = on_the_identity(psi, gamma, n_latent, list(identity_on))
    return summed(psi, n_latent=n_latent, intercept=intercept)


def on_the_identity(
    psi: NDArray[np.float64], gamma: NDArray[np.float64], n_latent: int, rows: list[int]
) -> NDArray[np.float64]:
    r"""Carry contributions (T, P, Q) over to loadings that are the identity on `rows`.

    With :math:`\Gamma_I = \Gamma A^{-1}` and :math:`A` the rows of :math:`\Gamma`,
    :math:`d\Gamma_I = (d\Gamma - \Gamma_I\,dA)A^{-1}`. Loadings of observed factors are the same in
    both forms.
    """
    latent = gamma[:, :n_latent]
    inverse = np.linalg.inv(latent[rows])
    of_latent, of_own = psi[..., :n_latent], psi[..., n_latent:]
    moved = (of_latent - latent @ inverse @ of_latent[:, rows]) @ inverse
    return np.concatenate([moved, of_own], axis=2)


def summed(psi: NDArray[np.float64], *, n_latent: int, intercept: bool) -> IPCAStandardErrors:
    """Give standard errors for the contributions (T, P, Q) of the dates."""
    rows = psi.transpose(0, 2, 1).reshape(len(psi), -1)
    covariance = rows.T @ rows
    errors = np.sqrt(np.diag(covariance)).reshape(psi.shape[2], psi.shape[1]).T
    observed = errors[:, n_latent:]
    return IPCAStandardErrors(
        gamma=errors[:, :n_latent],
        alpha=observed[:, -1] if intercept else None,
        gamma_observed=observed[:, :-1] if intercept else observed,
        covariance=covariance,
    )
