"""Dates of several windows of a portfolio: every window has its own, in the metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

WINDOW_TIMESTAMPS = "window_timestamps"


def window_dates(
    metadata: Mapping[str, Any], n_windows: int, n_dates: int
) -> tuple[tuple[Any, ...], ...]:
    """Read the dates of every window; empty where the metadata has none.

    Raises
    ------
    ValueError
        When they are not those of B windows of T dates.
    """
    given = metadata.get(WINDOW_TIMESTAMPS)
    if given is None:
        return ()
    dates = tuple(map(tuple, given))
    if [len(one) for one in dates] != [n_dates] * n_windows:
        raise ValueError(
            f"metadata[{WINDOW_TIMESTAMPS!r}] must hold the dates of {n_windows} windows of "
            f"{n_dates} dates; got {len(dates)} of {sorted({len(one) for one in dates})}: cut it "
            "as the windows were cut"
        )
    return dates


def fitting_dates(
    metadata: Mapping[str, Any], n_windows: int, n_dates: int
) -> tuple[tuple[Any, ...], ...]:
    """Like `window_dates`; empty as well where windows were cut and the metadata was not."""
    with suppress(ValueError):
        return window_dates(metadata, n_windows, n_dates)
    return ()


def windows_of(record: Any) -> tuple[tuple[Any, ...], ...]:
    """Read the dates of several windows of a batch or result; empty for one without windows."""
    for name, axis in record.time_axes.items():
        if axis == 1 and getattr(record, name) is not None:
            return fitting_dates(record.metadata, *getattr(record, name).shape[:2])
    return ()


def with_windows(metadata: Mapping[str, Any], windows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Put the dates of windows into metadata, or remove them."""
    kept = {key: value for key, value in metadata.items() if key != WINDOW_TIMESTAMPS}
    return {**kept, WINDOW_TIMESTAMPS: tuple(map(tuple, windows))} if len(windows) else kept
