"""An order of cells that does not depend on how a batch orders its assets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def by_value(
    dates: NDArray[np.int64], values: NDArray[Any], characteristics: NDArray[Any]
) -> NDArray[np.intp]:
    """Sort cells by date, and within a date by what they hold.

    Minibatches and dropout are drawn by position. In this order the cells that share a draw depend
    on the cells themselves, so that renaming or permuting assets permutes what a model says.

    Parameters
    ----------
    dates : ndarray of int64, shape (R,)
    values : ndarray, shape (R,)
        Returns or labels: the first to tell two cells of a date apart.
    characteristics : ndarray, shape (R, L)
        The first two tell cells apart that have the same value.

    Returns
    -------
    ndarray of intp, shape (R,)
    """
    return np.lexsort((*characteristics.T[1::-1], values, dates))
