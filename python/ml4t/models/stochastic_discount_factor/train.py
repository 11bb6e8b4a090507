"""The three phases of the estimation, for every member of an ensemble one after the other.

Discount factor against unconditional moments; moments against the discount factor; discount factor
against those moments. Values of a frozen network are computed once, when the phase begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ml4t.models.stochastic_discount_factor.checkpoint_names import (
    BEST_LOSS,
    BEST_SHARPE,
    CONDITIONAL,
    MOMENT,
    UNCONDITIONAL,
    Label,
)
from ml4t.models.stochastic_discount_factor.fused_layers import Rows, Workspace
from ml4t.models.stochastic_discount_factor.losses import Panel
from ml4t.models.stochastic_discount_factor.net import MomentNet, WeightNet, Widths
from ml4t.models.training.checkpoints import Schedule, State, load_into, to_arrays
from ml4t.models.training.device import (
    generator,
    resolve_device,
    resolve_dtype,
    spawn,
    to_tensor,
)
from ml4t.models.training.loop import Phase, Trained, adam, run
from ml4t.models.training.stopping import Better, Patience
from ml4t.models.training.torch_settings import isolated
from ml4t.models.training.warm_start import begin

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.configs import StochasticDiscountFactorConfig
    from ml4t.models.panel.cells import Cells, TrainingCells
    from ml4t.models.training.callbacks import Callback
    from ml4t.models.training.warm_start import Resume
    from ml4t.models.types.arrays import FloatArray

LOSS, SHARPE = "loss", "sharpe"


@dataclass(frozen=True, slots=True)
class Learned:
    """Result of training.

    Attributes
    ----------
    checkpoints : dict of (phase, epoch) to dict of str to ndarray
        Parameters of the weight network, every array with a leading member axis E.
    history : tuple of dict of str to float or str
        Means over the members that reached the epoch.
    stopped_early : bool
    """

    checkpoints: dict[Label, dict[str, FloatArray]]
    history: tuple[dict[str, float | str], ...]
    stopped_early: bool


def panel(config: StochasticDiscountFactorConfig, training: TrainingCells) -> Panel:
    """Move cells and their returns to the device, in an order of their own."""
    ordered = training.by_value()
    cells = ordered.cells
    device, dtype = resolve_device(config.device), resolve_dtype(config.dtype)
    context = cells.context
    return Panel.of(
        rows_of(config, cells),
        to_tensor(cells.assets, device=device),
        to_tensor(ordered.targets, device=device, dtype=dtype),
        None if context is None else to_tensor(context, device=device, dtype=dtype),
        len(cells.where),
    )


def rows_of(config: StochasticDiscountFactorConfig, cells: Cells) -> Rows:
    """Move the characteristics of cells to the device."""
    device, dtype = resolve_device(config.device), resolve_dtype(config.dtype)
    return Rows(
        to_tensor(cells.characteristics, device=device, dtype=dtype),
        to_tensor(cells.dates, device=device),
    )


class Member:
    """One weight network and its adversary.

    Parameters
    ----------
    config : StochasticDiscountFactorConfig
    train : Panel
    validation : Panel, optional
    seed : int
    """

    def __init__(
        self,
        config: StochasticDiscountFactorConfig,
        train: Panel,
        validation: Panel | None,
        seed: int,
    ) -> None:
        self.config, self.train, self.validation = config, train, validation
        source = generator(seed, train.returns.device)
        dtype = train.returns.dtype
        n_chars = train.rows.characteristics.shape[1]
        n_context = 0 if train.context is None else train.context.shape[1]
        sizes = Widths(n_chars, n_context, config.state_dim_sdf, config.hidden_dim)
        self.net = WeightNet(sizes, source, dtype)
        sizes = Widths(n_chars, n_context, config.state_dim_moment, config.n_instruments)
        self.moments = MomentNet(sizes, source, dtype)
        self.noise = spawn(source)
        self._workspace = Workspace()
        self._sharpe = torch.zeros(())
        # Of the frozen network: returns times instruments, or the discount factor.
        self._payoffs: Tensor | None = None
        self._validation_payoffs: Tensor | None = None
        self._sdf = torch.zeros(())

    def phases(self, patience: int | None, suffix: str = "") -> list[Phase]:
        """Describe the three phases.

        Parameters
        ----------
        patience : int or None
            Epochs without a better validation loss or Sharpe ratio.
        suffix : str
            Of the phases' names, for the members of an ensemble.
        """
        config = self.config
        weights = self._adam(self.net)
        moment = Phase(
            name=MOMENT + suffix,
            network=self.moments,
            optimizer=self._adam(self.moments),
            losses=self._moment_losses,
            schedule=Schedule(config.n_epochs_moment),
            frozen=(self.net,),
            ascent=True,
            begin=self._freeze_weights,
            evaluate=lambda: {"conditional_loss": self._adversary_loss()},
            keep_best={LOSS: Better("conditional_loss", "max")},
            restore=LOSS,
        )
        return [
            self._weight_phase(UNCONDITIONAL, weights, patience, suffix),
            moment,
            self._weight_phase(CONDITIONAL, weights, patience, suffix),
        ]

    def _adam(self, network: torch.nn.Module) -> torch.optim.Adam:
        return adam(network, lr=self.config.lr, weight_decay=self.config.weight_decay)

    def _weight_phase(
        self, name: str, optimizer: torch.optim.Adam, patience: int | None, suffix: str
    ) -> Phase:
        config, burn_in = self.config, self.config.burn_in_epochs
        rules = {
            LOSS: Better("val_loss", burn_in=burn_in),
            SHARPE: Better("val_sharpe", "max", burn_in=burn_in),
        }
        held_out, stop = self.validation, None
        judged = held_out is not None
        if judged and patience is not None:
            stop = Patience(tuple(rules.values()), limit=patience, burn_in=burn_in)
        grid = tuple(epoch for phase, epoch in config.checkpoint_grid if phase == name)
        return Phase(
            name=name + suffix,
            network=self.net,
            optimizer=optimizer,
            losses=self._weight_losses,
            schedule=Schedule(config.n_epochs(name), grid),
            frozen=(self.moments,),
            begin=self._forget_moments if name == UNCONDITIONAL else self._freeze_moments,
            report=lambda: {"train_sharpe": self._sharpe},
            evaluate=None if held_out is None else partial(self._validate, held_out),
            keep_best=rules if judged else {},
            patience=stop,
        )

    def _weight_losses(self, _epoch: int) -> Iterator[Tensor]:
        train = self.train
        weights = self.net.train_on(
            train.rows,
            train.context,
            self._workspace,
            rate=self.config.dropout,
            source=self.noise,
        )
        sdf = train.discount_factor(weights)
        self._sharpe = train.sharpe(sdf.detach())
        yield train.loss(sdf, self._payoffs)

    def _validate(self, held_out: Panel) -> Mapping[str, Tensor]:
        sdf = held_out.discount_factor(self.net.read(held_out.rows, held_out.context))
        loss = held_out.loss(sdf, self._validation_payoffs)
        return {"val_loss": loss, "val_sharpe": held_out.sharpe(sdf)}

    def _forget_moments(self) -> None:
        self._payoffs = self._validation_payoffs = None

    @torch.no_grad()
    def _freeze_moments(self) -> None:
        self._payoffs = self._payoffs_of(self.train, None)
        if self.validation is not None and self.config.validation_loss == CONDITIONAL:
            self._validation_payoffs = self._payoffs_of(self.validation, None)

    @torch.no_grad()
    def _freeze_weights(self) -> None:
        train = self.train
        self._sdf = train.discount_factor(self.net.read(train.rows, train.context))

    def _payoffs_of(self, where: Panel, source: torch.Generator | None) -> Tensor:
        rate = self.config.dropout
        instruments: Tensor = self.moments(where.rows, where.context, rate=rate, source=source)
        return where.returns * instruments

    def _moment_losses(self, _epoch: int) -> Iterator[Tensor]:
        yield self.train.loss(self._sdf, self._payoffs_of(self.train, self.noise))

    def _adversary_loss(self) -> Tensor:
        return self.train.loss(self._sdf, self._payoffs_of(self.train, None))


def learn(
    config: StochasticDiscountFactorConfig,
    train: Panel,
    validation: Panel | None,
    *,
    patience: int | None,
    listeners: Sequence[Callback] = (),
    resume: Resume | None = None,
) -> Learned:
    """Train all members.

    Parameters
    ----------
    config : StochasticDiscountFactorConfig
    train : Panel
    validation : Panel, optional
    patience : int, optional
    listeners : sequence of Callback
    resume : RunState or mapping of str to ndarray, optional
        Parameters are those of the weight networks, with a leading member axis.
    """
    several = config.n_ensemble > 1
    members = [
        Member(config, train, validation, config.seed + index) for index in range(config.n_ensemble)
    ]
    if isinstance(resume, Mapping):
        _begin(members, resume)
        resume = None
    phases = [
        phase
        for index, member in enumerate(members)
        for phase in member.phases(patience, f", member {index}" if several else "")
    ]
    trained = run(
        phases,
        generators=[member.noise for member in members],
        listeners=listeners,
        resume=resume,
    )
    checkpoints: dict[Label, dict[str, FloatArray]] = {}
    history: list[dict[str, float | str]] = []
    for position, name in ((0, UNCONDITIONAL), (2, CONDITIONAL)):
        of_phase = trained[position::3]
        checkpoints |= _checkpoints(name, of_phase)
        history += _history(name, of_phase)
    totals = [config.n_epochs(name) for name in (UNCONDITIONAL, MOMENT, CONDITIONAL)]
    early = any(
        len(one.history) < total
        for one, total in zip(trained, totals * config.n_ensemble, strict=True)
    )
    return Learned(checkpoints, tuple(history), early)


def _begin(members: Sequence[Member], parameters: Mapping[str, FloatArray]) -> None:
    counts = {len(value) for value in parameters.values()}
    if counts != {len(members)}:
        raise ValueError(f"resume must hold {len(members)} members; got {sorted(counts)}")
    for index, member in enumerate(members):
        begin(member.net, {name: value[index] for name, value in parameters.items()})


def _checkpoints(name: str, members: Sequence[Trained]) -> dict[Label, dict[str, FloatArray]]:
    """Stack the members' states; one that stopped before an epoch has the state it stopped in."""
    out: dict[Label, dict[str, FloatArray]] = {}
    for rule, label in ((LOSS, BEST_LOSS), (SHARPE, BEST_SHARPE)):
        if all(rule in member.best for member in members):
            out[name, label] = _stacked([member.best[rule].state for member in members])
    for epoch in sorted({epoch for member in members for epoch in member.checkpoints}):
        out[name, epoch] = _stacked(
            [member.checkpoints.get(epoch, member.final) for member in members]
        )
    return out


