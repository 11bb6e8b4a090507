"""State of a training run, from which it resumes with the same bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml4t.models.artifacts import codec, files
from ml4t.models.checks import require_type
from ml4t.models.training.checkpoints import Best, State
from ml4t.models.training.stopping import PatienceState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn


_MODEL_TYPE = "ml4t.models.RunState"


@dataclass(slots=True)
class PhaseProgress:
    """Progress of a phase. The only mutable object of `training`.

    Attributes
    ----------
    epoch : int
        Epochs done.
    history : list of (int, dict of str to Tensor)
        Epoch and its metrics.
    checkpoints : dict of int to State
        States on the schedule's grid.
    best : dict of str to Best
        By the name of the rule.
    patience : PatienceState or None
    stopped : Tensor of bool, shape () or (E,)
        Members that train no more.
    last_epoch : Tensor of int64, same shape
        Epochs each member trained.
    stopped_state : dict of str to Tensor
        State of the stopped members; empty while none has stopped.
    final : dict of str to Tensor
        The state after the last epoch; empty before.
    """

    stopped: Tensor
    last_epoch: Tensor
    epoch: int = 0
    history: list[tuple[int, dict[str, Tensor]]] = field(default_factory=list)
    checkpoints: dict[int, State] = field(default_factory=dict)
    best: dict[str, Best] = field(default_factory=dict)
    patience: PatienceState | None = None
    stopped_state: State = field(default_factory=dict)
    final: State = field(default_factory=dict)

    @classmethod
    def start(cls, members: int | None) -> PhaseProgress:
        """Nothing done yet."""
        shape = () if members is None else (members,)
        # On the CPU, as metrics are, whatever the caller's default device.
        stopped = torch.zeros(shape, dtype=torch.bool, device="cpu")
        return cls(stopped, torch.zeros(shape, dtype=torch.int64, device="cpu"))

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> PhaseProgress:
        """Rebuild from the output of `asdict`."""
        plain = deepcopy(plain)
        plain["stopped_state"] = plain.pop("held", plain.get("stopped_state"))  # former name
        plain["history"] = [tuple(entry) for entry in plain["history"]]
        plain["best"] = {name: Best(**best) for name, best in plain["best"].items()}
        if plain["patience"] is not None:
            plain["patience"] = PatienceState(**plain["patience"])
        return cls(**plain)


@dataclass(frozen=True, slots=True)
class RunState:
    """A run interrupted after an epoch.

    Attributes
    ----------
    names : tuple of str
        Names of all phases, so that a state is not taken up by another run.
    done : tuple of dict
        Progress of the phases that were begun, the last of them perhaps unfinished.
    modules, optimizers, generators : tuple
        Their states, in the order in which the phases name them.
    owner : dict of str to str
        Model, settings and hashes of the data of the fit; `fit` rejects a state of another one.
        Empty for a run outside a fit.
    """

    names: tuple[str, ...]
    done: tuple[dict[str, Any], ...]
    modules: tuple[State, ...]
    optimizers: tuple[dict[str, Any], ...]
    generators: tuple[Tensor, ...]
    owner: dict[str, str] = field(default_factory=dict)

    def save(self, path: str | Path) -> Path:
        """Write to a file with a checksum, whole or not at all; `load` reads it back."""
        kept = _Kept(**{one.name: _arrays(getattr(self, one.name)) for one in fields(self)})
        state, arrays = codec.pack(kept, "run")
        version = files.package_version()
        return files.write(path, files.Artifact(_MODEL_TYPE, version, None, state, arrays))

    @classmethod
    def load(cls, path: str | Path) -> RunState:
        """Read a file of `save`.

        Raises
        ------
        FileNotFoundError
            When there is no such file.
        ValueError
            When the file is damaged or holds something else.
        """
        content = files.read(path)
        try:
            artifact = files.from_bytes(content)
            if artifact.model_type != _MODEL_TYPE:
                raise ValueError(f"it is no state of a run but of {artifact.model_type}")
            kept = codec.unpack(artifact.state, _Kept, artifact.arrays, "run")
            state = cls(**{one.name: _tensors(getattr(kept, one.name)) for one in fields(cls)})
            state.progress()
        except ValueError as error:
            raise ValueError(f"cannot load {path}: {error}") from error
        return state

    def progress(self) -> list[PhaseProgress]:
        """Copy the progress of the phases begun so far.

        Raises
        ------
        ValueError
            When it is not that of phases.
        """
        try:
            return [PhaseProgress.from_plain(plain) for plain in self.done]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"run must hold the progress of its phases: {error!r}") from error


@dataclass(frozen=True, slots=True)
class _Kept:
    """A `RunState` with arrays in place of tensors, as files store it."""

    names: tuple[str, ...]
    done: tuple[dict[str, Any], ...]
    modules: tuple[dict[str, NDArray[Any]], ...]
    optimizers: tuple[dict[str, Any], ...]
    generators: tuple[NDArray[np.uint8], ...]
    owner: dict[str, str]


def _arrays(value: Any) -> Any:
    return _converted(value, Tensor, lambda tensor: tensor.detach().cpu().numpy())


def _tensors(value: Any) -> Any:
    return _converted(value, np.ndarray, lambda array: torch.from_numpy(array.copy()))


def _converted(value: Any, kind: type, convert: Callable[[Any], Any]) -> Any:
    """Convert the values of a kind in nested containers."""
    if isinstance(value, kind):
        return convert(value)
    if isinstance(value, Mapping):
        return {key: _converted(one, kind, convert) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_converted(one, kind, convert) for one in value)
    return value


def capture(
    names: tuple[str, ...],
    done: Sequence[PhaseProgress],
    modules: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    generators: Sequence[torch.Generator],
) -> RunState:
    """Copy the state of everything that changes."""
    return RunState(
        names=names,
        done=tuple(asdict(progress) for progress in done),
        modules=tuple(deepcopy(dict(module.state_dict())) for module in modules),
        optimizers=tuple(deepcopy(optimizer.state_dict()) for optimizer in optimizers),
        generators=tuple(generator.get_state() for generator in generators),
    )


def restore(
    state: RunState,
    names: tuple[str, ...],
    modules: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    generators: Sequence[torch.Generator],
) -> list[PhaseProgress]:
    """Put everything back, and return the progress of the phases begun so far.

    Raises
    ------
    ValueError
        When the state comes from a run of other phases, or of networks of other sizes.
    """
    require_type("resume", state, RunState)
    if state.names != names or len(state.modules) != len(modules):
        raise ValueError(f"resume must come from the phases {names}; got {state.names}")
    for what, own, others in (
        ("optimizers", optimizers, state.optimizers),
        ("generators", generators, state.generators),
    ):
        if len(own) != len(others):
            raise ValueError(f"resume must hold {len(own)} {what}; got {len(others)}")
    done = state.progress()
    if len(done) > len(names):
        raise ValueError(f"resume must hold progress of at most {len(names)} phases")
    for module, saved in zip(modules, state.modules, strict=True):
        if _shapes(module.state_dict()) != _shapes(saved):
            raise ValueError("resume must come from networks of the same sizes; its own differ")
    for optimizer, saved in zip(optimizers, state.optimizers, strict=True):
        _require_fitting(optimizer, saved)
    for module, saved in zip(modules, state.modules, strict=True):
        module.load_state_dict(saved)
    for optimizer, saved in zip(optimizers, state.optimizers, strict=True):
        optimizer.load_state_dict(deepcopy(saved))
    for generator, bits in zip(generators, state.generators, strict=True):
        generator.set_state(bits.clone())
    return done


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


def _require_fitting(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Raise `ValueError` for moments of other shapes; torch checks their number alone."""
    own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, moments in saved.get("state", {}).items():
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.dim() and value.shape != own[index].shape:
                raise ValueError(
                    f"resume must hold optimizer moments of the parameters' shapes; {name} of "
                    f"parameter {index} is {tuple(value.shape)}, not {tuple(own[index].shape)}"
                )
