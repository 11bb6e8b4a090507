"""The training loop: a model describes `Phase`s, `run` trains them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from ml4t.models.training import checkpoints
from ml4t.models.training import run_state as state
from ml4t.models.training.callbacks import Callback, EpochEnded, PhaseEnded, PhaseStarted
from ml4t.models.training.run_state import PhaseProgress, RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ml4t.models.training.checkpoints import Best, Schedule, State
    from ml4t.models.training.stopping import Better, Patience
    from ml4t.models.types.arrays import FloatArray

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A network, its losses and the rules of its training.

    Attributes
    ----------
    name : str
    network : nn.Module
        Trained, snapshotted and guarded. With `members`, every parameter and buffer has a leading
        member axis E.
    optimizer : torch.optim.Optimizer
        May be shared with another phase.
    losses : callable
        `losses(epoch)` yields one loss per update, of shape () or (E,). The next one is computed
        after the update of the one before.
    schedule : Schedule
    members : int, optional
        Number of members E trained together. Losses and metrics then have shape (E,), and every
        rule judges a member as if it were alone.
    frozen : tuple of nn.Module
        Parts that the loss reads but this phase does not train: in evaluation mode throughout.
    ascent : bool, default False
        Raise the loss instead of lowering it.
    evaluate : callable, optional
        Returns metrics of the network as it is, called in evaluation mode without gradients.
    evaluate_every : int, default 1
        Evaluate at multiples of it, on the grid, and at the last epoch.
    report : callable, optional
        Returns metrics of the training pass just done.
    keep_best : mapping of str to Better
        Rules by which the best state is kept.
    patience : Patience, optional
    max_grad_norm : float, optional
        Clip the norm of all gradients to it.
    begin : callable, optional
        Called when the phase begins, or goes on after a resume: the place to compute what frozen
        parts give once and for all.
    restore : str, optional
        Name of the rule whose best state the network takes when the phase ends.
    unit : str, default "epoch"
        Word for an epoch in error messages.
    """

    name: str
    network: nn.Module
    optimizer: torch.optim.Optimizer
    losses: Callable[[int], Iterable[Tensor]]
    schedule: Schedule
    members: int | None = None
    frozen: tuple[nn.Module, ...] = ()
    ascent: bool = False
    evaluate: Callable[[], Mapping[str, Tensor | float]] | None = None
    evaluate_every: int = 1
    report: Callable[[], Mapping[str, Tensor | float]] | None = None
    keep_best: Mapping[str, Better] = field(default_factory=dict)
    patience: Patience | None = None
    max_grad_norm: float | None = None
    begin: Callable[[], None] | None = None
    restore: str | None = None
    unit: str = "epoch"

    def evaluates_at(self, epoch: int) -> bool:
        """Whether `epoch` ends with an evaluation."""
        due = epoch % self.evaluate_every == 0 or epoch in self.schedule.grid
        return self.evaluate is not None and (due or epoch == self.schedule.total)


def adam(network: nn.Module, *, lr: float, weight_decay: float = 0.0) -> torch.optim.Adam:
    """Make Adam of all parameters, fused into one pass where the device supports it."""
    parameters = list(network.parameters())
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=fused)


@dataclass(frozen=True, slots=True)
class Trained:
    """Result of a phase.

    Attributes
    ----------
    name : str
    history : tuple of (int, dict of str to Tensor)
        Epoch and its metrics, every epoch; tensors of shape () or (E,), float64.
    checkpoints : mapping of int to State
        States on the grid, as far as training went. A member that stopped before keeps the state
        in which it stopped.
    best : mapping of str to Best
        By the name of the rule; absent when no epoch follows the burn-in.
    last_epoch : Tensor of int64, shape () or (E,)
        Epochs each member trained.
    final : dict of str to Tensor
        The state after the last epoch; of a member that stopped before, the one it stopped in.
    """

    name: str
    history: tuple[tuple[int, dict[str, Tensor]], ...]
    checkpoints: Mapping[int, State]
    best: Mapping[str, Best]
    last_epoch: Tensor
    final: State

    def arrays(self) -> dict[int, dict[str, FloatArray]]:
        """Checkpoints as arrays, by epoch."""
        return {epoch: checkpoints.to_arrays(state) for epoch, state in self.checkpoints.items()}

    def losses(self) -> tuple[dict[str, float], ...]:
        """`epoch`, `train_loss` and `val_loss` of every epoch; equal losses without validation."""
        return tuple(
            {
                "epoch": float(epoch),
                "train_loss": float(metrics["train_loss"]),
                "val_loss": float(metrics.get("val_loss", metrics["train_loss"])),
            }
            for epoch, metrics in self.history
        )


