"""The conditional autoencoder as a model; everything numerical is in `estimate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ml4t.models.checks import require_int, require_type
from ml4t.models.configs import CAEConfig
from ml4t.models.latent_factors.base import BaseLatentFactorModel
from ml4t.models.latent_factors.cae import sample
from ml4t.models.latent_factors.cae.fit import CAEFit
from ml4t.models.latent_factors.cae.reading import Reading
from ml4t.models.lifecycle.estimator import Estimated
from ml4t.models.panel import masks as observed
from ml4t.models.panel import matching as identity
from ml4t.models.training.callbacks import Callback  # noqa: TC001 - signatures stay readable
from ml4t.models.training.neural import Neural, choose_checkpoint
from ml4t.models.training.optional_torch import require_torch
from ml4t.models.training.warm_start import parts
from ml4t.models.types import AssetForecastResult, CrossSectionBatch, FitSummary, LatentFactorState

if TYPE_CHECKING:
    from ml4t.models.training.warm_start import Resume


class CAEModel(Neural[CAEConfig, CAEFit], BaseLatentFactorModel[CAEConfig, CAEFit]):
    r"""Conditional autoencoder of Gu, Kelly and Xiu (2021).

    .. math:: \hat r_{ti} = \beta(z_{ti})'f_t,\quad f_t = Wx_t

    Betas are a neural network of characteristics; factors are a linear map of managed portfolios
    :math:`x_t = (Z_t'Z_t)^{-1}Z_t'r_t`, or of the batch's context features. An ensemble's members
    are trained together, rotated to a common factor basis, and averaged.

    Parameters
    ----------
    config : CAEConfig

    Notes
    -----
    The average of betas times the average of factors is not the average of the members' fitted
    returns; `fitted_returns` gives the latter.

    References
    ----------
    Gu, Kelly and Xiu (2021), Autoencoder Asset Pricing Models, Journal of Econometrics 222(1).
    """

    config_type: ClassVar[type] = CAEConfig
    fit_type: ClassVar[type] = CAEFit

    @property
    def available_checkpoints(self) -> tuple[int, ...]:
        """Epochs that were kept; 0 is each member's best by validation."""
        return tuple(sorted(self._fitted("checkpoints").checkpoints)) if self.is_fitted else ()

    def fit(
        self,
        batch: CrossSectionBatch,
        *,
        validation_batch: CrossSectionBatch | None = None,
        patience: int = 50,
        callbacks: Sequence[Callback] = (),
        progress: bool = False,
        resume: Resume | None = None,
    ) -> FitSummary:
        """Train on the cells with finite characteristics and a finite return.

        Parameters
        ----------
        batch : CrossSectionBatch
            With returns; in classification labels in [0, 1], and `factor_returns` besides.
        validation_batch : CrossSectionBatch, optional
            Chooses each member's best epoch and stops its training.
        patience : int, default 50
            Epochs without a better validation loss after which a member stops.
        callbacks : sequence of Callback
            Hear every epoch.
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
        attempt = self._attempt(batch=batch, validation_batch=validation_batch, patience=patience)
        return self._run(
            lambda: self._estimate(
                batch,
                validation_batch,
                require_int("patience", patience, at_least=1),
                attempt.listeners(callbacks, progress=progress),
                attempt.own(resume),
            ),
            batch,
            validation_batch,
            *parts(resume),
        )

    @classmethod
    def _blank(cls, config: CAEConfig, fit: CAEFit) -> tuple[Any, tuple[int, ...]]:
        import torch  # noqa: PLC0415 - torch is optional

        from ml4t.models.latent_factors.cae.net import CAENet, Sizes  # noqa: PLC0415
        from ml4t.models.training.device import resolve_dtype  # noqa: PLC0415

        sizes = Sizes(fit.n_characteristics, fit.n_inputs, config.hidden_units, config.n_factors)
        dtype = resolve_dtype(config.dtype)
        seeds = range(config.n_ensemble)
        return CAENet(sizes, seeds, device=torch.device("meta"), dtype=dtype), ()

    @classmethod
    def _last_epoch(cls, config: CAEConfig, label: Any) -> int:
        del label
        return config.n_epochs

    def _estimate(
        self,
        batch: CrossSectionBatch,
        validation_batch: CrossSectionBatch | None,
        patience: int,
        heard: tuple[Callback, ...],
        resume: Resume | None,
    ) -> Estimated[CAEFit]:
        config = self.config
        require_type("batch", batch, CrossSectionBatch)
        if validation_batch is not None:
            require_type("validation_batch", validation_batch, CrossSectionBatch)
        cells, inputs = sample.prepared(batch, config, "CAEModel")
        validation = None
        if validation_batch is not None:
            validation = sample.prepared(validation_batch, config, "validation_batch")
            n_chars = batch.characteristics.shape[2]
            sample.require_width(validation_batch, config, n_chars, inputs.shape[1])
        if len(cells.dates) > config.batch_size:
            cells = sample.in_order_of_value(cells)
        from ml4t.models.latent_factors.cae import train as estimate  # noqa: PLC0415 - torch is optional

        learned = estimate.learn(
            config,
            cells,
            inputs,
            validation,
            patience=patience,
            listeners=heard,
            resume=resume,
        )
        epochs = tuple(learned.checkpoints)
        default = 0
        if 0 not in epochs:
            wanted = config.default_checkpoint
            default = choose_checkpoint(None, wanted, epochs, best=None, fallback=max(epochs))
        fit = CAEFit(
            asset_ids=batch.asset_ids,
            n_characteristics=cells.design.shape[1] - 1,
            n_inputs=inputs.shape[1],
            checkpoints=learned.checkpoints,
            bases=learned.bases,
            default_checkpoint=default,
        )
        best = learned.best_validation_loss
        summary = FitSummary(
            converged=True,
            train_metrics={
                "n_train_periods": batch.n_periods,
                "n_checkpoints": len(epochs),
                "n_ensemble": config.n_ensemble,
                "skipped_updates": learned.skipped_updates,
            },
            val_metrics={} if best is None else {"best_val_loss": best},
            best_epoch=default,
            history=learned.history,
        )
        return Estimated(fit, summary, "early_stopping" if learned.stopped_early else None)

    def extract(
        self, batch: CrossSectionBatch, *, checkpoint: int | None = None
    ) -> LatentFactorState:
        """Betas from characteristics, factors from realised returns or context.

        Parameters
        ----------
        batch : CrossSectionBatch
            Without returns there are betas only (unless factors come from the context).
        checkpoint : int, optional
            One of `available_checkpoints`.

        Returns
        -------
        LatentFactorState
            `asset_betas` (T, N, K), NaN where a characteristic is missing; `factor_returns` (T, K).
            Of an ensemble: means over the members, in a common basis.
        """
        read = self._read(batch, checkpoint)
        bases = self._fitted("extract").bases[read.checkpoint]
        betas = np.einsum("erk,ekj->rj", read.betas, bases) / len(bases)
        factors = None
        if read.factors is not None:
            # f' inv(A)' for the betas' A.
            turned = np.linalg.solve(bases, read.factors.transpose(0, 2, 1)).transpose(0, 2, 1)
            factors = turned.mean(axis=0)
        more = {"available_checkpoints": self.available_checkpoints}
        return read.state(betas, factors, self._metadata(more))

    def extract_per_member(
        self, batch: CrossSectionBatch, *, checkpoint: int | None = None
    ) -> list[LatentFactorState]:
        """One state per member, each in the basis it has learned.

        Parameters
        ----------
        batch : CrossSectionBatch
        checkpoint : int, optional

        Returns
        -------
        list of LatentFactorState
        """
        read = self._read(batch, checkpoint)
        return [
            read.state(
                betas,
                None if read.factors is None else read.factors[member],
                self._metadata({"ensemble_member": member, "n_ensemble": len(read.betas)}),
            )
            for member, betas in enumerate(read.betas)
        ]

    def fitted_returns(
        self, batch: CrossSectionBatch, *, checkpoint: int | None = None
    ) -> AssetForecastResult:
        """Mean over the members of beta times realised factor.

        Parameters
        ----------
        batch : CrossSectionBatch
            With returns, or with context features where factors come from them.
        checkpoint : int, optional

        Returns
        -------
        AssetForecastResult
            `expected_returns` (T, N): fitted returns, in classification logits. Not a forecast:
            the factors are those of the same date.

        Raises
        ------
        ValueError
            When the batch has nothing to compute factors from.
        """
        read = self._read(batch, checkpoint)
        if read.factors is None:
            raise ValueError("CAEModel requires returns for fitted_returns; the batch has none")
        at_cells = read.factors[:, read.dates]
        fitted = np.einsum("erk,erk->r", read.betas, at_cells) / len(read.betas)
        return AssetForecastResult(
            read.spread(fitted),
            timestamps=batch.timestamps,
            asset_ids=read.asset_ids,
            metadata=self._metadata({"checkpoint_epoch": read.checkpoint}),
        )

    def _metadata(self, more: dict[str, Any]) -> dict[str, Any]:
        config = self.config
        return {
            "model_name": config.model_name,
            "persistent_entities": config.persistent_entities,
            "task_type": config.task_type,
            **more,
        }

    def _read(self, batch: CrossSectionBatch, checkpoint: int | None) -> Reading:
        require_torch("CAEModel")
        fit = self._fitted("extract")
        require_type("batch", batch, CrossSectionBatch)
        epoch = choose_checkpoint(
            checkpoint, None, self.available_checkpoints, best=None, fallback=fit.default_checkpoint
        )
        sample.require_width(batch, self.config, fit.n_characteristics, fit.n_inputs)
        known = observed.known(batch)
        cells = sample.gather(batch.characteristics, known, self.config.dtype)
        inputs = sample.factor_inputs(batch, self.config)
        from ml4t.models.latent_factors.cae import train as estimate  # noqa: PLC0415 - torch is optional

        net = estimate.network(self.config, fit.checkpoints[epoch])
        return Reading(
            batch=batch,
            asset_ids=identity.labels(batch.asset_ids, fit.asset_ids, batch.n_assets),
            checkpoint=epoch,
            known=known,
            dates=cells.dates,
            betas=estimate.member_betas(net, cells),
            factors=None if inputs is None else estimate.member_factors(net, inputs),
        )
