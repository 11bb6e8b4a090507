"""Cut rows into minibatches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


def shuffled(n_rows: int, size: int, source: torch.Generator) -> Iterator[Tensor]:
    """Yield the rows in random order, `size` at a time; the last batch may be smaller."""
    order = torch.randperm(n_rows, generator=source, device=source.device)
    yield from torch.split(order, size)


def without_singleton(batches: Iterator[Tensor]) -> Iterator[Tensor]:
    """Merge a last batch of one row into the one before: a batch norm cannot scale a single row."""
    held: Tensor | None = None
    for batch in batches:
        if held is not None and batch.numel() == 1:
            yield torch.cat([held, batch])
            return
        if held is not None:
            yield held
        held = batch
    if held is not None:
        yield held
