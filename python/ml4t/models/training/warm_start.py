"""Warm starts and resumed fits; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ml4t.models.checks import require_shape
from ml4t.models.lifecycle.fingerprint import fingerprint
from ml4t.models.training.callbacks import Callback, listeners

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.training.run_state import RunState

    Resume: TypeAlias = RunState | Mapping[str, NDArray[Any]]


def parts(resume: Resume | None) -> tuple[NDArray[Any], ...]:
    """Arrays of former parameters in the order of their names, for the fingerprint of a fit."""
    if not isinstance(resume, Mapping):
        return ()
    return tuple(np.asarray(resume[name]) for name in sorted(resume))


class Attempt:
    """Identity of a fit for its run states: model, settings and data.

    Parameters
    ----------
    name : str
        Of the model.
    config : dataclass
        Settings; all of them belong to the run except the device.
    inputs : mapping of str to object
        Arguments of `fit`. Records and arrays are named by their hash, anything else by itself.
    """

    def __init__(self, name: str, config: Any, inputs: Mapping[str, object]) -> None:
        self._name, self._config, self._inputs = name, config, inputs
        self._owner: dict[str, str] = {}

    def owner(self) -> dict[str, str]:
        """Identity of the fit; inputs are hashed at the first call."""
        if not self._owner:
            settings = {
                one.name: repr(getattr(self._config, one.name))
                for one in fields(self._config)
                if one.name != "device"
            }
            inputs = {name: _identity(value) for name, value in self._inputs.items()}
            self._owner = {"model": self._name} | settings | inputs
        return self._owner

    def listeners(self, callbacks: Sequence[Callback], *, progress: bool) -> tuple[Callback, ...]:
        """Callbacks of this fit; the states that they capture carry its identity."""
        return listeners(callbacks, progress=progress, owner=self.owner)

    def own(self, resume: Resume | None) -> Resume | None:
        """Return `resume` unless it is the state of another fit.

        Raises
        ------
        ValueError
            When model, settings or data of a run state differ from this fit's, naming them.
        """
        from ml4t.models.training.run_state import RunState  # noqa: PLC0415 - torch is optional

        if isinstance(resume, RunState):
            _require_same(resume.owner, self.owner())
        return resume


def _identity(value: object) -> str:
    inputs = fingerprint([value])
    return inputs.sha256 if inputs.dimensions else repr(value)


def _require_same(captured: Mapping[str, str], own: Mapping[str, str]) -> None:
    names = [name for name in {**own, **captured} if own.get(name) != captured.get(name)]
    if names:
        sides = "; ".join(
            f"{name}: {captured.get(name, 'none')[:80]} and {own.get(name, 'none')[:80]}"
            for name in names
        )
        raise ValueError(
            "resume must be a state of a fit with the same model, settings and data; its "
            f"{', '.join(names)} differ ({sides})"
        )


def begin(network: Any, resume: Resume | None) -> RunState | None:
    """Copy former parameters into a network; return any other `resume` for the run.

    Raises
    ------
    ValueError
        When they are those of a network of other sizes.
    """
    if not isinstance(resume, Mapping):
        return resume
    own = network.state_dict()
    if own.keys() != resume.keys():
        raise ValueError(f"resume must hold the parameters {sorted(own)}; got {sorted(resume)}")
    for name, value in own.items():
        require_shape(f"resume: {name}", tuple(value.shape), tuple(resume[name].shape))
    from ml4t.models.training.checkpoints import load_into  # noqa: PLC0415 - torch is optional

    load_into(network, resume)
    return None
