"""From a model's settings and batches to trained parameters and weights; needs PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ml4t.models.portfolio.components import Maker
from ml4t.models.portfolio.objective import weights_of, windows_of
from ml4t.models.portfolio.runtime import PortfolioTrainingArtifacts, fit_policy_network
from ml4t.models.training.device import generator, resolve_device, resolve_dtype, to_tensor
from ml4t.models.training.torch_settings import shut_out
from ml4t.models.training.warm_start import begin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from torch import nn

    from ml4t.models.configs.portfolio import NeuralPortfolioConfig
    from ml4t.models.training.callbacks import Callback
    from ml4t.models.training.checkpoints import State
    from ml4t.models.training.warm_start import Resume
    from ml4t.models.types import PortfolioSequenceBatch
    from ml4t.models.types.arrays import FloatArray


def maker(config: NeuralPortfolioConfig) -> Maker:
    """Where the policy's parameters live; drawn on the CPU's stream of the seed."""
    device = resolve_device(config.device)
    return Maker(generator(config.seed, device), device, resolve_dtype(config.dtype))


def learn(
    policy: nn.Module,
    batch: PortfolioSequenceBatch,
    validation_batch: PortfolioSequenceBatch | None,
    config: NeuralPortfolioConfig,
    heard: tuple[Callback, ...],
    resume: Resume | None,
) -> PortfolioTrainingArtifacts:
    """Train a policy on the configured device, from its parameters or from former ones."""
    return fit_policy_network(
        policy,
        batch=batch,
        validation_batch=validation_batch,
        config=config,
        device=resolve_device(config.device),
        listeners=heard,
        resume=begin(policy, resume),
    )


def as_arrays(states: Mapping[int, State]) -> dict[int, dict[str, FloatArray]]:
    """Parameters by step as arrays, in order of the steps."""
    return {
        step: {name: value.numpy() for name, value in states[step].items()}
        for step in sorted(states)
    }


@shut_out(gradients=False)
def weights(
    build: Callable[[Maker], nn.Module],
    state: Mapping[str, FloatArray],
    batch: PortfolioSequenceBatch,
    config: NeuralPortfolioConfig,
) -> NDArray[np.float64]:
    """Weights (B, T, N) of the policy that `build` makes, with the given parameters, in chunks."""
    device, dtype = resolve_device(config.device), resolve_dtype(config.dtype)
    cpu = torch.device("cpu")
    policy = build(maker(config))
    policy.load_state_dict({name: to_tensor(value, device=cpu) for name, value in state.items()})
    policy.eval()
    data = windows_of(
        batch, device=device, dtype=dtype, group_ids=batch.group_ids, costs=batch.costs
    )
    found: list[Any] = []
    for start in range(0, len(data), config.batch_size):
        part = data.take(slice(start, start + config.batch_size))
        found.append(weights_of(policy, part).double().cpu().numpy())
    return np.concatenate(found) if found else np.zeros(batch.features.shape[:3])
