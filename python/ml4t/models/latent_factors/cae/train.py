"""Training of the conditional autoencoder; betas and factors of its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ml4t.models.latent_factors.cae import ensemble, objective
from ml4t.models.latent_factors.cae.fused_ensemble import Workspace
from ml4t.models.latent_factors.cae.net import CAENet, Moments, Sizes
from ml4t.models.latent_factors.cae.objective import BLOCK, Rows
from ml4t.models.latent_factors.cae.sample import complete
from ml4t.models.training.batching import shuffled
from ml4t.models.training.checkpoints import Schedule, load_into, to_arrays
from ml4t.models.training.device import generator, resolve_device, resolve_dtype, to_tensor
from ml4t.models.training.loop import Phase, Trained, adam, run
from ml4t.models.training.stopping import Better, Patience
from ml4t.models.training.torch_settings import isolated
from ml4t.models.training.warm_start import begin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from ml4t.models.configs import CAEConfig
    from ml4t.models.panel.cells import Cells, TrainingCells
    from ml4t.models.training.callbacks import Callback
    from ml4t.models.training.warm_start import Resume
    from ml4t.models.types.arrays import FloatArray

BEST = "validation_best"
# Cells on which members are compared; more would not turn their bases.
ALIGNMENT_CELLS = 20_000


@dataclass(frozen=True, slots=True)
class Learned:
    """Result of training.

    Attributes
    ----------
    checkpoints : dict of int to dict of str to ndarray
        Parameters by epoch, every array with a leading member axis E; 0 is the best by validation.
    bases : dict of int to ndarray, shape (E, K, K)
    history : tuple of dict of str to float or str
    best_validation_loss : float or None
        Mean over members.
    skipped_updates : int
    stopped_early : bool
        Every member stopped before the last epoch.
    """

    checkpoints: dict[int, dict[str, FloatArray]]
    bases: dict[int, NDArray[np.float64]]
    history: tuple[dict[str, float | str], ...]
    best_validation_loss: float | None
    skipped_updates: int
    stopped_early: bool


def learn(
    config: CAEConfig,
    cells: TrainingCells,
    inputs: NDArray[np.float64],
    validation: tuple[TrainingCells, NDArray[np.float64]] | None,
    *,
    patience: int,
    listeners: Sequence[Callback] = (),
    resume: Resume | None = None,
) -> Learned:
    """Train all members together.

    Parameters
    ----------
    config : CAEConfig
    cells : TrainingCells
        With a constant.
    inputs : ndarray, shape (T, P)
    validation : (TrainingCells, ndarray), optional
    patience : int
        Epochs without a better validation loss after which a member stops.
    listeners : sequence of Callback
    resume : RunState or mapping of str to ndarray, optional

    Raises
    ------
    ValueError
        When batches of one row leave nothing to update.
    """
    device, dtype = resolve_device(config.device), resolve_dtype(config.dtype)
    n_chars = cells.cells.characteristics.shape[1] - 1
    sizes = Sizes(n_chars, inputs.shape[1], config.hidden_units, config.n_factors)
    seeds = range(config.seed, config.seed + config.n_ensemble)
    net = CAENet(sizes, seeds, device=device, dtype=dtype)
    resume = begin(net, resume)
    trainer = _Trainer(config, net, _rows(cells, inputs, device, dtype))
    held_out = None if validation is None else _rows(*validation, device, dtype)
    (trained,) = run(
        [trainer.phase(held_out, patience)],
        generators=(trainer.shuffle,),
        listeners=listeners,
        resume=resume,
    )
    best = trained.best.get(BEST)
    checkpoints = {} if best is None else {0: to_arrays(best.state)}
    checkpoints |= trained.arrays()
    bases = {epoch: _bases(net, state, trainer.rows) for epoch, state in checkpoints.items()}
    return Learned(
        checkpoints,
        bases,
        _history(trained, config.checkpoint_grid),
        None if best is None else float(best.value.mean()),
        trainer.skipped_per_epoch * len(trained.history) * config.n_ensemble,
        len(trained.history) < config.n_epochs,
    )


def _rows(
    cells: TrainingCells, inputs: NDArray[np.float64], device: torch.device, dtype: torch.dtype
) -> Rows:
    return Rows(
        to_tensor(cells.cells.characteristics, device=device, dtype=dtype),
        to_tensor(cells.targets, device=device, dtype=dtype),
        to_tensor(cells.cells.dates, device=device),
        # A date without inputs has no cells; zero is never read.
        to_tensor(np.where(complete(inputs)[:, None], inputs, 0.0), device=device, dtype=dtype),
    )


class _Trainer:
    """Losses of the minibatches, all members on the same rows in the same order."""

    def __init__(self, config: CAEConfig, net: CAENet, rows: Rows) -> None:
        self.config, self.net, self.rows = config, net, rows
        # The order of rows does not depend on the seed: members share it, and each has the batches
        # that it would have alone.
        self.shuffle = generator(0, rows.design.device)
        n_rows, size = len(rows.design), config.batch_size
        self._whole = self._moments(rows) if n_rows <= size else None
        self._space = rows.like(min(size, n_rows))
        self._activations = Workspace()
        single = bool(config.hidden_units) and (n_rows % size == 1 or size == 1)
        self.skipped_per_epoch = (n_rows if size == 1 else 1) if single else 0
        if (single and n_rows <= size) or (single and size == 1):
            raise ValueError(
                f"CAEModel updated no parameters: a batch norm needs batches of at least 2 rows; "
                f"got {n_rows} rows and batch_size={size}"
            )

    def phase(self, validation: Rows | None, patience: int) -> Phase:
        """Minibatch regression with early stopping."""
        better = Better("val_loss")
        classification = self.config.task_type == "classification"
        return Phase(
            name="cae",
            network=self.net,
            optimizer=adam(self.net, lr=self.config.lr),
            losses=self._losses,
            schedule=Schedule(self.config.n_epochs, self.config.checkpoint_grid),
            members=self.config.n_ensemble,
            evaluate=None
            if validation is None
            else lambda: {
                "val_loss": objective.validation_loss(
                    self.net, validation, classification=classification
                )
            },
            keep_best={} if validation is None else {BEST: better},
            patience=None if validation is None else Patience((better,), limit=patience),
        )

    def _losses(self, _epoch: int) -> Iterator[Tensor]:
        if len(self.rows.design) <= self.config.batch_size:
            yield self._loss(self.rows, self._whole)
            return
        for index in shuffled(len(self.rows.design), self.config.batch_size, self.shuffle):
            if len(index) == 1 and self.config.hidden_units:
                continue
            rows = self.rows.take(index, self._space)
            yield self._loss(rows, self._moments(rows))

    def _moments(self, rows: Rows) -> Moments | None:
        """Moments of the first batch norm, which the members of an ensemble share."""
        shared = self.config.n_ensemble > 1 and self.config.hidden_units
        return Moments.of(rows.design) if shared else None

    def _loss(self, rows: Rows, moments: Moments | None) -> Tensor:
        classification = self.config.task_type == "classification"
        fit = objective.mean_error(
            self.net,
            rows,
            moments,
            classification=classification,
            workspace=self._activations,
        )
        if self.config.lambda_l1 == 0.0:
            return fit
        return fit + self.config.lambda_l1 * objective.penalty(self.net, self.config.l1_scope)


def _history(trained: Trained, grid: tuple[int, ...]) -> tuple[dict[str, float | str], ...]:
    entries: list[dict[str, float | str]] = [
        {"epoch": float(epoch), "train_loss": float(metrics["train_loss"].mean())}
        for epoch, metrics in trained.history
        if epoch in grid
    ]
    if BEST in trained.best:
        loss = float(trained.best[BEST].value.mean())
        entries.append({"epoch": 0.0, "checkpoint": BEST, "val_loss": loss})
    return tuple(entries)


@torch.no_grad()
def _bases(net: CAENet, state: Mapping[str, FloatArray], rows: Rows) -> NDArray[np.float64]:
    """Bring the members of a checkpoint to a common basis, over the training cells."""
    n_members, n_factors = len(net.factor_weight), net.sizes.n_factors
    if n_members == 1:
        return np.eye(n_factors)[None]
    load_into(net, state)
    net.eval()
    some = rows.design[:: max(1, len(rows.design) // ALIGNMENT_CELLS)]
    size = n_members * n_factors
    gram = torch.zeros(size, size, dtype=torch.float64, device="cpu")
    for block in torch.split(some, BLOCK):
        betas = net.betas(block).flatten(0, 1).double()
        gram += (betas @ betas.T).cpu()
    factors = net.factors(rows.inputs[torch.unique(rows.dates)]).double()
    moments = (factors @ factors.transpose(1, 2) / factors.shape[2]).cpu().numpy()
    shape = (n_members, n_factors, n_members, n_factors)
    return ensemble.common_bases((gram / len(some)).numpy().reshape(shape), moments)


def network(config: CAEConfig, state: Mapping[str, FloatArray]) -> CAENet:
    """Rebuild the network of a checkpoint."""
    device, dtype = resolve_device(config.device), resolve_dtype(config.dtype)
    n_members, n_factors, n_inputs = state["factor_weight"].shape
    first = "weight_0" if config.hidden_units else "output_weight"
    sizes = Sizes(state[first].shape[2], n_inputs, config.hidden_units, n_factors)
    net = CAENet(sizes, [0] * n_members, device=device, dtype=dtype)
    load_into(net, state)
    return net.eval()


@isolated(gradients=False)
def member_betas(net: CAENet, cells: Cells) -> NDArray[np.float64]:
    """Betas of every member at every cell, shape (E, R, K)."""
    like = net.factor_weight
    n_members, n_factors, _ = like.shape
    out = np.empty((n_members, len(cells.characteristics), n_factors))
    start = 0
    for block in torch.split(
        to_tensor(cells.characteristics, device=like.device, dtype=like.dtype), BLOCK
    ):
        betas = net.betas(block).transpose(1, 2).double().cpu().numpy()
        out[:, start : start + len(block)] = betas
        start += len(block)
    return out


@isolated(gradients=False)
def member_factors(net: CAENet, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Factors of every member at every date, shape (E, T, K); NaN where an input is missing."""
    like = net.factor_weight
    finite = complete(inputs)
    clean = np.where(finite[:, None], inputs, 0.0)
    tensor = to_tensor(clean, device=like.device, dtype=like.dtype)
    out = net.factors(tensor).transpose(1, 2).double().cpu().numpy()
    return np.where(finite[None, :, None], out, np.nan)
