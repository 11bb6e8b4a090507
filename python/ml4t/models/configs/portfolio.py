"""Settings of the models that learn portfolio weights."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Annotated, ClassVar, TypeAlias

from ml4t.models.configs.base import BaseModelConfig
from ml4t.models.configs.checkpoints import checkpoint_grid, require_on_grid, require_schedule
from ml4t.models.configs.rules import (
    Checkpoint,
    Count,
    Flag,
    Layers,
    NonNegative,
    OptionalCount,
    OptionalPositive,
    Positive,
    PositiveShare,
    Probability,
    Real,
    StepNumbers,
    Steps,
    WholeNumber,
    Width,
    one_of,
)

Head = Annotated[str, one_of("tanh", "long_short", "long_only")]


@dataclass(frozen=True, slots=True)
class PortfolioConfig(BaseModelConfig):
    """Settings that every portfolio model has.

    Attributes
    ----------
    turnover_penalty : float, default 0.0
        Per unit traded, on top of the costs.
    dropout : float, default 0.1
        In [0, 1).
    asset_embedding_dim, group_embedding_dim : int, default 8 and 4
    use_group_embedding, use_cost_in_context : bool, default False
    vvsn_hidden_dim : int, default 64
        Width of the variable selection.
    batch_size : int, default 16
        Windows per forward pass.
    learning_rate, weight_decay, max_grad_norm : float, default 1e-4, 1e-4 and 1.0
    annualization_factor : float, default 252.0
        Periods per year.
    sharpe_eps : float, default 1e-8
        Added to the variance of returns.
    gamma_cost : float, default 0.5
        Weight of the costs.
    softmin_tau, softmin_lambda : float, default 0.2 and 0.1
        Temperature and weight of the softest of the windows' Sharpe ratios.
    burn_in : int, default 0
        First periods of a window that the objective leaves out.
    max_iters, eval_every : int, default 200 and 10
    metric_ema_alpha : float, default 0.45
        In (0, 1]: weight of the newest validation Sharpe ratio.
    metric_min_delta : float, default 0.001
    early_stopping_patience, early_stopping_burn_in_iters : int, default 20
    checkpoint_every : int, optional, default 10
    checkpoint_steps : tuple of int
        Wins over `checkpoint_every`.
    default_checkpoint : int or "best", optional
    """

    model_name: ClassVar[str] = "portfolio_model"

    turnover_penalty: NonNegative = 0.0
    dropout: Probability = 0.1
    asset_embedding_dim: Width = 8
    group_embedding_dim: Width = 4
    use_group_embedding: Flag = False
    use_cost_in_context: Flag = False
    vvsn_hidden_dim: Width = 64
    batch_size: Count = 16
    learning_rate: Positive = 1e-4
    weight_decay: NonNegative = 1e-4
    max_grad_norm: Positive = 1.0
    annualization_factor: Positive = 252.0
    sharpe_eps: Positive = 1e-8
    gamma_cost: NonNegative = 0.5
    softmin_tau: Positive = 0.2
    softmin_lambda: NonNegative = 0.1
    burn_in: WholeNumber = 0
    max_iters: Steps = 200
    eval_every: Count = 10
    metric_ema_alpha: PositiveShare = 0.45
    metric_min_delta: NonNegative = 0.001
    early_stopping_patience: Count = 20
    early_stopping_burn_in_iters: WholeNumber = 20
    checkpoint_every: OptionalCount = 10
    checkpoint_steps: StepNumbers = ()
    default_checkpoint: Checkpoint = None

    @property
    def checkpoint_grid(self) -> tuple[int, ...]:
        """Steps to keep."""
        return checkpoint_grid(self.max_iters, self.checkpoint_every, self.checkpoint_steps)

    def _require_consistent(self) -> None:
        require_schedule("checkpoint_steps", self.checkpoint_steps, self.max_iters)
        require_on_grid("default_checkpoint", self.default_checkpoint, self.checkpoint_grid)


@dataclass(frozen=True, slots=True)
class LinearPortfolioConfig(PortfolioConfig):
    """Settings of `LinearFeaturePortfolioModel`.

    Attributes
    ----------
    ridge_alpha : float, default 1e-4
        On everything but the intercept.
    fit_intercept : bool, default True
    gross_exposure : float, default 1.0
        Sum of absolute weights.
    net_exposure : float, default 0.0
        Sum of weights; within the gross exposure.
    max_abs_weight : float, optional
    """

    model_name: ClassVar[str] = "linear_portfolio"

    ridge_alpha: NonNegative = 1e-4
    fit_intercept: Flag = True
    gross_exposure: Positive = 1.0
    net_exposure: Real = 0.0
    max_abs_weight: OptionalPositive = None

    @property
    def checkpoint_grid(self) -> tuple[int, ...]:
        """The one step of a regression."""
        return (1,)

    def _require_consistent(self) -> None:
        # Not super(): a dataclass with slots is a second class, which super() does not know.
        PortfolioConfig._require_consistent(self)
        if abs(self.net_exposure) > self.gross_exposure:
            raise ValueError(
                f"net_exposure must be within ±gross_exposure={self.gross_exposure}; "
                f"got {self.net_exposure}"
            )


@dataclass(frozen=True, slots=True)
class LSTMPortfolioConfig(PortfolioConfig):
    """Settings of `LSTMPortfolioModel`.

    Attributes
    ----------
    hidden_size : int, default 64
    n_layers : int, default 1
    minibatch : bool, default False
        Step on `batch_size` windows at a time instead of on all.
    head : "tanh", "long_short" or "long_only", default "tanh"
        `tanh`: every weight within ±1 on its own. The others have exact gross exposure: demeaned
        and scaled with net exposure 0, or a softmax.
    gross_exposure : float, default 1.0
        Of the heads with exact gross exposure.
    """

    model_name: ClassVar[str] = "lstm_portfolio"

    hidden_size: Width = 64
    n_layers: Layers = 1
    _: KW_ONLY
    minibatch: Flag = False
    head: Head = "tanh"
    gross_exposure: Positive = 1.0


@dataclass(frozen=True, slots=True)
class DeepPortfolioConfig(PortfolioConfig):
    """Settings of `DeepPortfolioModel`.

    Attributes
    ----------
    d_model : int, default 64
        Divisible by each of the three numbers of heads.
    n_heads, cross_attention_heads, macro_gnn_heads : int, default 2
    lstm_layers, temporal_mha_layers : int, default 1
    cross_attention_lag : int, default 1
        Periods by which assets see each other late.
    adapter_hidden_mult : int, default 2
    minibatch : bool, default False
        Step on `batch_size` windows at a time instead of on all.
    head : "tanh", "long_short" or "long_only", default "tanh"
        `tanh`: every weight within ±1 on its own. The others have exact gross exposure: demeaned
        and scaled with net exposure 0, or a softmax.
    gross_exposure : float, default 1.0
        Of the heads with exact gross exposure.
    """

    model_name: ClassVar[str] = "deep_portfolio"

    d_model: Width = 64
    n_heads: Width = 2
    lstm_layers: Layers = 1
    temporal_mha_layers: Layers = 1
    cross_attention_heads: Width = 2
    cross_attention_lag: WholeNumber = 1
    macro_gnn_heads: Width = 2
    adapter_hidden_mult: Layers = 2
    _: KW_ONLY
    minibatch: Flag = False
    head: Head = "tanh"
    gross_exposure: Positive = 1.0

    def _require_consistent(self) -> None:
        PortfolioConfig._require_consistent(self)
        for name in ("n_heads", "cross_attention_heads", "macro_gnn_heads"):
            if self.d_model % getattr(self, name):
                raise ValueError(
                    f"d_model must be divisible by {name}={getattr(self, name)}; got {self.d_model}"
                )


NeuralPortfolioConfig: TypeAlias = LSTMPortfolioConfig | DeepPortfolioConfig
