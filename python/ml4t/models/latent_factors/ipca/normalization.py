"""Equivalent forms of Gamma: orthonormal, or the identity on chosen instruments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SINGULAR = 1e-10
"""A block whose smallest singular value is below this share of the largest has no inverse."""


def instrument_rows(entries: Iterable[str | int], names: Sequence[str], what: str) -> list[int]:
    """Look up instruments by name, or by row of Gamma.

    Raises
    ------
    ValueError
        Naming the entry that is no instrument, or comes twice.
    """
    rows = []
    for entry in entries:
        if isinstance(entry, str):
            if entry not in names:
                raise ValueError(f"{what} must name instruments, of {tuple(names)}; got {entry!r}")
            row = list(names).index(entry)
        else:
            row = int(entry)
            if not 0 <= row < len(names):
                raise ValueError(f"{what} must be rows of Gamma below {len(names)}; got {entry}")
        if row in rows:
            raise ValueError(f"{what} must be different instruments; got {entry!r} twice")
        rows.append(row)
    return rows


def identity_on(
    gamma: NDArray[np.float64], rows: Sequence[int], names: Sequence[str]
) -> NDArray[np.float64]:
    """Recombine latent factors so that each has loading 1 on one instrument, 0 on the others.

    The loadings of observed factors do not change: they stay orthogonal to the span of `gamma`, so
    that an alpha is the same in either form.

    Parameters
    ----------
    gamma : ndarray, shape (P, K)
    rows : sequence of int, length K
        Of the block that becomes the identity.
    names : sequence of str, length P
        For the message.

    Raises
    ------
    ValueError
        When the loadings on these instruments are dependent.
    """
    block = gamma[list(rows)]
    sizes = np.linalg.svd(block, compute_uv=False)
    if sizes.size and not sizes[-1] > SINGULAR * sizes[0]:
        chosen = tuple(names[row] for row in rows)
        raise ValueError(
            f"identity_on must choose instruments with independent loadings; those of {chosen} "
            f"have singular values from {sizes[0]:.3g} down to {sizes[-1]:.3g}"
        )
    turned = np.array(np.linalg.solve(block.T, gamma.T).T, dtype=np.float64)
    turned[list(rows)] = np.eye(len(block))
    return turned


def orthonormal(
    gamma: NDArray[np.float64], factors: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rotate to the form of Kelly, Pruitt and Su: orthonormal loadings, uncorrelated factors.

    Parameters
    ----------
    gamma : ndarray, shape (P, K)
        With independent columns.
    factors : ndarray, shape (T, K)

    Returns
    -------
    gamma, factors : ndarray
        Second moment of the factors diagonal and descending, means at least zero.
    """
    basis, triangle = np.linalg.qr(gamma)
    moved = factors @ triangle.T
    turn = np.linalg.svd(moved.T @ moved)[0]
    signs = np.where((moved @ turn).sum(axis=0) < 0.0, -1.0, 1.0)
    return basis @ (turn * signs), moved @ (turn * signs)
