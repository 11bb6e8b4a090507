"""From a batch to what the networks see: rows of usable cells, and one input vector per date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models import kernels
from ml4t.models.panel import cells as order
from ml4t.models.panel import masks as observed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.configs import CAEConfig
    from ml4t.models.types import CrossSectionBatch


@dataclass(frozen=True, slots=True)
class Cells:
    """The usable cells of a batch, date by date.

    Attributes
    ----------
    design : ndarray of the config's dtype, shape (R, L + 1)
        Characteristics; the last column is 1.
    dates : ndarray of int64, shape (R,)
        Ascending.
    targets : ndarray, shape (R,)
        Returns, or labels clipped to [0, 1]; empty when only betas are wanted.
    """

    design: NDArray[Any]
    dates: NDArray[np.int64]
    targets: NDArray[Any]


def complete(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the rows without a missing value, shape (T,)."""
    out: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(rows), axis=1)
    return out


def factor_inputs(batch: CrossSectionBatch, config: CAEConfig) -> NDArray[np.float64] | None:
    """Compute what the factor network sees, (T, P), or None when the batch lacks it.

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
    return kernels.managed_portfolios(batch.characteristics, returns, observed.known(batch))


def prepared(
    batch: CrossSectionBatch, config: CAEConfig, what: str
) -> tuple[Cells, NDArray[np.float64]]:
    """Gather the cells that can be learned from, and the factor network's inputs.

    Parameters
    ----------
    batch : CrossSectionBatch
    config : CAEConfig
    what : str
        Name of the batch or model for messages.

    Returns
    -------
    (Cells, ndarray of float64, shape (T, P))

    Raises
    ------
    ValueError
        When the batch lacks returns, inputs or usable cells.
    """
    sample = observed.training_sample(what, batch)
    inputs = factor_inputs(batch, config)
    if inputs is None and config.factor_inputs == "context":
        raise ValueError(f"{what}: factor_inputs='context' needs context_features; it has none")
    if inputs is None:
        raise ValueError(f"{what}: classification requires factor_returns; it has none")
    usable = sample.usable & complete(inputs)[:, None]
    if not usable.any():
        raise ValueError(f"{what}: no valid observations; no date has finite context_features")
    targets = sample.returns[usable].astype(config.dtype, copy=False)
    if config.task_type == "classification":
        targets = np.clip(targets, 0.0, 1.0)
    cells = gather(batch.characteristics, usable, config.dtype)
    return Cells(cells.design, cells.dates, targets), inputs


def require_width(batch: CrossSectionBatch, config: CAEConfig, n_chars: int, n_inputs: int) -> None:
    """Refuse a batch whose characteristics or context are not those of the fit."""
    got = batch.characteristics.shape[2]
    if got != n_chars:
        raise ValueError(
            f"feature dimension of the batch must be the fitted {n_chars} characteristics; "
            f"got {got}"
        )
    context = batch.context_features
    if config.factor_inputs == "context" and context is not None and context.shape[1] != n_inputs:
        raise ValueError(
            f"context feature dimension of the batch must be the fitted {n_inputs}; "
            f"got {context.shape[1]}"
        )


def gather(characteristics: NDArray[Any], usable: NDArray[np.bool_], dtype: str) -> Cells:
    """Copy the usable cells of (T, N, L) characteristics into rows, date by date."""
    dates, _ = np.nonzero(usable)
    design = np.empty((len(dates), characteristics.shape[2] + 1), dtype=dtype)
    design[:, :-1] = characteristics[usable]
    design[:, -1] = 1.0
    return Cells(design, dates.astype(np.int64), np.empty(0, dtype=dtype))


def in_order_of_value(cells: Cells) -> Cells:
    """Sort the cells of each date by what they hold; see `panel.order`."""
    index = order.by_value(cells.dates, cells.targets, cells.design)
    return Cells(cells.design[index], cells.dates[index], cells.targets[index])
