"""Least squares with the weight network: the training of the beta head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from torch.nn import functional

from ml4t.models.stochastic_discount_factor.cells import Widths
from ml4t.models.stochastic_discount_factor.fused_layers import Rows, Workspace
from ml4t.models.stochastic_discount_factor.net import WeightNet
from ml4t.models.stochastic_discount_factor.train import rows_of
from ml4t.models.training.checkpoints import Schedule
from ml4t.models.training.device import generator, spawn, to_tensor
from ml4t.models.training.loop import Phase, adam, run

if TYPE_CHECKING:
    from torch import Tensor

    from ml4t.models.configs import StochasticDiscountFactorConfig
    from ml4t.models.stochastic_discount_factor.cells import Training
    from ml4t.models.training.callbacks import Callback
    from ml4t.models.types.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class Learned:
    """What training came to.

    Attributes
    ----------
    checkpoints : dict of int to dict of str to ndarray
        Parameters by epoch, every array with a leading axis of length 1.
    history : tuple of dict of str to float
        `epoch`, `train_loss`, `val_loss` of every epoch; the last two are equal without validation.
    """

    checkpoints: dict[int, dict[str, FloatArray]]
    history: tuple[dict[str, float], ...]


@dataclass(frozen=True, slots=True)
class _Data:
    rows: Rows
    context: Tensor | None
    target: Tensor

    @classmethod
    def of(
        cls,
        config: StochasticDiscountFactorConfig,
        training: Training,
    ) -> _Data:
        rows = rows_of(config, training.cells)
        like = rows.characteristics
        context = training.cells.context
        return cls(
            rows,
            None if context is None else to_tensor(context, device=like.device, dtype=like.dtype),
            to_tensor(training.returns, device=like.device, dtype=like.dtype),
        )


def learn(
    config: StochasticDiscountFactorConfig,
    train: Training,
    validation: Training | None,
    *,
    listeners: Sequence[Callback] = (),
) -> Learned:
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
    checkpoints = {
        epoch: {name: value.numpy()[None] for name, value in state.items()}
        for epoch, state in trained.checkpoints.items()
    }
    history = []
    for epoch, metrics in trained.history:
        loss = float(metrics["train_loss"])
        later = float(metrics.get("val_loss", metrics["train_loss"]))
        history.append({"epoch": float(epoch), "train_loss": loss, "val_loss": later})
    return Learned(checkpoints, tuple(history))
