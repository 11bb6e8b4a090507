"""Ordered map over an executor."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Protocol, TypeVar

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


class Executor(Protocol):
    """An executor: Dask's `Client`, a pool of `concurrent.futures`, or a look-alike."""

    @property
    def submit(self) -> Callable[..., Any]:
        """Submit a function and its arguments; returns a future with `result()`."""
        ...


def in_order(
    executor: Executor | None,
    function: Callable[..., ResultT],
    tasks: Iterable[TaskT],
    *shared: object,
    ahead: int,
) -> Iterator[ResultT]:
    """Yield `function(task, *shared)` of every task, in the order of the tasks.

    Parameters
    ----------
    executor : Executor, optional
        Without one, tasks run here, one after the other.
    function : callable
        Importable by name where the workers are other processes.
    tasks : iterable
    *shared
        The same for all tasks.
    ahead : int
        Tasks under way at a time, at most.
    """
    if executor is None:
        for task in tasks:
            yield function(task, *shared)
        return
    submit = getattr(executor, "submit", None)
    if not callable(submit):
        raise TypeError(
            f"executor must have submit(function, *arguments); got {type(executor).__name__}"
        )
    pending: deque[Any] = deque()
    try:
        for task in tasks:
            pending.append(submit(function, task, *shared))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:  # of an abandoned run
            getattr(future, "cancel", _nothing)()


def require_no_fork(executor: Executor | None, library: str) -> None:
    """Reject a pool that forks: a child waits forever for the threads of a library.

    Raises
    ------
    ValueError
        For a pool that forks, with the call that makes another.
    """
    context: Any = getattr(executor, "_mp_context", None)
    if isinstance(executor, ProcessPoolExecutor) and context.get_start_method() == "fork":
        raise ValueError(
            f"executor must start its processes afresh, since {library} hangs in forked ones: "
            'ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))'
        )


def _nothing() -> None:
    """Stand in for a missing `cancel`."""
