"""Least squares with the weight network: the training of the beta head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from torch.nn import functional

from ml4t.models.stochastic_discount_factor.fused_layers import Rows, Workspace
from ml4t.models.stochastic_discount_factor.net import WeightNet, Widths
from ml4t.models.stochastic_discount_factor.train import rows_of
from ml4t.models.training.checkpoints import Schedule
from ml4t.models.training.device import generator, spawn, to_tensor
from ml4t.models.training.loop import Phase, Trained, adam, run

if TYPE_CHECKING:
    from torch import Tensor

    from ml4t.models.configs import StochasticDiscountFactorConfig
    from ml4t.models.panel.cells import TrainingCells
    from ml4t.models.training.callbacks import Callback


@dataclass(frozen=True, slots=True)
class _Data:
    rows: Rows
    context: Tensor | None
    target: Tensor

    @classmethod
    def of(
        cls,
        config: StochasticDiscountFactorConfig,
        training: TrainingCells,
    ) -> _Data:
        rows = rows_of(config, training.cells)
        like = rows.characteristics
        context = training.cells.context
        return cls(
            rows,
            None if context is None else to_tensor(context, device=like.device, dtype=like.dtype),
            to_tensor(training.targets, device=like.device, dtype=like.dtype),
        )


def learn(
    config: StochasticDiscountFactorConfig,
    train: TrainingCells,
    validation: TrainingCells | None,
    *,
    listeners: Sequence[Callback] = (),
) -> Trained:
    """Fit targets, given in place of returns, by full-batch least squares with dropout."""
    data = _Data.of(config, train)
    held_out = None if validation is None else _Data.of(config, validation)
    source = generator(config.seed, data.target.device)
    n_context = 0 if data.context is None else data.context.shape[1]
    n_chars = data.rows.characteristics.shape[1]
    sizes = Widths(n_chars, n_context, config.beta_state_dim, config.beta_hidden_dim)
    net = WeightNet(sizes, source, data.target.dtype)
    noise, workspace = spawn(source), Workspace()

    def losses(_epoch: int) -> Iterator[Tensor]:
        got = net.train_on(data.rows, data.context, workspace, rate=config.dropout, source=noise)
        yield functional.mse_loss(got, data.target)

    def evaluate(held_out: _Data) -> dict[str, Tensor]:
        got = net.read(held_out.rows, held_out.context)
        return {"val_loss": functional.mse_loss(got, held_out.target)}

    phase = Phase(
        name="beta",
        network=net,
        optimizer=adam(net, lr=config.beta_lr),
        losses=losses,
        schedule=Schedule(config.beta_n_epochs, config.beta_checkpoint_grid),
        evaluate=None if held_out is None else partial(evaluate, held_out),
    )
    (trained,) = run([phase], generators=(noise,), listeners=listeners)
    return trained
