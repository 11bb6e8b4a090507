"""Checkpoints: epochs of a training that are kept, and the default among them."""

from __future__ import annotations

from collections.abc import Iterable

from ml4t.models.configs.rules import MOST_ENTRIES


def checkpoint_grid(
    total: int, interval: int | None, explicit: Iterable[int] = ()
) -> tuple[int, ...]:
    """List the epochs to keep, in order; the last one is always among them.

    At most `MOST_ENTRIES` are kept.

    Parameters
    ----------
    total : int
        Number of epochs.
    interval : int or None
        Keep every so many epochs; None or less than one keeps the last alone.
    explicit : iterable of int
        Epochs to keep, clipped to 1..total; wins over `interval` unless empty.

    Examples
    --------
    >>> checkpoint_grid(10, 5)
    (5, 10)
    >>> checkpoint_grid(5, 2)
    (2, 4, 5)
    >>> checkpoint_grid(5, 2, [3])
    (3, 5)
    """
    wanted = set(explicit)
    if not wanted and interval is not None and interval > 0:
        if (count := total // interval) > MOST_ENTRIES:
            raise ValueError(
                f"checkpoints must be at most {MOST_ENTRIES}; an interval of {interval} keeps "
                f"{count} of {total}"
            )
        wanted = set(range(interval, total + 1, interval))
    return tuple(sorted({epoch for epoch in wanted if 1 <= epoch <= total} | {total}))


def require_schedule(name: str, epochs: tuple[int, ...], total: int) -> None:
    """Reject a list of checkpoints that repeats itself or goes past the last epoch."""
    if len(set(epochs)) != len(epochs):
        raise ValueError(f"{name} must not repeat an epoch; got {epochs}")
    if epochs and max(epochs) > total:
        raise ValueError(f"{name} entries must be <= {total}; got {max(epochs)}")


def require_on_grid(
    name: str, checkpoint: object, grid: tuple[object, ...], *, given: object = None
) -> None:
    """Reject a default that training does not keep; None and "best" are always valid.

    `given` is the argument of the caller, where it was a label.
    """
    if checkpoint is not None and checkpoint != "best" and checkpoint not in grid:
        got = checkpoint if given in (None, checkpoint) else f"{given}, which means {checkpoint}"
        raise ValueError(f"{name} must be one of the checkpoints {grid} or 'best'; got {got}")