def _stacked(states: Sequence[State]) -> dict[str, FloatArray]:
    arrays = [to_arrays(state) for state in states]
    return {name: np.stack([state[name] for state in arrays]) for name in arrays[0]}


def _history(name: str, members: Sequence[Trained]) -> list[dict[str, float | str]]:
    entries: list[dict[str, float | str]] = []
    for index in range(max(len(member.history) for member in members)):
        reached = [member.history[index][1] for member in members if index < len(member.history)]
        means = {key: float(np.mean([float(m[key]) for m in reached])) for key in reached[0]}
        entries.append({"epoch": float(index + 1), "phase": name, **means})
    return entries


@isolated(gradients=False)
def member_values(
    config: StochasticDiscountFactorConfig,
    sizes: Widths,
    state: Mapping[str, FloatArray],
    cells: Cells,
) -> NDArray[np.float64]:
    """Values of every member's network at every cell, shape (E, R), without dropout."""
    device, dtype = resolve_device(config.device), resolve_dtype(config.dtype)
    rows = rows_of(config, cells)
    context = cells.context
    tensor = None if context is None else to_tensor(context, device=device, dtype=dtype)
    net = WeightNet(sizes, generator(0, device), dtype).eval()
    out = []
    for index in range(len(next(iter(state.values())))):
        load_into(net, {name: value[index] for name, value in state.items()})
        out.append(net.read(rows, tensor).double().cpu().numpy())
    return np.stack(out)
