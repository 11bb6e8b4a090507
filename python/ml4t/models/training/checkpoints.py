"""Checkpoints: their schedule, copies of a network's state, states as arrays."""

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
    """Number of epochs of a phase, and the epochs whose states are stored.

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
        0 before the first evaluation.
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
    """Select `new` where the mask is true, member by member; `where` has shape () or (E,)."""
    return {
        name: torch.where(
            where.view(where.shape + (1,) * (value.dim() - where.dim())), value, old[name]
        )
        for name, value in new.items()
    }


def restore(network: nn.Module, where: Tensor, former: State) -> None:
    """Reset the members marked in `where` to their state in `former`."""
    network.load_state_dict(choose(where, former, snapshot(network)))


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
