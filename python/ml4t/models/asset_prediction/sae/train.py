"""Training of the supervised autoencoder, and predictions of its parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ml4t.models.asset_prediction.sae import objective
from ml4t.models.asset_prediction.sae.net import PUBLISHED_RATES, Noise, SAENet, Sizes
from ml4t.models.training.batching import shuffled
from ml4t.models.training.checkpoints import Schedule, load_into
from ml4t.models.training.device import generator, resolve_device, resolve_dtype, spawn, to_tensor
from ml4t.models.training.loop import Phase, Trained, adam, run
from ml4t.models.training.torch_settings import isolated
from ml4t.models.training.warm_start import begin

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.configs import SAEConfig
    from ml4t.models.panel.cells import TrainingCells
    from ml4t.models.training.callbacks import Callback
    from ml4t.models.training.warm_start import Resume
    from ml4t.models.types.arrays import FloatArray

# Rows that are evaluated at once.
BLOCK = 4096


@dataclass(frozen=True, slots=True)
class _Data:
    features: Tensor  # (R, L)
    targets: Tensor  # (R, J)
    weights: Tensor  # (R,)

    @classmethod
    def of(cls, config: SAEConfig, sample: TrainingCells) -> _Data:
        device, dtype = resolve_device(config.device), resolve_dtype(config.dtype)
        weights = np.ones(len(sample)) if sample.weights is None else sample.weights
        arrays = (sample.cells.characteristics, sample.targets, weights)
        return cls(*(to_tensor(array, device=device, dtype=dtype) for array in arrays))

    def take(self, rows: Tensor) -> _Data:
        parts = (self.features, self.targets, self.weights)
        return _Data(*(x.index_select(0, rows) for x in parts))

    def blocks(self) -> Iterator[_Data]:
        parts = (torch.split(x, BLOCK) for x in (self.features, self.targets, self.weights))
        for features, targets, weights in zip(*parts, strict=True):
            yield _Data(features, targets, weights)


def sizes_of(config: SAEConfig, n_features: int, n_targets: int) -> Sizes:
    """Widths of the network that a config asks for."""
    return Sizes(
        n_features,
        config.bottleneck_dim,
        config.aux_hidden_dim,
        config.main_hidden_units,
        n_targets,
    )


def learn(
    config: SAEConfig,
    sample: TrainingCells,
    validation: TrainingCells | None,
    *,
    listeners: Sequence[Callback] = (),
    resume: Resume | None = None,
) -> Trained:
    """Train on the cells of a batch.

    Raises
    ------
    ValueError
        With fewer than two rows, which a batch norm needs.
    """
    if len(sample) < 2:
        raise ValueError(
            f"SAEModel needs at least 2 valid observations for its batch norms; got {len(sample)}"
        )
    data = _Data.of(config, sample)
    held_out = None if validation is None else _Data.of(config, validation)
    source = generator(config.seed, data.features.device)
    sizes = sizes_of(config, data.features.shape[1], data.targets.shape[1])
    net = SAENet(sizes, source, data.features.dtype)
    resume = begin(net, resume)
    noise = Noise(spawn(source), config.noise_std, config.dropout_rates or PUBLISHED_RATES)

    def losses(epoch: int) -> Iterator[Tensor]:
        for batch in _minibatches(config, data, epoch):
            yield _loss(config, net, batch, noise)

    phase = Phase(
        name="sae",
        network=net,
        optimizer=adam(net, lr=config.lr),
        losses=losses,
        schedule=Schedule(config.n_epochs, config.checkpoint_grid),
        evaluate=None if held_out is None else partial(_validate, config, net, held_out),
    )
    (trained,) = run([phase], generators=(noise.source,), listeners=listeners, resume=resume)
    return trained


def _minibatches(config: SAEConfig, data: _Data, epoch: int) -> Iterator[_Data]:
    n_rows = len(data.features)
    if config.batch_size is None or config.batch_size >= n_rows:
        yield data
        return
    # Of the epoch alone, so that a resumed run needs nothing to shuffle as before.
    source = generator(config.seed + epoch, data.features.device)
    for index in shuffled(n_rows, max(config.batch_size, 2), source, join_single=True):
        yield data.take(index)


def _loss(config: SAEConfig, net: SAENet, data: _Data, noise: Noise | None) -> Tensor:
    features = data.features.T.contiguous()
    parts = objective.parts(
        net(features, noise),
        features,
        data.targets.T,
        data.weights,
        classification=config.task_type == "classification",
    )
    return parts.total(config.alpha, config.aux_weight)


def _validate(config: SAEConfig, net: SAENet, data: _Data) -> Mapping[str, Tensor]:
    total = data.weights.sum()
    losses = [_loss(config, net, block, None) * block.weights.sum() for block in data.blocks()]
    return {"val_loss": torch.stack(losses).sum() / total}


@isolated(gradients=False)
def predict(
    config: SAEConfig, state: Mapping[str, FloatArray], features: NDArray[Any]
) -> NDArray[np.float64]:
    """Map features (R, L) to the main head, (R, J): probabilities in classification."""
    device, dtype = resolve_device(config.device), resolve_dtype(config.dtype)
    n_features, n_targets = features.shape[1], len(state["main_output.bias"])
    net = SAENet(sizes_of(config, n_features, n_targets), generator(0, device), dtype).eval()
    load_into(net, state)
    rows = to_tensor(features, device=device, dtype=dtype)
    scores = torch.cat([net.predict(block.T).T for block in torch.split(rows, BLOCK)])
    if config.task_type == "classification":
        scores = torch.sigmoid(scores)
    out: NDArray[np.float64] = scores.double().cpu().numpy()
    return out
