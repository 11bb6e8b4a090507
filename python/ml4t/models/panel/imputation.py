"""Median imputation of missing characteristics, date by date.

A missing characteristic takes its median over the present rows of the date, with a return or
without, so that no return decides which values are known. Where no row of a date has the
characteristic, it takes 0, the median rank.
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
"""Numbers that are copied at a time: the whole panel is never copied."""


def present_rows(batch: CrossSectionBatch, date: int) -> NDArray[np.bool_]:
    """Mark the rows of a date that are filled, shape (N,).

    With a mask, its rows are present; without one, a row of missing values alone is absent.
    """
    mask, z = batch.mask, batch.characteristics[date]
    present: NDArray[np.bool_] = np.isfinite(z).any(axis=1) if mask is None else mask[date]
    return present


def fill_with_median(
    characteristics: NDArray[Any], admitted: NDArray[np.bool_] | None = None
) -> NDArray[Any]:
    """Replace the missing values of one date by the medians of their columns.

    Parameters
    ----------
    characteristics : ndarray, shape (N, L)
        What is not finite is missing.
    admitted : ndarray of bool, shape (N,), optional
        Present rows; the others neither count nor change.

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
    median = 0.5 * ordered[row, np.maximum(counts - 1, 0) // 2]
    median += 0.5 * ordered[row, np.minimum(counts // 2, len(characteristics) - 1)]
    median[counts == 0] = 0.0
    filled = characteristics.copy()
    filled[:, columns] = np.where(gaps[:, columns], median, filled[:, columns])
    return filled


def median_filled_moments(
    batch: CrossSectionBatch, returns: NDArray[Any], *, constant: bool = True
) -> Moments:
    """Moments of a panel after median imputation, in blocks of dates."""
    z, mask = batch.characteristics, batch.mask
    n_dates = max(1, BLOCK_CELLS // max(1, z[:1].size))
    parts = []
    for start in range(0, max(1, len(z)), n_dates):
        dates = slice(start, start + n_dates)
        block = np.empty_like(z[dates], order="C")
        for t, date in enumerate(z[dates], start):
            block[t - start] = fill_with_median(date, present_rows(batch, t))
        admitted = None if mask is None else mask[dates]
        parts.append(panel_moments(block, returns[dates], admitted, constant=constant))
    return Moments.concatenate(parts)


def count_missing(batch: CrossSectionBatch, returns: NDArray[Any]) -> int:
    """Count the missing characteristics of present rows with a return."""
    count = 0
    for t, date in enumerate(batch.characteristics):
        rows = np.isfinite(returns[t]) & present_rows(batch, t)
        count += int((~np.isfinite(date)).sum(axis=1)[rows].sum())
    return count
