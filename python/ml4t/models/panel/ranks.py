"""Cross-sectional rank transform of characteristics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml4t.models.kernels import average_ranks


def cross_sectional_ranks(characteristics: NDArray[Any]) -> NDArray[np.float64]:
    r"""Rank each characteristic within one date onto [-1/2, 1/2].

    .. math:: z \mapsto \frac{\mathrm{rank}(z) - 1}{n - 1} - \tfrac12

    with ranks from 1 to the n finite values, ties sharing their average. Missing values and
    the only value of a date get 0, the median rank.

    Parameters
    ----------
    characteristics : ndarray, shape (N, L)
        One date; what is not finite is missing.

    Returns
    -------
    ndarray of float64, shape (N, L)

    References
    ----------
    Kelly, Pruitt and Su (2019), Characteristics are covariances, JFE 134(3), section 3.1. Gu, Kelly
    and Xiu (2020), Empirical asset pricing via machine learning, RFS 33(5), section 2.1.
    """
    missing = ~np.isfinite(characteristics)
    known = np.where(missing, np.nan, characteristics)
    ranks: NDArray[np.float64] = average_ranks(known[None], scaled=True)[0]
    ranks[missing] = 0.0
    return ranks
