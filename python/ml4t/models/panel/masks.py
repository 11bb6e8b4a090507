"""Masks of observed cells. The only module that turns NaN into a mask.

- `known` marks the cells of a prediction: the batch's mask and finite characteristics.
- `trainable` marks the cells of a training sample: those with a finite return besides.

A mask for prediction never reads returns, so that a return that is missing tomorrow cannot change a
weight today.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models.checks import require_shape
from ml4t.models.types.arrays import as_float_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.types import CrossSectionBatch


def known(batch: CrossSectionBatch) -> NDArray[np.bool_]:
    """Mark cells that the mask admits and whose characteristics are all finite, shape (T, N)."""
    z = batch.characteristics
    known = np.empty(z.shape[:2], dtype=np.bool_)
    for date, cross_section in enumerate(z):  # one date at a time: no temporary of panel size
        np.isfinite(cross_section).all(axis=1, out=known[date])
    if batch.mask is not None:
        known &= batch.mask
    return known


def require_returns(model: str, returns: NDArray[Any] | None) -> NDArray[Any]:
    """Return the returns; raise `ValueError` when the batch has none."""
    if returns is None:
        raise ValueError(f"{model} requires returns to fit; the batch has none")
    return returns


def require_usable(
    model: str,
    usable: NDArray[np.bool_],
    needs: str = "finite characteristics and a finite return",
    *,
    rule: str = "no valid observations",
) -> NDArray[np.bool_]:
    """Return the mask of usable cells; raise `ValueError` when it marks none.

    Parameters
    ----------
    model : str
        Name of the model or batch for the message.
    usable : ndarray of bool
    needs : str
        Requirements of a cell besides the mask, for the message.
    rule : str, optional
    """
    if not usable.any():
        raise ValueError(
            f"{model}: {rule}; a cell needs the mask, {needs}, and none of the {usable.size} "
            "cells has all of them"
        )
    return usable


def trainable(
    model: str, batch: CrossSectionBatch, *, rule: str = "no valid observations"
) -> NDArray[np.bool_]:
    """Mark the cells to learn from, shape (T, N): `known`, with a finite return.

    Raises
    ------
    ValueError
        When the batch has no returns, or no such cell.
    """
    returns = require_returns(model, batch.returns)
    return require_usable(model, known(batch) & np.isfinite(returns), rule=rule)


def observed_columns(given: Any, n_periods: int) -> NDArray[np.float64]:
    """Observed factors (T, M) in float64; one factor may come without its axis."""
    observed = as_float_array("observed_factors", given).astype(np.float64, copy=False)
    if observed.ndim not in (1, 2):
        raise ValueError(f"observed_factors must have shape (T, M); got {observed.shape}")
    observed = observed[:, None] if observed.ndim == 1 else observed
    require_shape("observed_factors", (n_periods, observed.shape[-1]), observed.shape)
    return observed
