"""Cut rows into minibatches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


def shuffled(
    n_rows: int, size: int, source: torch.Generator, *, join_single: bool = False
) -> Iterator[Tensor]:
    """Yield the rows in random order, `size` at a time; the last batch may be smaller.

    Parameters
    ----------
    n_rows, size : int
    source : torch.Generator
    join_single : bool, default False
        Add a last batch of one row to the batch before it: a batch norm cannot scale a single row.
    """
    order = torch.randperm(n_rows, generator=source, device=source.device)
    batches = list(torch.split(order, size))
    if join_single and len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    yield from batches
