"""Settings of the models that predict assets directly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

from ml4t.models.checks import require_int, require_real
from ml4t.models.configs.base import BaseModelConfig
from ml4t.models.configs.checkpoints import checkpoint_grid, require_on_grid, require_schedule
from ml4t.models.configs.rules import (
    MOST_WIDE,
    Checkpoint,
    NonNegative,
    OptionalCount,
    Positive,
    StepNumbers,
    Steps,
    TaskType,
    Width,
    optional,
    tuple_of,
)


@dataclass(frozen=True, slots=True)
class AssetPredictionConfig(BaseModelConfig):
    """Settings that every asset prediction model has.

    Attributes
    ----------
    task_type : {"regression", "classification"}
    """

    task_type: TaskType = "regression"


@dataclass(frozen=True, slots=True)
class SAEConfig(AssetPredictionConfig):
    """Settings of `SAEModel`.

    Attributes
    ----------
    bottleneck_dim, aux_hidden_dim : int, default 96
    main_hidden_units : tuple of 4 int, default (896, 448, 448, 256)
    dropout_rates : tuple of 8 float, optional
        Each in [0, 1); None takes the published ones.
    noise_std : float, default 0.035
        Of the noise added to the standardised features in training.
    alpha, aux_weight : float, default 1.0
        Weights of the main and of the auxiliary loss next to the reconstruction's.
    n_epochs : int, default 50
    batch_size : int, optional
        Observations per step; None takes all at once.
    checkpoint_interval : int, optional, default 5
    checkpoint_epochs : tuple of int
        Wins over `checkpoint_interval`.
    default_checkpoint : int or "best", optional
    lr : float, default 1e-4
    """

    model_name: ClassVar[str] = "sae"

    bottleneck_dim: Width = 96
    aux_hidden_dim: Width = 96
    main_hidden_units: Annotated[
        tuple[int, ...], tuple_of(partial(require_int, at_least=1, at_most=MOST_WIDE), length=4)
    ] = (896, 448, 448, 256)
    dropout_rates: Annotated[
        tuple[float, ...] | None,
        optional(tuple_of(partial(require_real, at_least=0.0, below=1.0), length=8)),
    ] = None
    noise_std: NonNegative = 0.035
    alpha: NonNegative = 1.0
    aux_weight: NonNegative = 1.0
    n_epochs: Steps = 50
    batch_size: OptionalCount = None
    checkpoint_interval: OptionalCount = 5
    checkpoint_epochs: StepNumbers = ()
    default_checkpoint: Checkpoint = None
    lr: Positive = 1e-4

    @property
    def checkpoint_grid(self) -> tuple[int, ...]:
        """Epochs to keep."""
        return checkpoint_grid(self.n_epochs, self.checkpoint_interval, self.checkpoint_epochs)

    def _require_consistent(self) -> None:
        require_schedule("checkpoint_epochs", self.checkpoint_epochs, self.n_epochs)
        require_on_grid("default_checkpoint", self.default_checkpoint, self.checkpoint_grid)
