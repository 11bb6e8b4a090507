"""What counts as observed. The only module that turns NaN into a mask.

Two questions, two answers:

- `known`: can the model say something about this asset? Characteristics and the batch's mask only.
- `training_sample`: what can the model learn from? Characteristics, mask and returns.

A mask used to *predict* never looks at returns, so a return that is missing tomorrow cannot move a
weight today.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models.checks import require_shape
from ml4t.models.types.arrays import as_float_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.types import CrossSectionBatch


@dataclass(frozen=True, slots=True)
class Sample:
    """A batch proven fit for estimation: returns are there and the mask is decided.

    Attributes
    ----------
    characteristics : ndarray of float32 or float64, shape (T, N, L)
    returns : ndarray of float32 or float64, shape (T, N)
        Simple returns per period, as fractions.
    usable : ndarray of bool, shape (T, N)
        Cells where every characteristic and the return are finite. At least one is True.
    """

    characteristics: NDArray[Any]
    returns: NDArray[Any]
    usable: NDArray[np.bool_]


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
    """Return the returns, or say that estimation needs them."""
    if returns is None:
        raise ValueError(f"{model} requires returns to fit; the batch has none")
    return returns


def training_sample(model: str, batch: CrossSectionBatch) -> Sample:
    """Turn a batch into a `Sample`, or say why it cannot be one."""
    returns = require_returns(model, batch.returns)
    usable = known(batch) & np.isfinite(returns)
    if not usable.any():
        raise ValueError(
            f"{model}: no valid observations; a cell needs the mask, finite characteristics and a "
            f"finite return, and none of the {usable.size} cells has all three"
        )
    return Sample(batch.characteristics, returns, usable)


def observed_columns(given: Any, n_periods: int) -> NDArray[np.float64]:
    """Observed factors (T, M) in float64; one factor may come without its axis."""
    observed = as_float_array("observed_factors", given).astype(np.float64, copy=False)
    if observed.ndim not in (1, 2):
        raise ValueError(f"observed_factors must have shape (T, M); got {observed.shape}")
    observed = observed[:, None] if observed.ndim == 1 else observed
    require_shape("observed_factors", (n_periods, observed.shape[-1]), observed.shape)
    return observed
