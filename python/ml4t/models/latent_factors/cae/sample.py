"""Inputs of the networks: rows of usable cells, and one input vector per date."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ml4t.models import kernels
from ml4t.models.panel import masks
from ml4t.models.panel.cells import TrainingCells, gather_training

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.configs import CAEConfig
    from ml4t.models.types import CrossSectionBatch


def complete(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the rows without a missing value, shape (T,)."""
    out: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(rows), axis=1)
    return out


def factor_inputs(batch: CrossSectionBatch, config: CAEConfig) -> NDArray[np.float64] | None:
    """Compute the factor network's inputs, (T, P); None when the batch lacks them.

    The least-squares coefficients of the date's (continuous) returns on its characteristics and a
    constant, or the context features. A context with a missing value gives a row of NaN.
    """
    if config.factor_inputs == "context":
        if batch.context_features is None:
            return None
        context = np.asarray(batch.context_features, dtype=np.float64)
        return np.where(complete(context)[:, None], context, np.nan)
    returns = batch.returns if batch.factor_returns is None else batch.factor_returns
    if config.task_type == "classification":
        returns = batch.factor_returns  # labels span no portfolios
    if returns is None:
        return None
    return kernels.managed_portfolios(batch.characteristics, returns, masks.known(batch))


def training_sample(
    batch: CrossSectionBatch, config: CAEConfig, what: str
) -> tuple[TrainingCells, NDArray[np.float64]]:
    """Gather the cells to learn from, and the factor network's inputs.

    Parameters
    ----------
    batch : CrossSectionBatch
    config : CAEConfig
    what : str
        Name of the batch or model for messages.

    Returns
    -------
    (TrainingCells, ndarray of float64, shape (T, P))
        Characteristics of the cells have a constant.

    Raises
    ------
    ValueError
        When the batch lacks returns, inputs or usable cells.
    """
    usable = masks.trainable(what, batch)
    inputs = factor_inputs(batch, config)
    if inputs is None and config.factor_inputs == "context":
        raise ValueError(f"{what}: factor_inputs='context' needs context_features; it has none")
    if inputs is None:
        raise ValueError(f"{what}: classification requires factor_returns; it has none")
    usable = usable & complete(inputs)[:, None]
    if not usable.any():
        raise ValueError(f"{what}: no valid observations; no date has finite context_features")
    returns = masks.require_returns(what, batch.returns)
    labels = config.task_type == "classification"
    cells = gather_training(batch, usable, returns, config.dtype, labels=labels, constant=True)
    return cells, inputs
