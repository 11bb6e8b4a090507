"""Settings of the stochastic discount factor model and of its beta network."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Any, ClassVar

from ml4t.models.checks import require_int
from ml4t.models.configs.base import BaseModelConfig
from ml4t.models.configs.checkpoints import checkpoint_grid, require_on_grid, require_schedule
from ml4t.models.configs.rules import (
    Checkpoint,
    Members,
    NonNegative,
    OptionalCount,
    Positive,
    Probability,
    StepNumbers,
    Steps,
    WholeNumber,
    Width,
    one_of,
    optional,
    require_checkpoint,
)

KEPT_PHASES = ("unconditional", "conditional")
PHASES = ("unconditional", "moment", "conditional")


def require_label(name: str, value: Any) -> int | str | tuple[str, int]:
    """Be "best", a legacy integer label, or a phase and an epoch of it."""
    if not isinstance(value, (tuple, list)):
        return require_checkpoint(name, value)
    if len(value) != 2:
        raise ValueError(f"{name} must be a phase and an epoch; got {value!r}")
    phase, epoch = value
    if phase not in PHASES:
        raise ValueError(f"{name} phase is invalid: must be one of {PHASES}; got {phase!r}")
    return phase, require_int(f"{name} epoch", epoch, at_least=1)


@dataclass(frozen=True, slots=True)
class StochasticDiscountFactorConfig(BaseModelConfig):
    """Settings of `StochasticDiscountFactorModel` and `StochasticDiscountFactorBetaNetworkHead`.

    Attributes
    ----------
    state_dim_sdf, state_dim_moment : int, default 4 and 32
        States of the two recurrent networks over the context.
    hidden_dim : int, default 64
    n_instruments : int, default 8
        Test functions of the moment network.
    dropout : float, default 0.05
        In [0, 1).
    n_epochs_unc, n_epochs_moment, n_epochs_cond : int, default 256, 64 and 1024
        Epochs of the three phases.
    checkpoint_interval : int, optional
    checkpoint_epochs : tuple of int
        Wins over `checkpoint_interval`; at most `n_epochs_cond`.
    default_checkpoint : "best", (phase, epoch) or int, optional
        An int e is the legacy label of unconditional epoch e up to `n_epochs_unc`, and of
        conditional epoch e - `n_epochs_unc` above.
    beta_state_dim, beta_hidden_dim : int, default 4 and 64
    beta_n_epochs : int, default 256
    beta_checkpoint_interval : int, optional
    beta_checkpoint_epochs : tuple of int
    beta_default_checkpoint : int or "best", optional
    beta_lr : float, default 1e-3
    burn_in_epochs : int, default 0
        Epochs of each phase before anything is kept.
    lr : float, default 1e-3
    weight_decay : float, default 0.0
    n_ensemble : int, default 1
        Members whose weights are averaged.
    validation_loss : {"unconditional", "conditional"}
        What the best conditional epoch is chosen by; the paper's code takes the unconditional one.
    output_mode, expected_return_mapper : str
        Of the class: what the model gives, and what turns it into returns.
    """

    model_name: ClassVar[str] = "stochastic_discount_factor"
    output_mode: ClassVar[str] = "weights"
    expected_return_mapper: ClassVar[str] = "linear"

    state_dim_sdf: Width = 4
    state_dim_moment: Width = 32
    hidden_dim: Width = 64
    n_instruments: Width = 8
    dropout: Probability = 0.05
    n_epochs_unc: Steps = 256
    n_epochs_moment: Steps = 64
    n_epochs_cond: Steps = 1024
    checkpoint_interval: OptionalCount = None
    checkpoint_epochs: StepNumbers = ()
    default_checkpoint: Annotated[int | str | tuple[str, int] | None, optional(require_label)] = (
        None
    )
    beta_state_dim: Width = 4
    beta_hidden_dim: Width = 64
    beta_n_epochs: Steps = 256
    beta_checkpoint_interval: OptionalCount = None
    beta_checkpoint_epochs: StepNumbers = ()
    beta_default_checkpoint: Checkpoint = None
    beta_lr: Positive = 1e-3
    burn_in_epochs: WholeNumber = 0
    lr: Positive = 1e-3
    weight_decay: NonNegative = 0.0
    _: KW_ONLY
    n_ensemble: Members = 1
    validation_loss: Annotated[str, one_of(*KEPT_PHASES)] = "unconditional"

    @property
    def checkpoint_grid(self) -> tuple[tuple[str, int], ...]:
        """Phases and epochs to keep: one grid over the longer phase, cut to each phase."""
        grid = checkpoint_grid(
            max(self.n_epochs_unc, self.n_epochs_cond),
            self.checkpoint_interval,
            self.checkpoint_epochs,
        )
        return tuple(
            (phase, epoch)
            for phase in KEPT_PHASES
            for epoch in grid
            if self.burn_in_epochs < epoch <= self.n_epochs(phase)
        )

    @property
    def beta_checkpoint_grid(self) -> tuple[int, ...]:
        """Epochs of the beta network to keep."""
        return checkpoint_grid(
            self.beta_n_epochs, self.beta_checkpoint_interval, self.beta_checkpoint_epochs
        )

    def n_epochs(self, phase: str) -> int:
        """Give the number of epochs of a phase."""
        totals = (self.n_epochs_unc, self.n_epochs_moment, self.n_epochs_cond)
        return dict(zip(PHASES, totals, strict=True))[phase]

    def legacy_label(self, label: int) -> tuple[str, int]:
        """Read a positive integer label of 0.1.x as a phase and an epoch."""
        if label <= self.n_epochs_unc:
            return "unconditional", label
        return "conditional", label - self.n_epochs_unc

    def _require_consistent(self) -> None:
        require_schedule("checkpoint_epochs", self.checkpoint_epochs, self.n_epochs_cond)
        require_schedule("beta_checkpoint_epochs", self.beta_checkpoint_epochs, self.beta_n_epochs)
        default = self.default_checkpoint
        if isinstance(default, int):
            default = self.legacy_label(default)
        elif isinstance(default, tuple) and default[1] > self.n_epochs(default[0]):
            raise ValueError(
                f"default_checkpoint epoch must be <= {self.n_epochs(default[0])}; got {default[1]}"
            )
        require_on_grid(
            "default_checkpoint", default, self.checkpoint_grid, given=self.default_checkpoint
        )
        require_on_grid(
            "beta_default_checkpoint", self.beta_default_checkpoint, self.beta_checkpoint_grid
        )
