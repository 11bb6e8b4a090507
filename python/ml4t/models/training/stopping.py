"""Rules for improvement and early stopping, as values.

A rule is frozen; its state is a separate value that `update` replaces. A run can therefore be
interrupted after any epoch and resumed.

Metrics are float64 tensors on the CPU, of shape () or, when several members of an ensemble are
trained together, (E,). Every rule works element by element, so that a member is judged as if it
were alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Metrics = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Better:
    """When a metric has improved.

    Attributes
    ----------
    metric : str
        Name under which the phase reports it.
    mode : {"min", "max"}
    min_delta : float, default 0.0
        An improvement must exceed it.
    burn_in : int, default 0
        Epochs up to this one are not looked at.
    """

    metric: str
    mode: Literal["min", "max"] = "min"
    min_delta: float = 0.0
    burn_in: int = 0

    def improved(self, value: Tensor, best: Tensor) -> Tensor:
        """Mark where `value` beats `best` (NaN in `best`: no value yet)."""
        if self.mode == "min":
            return (value < best - self.min_delta) | torch.isnan(best)
        return (value > best + self.min_delta) | torch.isnan(best)

    def value(self, metrics: Metrics) -> Tensor:
        """Return the metric; raise `KeyError` when the phase does not report it."""
        if self.metric not in metrics:
            raise KeyError(f"metric {self.metric!r} is not reported; reported: {sorted(metrics)}")
        return metrics[self.metric]


@dataclass(frozen=True, slots=True)
class PatienceState:
    """State of a `Patience` rule.

    Attributes
    ----------
    smoothed : dict of str to Tensor
        Exponential average of each watched metric.
    best : dict of str to Tensor
        Best average after the burn-in; NaN before.
    bad : Tensor of int64
        Evaluations in a row without improvement.
    """

    smoothed: dict[str, Tensor]
    best: dict[str, Tensor]
    bad: Tensor


@dataclass(frozen=True, slots=True)
class Patience:
    """Stop after `limit` evaluations in a row in which no watched metric improved.

    Attributes
    ----------
    watch : tuple of Better
        Improvement of any one counts.
    limit : int
    burn_in : int, default 0
        Epochs up to this one neither set a best nor count as bad; they do enter the average.
    smoothing : float in (0, 1], default 1.0
        Weight of the newest value in the exponential average. Averages are compared with averages:
        1.0 compares the values themselves.
    """

    watch: tuple[Better, ...]
    limit: int
    burn_in: int = 0
    smoothing: float = 1.0

    def __post_init__(self) -> None:
        """Raise `ValueError` for a rule that can never apply."""
        if not self.watch:
            raise ValueError("watch must name at least one metric; got none")
        if self.limit < 1:
            raise ValueError(f"limit must be at least 1; got {self.limit}")
        if not 0.0 < self.smoothing <= 1.0:
            raise ValueError(f"smoothing must be in (0, 1]; got {self.smoothing}")

    def update(self, state: PatienceState | None, epoch: int, metrics: Metrics) -> PatienceState:
        """Update the state by the metrics of one evaluation."""
        values = {rule.metric: rule.value(metrics) for rule in self.watch}
        if state is None:
            first = next(iter(values.values()))
            nothing = {name: torch.full_like(value, torch.nan) for name, value in values.items()}
            state = PatienceState(values, nothing, torch.zeros_like(first, dtype=torch.int64))
        weight = self.smoothing
        smoothed = {n: (1.0 - weight) * state.smoothed[n] + weight * v for n, v in values.items()}
        if epoch <= self.burn_in:
            return PatienceState(smoothed, state.best, state.bad)
        improved = torch.zeros_like(state.bad, dtype=torch.bool)
        best = dict(state.best)
        for rule in self.watch:
            now, before = smoothed[rule.metric], best[rule.metric]
            gain = rule.improved(now, before)
            best[rule.metric] = torch.where(gain, now, before)
            improved |= gain
        return PatienceState(smoothed, best, torch.where(improved, 0, state.bad + 1))

    def exhausted(self, state: PatienceState) -> Tensor:
        """Mark the members whose patience is over."""
        return state.bad >= self.limit
