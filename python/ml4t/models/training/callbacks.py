"""Callbacks of a training run: logging, progress bar, callbacks of the caller.

The logger `ml4t.models.training` reports phases at INFO and epochs at DEBUG; Python shows neither
unless logging is configured.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ml4t.models.checks import require_bool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ml4t.models.training.run_state import RunState

LOGGER = logging.getLogger("ml4t.models.training")
EVENTS = ("on_start", "on_epoch", "on_end")


@dataclass(frozen=True, slots=True)
class PhaseStarted:
    """A phase begins, or goes on after a resume.

    Attributes
    ----------
    phase : str
    total : int
        Epochs at most.
    epoch : int
        Epochs already done: 0 unless resumed.
    """

    phase: str
    total: int
    epoch: int


@dataclass(frozen=True, slots=True)
class EpochEnded:
    """An epoch is over.

    Attributes
    ----------
    phase : str
    epoch : int
        Counted from 1.
    total : int
    metrics : mapping of str to float
        Means over the members trained together.
    capture : callable
        Returns a `RunState` to resume from; valid while the callback runs.
    """

    phase: str
    epoch: int
    total: int
    metrics: Mapping[str, float]
    capture: Callable[[], RunState]


@dataclass(frozen=True, slots=True)
class PhaseEnded:
    """A phase is over.

    Attributes
    ----------
    phase : str
    epoch : int
        Epochs done.
    stopped_early : bool
    """

    phase: str
    epoch: int
    stopped_early: bool


class Callback:
    """Base class of callbacks. An exception raised in one ends the fit and reaches the caller."""

    def on_start(self, event: PhaseStarted) -> None:
        """Run when a phase begins."""

    def on_epoch(self, event: EpochEnded) -> None:
        """Run after every epoch."""

    def on_end(self, event: PhaseEnded) -> None:
        """Run when a phase ends."""


class _Log(Callback):
    """Pass events on to the standard library's logging."""

    def on_start(self, event: PhaseStarted) -> None:
        LOGGER.info("phase %s starts: %d epochs", event.phase, event.total)

    def on_epoch(self, event: EpochEnded) -> None:
        LOGGER.debug("phase %s epoch %d: %s", event.phase, event.epoch, dict(event.metrics))

    def on_end(self, event: PhaseEnded) -> None:
        how = "stopped early" if event.stopped_early else "done"
        LOGGER.info("phase %s %s after %d epochs", event.phase, how, event.epoch)


class ProgressBar(Callback):
    """A tqdm bar per phase.

    Raises
    ------
    ModuleNotFoundError
        When tqdm is not installed.
    """

    def __init__(self) -> None:
        try:
            self._tqdm: Any = import_module("tqdm.auto").tqdm
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                'progress=True needs tqdm: pip install "ml4t-models[progress]"', name="tqdm"
            ) from error
        self._bar: Any = None

    def on_start(self, event: PhaseStarted) -> None:
        """Open a bar."""
        self._bar = self._tqdm(total=event.total, initial=event.epoch, desc=event.phase)

    def on_epoch(self, event: EpochEnded) -> None:
        """Move the bar on and show the metrics."""
        self._bar.set_postfix({k: f"{v:.4g}" for k, v in event.metrics.items()}, refresh=False)
        self._bar.update(1)

    def on_end(self, event: PhaseEnded) -> None:  # noqa: ARG002 - the bar has its phase
        """Close the bar."""
        self._bar.close()


class _Signed(Callback):
    """A caller's callback whose captured states name the fit that they come from."""

    def __init__(self, callback: Callback, owner: Callable[[], Mapping[str, str]]) -> None:
        self._callback, self._owner = callback, owner
        self.on_start, self.on_end = callback.on_start, callback.on_end  # type: ignore[method-assign]

    def on_epoch(self, event: EpochEnded) -> None:
        def capture() -> RunState:
            return replace(event.capture(), owner=dict(self._owner()))

        self._callback.on_epoch(replace(event, capture=capture))


def listeners(
    callbacks: Sequence[Callback],
    *,
    progress: bool,
    owner: Callable[[], Mapping[str, str]] | None = None,
) -> tuple[Callback, ...]:
    """Callbacks of a run: the log, the caller's own, and a bar where wanted.

    Parameters
    ----------
    callbacks : sequence of Callback
    progress : bool
    owner : callable, optional
        Returns `RunState.owner` of every captured state.

    Raises
    ------
    TypeError
        When `callbacks` holds something that lacks one of the three methods, or `progress` is no
        bool.
    """
    if isinstance(callbacks, str) or not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks must be a sequence of Callback; got {type(callbacks).__name__}")
    own = tuple(callbacks)
    for index, callback in enumerate(own):
        if not all(callable(getattr(callback, name, None)) for name in EVENTS):
            raise TypeError(
                "callbacks must be a sequence of Callback; "
                f"got {type(callback).__name__} at {index}"
            )
    bar = (ProgressBar(),) if require_bool("progress", progress) else ()
    if owner is not None:
        own = tuple(_Signed(callback, owner) for callback in own)
    return (_Log(), *own, *bar)
