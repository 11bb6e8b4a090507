"""Progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module


@contextmanager
def counting(
    what: str, *, unit: str, total: int | None, shown: bool
) -> Iterator[Callable[[int], object]]:
    """Count `unit`s with a tqdm bar with its rate.

    Parameters
    ----------
    what : str
        Written before the bar.
    unit : str
    total : int, optional
        Number of units, where it is known.
    shown : bool
        Nothing is shown, nor tqdm needed, unless it is True.

    Yields
    ------
    callable
        Called with the number of units of every step.

    Raises
    ------
    ModuleNotFoundError
        When tqdm is wanted and not installed.
    """
    if not shown:
        yield lambda _count: None
        return
    try:
        tqdm = import_module("tqdm.auto").tqdm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'progress=True needs tqdm: pip install "ml4t-models[progress]"', name="tqdm"
        ) from error
    with tqdm(desc=what, total=total, unit=f" {unit}", unit_scale=True) as bar:
        yield bar.update
