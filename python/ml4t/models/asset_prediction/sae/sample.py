"""Training rows of a batch, from arrays alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models.checks import require_shape
from ml4t.models.panel import masks
from ml4t.models.panel.cells import TrainingCells, gather_training
from ml4t.models.types.arrays import as_float_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ml4t.models.configs import SAEConfig
    from ml4t.models.types import CrossSectionBatch


@dataclass(frozen=True, slots=True)
class Extras:
    """Optional arguments of a fit besides its batches.

    Attributes
    ----------
    sample_weights : ndarray, shape (T, N)
    targets, validation_targets : ndarray, shape (T, N, J)
        In place of the batch's returns.
    """

    sample_weights: NDArray[Any] | None
    targets: NDArray[Any] | None
    validation_targets: NDArray[Any] | None

    @classmethod
    def of(
        cls,
        sample_weights: ArrayLike | None,
        targets: ArrayLike | None,
        validation_targets: ArrayLike | None,
    ) -> Extras:
        """Convert to float arrays."""
        return cls(
            _floats("sample_weights", sample_weights),
            _floats("targets", targets),
            _floats("validation_targets", validation_targets),
        )


def _floats(name: str, values: ArrayLike | None) -> NDArray[Any] | None:
    return None if values is None else as_float_array(name, values).astype(np.float64, copy=False)


def training_sample(
    batch: CrossSectionBatch,
    config: SAEConfig,
    what: str,
    *,
    targets: NDArray[Any] | None = None,
    weights: NDArray[Any] | None = None,
) -> TrainingCells:
    """Gather the cells with finite characteristics and targets and a positive weight.

    Parameters
    ----------
    batch : CrossSectionBatch
    config : SAEConfig
    what : str
        Name of the batch or model for messages.
    targets : ndarray, shape (T, N, J), optional
        In place of the returns.
    weights : ndarray, shape (T, N), optional

    Raises
    ------
    ValueError
        Without targets, or when no cell is usable.
    """
    panel = batch.characteristics.shape[:2]
    if targets is None:
        targets = masks.require_returns(what, batch.returns)[:, :, None]
    require_shape(f"targets for {what}", (*panel, *(targets.shape[2:3] or (1,))), targets.shape)
    for name, size in (("target", targets.shape[-1]), ("feature", batch.characteristics.shape[2])):
        if size == 0:
            raise ValueError(f"{what} needs at least 1 {name}; got 0")
    weights = np.ones(panel) if weights is None else weights
    require_shape(f"sample_weights for {what}", panel, weights.shape)
    usable = masks.known(batch) & np.isfinite(targets).all(axis=2)
    if (weights[usable] < 0.0).any():
        raise ValueError(f"sample_weights must be >= 0; got {np.nanmin(weights[usable])}")
    usable &= np.isfinite(weights) & (weights > 0.0)
    masks.require_usable(
        what, usable, "finite characteristics, a finite target and a positive weight"
    )
    labels = config.task_type == "classification"
    cells = gather_training(batch, usable, targets, config.dtype, labels=labels)
    cells = replace(cells, weights=weights[usable].astype(config.dtype, copy=False))
    return cells.by_value()  # noise and dropout are drawn by position
