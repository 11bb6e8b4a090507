"""Which factor of this fold is which of the last, and with what sign.

A fit orders factors by variance and gives each the sign of its mean; neither need stay the same as
a window moves. Factors are matched by the directions of their loadings, and stay what the fit made
them but for order and sign, so that forecasts of assets do not change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ml4t.models.types import FactorForecastResult, LatentFactorPrediction, LatentFactorState

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Alignment:
    """Order and signs that turn the factors of a fit into those of the folds before.

    Attributes
    ----------
    order : tuple of int, length K
        Factor k is number `order[k]` of the fit.
    signs : tuple of int, length K
        1 or -1.
    """

    order: tuple[int, ...]
    signs: tuple[int, ...]

    def apply(self, loadings: NDArray[Any]) -> NDArray[Any]:
        """Reorder the last axis; columns beyond K (observed factors) stay."""
        n_factors = len(self.order)
        signs = np.array(self.signs, dtype=loadings.dtype)
        moved = loadings[..., list(self.order)] * signs
        return np.concatenate([moved, loadings[..., n_factors:]], axis=-1)


def matched(previous: NDArray[Any], current: NDArray[Any]) -> Alignment:
    """Match the columns of two sets of loadings, the closest pair first.

    Parameters
    ----------
    previous, current : ndarray, shape (rows, K)
        Rows that are not finite on both sides are left out.
    """
    n_factors = current.shape[1]
    finite = np.isfinite(previous).all(axis=1) & np.isfinite(current).all(axis=1)
    left, right = (_unit(side[finite].astype(np.float64)) for side in (previous, current))
    cosines = left.T @ right
    order, signs = np.zeros(n_factors, dtype=int), np.ones(n_factors, dtype=int)
    closeness = np.abs(cosines)
    for _ in range(n_factors):
        old, new = np.unravel_index(int(np.argmax(closeness)), closeness.shape)
        order[old], signs[old] = new, 1 if cosines[old, new] >= 0 else -1
        closeness[old, :], closeness[:, new] = -1.0, -1.0
    return Alignment(tuple(order.tolist()), tuple(signs.tolist()))


def aligned(result: ResultT, alignment: Alignment) -> ResultT:
    """Turn all that has an axis of factors."""
    changed: Any = result
    if isinstance(result, LatentFactorState):
        realised = result.factor_returns
        changed = replace(
            result,
            asset_betas=alignment.apply(result.asset_betas),
            factor_returns=None if realised is None else alignment.apply(realised),
        )
    elif isinstance(result, FactorForecastResult):
        changed = replace(result, factor_premia=alignment.apply(result.factor_premia))
    elif isinstance(result, LatentFactorPrediction):
        changed = replace(
            result,
            state=aligned(result.state, alignment),
            factor_forecast=aligned(result.factor_forecast, alignment),
        )
    typed: ResultT = changed
    return typed


def _unit(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.sqrt(np.einsum("ik,ik->k", columns, columns))
    unit: NDArray[np.float64] = columns / np.where(norms > 0, norms, 1.0)
    return unit
