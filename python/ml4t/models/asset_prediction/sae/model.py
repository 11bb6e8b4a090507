"""Supervised autoencoder: fitted parameters and model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ml4t.models.asset_prediction.base import BaseAssetPredictionModel
from ml4t.models.asset_prediction.sae import sample
from ml4t.models.asset_prediction.sae.sample import Extras
from ml4t.models.checks import require_type
from ml4t.models.configs import SAEConfig
from ml4t.models.lifecycle.estimator import Estimated
from ml4t.models.panel import masks, matching
from ml4t.models.panel.cells import gather, require_width
from ml4t.models.training.callbacks import Callback  # noqa: TC001 - signatures stay readable
from ml4t.models.training.neural import choose_checkpoint, lowest_loss, regression_summary
from ml4t.models.training.optional_torch import require_torch
from ml4t.models.types import AssetSignalResult, CrossSectionBatch, FitSummary
from ml4t.models.types.arrays import FloatArray

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ml4t.models.training.warm_start import Resume

MODEL = "SAEModel"


@dataclass(frozen=True, slots=True)
class SAEFit:
    """Fitted parameters of `SAEModel`.

    Attributes
    ----------
    asset_ids : tuple of str
    n_features : int
        L.
    n_targets : int
        J.
    checkpoints : dict of int to dict of str to ndarray
        Parameters by epoch.
    best_epoch : int
        Checkpoint with the lowest validation loss.
    """

    asset_ids: tuple[str, ...]
    n_features: int
    n_targets: int
    checkpoints: dict[int, dict[str, FloatArray]]
    best_epoch: int

    def __post_init__(self) -> None:
        """Raise `ValueError` when the parts disagree; `load` relies on it."""
        if self.best_epoch not in self.checkpoints:
            raise ValueError(
                f"checkpoints must hold best_epoch={self.best_epoch}; got {tuple(self.checkpoints)}"
            )
        for epoch, state in self.checkpoints.items():
            got = (state["encoder.weight"].shape[1], len(state["main_output.bias"]))
            if got != (self.n_features, self.n_targets):
                raise ValueError(
                    f"checkpoint {epoch} must have {self.n_features} features and "
                    f"{self.n_targets} targets; got {got}"
                )


class SAEModel(BaseAssetPredictionModel[SAEConfig, SAEFit]):
    """Supervised autoencoder: one code that reconstructs the features and predicts the target.

    The design that won the Jane Street Market Prediction competition (Y. Zhang, 2021): noise on
    standardised features, a bottleneck, a decoder, an auxiliary head on the reconstruction and a
    main head on features and code, trained together.

    Parameters
    ----------
    config : SAEConfig
    """

    config_type: ClassVar[type] = SAEConfig
    fit_type: ClassVar[type] = SAEFit

    def fit(
        self,
        batch: CrossSectionBatch,
        *,
        validation_batch: CrossSectionBatch | None = None,
        sample_weights: ArrayLike | None = None,
        targets: ArrayLike | None = None,
        validation_targets: ArrayLike | None = None,
        callbacks: Sequence[Callback] = (),
        progress: bool = False,
        resume: Resume | None = None,
    ) -> FitSummary:
        """Train on the cells with finite characteristics and a finite target.

        Parameters
        ----------
        batch : CrossSectionBatch
            With returns; in classification labels in [0, 1].
        validation_batch : CrossSectionBatch, optional
        sample_weights : array_like, shape (T, N), optional
            At least 0; a cell of weight two counts as two cells in the loss.
        targets, validation_targets : array_like, shape (T, N, J), optional
            Several targets in place of the returns.
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
            extras=Extras.of(sample_weights, targets, validation_targets),
        )

    @classmethod
    def _blank(cls, config: SAEConfig, fit: SAEFit) -> tuple[Any, tuple[int, ...]]:
        import torch  # noqa: PLC0415 - torch is optional

        from ml4t.models.asset_prediction.sae.net import SAENet  # noqa: PLC0415
        from ml4t.models.asset_prediction.sae.train import sizes_of  # noqa: PLC0415
        from ml4t.models.training.device import generator, resolve_dtype  # noqa: PLC0415

        source = generator(0, torch.device("meta"))
        sizes = sizes_of(config, fit.n_features, fit.n_targets)
        return SAENet(sizes, source, resolve_dtype(config.dtype)), ()

    def _train(
        self,
        batch: CrossSectionBatch,
        validation_batch: CrossSectionBatch | None,
        *,
        listeners: tuple[Callback, ...],
        resume: Resume | None,
        extras: Extras,
    ) -> Estimated[SAEFit]:
        from ml4t.models.asset_prediction.sae import train  # noqa: PLC0415 - torch is optional

        config, n_features = self.config, batch.characteristics.shape[2]
        rows = sample.training_sample(
            batch, config, MODEL, targets=extras.targets, weights=extras.sample_weights
        )
        n_targets = rows.targets.shape[1]
        validation = None
        if validation_batch is not None:
            require_width(validation_batch, n_features, None)
            validation = sample.training_sample(
                validation_batch, config, "validation_batch", targets=extras.validation_targets
            )
            if validation.targets.shape[1] != n_targets:
                raise ValueError(
                    f"validation_targets must have the {n_targets} targets of the training batch; "
                    f"got {validation.targets.shape[1]}"
                )
        trained = train.learn(config, rows, validation, listeners=listeners, resume=resume)
        history, epochs = trained.losses(), tuple(sorted(trained.checkpoints))
        lowest, configured = lowest_loss(epochs, history), config.default_checkpoint
        summary = regression_summary(
            history,
            n_observations=len(rows),
            epochs=epochs,
            best_epoch=configured if isinstance(configured, int) else lowest,
            validated=validation is not None,
        )
        return Estimated(
            SAEFit(batch.asset_ids, n_features, n_targets, trained.arrays(), lowest), summary
        )

    def predict(
        self, batch: CrossSectionBatch, *, checkpoint: int | None = None
    ) -> AssetSignalResult:
        """Predict the target of every asset.

        Parameters
        ----------
        batch : CrossSectionBatch
            Its returns are not read.
        checkpoint : int, optional
            One of `available_checkpoints`.

        Returns
        -------
        AssetSignalResult
            `signal_values` (T, N), the mean over targets where there are several; in [0, 1] in
            classification; NaN where a characteristic is missing.
        """
        epoch, values = self._predicted(batch, checkpoint)
        fit, config = self._fitted("predict"), self.config
        return AssetSignalResult(
            values.mean(axis=2),
            timestamps=batch.timestamps,
            asset_ids=matching.labels(batch.asset_ids, fit.asset_ids, batch.n_assets),
            metadata={
                "model_name": config.model_name,
                "task_type": config.task_type,
                "checkpoint_epoch": epoch,
                "available_checkpoints": self.available_checkpoints,
            },
        )

    def predict_targets(
        self, batch: CrossSectionBatch, *, checkpoint: int | None = None
    ) -> NDArray[np.float64]:
        """Predict every target, shape (T, N, J); see `predict`."""
        return self._predicted(batch, checkpoint)[1]

    def _predicted(
        self, batch: CrossSectionBatch, checkpoint: int | None
    ) -> tuple[int, NDArray[np.float64]]:
        require_torch(MODEL)
        fit, config = self._fitted("predict"), self.config
        from ml4t.models.asset_prediction.sae import train  # noqa: PLC0415 - torch is optional

        require_type("batch", batch, CrossSectionBatch)
        available = self.available_checkpoints
        epoch = choose_checkpoint(
            checkpoint,
            config.default_checkpoint,
            available,
            best=fit.best_epoch,
            fallback=available[-1],
        )
        require_width(batch, fit.n_features, None)
        cells = gather(batch, masks.known(batch), config.dtype)
        values = np.empty((0, fit.n_targets))
        if len(cells.dates):
            values = train.predict(config, fit.checkpoints[epoch], cells.characteristics)
        return epoch, cells.spread(values)
