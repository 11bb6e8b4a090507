"""Missing characteristics, put at the middle of their date."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.types import CrossSectionBatch


@dataclass(frozen=True, slots=True)
class Filled:
    """A batch without the gaps that could be filled.

    Attributes
    ----------
    batch : CrossSectionBatch
        The same one where there was nothing to fill.
    n_filled : int
        Cells of the characteristics that were filled.
    """

    batch: CrossSectionBatch
    n_filled: int


def filled_at_the_middle(batch: CrossSectionBatch) -> Filled:
    """Replace a missing characteristic by the median of those known at its date.

    Only rows that the mask admits and that have some characteristic are filled, from each other: a
    row of nothing but gaps is no asset, and a characteristic that nobody has at a date has no
    middle. Returns are not looked at, nor other dates.

    Parameters
    ----------
    batch : CrossSectionBatch
        `characteristics` (T, N, L); what is not finite is missing.
    """
    z = batch.characteristics
    out: NDArray[Any] | None = None
    n_filled = 0
    for date, cross_section in enumerate(z):
        finite = np.isfinite(cross_section)
        there = finite.any(axis=1) if batch.mask is None else finite.any(axis=1) & batch.mask[date]
        seen = finite & there[:, None]
        gaps = there[:, None] & ~finite & seen.any(axis=0)
        if not gaps.any():
            continue
        if out is None:
            out = np.array(z)
        columns = np.flatnonzero(gaps.any(axis=0))
        values = np.where(seen[:, columns], cross_section[:, columns], np.nan)
        middles = np.broadcast_to(np.nanmedian(values, axis=0), values.shape)
        out[date][:, columns] = np.where(gaps[:, columns], middles, cross_section[:, columns])
        n_filled += int(gaps.sum())
    return Filled(batch if out is None else replace(batch, characteristics=out), n_filled)