def run(
    phases: Sequence[Phase],
    *,
    generators: Sequence[torch.Generator] = (),
    listeners: Sequence[Callback] = (),
    resume: RunState | None = None,
) -> tuple[Trained, ...]:
    """Train the phases one after the other.

    Parameters
    ----------
    phases : sequence of Phase
    generators : sequence of torch.Generator
        Every source of randomness that the losses draw from, so that a resumed run draws on.
    listeners : sequence of Callback
    resume : RunState, optional
        Go on from there. The phases must be built as they were the first time; the result has the
        same bits as that of an unbroken run.

    Returns
    -------
    tuple of Trained
        One per phase.

    Raises
    ------
    FloatingPointError
        When a loss, a gradient, a parameter or a metric is not finite; names phase and epoch.
    """
    names = tuple(phase.name for phase in phases)
    modules = _distinct(m for phase in phases for m in (phase.network, *phase.frozen))
    optimizers = _distinct(phase.optimizer for phase in phases)
    done: list[PhaseProgress] = []
    if resume is not None:
        done = state.restore(resume, names, modules, optimizers, generators)

    def capture() -> RunState:
        return state.capture(names, done, modules, optimizers, generators)

    for index, phase in enumerate(phases):
        if index < len(done) - 1:
            continue
        if index == len(done):
            done.append(PhaseProgress.start(phase.members))
        _run_phase(phase, done[index], listeners, capture)
    return tuple(
        Trained(name, tuple(p.history), p.checkpoints, p.best, p.last_epoch, p.final)
        for name, p in zip(names, done, strict=True)
    )


def _distinct(items: Iterable[Part]) -> list[Part]:
    return list({id(item): item for item in items}.values())


def _run_phase(
    phase: Phase,
    progress: PhaseProgress,
    listeners: Sequence[Callback],
    capture: Callable[[], RunState],
) -> None:
    total = phase.schedule.total
    for listener in listeners:
        listener.on_start(PhaseStarted(phase.name, total, progress.epoch))
    if phase.begin is not None:
        phase.begin()
    while progress.epoch < total and not bool(progress.stopped.all()):
        epoch = progress.epoch + 1
        metrics = {"train_loss": _train_epoch(phase, epoch)}
        if bool(progress.stopped.any()):
            checkpoints.restore(phase.network, progress.stopped, progress.stopped_state)
        metrics |= _measure(phase, epoch)
        _take_in(phase, progress, epoch, metrics)
        shown = {name: float(value.mean()) for name, value in metrics.items()}
        for listener in listeners:
            listener.on_epoch(EpochEnded(phase.name, epoch, total, shown, capture))
    progress.final = checkpoints.snapshot(phase.network)
    if bool(progress.stopped.any()):
        progress.final = checkpoints.choose(
            progress.stopped, progress.stopped_state, progress.final
        )
    if phase.restore is not None and phase.restore in progress.best:
        phase.network.load_state_dict(progress.best[phase.restore].state)
    early = progress.epoch < total
    for listener in listeners:
        listener.on_end(PhaseEnded(phase.name, progress.epoch, early))


