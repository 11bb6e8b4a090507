"""What the models that train networks share besides their lifecycle; imports no torch."""

from __future__ import annotations

import os  # noqa: TC003 - public signatures stay readable at run time
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ml4t.models.checks import require_type
from ml4t.models.lifecycle.fittable import Estimated, Fittable
from ml4t.models.training.requirement import require_torch
from ml4t.models.training.start import Attempt

if TYPE_CHECKING:
    from ml4t.models.types import FitSummary
    from ml4t.models.types.arrays import FloatArray

ConfigT = TypeVar("ConfigT")
FitT = TypeVar("FitT")
Label = TypeVar("Label", bound=Hashable)


class Neural(Fittable[ConfigT, FitT]):
    """A model that needs PyTorch for everything but its construction."""

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str | None = None) -> Self:
        """Read a file that `save` wrote; see `Fittable.load`."""
        require_torch(cls.__name__)
        return super().load(path, device=device)

    def continued_from(self, previous: Self) -> dict[str, Any]:
        """Keyword arguments for a `fit` that begins with the last parameters of another.

        Parameters
        ----------
        previous : model of this class
            Fitted, of the same sizes; `fit` refuses others. Optimisers start anew, and so does the
            adversary of a discount factor.
        """
        fit = require_type("previous", previous, type(self))._fitted("continued_from")
        return {"resume": self._last_parameters(fit)}

    def _last_parameters(self, fit: Any) -> dict[str, FloatArray]:
        return dict(fit.checkpoints[max(fit.checkpoints)])

    def _attempt(self, **inputs: object) -> Attempt:
        """Name a fit by this model, its settings and the arguments of `fit`."""
        return Attempt(type(self).__name__, self.config, inputs)

    def _run(self, estimate: Callable[[], Estimated[FitT]], *inputs: object) -> FitSummary:
        """Train with our settings of torch, whatever the caller's around the call."""

        def trained() -> Estimated[FitT]:
            require_torch(type(self).__name__)
            from ml4t.models.training.ambient import shut_out  # noqa: PLC0415 - torch is optional

            with shut_out(gradients=True):
                return estimate()

        return super()._run(trained, *inputs)

    def _resolved_device(self) -> str | None:
        require_torch(type(self).__name__)
        from ml4t.models.training.device import resolve_device  # noqa: PLC0415 - torch is optional

        return str(resolve_device(getattr(self.config, "device", "cpu")))


def choose_checkpoint(
    asked: Label | None,
    configured: Label | str | None,
    available: Sequence[Label],
    *,
    best: Label | None,
    fallback: Label,
) -> Label:
    """Settle which checkpoint a request means.

    Parameters
    ----------
    asked : label or None
        From the call; must be available.
    configured : label, "best" or None
        The setting `default_checkpoint`, used when nothing is asked for.
    available : sequence of labels
    best : label or None
        What "best" means; `fallback` when training had nothing to compare.
    fallback : label
        When nothing is asked for or configured.

    Raises
    ------
    ValueError
        When the label is not available, naming it and those that are.
    """
    if asked is not None:
        if asked not in available:
            raise ValueError(
                f"checkpoint={asked!r} is not in available_checkpoints {tuple(available)}"
            )
        return available[available.index(asked)]  # not True or a NumPy integer for 1
    if configured is None:
        return fallback
    if configured == "best":
        return fallback if best is None else best
    for label in available:
        if label == configured:
            return label
    raise ValueError(
        f"default_checkpoint={configured!r} is not in available_checkpoints {tuple(available)}"
    )
