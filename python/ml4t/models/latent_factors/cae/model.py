"""Conditional autoencoder: fitted parameters, member predictions, model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ml4t.models.checks import require_int, require_shape, require_type
from ml4t.models.configs import CAEConfig
from ml4t.models.latent_factors.base import BaseLatentFactorModel
from ml4t.models.latent_factors.cae import sample
from ml4t.models.lifecycle.estimator import Estimated
from ml4t.models.panel import masks, matching
from ml4t.models.panel.cells import Cells, gather, require_width
from ml4t.models.training.callbacks import Callback  # noqa: TC001 - signatures stay readable
from ml4t.models.training.neural import Neural, choose_checkpoint
from ml4t.models.training.optional_torch import require_torch
from ml4t.models.types import AssetForecastResult, CrossSectionBatch, FitSummary, LatentFactorState
from ml4t.models.types.arrays import FloatArray

if TYPE_CHECKING:
    from ml4t.models.training.warm_start import Resume


@dataclass(frozen=True, slots=True)
class CAEFit:
    """Fitted parameters of `CAEModel`.

    Attributes
    ----------
    asset_ids : tuple of str
    n_characteristics : int
        L.
    n_inputs : int
        P, inputs of the factor network: L + 1 managed portfolios, or Q context features.
    checkpoints : dict of int to dict of str to ndarray
        Parameters by epoch; every array has a leading member axis E. Epoch 0 holds each member's
        best by validation.
    bases : dict of int to ndarray, shape (E, K, K)
        Bases that make the members' betas comparable before they are averaged.
    default_checkpoint : int
    """

    asset_ids: tuple[str, ...]
    n_characteristics: int
    n_inputs: int
    checkpoints: dict[int, dict[str, FloatArray]]
    bases: dict[int, NDArray[np.float64]]
    default_checkpoint: int

    def __post_init__(self) -> None:
        """Raise `ValueError` when the parts disagree; `load` relies on it."""
        complete = self.bases.keys() == self.checkpoints.keys()
        if self.default_checkpoint not in self.checkpoints or not complete:
            raise ValueError(
                f"checkpoints must hold default_checkpoint={self.default_checkpoint} and one basis "
                f"each; got {tuple(self.checkpoints)} and bases {tuple(self.bases)}"
            )
        for epoch, state in self.checkpoints.items():
            weight = state["factor_weight"]
            n_members, n_factors, _ = weight.shape
            require_shape("factor_weight", (n_members, n_factors, self.n_inputs), weight.shape)
            require_shape("bases", (n_members, n_factors, n_factors), self.bases[epoch].shape)


@dataclass(frozen=True, slots=True)
class MemberPredictions:
    """Betas and factors of every member at the cells of a batch.

    Attributes
    ----------
    batch : CrossSectionBatch
    asset_ids : tuple of str
    checkpoint : int
    cells : Cells
        Cells with betas.
    betas : ndarray of float64, shape (E, R, K)
    factors : ndarray of float64, shape (E, T, K), or None
    """

    batch: CrossSectionBatch
    asset_ids: tuple[str, ...]
    checkpoint: int
    cells: Cells
    betas: NDArray[np.float64]
    factors: NDArray[np.float64] | None

    def state(
        self,
        betas: NDArray[np.float64],
        factors: NDArray[np.float64] | None,
        metadata: dict[str, Any],
    ) -> LatentFactorState:
        """Make a state of betas (R, K) and factors (T, K)."""
        return LatentFactorState(
            asset_betas=self.cells.spread(betas),
            factor_returns=factors,
            checkpoint_epoch=self.checkpoint,
            timestamps=self.batch.timestamps,
            asset_ids=self.asset_ids,
            metadata=metadata,
        )


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

    @classmethod
    def _blank(cls, config: CAEConfig, fit: CAEFit) -> tuple[Any, tuple[int, ...]]:
        import torch  # noqa: PLC0415 - torch is optional

        from ml4t.models.latent_factors.cae.net import CAENet, Sizes  # noqa: PLC0415
        from ml4t.models.training.device import resolve_dtype  # noqa: PLC0415

        sizes = Sizes(fit.n_characteristics, fit.n_inputs, config.hidden_units, config.n_factors)
        dtype = resolve_dtype(config.dtype)
        seeds = range(config.n_ensemble)
        return CAENet(sizes, seeds, device=torch.device("meta"), dtype=dtype), ()

    def _train(
        self,
        batch: CrossSectionBatch,
        validation_batch: CrossSectionBatch | None,
        *,
        listeners: tuple[Callback, ...],
        resume: Resume | None,
        patience: int,
    ) -> Estimated[CAEFit]:
        require_int("patience", patience, at_least=1)
        config, n_chars = self.config, batch.characteristics.shape[2]
        cells, inputs = sample.training_sample(batch, config, "CAEModel")
        validation = None
        if validation_batch is not None:
            validation = sample.training_sample(validation_batch, config, "validation_batch")
            self._require_width(validation_batch, n_chars, inputs.shape[1])
        if len(cells) > config.batch_size:
            cells = cells.by_value()
        from ml4t.models.latent_factors.cae import train  # noqa: PLC0415 - torch is optional

        learned = train.learn(
            config,
            cells,
            inputs,
            validation,
            patience=patience,
            listeners=listeners,
            resume=resume,
        )
        epochs = tuple(learned.checkpoints)
        default = 0
        if 0 not in epochs:
            wanted = config.default_checkpoint
            default = choose_checkpoint(None, wanted, epochs, best=None, fallback=max(epochs))
        fit = CAEFit(
            asset_ids=batch.asset_ids,
            n_characteristics=n_chars,
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
        members = self._member_predictions(batch, checkpoint)
        bases = self._fitted("extract").bases[members.checkpoint]
        betas = np.einsum("erk,ekj->rj", members.betas, bases) / len(bases)
        factors = None
        if members.factors is not None:
            # f' inv(A)' for the betas' A.
            turned = np.linalg.solve(bases, members.factors.transpose(0, 2, 1)).transpose(0, 2, 1)
            factors = turned.mean(axis=0)
        more = {"available_checkpoints": self.available_checkpoints}
        return members.state(betas, factors, self._metadata(more))

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
        members = self._member_predictions(batch, checkpoint)
        return [
            members.state(
                betas,
                None if members.factors is None else members.factors[member],
                self._metadata({"ensemble_member": member, "n_ensemble": len(members.betas)}),
            )
            for member, betas in enumerate(members.betas)
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
        members = self._member_predictions(batch, checkpoint)
        if members.factors is None:
            raise ValueError("CAEModel requires returns for fitted_returns; the batch has none")
        at_cells = members.factors[:, members.cells.dates]
        fitted = np.einsum("erk,erk->r", members.betas, at_cells) / len(members.betas)
        return AssetForecastResult(
            members.cells.spread(fitted),
            timestamps=batch.timestamps,
            asset_ids=members.asset_ids,
            metadata=self._metadata({"checkpoint_epoch": members.checkpoint}),
        )

    def _metadata(self, more: dict[str, Any]) -> dict[str, Any]:
        config = self.config
        return {
            "model_name": config.model_name,
            "persistent_entities": config.persistent_entities,
            "task_type": config.task_type,
            **more,
        }

    def _member_predictions(
        self, batch: CrossSectionBatch, checkpoint: int | None
    ) -> MemberPredictions:
        require_torch("CAEModel")
        fit = self._fitted("extract")
        require_type("batch", batch, CrossSectionBatch)
        epoch = choose_checkpoint(
            checkpoint, None, self.available_checkpoints, best=None, fallback=fit.default_checkpoint
        )
        self._require_width(batch, fit.n_characteristics, fit.n_inputs)
        cells = gather(batch, masks.known(batch), self.config.dtype, constant=True)
        inputs = sample.factor_inputs(batch, self.config)
        from ml4t.models.latent_factors.cae import train  # noqa: PLC0415 - torch is optional

        net = train.network(self.config, fit.checkpoints[epoch])
        return MemberPredictions(
            batch=batch,
            asset_ids=matching.labels(batch.asset_ids, fit.asset_ids, batch.n_assets),
            checkpoint=epoch,
            cells=cells,
            betas=train.member_betas(net, cells),
            factors=None if inputs is None else train.member_factors(net, inputs),
        )

    def _require_width(self, batch: CrossSectionBatch, n_chars: int, n_inputs: int) -> None:
        reads_context = (
            self.config.factor_inputs == "context" and batch.context_features is not None
        )
        require_width(batch, n_chars, n_inputs if reads_context else None)
