"""What the networks say about a batch, before it becomes a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models.types import CrossSectionBatch, LatentFactorState

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Reading:
    """Betas and factors of every member.

    Attributes
    ----------
    batch : CrossSectionBatch
    asset_ids : tuple of str
    checkpoint : int
    known : ndarray of bool, shape (T, N)
        Cells with betas.
    dates : ndarray of int64, shape (R,)
        Date of each such cell.
    betas : ndarray of float64, shape (E, R, K)
    factors : ndarray of float64, shape (E, T, K), or None
    """

    batch: CrossSectionBatch
    asset_ids: tuple[str, ...]
    checkpoint: int
    known: NDArray[np.bool_]
    dates: NDArray[np.int64]
    betas: NDArray[np.float64]
    factors: NDArray[np.float64] | None

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Put values of cells (R, ...) back into the panel (T, N, ...), NaN elsewhere."""
        out = np.full((*self.known.shape, *values.shape[1:]), np.nan)
        out[self.known] = values
        return out

    def state(
        self,
        betas: NDArray[np.float64],
        factors: NDArray[np.float64] | None,
        metadata: dict[str, Any],
    ) -> LatentFactorState:
        """Make a state of betas (R, K) and factors (T, K)."""
        return LatentFactorState(
            asset_betas=self.spread(betas),
            factor_returns=factors,
            checkpoint_epoch=self.checkpoint,
            timestamps=self.batch.timestamps,
            asset_ids=self.asset_ids,
            metadata=metadata,
        )
