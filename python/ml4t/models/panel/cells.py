"""Cells of a panel as rows: gathered for a network, ordered by value, spread back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ml4t.models.types import CrossSectionBatch


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of a batch, date by date.

    Attributes
    ----------
    where : ndarray of bool, shape (T, N)
    characteristics : ndarray of the config's dtype, shape (R, L)
        With a constant, (R, L + 1): the last column is 1.
    dates, assets : ndarray of int64, shape (R,)
        Row and column of each cell in `where`.
    context : ndarray of the config's dtype, shape (T, Q), or None
    """

    where: NDArray[np.bool_]
    characteristics: NDArray[Any]
    dates: NDArray[np.int64]
    assets: NDArray[np.int64]
    context: NDArray[Any] | None = None

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Write values of cells (R, ...) into the panel (T, N, ...), NaN elsewhere."""
        out = np.full((*self.where.shape, *values.shape[1:]), np.nan)
        out[self.where] = values
        return out


@dataclass(frozen=True, slots=True)
class TrainingCells:
    """Cells with their targets.

    Attributes
    ----------
    cells : Cells
    targets : ndarray of the config's dtype, shape (R,) or (R, J)
        Returns, or labels in [0, 1].
    weights : ndarray of the config's dtype, shape (R,), or None
    """

    cells: Cells
    targets: NDArray[Any]
    weights: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def by_value(self) -> TrainingCells:
        """Sort the cells of each date by target and first characteristics.

        Minibatches and dropout are drawn by position. In this order the cells that share a draw
        depend on their values and not on the order of assets, so that a permutation of assets
        permutes predictions. Sorted cells cannot be spread.
        """
        cells = self.cells
        first = self.targets if self.targets.ndim == 1 else self.targets[:, 0]
        order = np.lexsort((*cells.characteristics.T[1::-1], first, cells.dates))
        ordered = replace(
            cells,
            characteristics=cells.characteristics[order],
            dates=cells.dates[order],
            assets=cells.assets[order],
        )
        weights = None if self.weights is None else self.weights[order]
        return TrainingCells(ordered, self.targets[order], weights)


def gather(
    batch: CrossSectionBatch,
    where: NDArray[np.bool_],
    dtype: str,
    *,
    constant: bool = False,
    context: bool = False,
) -> Cells:
    """Copy the cells in `where` into rows.

    Parameters
    ----------
    batch : CrossSectionBatch
    where : ndarray of bool, shape (T, N)
    dtype : str
    constant : bool, default False
        Append a column of ones.
    context : bool, default False
        Include the context features, which must be finite.

    Raises
    ------
    ValueError
        When a date's context is not finite, naming the date.
    """
    dates, assets = np.nonzero(where)
    rows = batch.characteristics[where].astype(dtype, copy=False)
    if constant:
        rows = np.column_stack([rows, np.ones(len(rows), dtype)])
    return Cells(
        where,
        rows,
        dates.astype(np.int64, copy=False),
        assets.astype(np.int64, copy=False),
        _finite_context(batch, dtype) if context else None,
    )


def gather_training(
    batch: CrossSectionBatch,
    where: NDArray[np.bool_],
    targets: NDArray[Any],
    dtype: str,
    *,
    labels: bool = False,
    **options: bool,
) -> TrainingCells:
    """Copy the cells in `where` and their targets (T, N) or (T, N, J) into rows.

    Parameters
    ----------
    labels : bool, default False
        Clip the targets to [0, 1].
    **options
        Of `gather`.
    """
    values = targets[where].astype(dtype, copy=False)
    if labels:
        values = np.clip(values, 0.0, 1.0)
    return TrainingCells(gather(batch, where, dtype, **options), values)


def _finite_context(batch: CrossSectionBatch, dtype: str) -> NDArray[Any] | None:
    context = batch.context_features
    if context is None or context.shape[1] == 0:
        return None
    bad = np.flatnonzero(~np.isfinite(context).all(axis=1))
    if len(bad):
        # A recurrent state would carry the gap to all later dates.
        raise ValueError(f"context_features must be finite; date {bad[0]} has a missing value")
    return context.astype(dtype, copy=False)


def context_width(batch: CrossSectionBatch) -> int:
    """Q, the number of context features; 0 without any."""
    return 0 if batch.context_features is None else int(batch.context_features.shape[1])


def require_width(batch: CrossSectionBatch, n_characteristics: int, n_context: int | None) -> None:
    """Raise `ValueError` unless characteristics and context are as many as in the fit.

    Parameters
    ----------
    batch : CrossSectionBatch
    n_characteristics : int
    n_context : int or None
        None where the model reads no context.
    """
    got = batch.characteristics.shape[2]
    if got != n_characteristics:
        raise ValueError(
            f"feature dimension of the batch must be the fitted {n_characteristics}; got {got}"
        )
    if n_context is not None and context_width(batch) != n_context:
        raise ValueError(
            f"context feature dimension of the batch must be the fitted {n_context}; "
            f"got {context_width(batch)}"
        )
