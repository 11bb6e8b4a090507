"""Missing characteristics filled at the middle of their date.

A gap takes the median of its characteristic over the rows of the date that are there, with a return
or without, so that no return decides what is known. Where no row of a date knows the
characteristic, the gap takes 0, which is the middle of ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml4t.models.kernels import Moments, panel_moments

if TYPE_CHECKING:
    from ml4t.models.types import CrossSectionBatch

POLICIES = ("skip", "median")
BLOCK_CELLS = 1 << 22
"""Numbers that are copied at a time: the panel itself never is."""


def rows_there(batch: CrossSectionBatch, date: int) -> NDArray[np.bool_]:
    """Mark the rows of a date that are filled, shape (N,).

    A mask says which assets are there; without one, a row of nothing but gaps is no asset.
    """
    mask, z = batch.mask, batch.characteristics[date]
    there: NDArray[np.bool_] = np.isfinite(z).any(axis=1) if mask is None else mask[date]
    return there


def at_middle(
    characteristics: NDArray[Any], admitted: NDArray[np.bool_] | None = None
) -> NDArray[Any]:
    """Fill the gaps of one date.

    Parameters
    ----------
    characteristics : ndarray, shape (N, L)
        What is not finite is missing.
    admitted : ndarray of bool, shape (N,), optional
        Rows that are there; the others neither count nor change.

    Returns
    -------
    ndarray of the same kind, shape (N, L)
        The input itself where nothing is missing.

    References
    ----------
    Gu, Kelly and Xiu (2020), Empirical asset pricing via machine learning, RFS 33(5), section 2.1.
    """
    gaps = ~np.isfinite(characteristics)
    if admitted is not None:
        gaps &= admitted[:, None]
    columns = np.flatnonzero(gaps.any(axis=0))
    if not columns.size:
        return characteristics
    known = ~gaps[:, columns] if admitted is None else ~gaps[:, columns] & admitted[:, None]
    values = np.where(known, characteristics[:, columns], np.nan).T
    ordered = np.sort(values, axis=1)  # NaN last
    counts = known.sum(axis=0)
    row = np.arange(len(columns))
    # Halves first: the sum of two large numbers need not be finite.
    middle = 0.5 * ordered[row, np.maximum(counts - 1, 0) // 2]
    middle += 0.5 * ordered[row, np.minimum(counts // 2, len(characteristics) - 1)]
    middle[counts == 0] = 0.0
    filled = characteristics.copy()
    filled[:, columns] = np.where(gaps[:, columns], middle, filled[:, columns])
    return filled


def moments_at_middle(
    batch: CrossSectionBatch, returns: NDArray[Any], *, constant: bool = True
) -> Moments:
    """Take the moments of a panel whose gaps are filled, some dates at a time."""
    z, mask = batch.characteristics, batch.mask
    n_dates = max(1, BLOCK_CELLS // max(1, z[:1].size))
    parts = []
    for start in range(0, max(1, len(z)), n_dates):
        dates = slice(start, start + n_dates)
        block = np.empty_like(z[dates], order="C")
        for t, date in enumerate(z[dates], start):
            block[t - start] = at_middle(date, rows_there(batch, t))
        admitted = None if mask is None else mask[dates]
        parts.append(panel_moments(block, returns[dates], admitted, constant=constant))
    return Moments.concatenate(parts)


def count_gaps(batch: CrossSectionBatch, returns: NDArray[Any]) -> int:
    """Count the missing characteristics of rows that are there and have a return."""
    count = 0
    for t, date in enumerate(batch.characteristics):
        rows = np.isfinite(returns[t]) & rows_there(batch, t)
        count += int((~np.isfinite(date)).sum(axis=1)[rows].sum())
    return count
