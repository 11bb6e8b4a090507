r"""A common factor basis for the members of an ensemble.

A member's betas and factors are defined up to an invertible matrix: :math:`\beta A` and
:math:`A^{-1}f` fit the same returns. Averaging betas of different bases means nothing. Each member
is therefore first balanced (betas and factors get the same diagonal second moments, which leaves a
rotation at most) and then rotated to the others by orthogonal Procrustes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Directions weaker than this, relative to the strongest, count as absent.
FLOOR = 1e-12
ROUNDS = 5


def balance(
    beta_moment: NDArray[np.float64], factor_moment: NDArray[np.float64]
) -> NDArray[np.float64]:
    r"""Find A such that :math:`A'S_\beta A = A^{-1}S_fA^{-T}` is diagonal, descending.

    Parameters
    ----------
    beta_moment, factor_moment : ndarray, shape (K, K)
        Second moments of betas and factors.

    Returns
    -------
    ndarray, shape (K, K)
    """
    root = _root(beta_moment)
    values, vectors = np.linalg.eigh(root @ factor_moment @ root)
    values = np.maximum(values[::-1], FLOOR * max(values[-1], np.finfo(float).tiny))
    out: NDArray[np.float64] = np.linalg.solve(root, vectors[:, ::-1]) * values**0.25
    return out


def _root(moment: NDArray[np.float64]) -> NDArray[np.float64]:
    """Symmetric square root, made invertible."""
    values, vectors = np.linalg.eigh(moment)
    values = np.maximum(values, FLOOR * max(values[-1], np.finfo(float).tiny))
    out: NDArray[np.float64] = (vectors * np.sqrt(values)) @ vectors.T
    return out


def common_bases(
    cross: NDArray[np.float64], factor_moments: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Find the basis of every member in which their betas lie closest together.

    Parameters
    ----------
    cross : ndarray, shape (E, K, E, K)
        Second moments between the betas of all members, over the training cells.
    factor_moments : ndarray, shape (E, K, K)
        Second moments of each member's factors, over the training dates.

    Returns
    -------
    ndarray, shape (E, K, K)
        `betas[e] @ bases[e]` may be averaged, as may `factors[e] @ inv(bases[e]).T`. The identity
        for a single member.
    """
    n_members, n_factors = cross.shape[:2]
    if n_members == 1:
        return np.eye(n_factors)[None]
    bases = np.stack([balance(cross[e, :, e], factor_moments[e]) for e in range(n_members)])
    moments = np.einsum("eka,ekfl,flb->eafb", bases, cross, bases)
    turns = np.broadcast_to(np.eye(n_factors), bases.shape).copy()
    reference = moments[:, :, 0]  # of every member's betas with those of the first
    for _ in range(ROUNDS):
        left, _, right = np.linalg.svd(reference)
        turns = left @ right
        reference = np.einsum("eafb,fbc->eac", moments, turns) / n_members
    out: NDArray[np.float64] = bases @ turns
    return out
