"""From a batch to the rows that the network sees; numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models.checks import require_shape
from ml4t.models.panel import cells as order
from ml4t.models.panel import masks as observed
from ml4t.models.types.arrays import as_float_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ml4t.models.configs import SAEConfig
    from ml4t.models.types import CrossSectionBatch


@dataclass(frozen=True, slots=True)
class Extras:
    """What a call gives besides its batches; None leaves it out.

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
        """Make float arrays of what was given."""
        return cls(
            _floats("sample_weights", sample_weights),
            _floats("targets", targets),
            _floats("validation_targets", validation_targets),
        )


def _floats(name: str, values: ArrayLike | None) -> NDArray[Any] | None:
    return None if values is None else as_float_array(name, values).astype(np.float64, copy=False)


@dataclass(frozen=True, slots=True)
class Rows:
    """Usable cells of a batch, date by date and then by what they hold.

    Attributes
    ----------
    features : ndarray of the config's dtype, shape (R, L)
    targets : ndarray, shape (R, J)
        Returns, or labels clipped to [0, 1].
    weights : ndarray, shape (R,)
        Positive.
    """

    features: NDArray[Any]
    targets: NDArray[Any]
    weights: NDArray[Any]


def rows_of(
    batch: CrossSectionBatch,
    config: SAEConfig,
    what: str,
    *,
    targets: NDArray[Any] | None = None,
    weights: NDArray[Any] | None = None,
) -> Rows:
    """Gather the cells with mask, finite characteristics and targets, and a positive weight.

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
        targets = observed.require_returns(what, batch.returns)[:, :, None]
    require_shape(f"targets for {what}", (*panel, targets.shape[-1]), targets.shape)
    for name, size in (("target", targets.shape[-1]), ("feature", batch.characteristics.shape[2])):
        if size == 0:
            raise ValueError(f"{what} needs at least 1 {name}; got 0")
    weights = np.ones(panel) if weights is None else weights
    require_shape(f"sample_weights for {what}", panel, weights.shape)
    usable = observed.known(batch) & np.isfinite(targets).all(axis=2)
    if (weights[usable] < 0.0).any():
        raise ValueError(f"sample_weights must be >= 0; got {np.nanmin(weights[usable])}")
    usable &= np.isfinite(weights) & (weights > 0.0)
    if not usable.any():
        raise ValueError(
            f"{what}: no valid observations; a cell needs the mask, finite characteristics, a "
            f"finite target and a positive weight, and none of the {usable.size} cells has all four"
        )
    found = targets[usable].astype(config.dtype, copy=False)
    if config.task_type == "classification":
        found = np.clip(found, 0.0, 1.0)
    features = batch.characteristics[usable].astype(config.dtype, copy=False)
    dates = np.nonzero(usable)[0]
    # Noise and dropout are drawn by position.
    index = order.by_value(dates, found[:, 0], features)
    kept = weights[usable].astype(config.dtype, copy=False)
    return Rows(features[index], found[index], kept[index])
