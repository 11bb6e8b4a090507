"""The estimate that the settings of IPCA ask for: from several starts, in the form wanted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ml4t.models import kernels
from ml4t.models.latent_factors.ipca.estimate import kernel_settings
from ml4t.models.latent_factors.ipca.penalised import Penalty, penalised

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ml4t.models.configs import IPCAConfig
    from ml4t.models.latent_factors.ipca.fit import Sample

# Minima closer than this, relative to the sum of squared returns, are the same.
SAME_MINIMUM = 1e-9


@dataclass(frozen=True, slots=True)
class Solved:
    """An estimate, and how the starts agreed.

    Attributes
    ----------
    solution : IPCASolution
    n_agreeing : int
        Starts that led to the lowest minimum.
    """

    solution: kernels.IPCASolution
    n_agreeing: int


def solve(config: IPCAConfig, sample: Sample, start: NDArray[np.float64] | None) -> Solved:
    """Estimate from `start`, or from the data, and from `n_starts - 1` random loadings."""
    n_observed = 0 if sample.observed is None else sample.observed.shape[1]
    n_instruments = sample.moments.cross.shape[1]
    rng = np.random.default_rng(config.seed)
    starts = [start]
    for _ in range(config.n_starts - 1):
        latent = rng.standard_normal((n_instruments, config.n_factors))
        starts.append(np.hstack([latent, np.zeros((n_instruments, n_observed))]))
    found = [
        kernels.ipca(
            sample.moments,
            config.n_factors,
            observed=sample.observed,
            start=one,
            **kernel_settings(config),
        )
        for one in starts
    ]
    heights = np.array([one.certificate.objective for one in found])
    # Converged ones first; of equals the first, which owes nothing to chance.
    ranks = [(not one.converged, height) for one, height in zip(found, heights, strict=True)]
    best = found[min(range(len(found)), key=ranks.__getitem__)]
    same = heights <= best.certificate.objective + SAME_MINIMUM
    if config.penalty > 0.0:
        penalty = Penalty(config.penalty, config.l1_ratio, int(config.constant))
        best = penalised(sample, best, penalty, kernel_settings(config))
    if config.identity_on:
        best = identity_form(best, sample.observed, config.identity_on)
    return Solved(best, int(same.sum()))


def identity_form(
    solution: kernels.IPCASolution,
    observed: NDArray[np.float64] | None,
    rows: Sequence[int],
) -> kernels.IPCASolution:
    r"""Turn a solution so that :math:`\Gamma_\beta` is the identity on K instruments.

    The observed factors then have no loading on these; nothing that is fitted changes.

    Parameters
    ----------
    solution : IPCASolution
    observed : ndarray, shape (T, M), or None
    rows : sequence of int, length K

    Raises
    ------
    ValueError
        For rows beyond the instruments, or whose loadings do not span the factors.
    """
    n_instruments = len(solution.gamma)
    if max(rows) >= n_instruments:
        raise ValueError(
            f"identity_on must name rows of Gamma below {n_instruments}; got {tuple(rows)}"
        )
    block = solution.gamma[list(rows)]
    if np.linalg.cond(block) > 1.0 / np.sqrt(np.finfo(float).eps):
        raise ValueError(
            "identity_on must name instruments whose loadings span the factors; "
            f"those of {tuple(rows)} do not"
        )
    gamma: NDArray[np.float64] = np.linalg.solve(block.T, solution.gamma.T).T.astype(np.float64)
    own = solution.gamma_observed
    shift = own[list(rows)]
    factors = solution.factors @ block.T
    if observed is not None:
        factors = factors + observed[solution.dates_used] @ shift.T
    return replace(solution, gamma=gamma, gamma_observed=own - gamma @ shift, factors=factors)


def orthonormal_form(gamma: NDArray[np.float64], n_latent: int) -> NDArray[np.float64]:
    """Turn loadings (P, K + M) into orthonormal latent ones and observed ones orthogonal to them.

    Loadings that are so already are not touched.
    """
    latent, own = gamma[:, :n_latent], gamma[:, n_latent:]
    eps = 1e-5  # of loadings kept in single precision, too
    if np.allclose(latent.T @ latent, np.eye(n_latent), atol=eps) and np.allclose(
        latent.T @ own, 0.0, atol=eps * np.abs(own).max(initial=0.0)
    ):
        return gamma
    basis = np.linalg.qr(latent)[0]
    return np.hstack([basis, own - basis @ (basis.T @ own)])
