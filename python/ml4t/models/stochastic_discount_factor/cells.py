"""From a batch to the cells that the networks see; numpy only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models.panel import cells as order
from ml4t.models.panel import masks as observed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.types import CrossSectionBatch


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of a batch, date by date.

    Attributes
    ----------
    where : ndarray of bool, shape (T, N)
    characteristics : ndarray of the config's dtype, shape (R, L)
    dates, assets : ndarray of int64, shape (R,)
    context : ndarray of the config's dtype, shape (T, Q), or None
    """

    where: NDArray[np.bool_]
    characteristics: NDArray[Any]
    dates: NDArray[np.int64]
    assets: NDArray[np.int64]
    context: NDArray[Any] | None

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Put values of cells (R,) back into the panel (T, N), NaN elsewhere."""
        out = np.full(self.where.shape, np.nan)
        out[self.where] = values
        return out


@dataclass(frozen=True, slots=True)
class Widths:
    """Sizes of a network.

    Attributes
    ----------
    n_characteristics : int
        L.
    n_context : int
        Q; 0 means that there is no recurrent part.
    state : int
        Of the recurrent part.
    out : int
        Hidden units of the weight network, instruments of the moment network.
    """

    n_characteristics: int
    n_context: int
    state: int
    out: int


@dataclass(frozen=True, slots=True)
class Training:
    """Cells to learn from.

    Attributes
    ----------
    cells : Cells
    returns : ndarray, shape (R,)
    """

    cells: Cells
    returns: NDArray[Any]

    def in_order_of_value(self) -> Training:
        """Sort the cells of each date by what they hold.

        Dropout is drawn by position; see `panel.order`. Cells sorted so can no longer be spread.
        """
        cells = self.cells
        index = order.by_value(cells.dates, self.returns, cells.characteristics)
        ordered = replace(
            cells,
            characteristics=cells.characteristics[index],
            dates=cells.dates[index],
            assets=cells.assets[index],
        )
        return Training(ordered, self.returns[index])


def gather(batch: CrossSectionBatch, where: NDArray[np.bool_], dtype: str) -> Cells:
    """Copy the cells in `where` into rows.

    Raises
    ------
    ValueError
        When a date's context is not finite, naming the date.
    """
    dates, assets = np.nonzero(where)
    return Cells(
        where,
        batch.characteristics[where].astype(dtype, copy=False),
        dates.astype(np.int64, copy=False),
        assets.astype(np.int64, copy=False),
        _context(batch, dtype),
    )


def _context(batch: CrossSectionBatch, dtype: str) -> NDArray[Any] | None:
    context = batch.context_features
    if context is None or context.shape[1] == 0:
        return None
    bad = np.flatnonzero(~np.isfinite(context).all(axis=1))
    if len(bad):
        # A recurrent state would carry the gap to all later dates.
        raise ValueError(f"context_features must be finite; date {bad[0]} has a missing value")
    return context.astype(dtype, copy=False)


def training(batch: CrossSectionBatch, dtype: str, what: str, nothing: str) -> Training:
    """Gather the cells with mask, finite characteristics and a finite return.

    Parameters
    ----------
    batch : CrossSectionBatch
    dtype : str
    what : str
        Who needs the returns, for messages.
    nothing : str
        What is missing when no cell is usable.

    Raises
    ------
    ValueError
        Without returns, or when no cell is usable.
    """
    returns = observed.require_returns(what, batch.returns)
    where: NDArray[np.bool_] = observed.known(batch) & np.isfinite(returns)
    if not where.any():
        raise ValueError(
            f"{nothing}: a cell needs the mask, finite characteristics and a finite return, and "
            f"none of the {where.size} cells has all three"
        )
    return Training(gather(batch, where, dtype), returns[where])


def require_width(batch: CrossSectionBatch, n_characteristics: int, n_context: int) -> None:
    """Refuse a batch whose characteristics or context are not those of the fit."""
    got = batch.characteristics.shape[2]
    if got != n_characteristics:
        raise ValueError(
            f"feature dimension of the batch must be the fitted {n_characteristics}; got {got}"
        )
    context = context_width(batch)
    if context != n_context:
        raise ValueError(
            f"context feature dimension of the batch must be the fitted {n_context}; got {context}"
        )


def context_width(batch: CrossSectionBatch) -> int:
    """Q, the number of context features; 0 without any."""
    return 0 if batch.context_features is None else int(batch.context_features.shape[1])
