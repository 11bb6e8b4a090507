"""Stochastic discount factor: fitted parameters and model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ml4t.models.checks import require_int, require_type
from ml4t.models.configs import StochasticDiscountFactorConfig
from ml4t.models.configs.stochastic_discount_factor import KEPT_PHASES
from ml4t.models.lifecycle.estimator import Estimated
from ml4t.models.panel import masks, matching
from ml4t.models.panel.cells import context_width, gather, gather_training, require_width
from ml4t.models.stochastic_discount_factor import checkpoint_names as names
from ml4t.models.stochastic_discount_factor.base import (
    BaseStochasticDiscountFactorModel,
    require_states,
)
from ml4t.models.stochastic_discount_factor.checkpoint_names import (
    VAL_BEST_LOSS_CONDITIONAL,
    VAL_BEST_LOSS_UNCONDITIONAL,
    VAL_BEST_SHARPE_CONDITIONAL,
    VAL_BEST_SHARPE_UNCONDITIONAL,
    Label,
)
from ml4t.models.training.callbacks import Callback  # noqa: TC001 - signatures stay readable
from ml4t.models.training.optional_torch import require_torch
from ml4t.models.types import CrossSectionBatch, FitSummary, StochasticDiscountFactorState
from ml4t.models.types.arrays import FloatArray
from ml4t.models.types.instants import require_ascending

if TYPE_CHECKING:
    from ml4t.models.panel.cells import TrainingCells
    from ml4t.models.training.warm_start import Resume

__all__ = [
    "VAL_BEST_LOSS_CONDITIONAL",
    "VAL_BEST_LOSS_UNCONDITIONAL",
    "VAL_BEST_SHARPE_CONDITIONAL",
    "VAL_BEST_SHARPE_UNCONDITIONAL",
    "StochasticDiscountFactorModel",
]

MODEL = "StochasticDiscountFactorModel"


@dataclass(frozen=True, slots=True)
class StochasticDiscountFactorFit:
    """Fitted parameters of `StochasticDiscountFactorModel`.

    Attributes
    ----------
    asset_ids : tuple of str
    n_characteristics : int
        L.
    n_context : int
        Q; 0 without context.
    checkpoints : dict of (phase, epoch) to dict of str to ndarray
        Parameters of the weight network; every array has a leading member axis E. Epoch 0 is the
        best by validation loss, epoch -1 by validation Sharpe ratio.
    """

    asset_ids: tuple[str, ...]
    n_characteristics: int
    n_context: int
    checkpoints: dict[tuple[str, int], dict[str, FloatArray]]

    def __post_init__(self) -> None:
        """Raise `ValueError` without checkpoints; `load` relies on it."""
        require_states(self.checkpoints, self.n_characteristics)


class StochasticDiscountFactorModel(
    BaseStochasticDiscountFactorModel[StochasticDiscountFactorConfig, StochasticDiscountFactorFit]
):
    r"""Discount factor whose portfolio weights are a network of characteristics and states.

    .. math:: M_{t+1} = 1 - \sum_i \omega(I_t, z_{it}) R_{i,t+1}

    Estimated against the moments that price assets worst: first with unconditional moments, then
    the adversary chooses instruments, then the weights are fitted to those. Of an ensemble the raw
    weights are averaged.

    Parameters
    ----------
    config : StochasticDiscountFactorConfig

    References
    ----------
    Chen, Pelger and Zhu (2024), Deep Learning in Asset Pricing, Management Science 70(2).
    """

    config_type: ClassVar[type] = StochasticDiscountFactorConfig
    fit_type: ClassVar[type] = StochasticDiscountFactorFit
    is_causal: ClassVar[bool] = True

    @property
    def available_checkpoints(self) -> tuple[Label, ...]:
        """Phases and epochs that were kept; epochs 0 and -1 are the best by validation."""
        return names.in_order(self._fitted("checkpoints").checkpoints) if self.is_fitted else ()

    def fit(
        self,
        batch: CrossSectionBatch,
        *,
        validation_batch: CrossSectionBatch | None = None,
        patience: int | None = None,
        callbacks: Sequence[Callback] = (),
        progress: bool = False,
        resume: Resume | None = None,
    ) -> FitSummary:
        """Train on the cells with finite characteristics and a finite return.

        Parameters
        ----------
        batch : CrossSectionBatch
            With (excess) returns, and context features where a recurrent state is wanted.
        validation_batch : CrossSectionBatch, optional
            Chooses the best epochs by loss and by Sharpe ratio.
        patience : int, optional
            Epochs of a phase in which neither improves, after which the phase ends.
        callbacks, progress, resume
            See `training.neural.Neural`, as for errors.

        Returns
        -------
        FitSummary
        """
        return self._fit(
            self._train,
            batch,
            validation_batch,
            callbacks=callbacks,
            progress=progress,
            resume=resume,
            patience=patience,
        )

    def _last_parameters(self, fit: StochasticDiscountFactorFit) -> dict[str, FloatArray]:
        label = [label for label in names.in_order(fit.checkpoints) if label[1] > 0][-1]
        return dict(fit.checkpoints[label])

    @classmethod
    def _blank(
        cls, config: StochasticDiscountFactorConfig, fit: StochasticDiscountFactorFit
    ) -> tuple[Any, tuple[int, ...]]:
        import torch  # noqa: PLC0415 - torch is optional

        from ml4t.models.stochastic_discount_factor.net import WeightNet, Widths  # noqa: PLC0415
        from ml4t.models.training.device import generator, resolve_dtype  # noqa: PLC0415

        sizes = Widths(
            fit.n_characteristics, fit.n_context, config.state_dim_sdf, config.hidden_dim
        )
        source = generator(0, torch.device("meta"))
        return WeightNet(sizes, source, resolve_dtype(config.dtype)), (config.n_ensemble,)

    @classmethod
    def _last_epoch(cls, config: StochasticDiscountFactorConfig, label: Any) -> int:
        if label[0] not in KEPT_PHASES:
            raise ValueError(f"checkpoint {label} must be of the phases {KEPT_PHASES}")
        return config.n_epochs(label[0])

    def _train(
        self,
        batch: CrossSectionBatch,
        validation_batch: CrossSectionBatch | None,
        *,
        listeners: tuple[Callback, ...],
        resume: Resume | None,
        patience: int | None,
    ) -> Estimated[StochasticDiscountFactorFit]:
        from ml4t.models.stochastic_discount_factor import train  # noqa: PLC0415 - torch is optional

        config = _supported(self.config)
        if patience is not None:
            require_int("patience", patience, at_least=1)
        n_chars, n_context = batch.characteristics.shape[2], context_width(batch)
        panel = train.panel(config, _sample(batch, "timestamps", config.dtype, MODEL))
        validation = None
        if validation_batch is not None:
            require_width(validation_batch, n_chars, n_context)
            held_out = _sample(
                validation_batch,
                "timestamps of validation_batch",
                config.dtype,
                "validation_batch",
                "no valid SDF validation observations",
            )
            validation = train.panel(config, held_out)
        learned = train.learn(
            config, panel, validation, patience=patience, listeners=listeners, resume=resume
        )
        available = names.in_order(learned.checkpoints)
        fit = StochasticDiscountFactorFit(batch.asset_ids, n_chars, n_context, learned.checkpoints)
        summary = FitSummary(
            converged=True,
            train_metrics={"n_train_periods": batch.n_periods, "n_checkpoints": len(available)},
            best_epoch=names.default(available, config),
            history=learned.history,
        )
        return Estimated(fit, summary, "early_stopping" if learned.stopped_early else None)

    def extract(
        self, batch: CrossSectionBatch, *, checkpoint: Label | int | None = None
    ) -> StochasticDiscountFactorState:
        """Portfolio weights from characteristics and context; realised M where there are returns.

        Parameters
        ----------
        batch : CrossSectionBatch
            Its returns have no influence on the weights.
        checkpoint : (phase, epoch) or int, optional
            An int is a label of 0.1.x: unconditional epochs first, conditional ones after them, -1
            to -4 for the best by validation.

        Returns
        -------
        StochasticDiscountFactorState
            `asset_weights` (T, N), NaN where a characteristic is missing; `sdf_values` (T,) over
            the assets with a return, NaN at dates without any.
        """
        require_torch(MODEL)
        fit, config = self._fitted("extract"), self.config
        from ml4t.models.stochastic_discount_factor import train  # noqa: PLC0415 - torch is optional
        from ml4t.models.stochastic_discount_factor.net import Widths  # noqa: PLC0415

        require_type("batch", batch, CrossSectionBatch)
        require_ascending("timestamps", batch.timestamps, opaque=True)
        label = names.resolve(checkpoint, self.available_checkpoints, config)
        require_width(batch, fit.n_characteristics, fit.n_context)
        cells = gather(batch, masks.known(batch), config.dtype, context=True)
        sizes = Widths(
            fit.n_characteristics, fit.n_context, config.state_dim_sdf, config.hidden_dim
        )
        values = train.member_values(config, sizes, fit.checkpoints[label], cells)
        weights = cells.spread(values.mean(axis=0))
        return StochasticDiscountFactorState(
            asset_weights=weights,
            sdf_values=None if batch.returns is None else _discount_factor(weights, batch.returns),
            checkpoint_epoch=label,
            timestamps=batch.timestamps,
            asset_ids=matching.labels(batch.asset_ids, fit.asset_ids, batch.n_assets),
            metadata={
                "model_name": config.model_name,
                "available_checkpoints": self.available_checkpoints,
                "native_output": config.output_mode,
            },
        )


def _sample(
    batch: CrossSectionBatch,
    dates: str,
    dtype: str,
    what: str,
    rule: str = "no valid observations",
) -> TrainingCells:
    """Gather the cells to learn from, of a batch whose dates ascend."""
    require_ascending(dates, batch.timestamps, opaque=True)
    where = masks.trainable(what, batch, rule=rule)
    returns = masks.require_returns(what, batch.returns)
    return gather_training(batch, where, returns, dtype, context=True)


def _supported(config: StochasticDiscountFactorConfig) -> StochasticDiscountFactorConfig:
    """Return the config; raise `ValueError` when its class attributes ask for another model."""
    if config.output_mode != "weights":
        raise ValueError(
            f"{MODEL} is weight-native: output_mode must be 'weights'; got {config.output_mode!r}"
        )
    if config.expected_return_mapper != "linear":
        raise ValueError(
            f"expected_return_mapper must be 'linear'; got {config.expected_return_mapper!r}"
        )
    if not config.checkpoint_grid:
        raise ValueError(
            f"burn_in_epochs must leave an epoch to keep; got {config.burn_in_epochs} of "
            f"{config.n_epochs_cond} conditional epochs"
        )
    return config


def _discount_factor(weights: Any, returns: Any) -> Any:
    """M of every date (T,): 1 minus the return of the assets that have both weight and return."""
    products = weights * returns
    usable = np.isfinite(products)
    values = 1.0 - np.where(usable, products, 0.0).sum(axis=1)
    return np.where(usable.any(axis=1), values, np.nan)
