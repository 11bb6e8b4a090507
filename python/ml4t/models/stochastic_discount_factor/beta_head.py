"""Beta head: betas of assets on the discount factor's portfolio, as a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ml4t.models.checks import require_shape, require_type
from ml4t.models.configs import StochasticDiscountFactorConfig
from ml4t.models.lifecycle.estimator import Estimated
from ml4t.models.panel import masks, matching
from ml4t.models.panel.cells import context_width, gather, gather_training, require_width
from ml4t.models.stochastic_discount_factor.base import require_states
from ml4t.models.training.callbacks import Callback, listeners
from ml4t.models.training.neural import (
    Neural,
    choose_checkpoint,
    lowest_loss,
    regression_summary,
)
from ml4t.models.training.optional_torch import require_torch
from ml4t.models.types import (
    AssetSignalResult,
    CrossSectionBatch,
    FitSummary,
    StochasticDiscountFactorState,
)
from ml4t.models.types.arrays import FloatArray

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.panel.cells import TrainingCells

MODEL = "StochasticDiscountFactorBetaNetworkHead"
SIGNAL = "stochastic_discount_factor_beta"
MIN_SCALE = 1e-12


@dataclass(frozen=True, slots=True)
class BetaNetworkFit:
    """Fitted parameters of `StochasticDiscountFactorBetaNetworkHead`.

    Attributes
    ----------
    asset_ids : tuple of str
    n_characteristics, n_context : int
        L and Q.
    checkpoints : dict of int to dict of str to ndarray
        Parameters by epoch; every array has a leading axis of length 1.
    f_hat_scale : float
        Standard deviation of the factor, by which targets were divided.
    best_epoch : int
    """

    asset_ids: tuple[str, ...]
    n_characteristics: int
    n_context: int
    checkpoints: dict[int, dict[str, FloatArray]]
    f_hat_scale: float
    best_epoch: int

    def __post_init__(self) -> None:
        """Raise `ValueError` without checkpoints; `load` relies on it."""
        require_states(self.checkpoints, self.n_characteristics)


class StochasticDiscountFactorBetaNetworkHead(
    Neural[StochasticDiscountFactorConfig, BetaNetworkFit]
):
    r"""Betas on the discount factor's portfolio :math:`F_t = 1 - M_t`, as a network.

    .. math:: \beta(I_t, z_{it}) \approx E_t[R_{i,t+1}F_{t+1}] / \sigma(F)

    Parameters
    ----------
    config : StochasticDiscountFactorConfig
        The `beta_` settings, `dropout`, `seed`, `device` and `dtype` are used.

    References
    ----------
    Chen, Pelger and Zhu (2024), Deep Learning in Asset Pricing, Management Science 70(2).
    """

    config_type: ClassVar[type] = StochasticDiscountFactorConfig
    fit_type: ClassVar[type] = BetaNetworkFit

    def fit(
        self,
        state: StochasticDiscountFactorState,
        batch: CrossSectionBatch,
        *,
        validation_state: StochasticDiscountFactorState | None = None,
        validation_batch: CrossSectionBatch | None = None,
        callbacks: Sequence[Callback] = (),
        progress: bool = False,
    ) -> FitSummary:
        """Train on the cells with finite characteristics, a return, and a realised M.

        Parameters
        ----------
        state : StochasticDiscountFactorState
            With `sdf_values` (T,).
        batch : CrossSectionBatch
            With returns, on the same dates.
        validation_state, validation_batch : optional
            Both or none; their targets are divided by the training factor's deviation.
        callbacks, progress
            See `training.neural.Neural`.

        Returns
        -------
        FitSummary

        Raises
        ------
        ValueError
            When a state or batch lacks what training needs.
        """
        return self._run(
            lambda: self._train(
                (state, batch),
                (validation_state, validation_batch),
                listeners(callbacks, progress=progress),
            ),
            state,
            batch,
            validation_state,
            validation_batch,
        )

    @classmethod
    def _blank(
        cls, config: StochasticDiscountFactorConfig, fit: BetaNetworkFit
    ) -> tuple[Any, tuple[int, ...]]:
        import torch  # noqa: PLC0415 - torch is optional

        from ml4t.models.stochastic_discount_factor.net import WeightNet, Widths  # noqa: PLC0415
        from ml4t.models.training.device import generator, resolve_dtype  # noqa: PLC0415

        sizes = Widths(
            fit.n_characteristics, fit.n_context, config.beta_state_dim, config.beta_hidden_dim
        )
        source = generator(0, torch.device("meta"))
        return WeightNet(sizes, source, resolve_dtype(config.dtype)), (1,)

    @classmethod
    def _last_epoch(cls, config: StochasticDiscountFactorConfig, label: Any) -> int:
        del label
        return config.beta_n_epochs

    def _train(
        self,
        train: tuple[StochasticDiscountFactorState, CrossSectionBatch],
        held_out: tuple[StochasticDiscountFactorState | None, CrossSectionBatch | None],
        callbacks: tuple[Callback, ...],
    ) -> Estimated[BetaNetworkFit]:
        from ml4t.models.stochastic_discount_factor import regression  # noqa: PLC0415 - torch is optional

        config, (state, batch) = self.config, train
        require_type("state", state, StochasticDiscountFactorState)
        require_type("batch", batch, CrossSectionBatch)
        if (held_out[0] is None) != (held_out[1] is None):
            raise ValueError("validation_state and validation_batch must be given together")
        n_chars, n_context = batch.characteristics.shape[2], context_width(batch)
        factor = _factor(state, "state")
        scale = _scale(factor)
        training = _targets(factor, scale, batch, MODEL, config.dtype)
        validation = None
        if held_out[0] is not None and held_out[1] is not None:
            require_type("validation_state", held_out[0], StochasticDiscountFactorState)
            require_type("validation_batch", held_out[1], CrossSectionBatch)
            require_width(held_out[1], n_chars, n_context)
            later = _factor(held_out[0], "validation_state")
            validation = _targets(later, scale, held_out[1], "validation_batch", config.dtype)
        trained = regression.learn(config, training, validation, listeners=callbacks)
        history, epochs = trained.losses(), tuple(sorted(trained.checkpoints))
        configured = config.beta_default_checkpoint
        best = configured if isinstance(configured, int) else lowest_loss(epochs, history)
        checkpoints = {
            epoch: {name: value[None] for name, value in state.items()}
            for epoch, state in trained.arrays().items()
        }
        fit = BetaNetworkFit(batch.asset_ids, n_chars, n_context, checkpoints, scale, int(best))
        summary = regression_summary(
            history,
            n_observations=len(training),
            epochs=epochs,
            best_epoch=fit.best_epoch,
            validated=validation is not None,
        )
        return Estimated(fit, summary)

    def predict(
        self, batch: CrossSectionBatch, *, checkpoint: int | None = None
    ) -> AssetSignalResult:
        """Betas (T, N) from characteristics and context; NaN where a characteristic is missing.

        Parameters
        ----------
        batch : CrossSectionBatch
            Its returns are not read.
        checkpoint : int, optional
            One of `available_checkpoints`.
        """
        require_torch(MODEL)
        fit, config = self._fitted("predict"), self.config
        from ml4t.models.stochastic_discount_factor import train  # noqa: PLC0415 - torch is optional
        from ml4t.models.stochastic_discount_factor.net import Widths  # noqa: PLC0415

        require_type("batch", batch, CrossSectionBatch)
        available = self.available_checkpoints
        epoch = choose_checkpoint(
            checkpoint,
            config.beta_default_checkpoint,
            available,
            best=fit.best_epoch,
            fallback=available[-1],
        )
        require_width(batch, fit.n_characteristics, fit.n_context)
        cells = gather(batch, masks.known(batch), config.dtype, context=True)
        sizes = Widths(
            fit.n_characteristics, fit.n_context, config.beta_state_dim, config.beta_hidden_dim
        )
        values = train.member_values(config, sizes, fit.checkpoints[epoch], cells)
        metadata: dict[str, Any] = {
            "model_name": config.model_name,
            "signal_type": SIGNAL,
            "checkpoint_epoch": epoch,
            "available_checkpoints": available,
            "f_hat_scale": fit.f_hat_scale,
        }
        return AssetSignalResult(
            cells.spread(values[0]),
            timestamps=batch.timestamps,
            asset_ids=matching.labels(batch.asset_ids, fit.asset_ids, batch.n_assets),
            metadata=metadata,
        )


def _factor(state: StochasticDiscountFactorState, what: str) -> NDArray[np.float64]:
    """F = 1 - M at every date, shape (T,)."""
    if state.sdf_values is None:
        raise ValueError(f"{what} must include sdf_values; extract it from a batch with returns")
    return 1.0 - state.sdf_values.astype(np.float64)


def _scale(factor: NDArray[np.float64]) -> float:
    """Deviation of the factor; 1 when it does not move."""
    finite = factor[np.isfinite(factor)]
    with np.errstate(over="ignore", invalid="ignore"):
        scale = float(np.std(finite)) if len(finite) else 0.0
    if not np.isfinite(scale):
        raise ValueError(f"sdf_values must have a finite deviation; got {scale}")
    return scale if scale > MIN_SCALE else 1.0


def _targets(
    factor: NDArray[np.float64], scale: float, batch: CrossSectionBatch, what: str, dtype: str
) -> TrainingCells:
    """Gather the cells with a return and a realised factor; targets are return times factor."""
    returns = masks.require_returns(what, batch.returns)
    require_shape(f"sdf_values for {what}", (batch.n_periods,), factor.shape, axes="(T,)")
    targets = returns * factor[:, None] / scale
    where = masks.require_usable(what, masks.known(batch) & np.isfinite(targets))
    return gather_training(batch, where, targets, dtype, context=True).by_value()
