"""The supervised autoencoder as a model; everything numerical is in `estimate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ml4t.models.asset_prediction.base import BaseAssetPredictionModel
from ml4t.models.asset_prediction.sae import sample
from ml4t.models.asset_prediction.sae.fit import SAEFit
from ml4t.models.asset_prediction.sae.sample import Extras
from ml4t.models.checks import require_type
from ml4t.models.configs import SAEConfig
from ml4t.models.lifecycle.estimator import Estimated
from ml4t.models.panel import masks as observed
from ml4t.models.panel import matching as identity
from ml4t.models.training.callbacks import Callback  # noqa: TC001 - signatures stay readable
from ml4t.models.training.neural import choose_checkpoint
from ml4t.models.training.optional_torch import require_torch
from ml4t.models.training.warm_start import parts
from ml4t.models.types import AssetSignalResult, CrossSectionBatch, FitSummary

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ml4t.models.training.warm_start import Resume

MODEL = "SAEModel"


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

    @property
    def available_checkpoints(self) -> tuple[int, ...]:
        """Epochs that were kept."""
        return tuple(sorted(self._fitted("checkpoints").checkpoints)) if self.is_fitted else ()

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
        callbacks : sequence of Callback
        progress : bool, default False
            Show a bar (needs tqdm).
        resume : RunState or mapping of str to ndarray, optional
            Go on from what a callback captured in an interrupted fit; or begin with the parameters
            of another fit in place of random ones, as `continued_from` gives them.

        Returns
        -------
        FitSummary

        Raises
        ------
        TypeError
            When a batch is not a `CrossSectionBatch`.
        ValueError
            When a batch lacks what training needs.
        FloatingPointError
            When training diverges.
        """
        extras = Extras.of(sample_weights, targets, validation_targets)
        attempt = self._attempt(batch=batch, validation_batch=validation_batch, extras=extras)
        return self._run(
            lambda: self._estimate(
                batch,
                validation_batch,
                extras,
                attempt.listeners(callbacks, progress=progress),
                attempt.own(resume),
            ),
            batch,
            validation_batch,
            extras,
            *parts(resume),
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

    @classmethod
    def _last_epoch(cls, config: SAEConfig, label: Any) -> int:
        del label
        return config.n_epochs

    def _estimate(
        self,
        batch: CrossSectionBatch,
        validation_batch: CrossSectionBatch | None,
        extras: Extras,
        heard: tuple[Callback, ...],
        resume: Resume | None,
    ) -> Estimated[SAEFit]:
        from ml4t.models.asset_prediction.sae import train as estimate  # noqa: PLC0415 - torch is optional

        config = self.config
        require_type("batch", batch, CrossSectionBatch)
        if validation_batch is not None:
            require_type("validation_batch", validation_batch, CrossSectionBatch)
        rows = sample.rows_of(
            batch, config, MODEL, targets=extras.targets, weights=extras.sample_weights
        )
        n_features, n_targets = rows.features.shape[1], rows.targets.shape[1]
        validation = None
        if validation_batch is not None:
            _require_width(validation_batch, n_features)
            validation = sample.rows_of(
                validation_batch, config, "validation_batch", targets=extras.validation_targets
            )
            if validation.targets.shape[1] != n_targets:
                raise ValueError(
                    f"validation_targets must have the {n_targets} targets of the training batch; "
                    f"got {validation.targets.shape[1]}"
                )
        learned = estimate.learn(config, rows, validation, listeners=heard, resume=resume)
        epochs = tuple(sorted(learned.checkpoints))
        lowest = min(epochs, key=lambda epoch: learned.history[epoch - 1]["val_loss"])
        configured = config.default_checkpoint
        losses = [entry["val_loss"] for entry in learned.history]
        summary = FitSummary(
            converged=True,
            train_metrics={
                "n_train_observations": len(rows.features),
                "n_checkpoints": len(epochs),
            },
            val_metrics={} if validation is None else {"best_val_loss": min(losses)},
            best_epoch=configured if isinstance(configured, int) else lowest,
            history=tuple(dict(entry) for entry in learned.history),
        )
        fit = SAEFit(batch.asset_ids, n_features, n_targets, learned.checkpoints, lowest)
        return Estimated(fit, summary)

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
            asset_ids=identity.labels(batch.asset_ids, fit.asset_ids, batch.n_assets),
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
        from ml4t.models.asset_prediction.sae import train as estimate  # noqa: PLC0415 - torch is optional

        require_type("batch", batch, CrossSectionBatch)
        available = self.available_checkpoints
        epoch = choose_checkpoint(
            checkpoint,
            config.default_checkpoint,
            available,
            best=fit.best_epoch,
            fallback=available[-1],
        )
        _require_width(batch, fit.n_features)
        known = observed.known(batch)
        out = np.full((*known.shape, fit.n_targets), np.nan)
        features = batch.characteristics[known].astype(config.dtype, copy=False)
        if len(features):
            out[known] = estimate.predict(config, fit.checkpoints[epoch], features)
        return epoch, out


def _require_width(batch: CrossSectionBatch, n_features: int) -> None:
    got = batch.characteristics.shape[2]
    if got != n_features:
        raise ValueError(
            f"feature dimension of the batch must be the fitted {n_features}; got {got}"
        )
