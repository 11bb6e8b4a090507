"""Training of a policy on the shared trainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.optim import AdamW

from ml4t.models.portfolio.components import Maker
from ml4t.models.portfolio.objective import Objective, score, weights_of, windows_of
from ml4t.models.training import batching, loop
from ml4t.models.training import device as devices
from ml4t.models.training.checkpoints import Schedule, load_into
from ml4t.models.training.stopping import Better, Patience
from ml4t.models.training.torch_settings import isolated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from ml4t.models.configs.portfolio import NeuralPortfolioConfig, PortfolioConfig
    from ml4t.models.portfolio.objective import Windows
    from ml4t.models.training.callbacks import Callback
    from ml4t.models.training.checkpoints import State
    from ml4t.models.training.run_state import RunState
    from ml4t.models.types import PortfolioSequenceBatch
    from ml4t.models.types.arrays import FloatArray

# The words of the error when it is not finite.
_VALIDATION = "validation Sharpe"
_BEST = "best"


@dataclass(frozen=True, slots=True)
class PortfolioTrainingArtifacts:
    """Result of training a policy.

    Attributes
    ----------
    checkpoint_states : dict of int to State
        Parameters by step, of the grid as far as training went, and of the best step.
    history : tuple of dict
        `step`, `train_objective`, `train_sharpe_pool`, `validation_sharpe_pool`; by evaluation.
    best_step : int
        With the highest validation Sharpe ratio.
    best_validation_sharpe : float
    """

    checkpoint_states: dict[int, State]
    history: tuple[dict[str, float], ...]
    best_step: int
    best_validation_sharpe: float


@isolated(gradients=True)
def fit_policy_network(
    policy: nn.Module,
    *,
    batch: PortfolioSequenceBatch,
    validation_batch: PortfolioSequenceBatch | None,
    config: PortfolioConfig,
    device: torch.device | str,
    listeners: Sequence[Callback] = (),
    resume: RunState | None = None,
) -> PortfolioTrainingArtifacts:
    """Train a policy by AdamW on the robust Sharpe objective.

    One update per step on all windows, or one per minibatch of `batch_size` windows when
    `config.minibatch`. Otherwise `batch_size` only bounds memory.

    Parameters
    ----------
    policy : nn.Module
        Called `policy(features, *, mask, asset_indices, group_ids, costs)`; trained in place.
    batch : PortfolioSequenceBatch
        With returns.
    validation_batch : PortfolioSequenceBatch, optional
        Chooses the best step and stops training; the training batch where None. Groups and costs
        that it lacks are those of the training batch.
    config : PortfolioConfig
    device : torch.device or str
    listeners : sequence of Callback
    resume : RunState, optional

    Returns
    -------
    PortfolioTrainingArtifacts

    Raises
    ------
    FloatingPointError
        When a loss, gradient, parameter or validation Sharpe ratio is not finite, naming the step.
    """
    place: Any = {
        "device": torch.device(device),
        "dtype": devices.resolve_dtype(config.dtype),
    }
    data = windows_of(batch, group_ids=batch.group_ids, costs=batch.costs, **place)
    validation = data
    if validation_batch is not None:
        groups, costs = validation_batch.group_ids, validation_batch.costs
        validation = windows_of(
            validation_batch,
            group_ids=batch.group_ids if groups is None else groups,
            costs=batch.costs if costs is None else costs,
            **place,
        )
    shuffle = devices.generator(config.seed, torch.device("cpu"))
    steps = _Steps(Objective(policy, data, config), shuffle)
    phase = _phase(steps, policy, config, lambda: _pooled_sharpe(policy, validation, config))
    (trained,) = loop.run([phase], generators=[shuffle], listeners=listeners, resume=resume)
    return _artifacts(trained)


def _phase(
    steps: _Steps,
    policy: nn.Module,
    config: PortfolioConfig,
    validation_sharpe: Callable[[], float],
) -> loop.Phase:
    return loop.Phase(
        name=config.model_name,
        network=policy,
        optimizer=AdamW(
            policy.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        ),
        losses=steps.losses,
        report=steps.report,
        schedule=Schedule(total=config.max_iters, grid=config.checkpoint_grid),
        evaluate=lambda: {_VALIDATION: validation_sharpe()},
        evaluate_every=config.eval_every,
        keep_best={_BEST: Better(_VALIDATION, "max")},
        patience=Patience(
            (Better(_VALIDATION, "max", min_delta=config.metric_min_delta),),
            limit=config.early_stopping_patience,
            burn_in=max(config.early_stopping_burn_in_iters - 1, 0),
            smoothing=config.metric_ema_alpha,
        ),
        max_grad_norm=config.max_grad_norm,
        unit="step",
    )


@isolated(gradients=False)
def evaluate_pooled_sharpe(
    policy: nn.Module,
    batch: PortfolioSequenceBatch,
    *,
    group_ids: Tensor | NDArray[np.int64] | None,
    costs: Tensor | NDArray[Any] | None,
    config: PortfolioConfig,
    device: torch.device | str,
) -> float:
    """Pooled net Sharpe ratio of a policy's weights, after the burn-in, without dropout.

    Parameters
    ----------
    policy : nn.Module
    batch : PortfolioSequenceBatch
        With returns.
    group_ids : shape (N,), or None
    costs : shape (N,) or (N, 1), or None
    config : PortfolioConfig
    device : torch.device or str

    Returns
    -------
    float
        Annualised.
    """
    data = windows_of(
        batch,
        device=torch.device(device),
        dtype=devices.resolve_dtype(config.dtype),
        group_ids=_array(group_ids),
        costs=_array(costs),
    )
    return _pooled_sharpe(policy, data, config)


@isolated(gradients=False)
def predicted_weights(
    build: Callable[[Maker], nn.Module],
    state: Mapping[str, FloatArray],
    batch: PortfolioSequenceBatch,
    config: NeuralPortfolioConfig,
) -> NDArray[np.float64]:
    """Weights (B, T, N) of the policy that `build` makes, with the given parameters, in chunks."""
    policy = build(Maker.of(config))
    load_into(policy, state)
    policy.eval()
    data = windows_of(
        batch,
        device=devices.resolve_device(config.device),
        dtype=devices.resolve_dtype(config.dtype),
        group_ids=batch.group_ids,
        costs=batch.costs,
    )
    weights: list[Any] = []
    for start in range(0, len(data), config.batch_size):
        part = data.take(slice(start, start + config.batch_size))
        weights.append(weights_of(policy, part).double().cpu().numpy())
    return np.concatenate(weights) if weights else np.zeros(batch.features.shape[:3])


def _pooled_sharpe(policy: nn.Module, data: Windows, config: PortfolioConfig) -> float:
    was_training = policy.training
    policy.eval()
    try:
        net = torch.cat(list(Objective(policy, data, config).net_returns()))
        return float(score(net, config, data.observed).sharpe_pool)
    finally:
        policy.train(was_training)


class _Steps:
    """Updates of every step, and the objective of the last one."""

    def __init__(self, objective: Objective, shuffle: torch.Generator) -> None:
        self._objective, self._shuffle = objective, shuffle
        self._minibatch = bool(getattr(objective.config, "minibatch", False))
        self._updates: list[tuple[int, float, float]] = []

    def losses(self, step: int) -> Iterator[Tensor]:
        """Yield the loss of all windows, or of one minibatch after the other that has a return."""
        n_windows, size = len(self._objective.data), self._objective.config.batch_size
        self._updates = []
        parts: Iterator[Tensor] = iter([torch.arange(n_windows)])
        if self._minibatch and size < n_windows:
            parts = batching.shuffled(n_windows, size, self._shuffle)
        for part in filter(self._objective.counts, parts):
            output = self._objective.loss(step, part)
            values = float(output.objective.detach()), float(output.sharpe_pool.detach())
            self._updates.append((len(part), *values))
            yield output.loss

    def report(self) -> dict[str, Tensor]:
        """Means over the updates of the step."""
        tradable = torch.tensor(self._updates, dtype=torch.float64)
        objective, sharpe = (tradable[:, :1] * tradable[:, 1:]).sum(dim=0) / tradable[:, 0].sum()
        return {"train_objective": objective, "train_sharpe_pool": sharpe}


def _artifacts(trained: loop.Trained) -> PortfolioTrainingArtifacts:
    best = trained.best[_BEST]
    step = int(best.epoch)
    history = tuple(
        {
            "step": float(epoch),
            "train_objective": float(metrics["train_objective"]),
            "train_sharpe_pool": float(metrics["train_sharpe_pool"]),
            "validation_sharpe_pool": float(metrics[_VALIDATION]),
        }
        for epoch, metrics in trained.history
        if _VALIDATION in metrics
    )
    states = dict(trained.checkpoints) | {step: best.state}
    return PortfolioTrainingArtifacts(states, history, step, float(best.value))


def _array(value: Tensor | NDArray[Any] | None) -> NDArray[Any] | None:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value


__all__ = [
    "AdamW",
    "PortfolioTrainingArtifacts",
    "evaluate_pooled_sharpe",
    "fit_policy_network",
]
