"""Everything a run needs to go on from where it was, with the same bits."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ml4t.models.artifacts import format as files
from ml4t.models.checks import require_type
from ml4t.models.training.checkpoints import Best, State
from ml4t.models.training.stopping import PatienceSeen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn


@dataclass(slots=True)
class PhaseProgress:
    """How far a phase has come. The only thing in `training` that changes.

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
    patience : PatienceSeen or None
    stopped : Tensor of bool, shape () or (E,)
        Members that train no more.
    last_epoch : Tensor of int64, same shape
        Epochs each member trained.
    held : dict of str to Tensor
        The state that stopped members keep; empty while none has stopped.
    final : dict of str to Tensor
        The state after the last epoch; empty before.
    """

    stopped: Tensor
    last_epoch: Tensor
    epoch: int = 0
    history: list[tuple[int, dict[str, Tensor]]] = field(default_factory=list)
    checkpoints: dict[int, State] = field(default_factory=dict)
    best: dict[str, Best] = field(default_factory=dict)
    patience: PatienceSeen | None = None
    held: State = field(default_factory=dict)
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
        """Rebuild from what `asdict` gave."""
        plain = deepcopy(plain)
        plain["history"] = [tuple(entry) for entry in plain["history"]]
        plain["best"] = {name: Best(**best) for name, best in plain["best"].items()}
        if plain["patience"] is not None:
            plain["patience"] = PatienceSeen(**plain["patience"])
        return cls(**plain)


@dataclass(frozen=True, slots=True)
class RunState:
    """A run put down after an epoch.

    Attributes
    ----------
    names : tuple of str
        Names of all phases, so that a state is not taken up by another run.
    done : tuple of dict
        Progress of the phases that were begun, the last of them perhaps unfinished.
    modules, optimizers, generators : tuple
        Their states, in the order in which the phases name them.
    """

    names: tuple[str, ...]
    done: tuple[dict[str, Any], ...]
    modules: tuple[State, ...]
    optimizers: tuple[dict[str, Any], ...]
    generators: tuple[Tensor, ...]

    def save(self, path: str | Path) -> Path:
        """Write to a file, whole or not at all; `load` reads it back."""
        content = BytesIO()
        torch.save(asdict(self), content)
        return files.write_whole(path, content.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> RunState:
        """Read what `save` wrote. Only tensors and plain containers are accepted: no code runs.

        Raises
        ------
        FileNotFoundError
            When there is no such file.
        ValueError
            When the file is damaged or holds something else.
        """
        content = BytesIO(files.read(path))
        try:
            return cls(**torch.load(content, weights_only=True, map_location="cpu"))
        except (UnpicklingError, RuntimeError, EOFError, TypeError, ValueError) as error:
            raise ValueError(f"cannot load {path}: it is no state of a run") from error


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
    for module, saved in zip(modules, state.modules, strict=True):
        own = {name: value.shape for name, value in module.state_dict().items()}
        if own != {name: value.shape for name, value in saved.items()}:
            raise ValueError("resume must come from networks of the same sizes; its own differ")
        module.load_state_dict(saved)
    for optimizer, saved in zip(optimizers, state.optimizers, strict=True):
        optimizer.load_state_dict(deepcopy(saved))
    for generator, bits in zip(generators, state.generators, strict=True):
        generator.set_state(bits.clone())
    return [PhaseProgress.from_plain(plain) for plain in state.done]
