"""Settings of the latent factor models."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Annotated, ClassVar

from ml4t.models.checks import require_int
from ml4t.models.configs.base import BaseModelConfig
from ml4t.models.configs.checkpoints import checkpoint_grid, require_on_grid, require_schedule
from ml4t.models.configs.rules import (
    MOST_WIDE,
    Checkpoint,
    Count,
    Flag,
    Labels,
    Members,
    NonNegative,
    OptionalCount,
    Positive,
    Real,
    Share,
    StepNumbers,
    Steps,
    TaskType,
    Width,
    Widths,
    one_of,
)


@dataclass(frozen=True, slots=True)
class LatentFactorConfig(BaseModelConfig):
    """Settings that every latent factor model has.

    Attributes
    ----------
    n_factors : int, default 5
        K.
    persistent_entities : bool
        Of the class: whether the assets must be the same at every date.
    """

    persistent_entities: ClassVar[bool] = False

    n_factors: Width = 5


@dataclass(frozen=True, slots=True)
class PCAConfig(LatentFactorConfig):
    """Settings of `PCAModel`.

    Attributes
    ----------
    missing : {"em", "mean"}
        What becomes of a missing return: the factors complete it, so that what is observed alone
        decides loadings and factors; or it counts as its asset's mean, as in 0.1.x, which shrinks
        the loadings of an asset by the share that is missing.
    """

    model_name: ClassVar[str] = "pca"
    persistent_entities: ClassVar[bool] = True

    _: KW_ONLY
    missing: Annotated[str, one_of("em", "mean")] = "em"


@dataclass(frozen=True, slots=True)
class RPPCAConfig(LatentFactorConfig):
    r"""Settings of `RPPCAModel`.

    Attributes
    ----------
    gamma : float, default 0.0
        Weight :math:`\gamma` of the squared means next to the second moments; may be negative.
    base_moment : {"second_moment", "covariance"}
    scale_by_asset_volatility : bool, default False
        Work on returns divided by each asset's standard deviation.
    normalize_loadings : {"unit_length", "variance"}
    orthogonalize_factors : bool, default False
    """

    model_name: ClassVar[str] = "rp_pca"
    persistent_entities: ClassVar[bool] = True

    gamma: Real = 0.0
    base_moment: Annotated[str, one_of("covariance", "second_moment")] = "second_moment"
    scale_by_asset_volatility: Flag = False
    normalize_loadings: Annotated[str, one_of("unit_length", "variance")] = "unit_length"
    orthogonalize_factors: Flag = False


@dataclass(frozen=True, slots=True)
class IPCAConfig(LatentFactorConfig):
    """Settings of `IPCAModel`.

    Attributes
    ----------
    n_factors : int, default 5
        K; 0 leaves observed factors, or the intercept, alone.
    max_iter : int, default 10000
        Sweeps of alternating least squares.
    tol : float, default 1e-6
        Relative change at which the estimate counts as converged.
    factor_ridge, gamma_ridge : float, default 1e-6
        Relative to the scale of the instruments.
    intercept : bool, default False
        Estimate an alpha that is linear in the instruments.
    weighting : {"panel", "portfolio"}
        Minimise the errors of the assets, or of the managed portfolios.
    constant : bool, default True
        Put a constant before the characteristics.
    min_assets : int, default 2
        Dates with fewer usable assets are left out.
    missing : {"skip", "median"}
        What becomes of a row with a missing characteristic: it does not count, or the gap takes the
        median of its date (0 where none is known). Rows are those that the mask admits or, without
        a mask, those with some characteristic. Moments were taken by a policy of their own.
    normalization : {"orthonormal", "identity"}
        Orthonormal loadings, factors uncorrelated about zero with means of at least zero; or
        loadings that are the identity on `identity_on`.
    identity_on : tuple of str or int, length K
        Instruments by name, or by row of Gamma, for `normalization="identity"`.
    n_starts : int, default 1
        Estimate from so many starts, all but the first random by `seed`; the best one wins.
    penalty : float, default 0.0
        Elastic net on the slopes of each instrument, 0 for none; free of the scale of returns,
        factors and characteristics (docs/decisions.md has the formula).
    l1_ratio : float, default 0.5
        Share of the lasso in it: 0 is ridge, 1 the group lasso, which drops characteristics.
    """

    model_name: ClassVar[str] = "ipca"

    n_factors: Annotated[int, partial(require_int, at_least=0, at_most=MOST_WIDE)] = 5
    max_iter: Count = 10_000
    tol: Positive = 1e-6
    factor_ridge: NonNegative = 1e-6
    gamma_ridge: NonNegative = 1e-6
    _: KW_ONLY
    intercept: Flag = False
    weighting: Annotated[str, one_of("panel", "portfolio")] = "panel"
    constant: Flag = True
    min_assets: Count = 2
    missing: Annotated[str, one_of("skip", "median")] = "skip"
    normalization: Annotated[str, one_of("orthonormal", "identity")] = "orthonormal"
    identity_on: Labels = ()
    n_starts: Members = 1
    penalty: NonNegative = 0.0
    l1_ratio: Share = 0.5

    def _require_consistent(self) -> None:
        wanted = self.n_factors if self.normalization == "identity" else 0
        if len(self.identity_on) != wanted:
            raise ValueError(
                f"identity_on must name {wanted} instruments with "
                f"normalization={self.normalization!r} and n_factors={self.n_factors}; "
                f"got {self.identity_on}"
            )


@dataclass(frozen=True, slots=True)
class CAEConfig(LatentFactorConfig):
    """Settings of `CAEModel`.

    Attributes
    ----------
    task_type : {"regression", "classification"}
    hidden_units : tuple of int, default (32,)
        Widths of the hidden layers of the beta network; may be empty.
    n_ensemble : int, default 1
    n_epochs : int, default 50
    checkpoint_interval : int, optional, default 5
    checkpoint_epochs : tuple of int
        Wins over `checkpoint_interval`.
    default_checkpoint : int or "best", optional
    lr : float, default 1e-3
    lambda_l1 : float, default 1e-4
    batch_size : int, default 10000
        Observations per step.
    factor_inputs : {"managed", "context"}
        What the factor network sees: returns of managed portfolios, or context features.
    l1_scope : {"beta_hidden", "beta", "factor", "all"}
        Weight matrices under the penalty: the hidden layers of the beta network, all of its
        layers, those of the factor network, or those of both networks.
    """

    model_name: ClassVar[str] = "cae"

    task_type: TaskType = "regression"
    hidden_units: Widths = (32,)
    n_ensemble: Members = 1
    n_epochs: Steps = 50
    checkpoint_interval: OptionalCount = 5
    checkpoint_epochs: StepNumbers = ()
    default_checkpoint: Checkpoint = None
    lr: Positive = 1e-3
    lambda_l1: NonNegative = 1e-4
    batch_size: Count = 10_000
    _: KW_ONLY
    factor_inputs: Annotated[str, one_of("managed", "context")] = "managed"
    l1_scope: Annotated[str, one_of("beta_hidden", "beta", "factor", "all")] = "beta_hidden"

    @property
    def checkpoint_grid(self) -> tuple[int, ...]:
        """Epochs to keep."""
        return checkpoint_grid(self.n_epochs, self.checkpoint_interval, self.checkpoint_epochs)

    def _require_consistent(self) -> None:
        require_schedule("checkpoint_epochs", self.checkpoint_epochs, self.n_epochs)
        require_on_grid("default_checkpoint", self.default_checkpoint, self.checkpoint_grid)
