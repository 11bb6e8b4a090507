"""When to snapshot a network, and copies of its state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ml4t.models.training.device import to_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ml4t.models.training.stopping import Better, Metrics
    from ml4t.models.types.arrays import FloatArray

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long a phase lasts and which epochs are kept.

    Attributes
    ----------
    total : int
        Number of epochs.
    grid : tuple of int
        Epochs, counted from 1, after which the state is kept; those beyond `total` never come.
    """

    total: int
    grid: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Best:
    """The best state so far by one rule.

    Attributes
    ----------
    value : Tensor of float64, shape () or (E,)
    epoch : Tensor of int64, same shape
        0 while nothing has been seen.
    state : dict of str to Tensor
        Parameters and buffers; of each member its own best.
    """

    value: Tensor
    epoch: Tensor
    state: State


def snapshot(network: nn.Module) -> State:
    """Copy parameters and buffers to the CPU."""
    return {
        name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()
    }


def to_arrays(state: State) -> dict[str, FloatArray]:
    """Convert a state to arrays that share its memory."""
    return {name: value.numpy() for name, value in state.items()}


def load_into(network: nn.Module, state: Mapping[str, FloatArray]) -> None:
    """Copy arrays into the parameters and buffers of a network, on its device."""
    cpu = torch.device("cpu")
    network.load_state_dict({name: to_tensor(value, device=cpu) for name, value in state.items()})


def choose(where: Tensor, new: State, old: State) -> State:
    """Take `new` where the mask says so, member by member; `where` has shape () or (E,)."""
    return {
        name: torch.where(
            where.view(where.shape + (1,) * (value.dim() - where.dim())), value, old[name]
        )
        for name, value in new.items()
    }


def hold(network: nn.Module, where: Tensor, held: State) -> None:
    """Put the members marked in `where` back to the state in `held`."""
    network.load_state_dict(choose(where, held, snapshot(network)))


def update_best(
    best: Best | None, rule: Better, epoch: int, metrics: Metrics, now: State, active: Tensor
) -> Best | None:
    """Keep the better of `best` and the state `now`, member by member."""
    if epoch <= rule.burn_in:
        return best
    value = rule.value(metrics)
    epochs = torch.full_like(value, epoch, dtype=torch.int64)
    if best is None:
        return Best(value, epochs, now)
    gain = rule.improved(value, best.value) & active
    if not bool(gain.any()):
        return best
    return Best(
        torch.where(gain, value, best.value),
        torch.where(gain, epochs, best.epoch),
        choose(gain, now, best.state),
    )