def _train_epoch(phase: Phase, epoch: int) -> Tensor:
    """Do the updates of one epoch and return the mean loss, shape () or (E,)."""
    phase.network.train()
    for module in phase.frozen:
        module.eval()
    parameters = list(phase.network.parameters())
    total: Tensor | None = None
    updates = 0
    for loss in phase.losses(epoch):
        _require_finite(loss.detach(), "training loss", phase, epoch)
        phase.optimizer.zero_grad(set_to_none=True)
        objective = loss.sum()
        (-objective if phase.ascent else objective).backward()  # type: ignore[no-untyped-call]
        _guard_gradients(phase, parameters, epoch)
        phase.optimizer.step()
        total = loss.detach().clone() if total is None else total + loss.detach()
        updates += 1
    if total is None:
        raise ValueError(f"{phase.name}: {phase.unit} {epoch} yielded no loss")
    for parameter in parameters:
        _require_finite(parameter.detach(), "model parameter", phase, epoch)
    return _as_metric(total / updates)


def _guard_gradients(phase: Phase, parameters: list[nn.Parameter], epoch: int) -> None:
    """Clip the gradients where configured; raise `FloatingPointError` unless they are finite."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if phase.max_grad_norm is not None:
        norm = nn.utils.clip_grad_norm_(parameters, phase.max_grad_norm)
    else:
        norm = torch.stack([torch.linalg.vector_norm(g) for g in gradients]).norm()
    if bool(torch.isfinite(norm)):
        return
    for gradient in gradients:
        _require_finite(gradient, "training gradient", phase, epoch)
    _require_finite(norm, "training gradient norm", phase, epoch)


def _measure(phase: Phase, epoch: int) -> dict[str, Tensor]:
    """Gather the metrics of an epoch."""
    metrics: dict[str, Tensor] = {}
    if phase.report is not None:
        metrics |= {name: _as_metric(value) for name, value in phase.report().items()}
    if phase.evaluate is not None and phase.evaluates_at(epoch):
        phase.network.eval()
        with torch.no_grad():
            metrics |= {name: _as_metric(value) for name, value in phase.evaluate().items()}
    for name, value in metrics.items():
        _require_finite(value, name, phase, epoch)
    return metrics


def _take_in(phase: Phase, progress: PhaseProgress, epoch: int, metrics: dict[str, Tensor]) -> None:
    """Record an epoch, snapshot on the grid, and apply the rules."""
    progress.epoch = epoch
    progress.history.append((epoch, metrics))
    active = ~progress.stopped
    progress.last_epoch = torch.where(active, epoch, progress.last_epoch)
    judged = phase.evaluate is None or phase.evaluates_at(epoch)
    on_grid = epoch in phase.schedule.grid
    if not (on_grid or (judged and (phase.keep_best or phase.patience))):
        return
    now = checkpoints.snapshot(phase.network)
    if on_grid:
        progress.checkpoints[epoch] = now
    if not judged:
        return
    for name, rule in phase.keep_best.items():
        best = checkpoints.update_best(progress.best.get(name), rule, epoch, metrics, now, active)
        if best is not None:
            progress.best[name] = best
    if phase.patience is not None:
        progress.patience = phase.patience.update(progress.patience, epoch, metrics)
        over = phase.patience.exhausted(progress.patience) & active
        if bool(over.any()):
            progress.stopped_state = checkpoints.choose(over, now, progress.stopped_state or now)
            progress.stopped = progress.stopped | over


def _as_metric(value: Tensor | float) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64, device="cpu").detach()


def _require_finite(value: Tensor, what: str, phase: Phase, epoch: int) -> None:
    finite = torch.isfinite(value)
    if bool(finite.all()):
        return
    where = f"{phase.unit} {epoch} (phase {phase.name})"
    if phase.members is not None and value.dim() > 0 and len(value) == phase.members:
        bad = (~finite).reshape(phase.members, -1).any(dim=1).nonzero().flatten().tolist()
        where += f", members {bad}"
    raise FloatingPointError(f"non-finite {what} at {where}")
