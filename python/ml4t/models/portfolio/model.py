"""Neural portfolio models: fitted parameters, base class, LSTM and attentive model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ml4t.models.checks import require_int, require_shape, require_type
from ml4t.models.configs import DeepPortfolioConfig, LSTMPortfolioConfig
from ml4t.models.configs.portfolio import NeuralPortfolioConfig
from ml4t.models.lifecycle.estimator import Estimated
from ml4t.models.portfolio.base import (
    BasePortfolioModel,
    missing_notes,
    require_finite_trading,
    require_observed,
    require_same_slots,
    require_training_batch,
)
from ml4t.models.training.callbacks import Callback  # noqa: TC001 - signatures stay readable
from ml4t.models.training.neural import Neural, choose_checkpoint
from ml4t.models.training.optional_torch import require_torch
from ml4t.models.training.warm_start import begin
from ml4t.models.types import FitSummary, PortfolioSequenceBatch, PortfolioWeightsResult
from ml4t.models.types.arrays import FloatArray

if TYPE_CHECKING:
    from torch import nn

    from ml4t.models.portfolio.runtime import PortfolioTrainingArtifacts
    from ml4t.models.training.warm_start import Resume


@dataclass(frozen=True, slots=True)
class NeuralPortfolioFit:
    """Fitted parameters of a neural portfolio model.

    Attributes
    ----------
    n_assets, n_features : int
    asset_ids : tuple of str
    groups : tuple of int
        Group ids of the training batch, in order; empty without group embedding.
    adjacency_mask : ndarray of bool, shape (N, N), or None
        Graph of the fitted slots; True blocks.
    checkpoints : dict of int to dict of str to ndarray
        Parameters by step.
    best_step : int
    """

    n_assets: int
    n_features: int
    asset_ids: tuple[str, ...]
    groups: tuple[int, ...]
    adjacency_mask: NDArray[np.bool_] | None
    checkpoints: dict[int, dict[str, FloatArray]]
    best_step: int

    def __post_init__(self) -> None:
        """Raise `ValueError` when the parts disagree; `load` relies on it."""
        for name in ("n_assets", "n_features"):
            require_int(name, getattr(self, name), at_least=1)
        if self.asset_ids:
            require_shape("asset_ids", (self.n_assets,), (len(self.asset_ids),))
        if self.adjacency_mask is not None:
            square = (self.n_assets, self.n_assets)
            require_shape("adjacency_mask", square, self.adjacency_mask.shape)
        if self.best_step not in self.checkpoints:
            raise ValueError(
                f"checkpoints must hold best_step={self.best_step}; got {tuple(self.checkpoints)}"
            )


class NeuralPortfolioModel(
    Neural[NeuralPortfolioConfig, NeuralPortfolioFit],
    BasePortfolioModel[NeuralPortfolioConfig, NeuralPortfolioFit],
):
    """A policy network trained on the robust Sharpe objective of `portfolio.losses`.

    A subclass names its config and builds its policy.

    Parameters
    ----------
    config : LSTMPortfolioConfig or DeepPortfolioConfig

    Raises
    ------
    ModuleNotFoundError
        Without PyTorch, naming the extra that installs it.
    """

    fit_type: ClassVar[type] = NeuralPortfolioFit
    batch_type: ClassVar[type] = PortfolioSequenceBatch
    is_causal: ClassVar[bool] = True
    _with_graph: ClassVar[bool] = False

    def __init__(self, config: NeuralPortfolioConfig) -> None:
        require_torch(type(self).__name__)
        super().__init__(config)

    def fit(
        self,
        batch: PortfolioSequenceBatch,
        *,
        validation_batch: PortfolioSequenceBatch | None = None,
        callbacks: Sequence[Callback] = (),
        progress: bool = False,
        resume: Resume | None = None,
    ) -> FitSummary:
        """Train the policy on all windows.

        Parameters
        ----------
        batch : PortfolioSequenceBatch
            With returns over the period that follows the weights. One that is missing (not finite)
            at an available cell has no part in the objective: see `portfolio.losses`.
        validation_batch : PortfolioSequenceBatch, optional
            Of the same slots; chooses the best step and stops training.
        callbacks, progress, resume
            See `training.neural.Neural`.

        Returns
        -------
        FitSummary
            `best_validation_sharpe`: annualised, after costs and burn-in.

        Raises
        ------
        ValueError
            When a batch lacks returns, groups or costs that the settings need, or the two batches
            are not of the same slots, features and graph.
        FloatingPointError
            When training diverges, naming the step.
        """
        return self._fit(
            self._train,
            batch,
            validation_batch,
            callbacks=callbacks,
            progress=progress,
            resume=resume,
        )

    def predict(
        self, batch: PortfolioSequenceBatch, *, checkpoint: int | None = None
    ) -> PortfolioWeightsResult:
        """Give the weights of every window; those of a date see no later date.

        Parameters
        ----------
        batch : PortfolioSequenceBatch
            The fitted slots in the fitted order; returns are not read.
        checkpoint : int, optional
            One of `available_checkpoints`; else the configured default, else the last.

        Returns
        -------
        PortfolioWeightsResult
            `weights` (B, T, N); 0 where the mask is false.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            When the batch is not of the fitted slots, features, groups or graph, or the checkpoint
            is not available.
        """
        require_type("batch", batch, PortfolioSequenceBatch)
        self._require_context(batch)
        fit = self._fitted("predict")
        require_torch(type(self).__name__)
        name = type(self).__name__
        require_same_slots(name, fit, batch)
        if self._with_graph:
            _require_same_graph(name, fit, batch, may_omit=True)
        step = choose_checkpoint(
            checkpoint,
            self.config.default_checkpoint,
            self.available_checkpoints,
            best=fit.best_step,
            fallback=max(fit.checkpoints),
        )
        from ml4t.models.portfolio.runtime import predicted_weights  # noqa: PLC0415 - torch is optional

        weights = predicted_weights(
            partial(self._policy, fit),
            fit.checkpoints[step],
            self._placed(fit.groups, batch),
            self.config,
        )
        return self._result(batch, weights, step, fit.asset_ids)

    def _train(
        self,
        batch: PortfolioSequenceBatch,
        validation_batch: PortfolioSequenceBatch | None,
        *,
        listeners: tuple[Callback, ...],
        resume: Resume | None,
    ) -> Estimated[NeuralPortfolioFit]:
        name = type(self).__name__
        self._require_trainable(name, batch)
        groups = self._groups(batch)
        graph = batch.adjacency_mask if self._with_graph else None
        blank = NeuralPortfolioFit(
            batch.n_assets, batch.features.shape[3], batch.asset_ids, groups, graph, {0: {}}, 0
        )
        if validation_batch is not None:
            self._require_trainable(f"{name} validation_batch", validation_batch)
            require_same_slots(f"{name} validation_batch", blank, validation_batch)
            if validation_batch.asset_ids != batch.asset_ids:
                raise ValueError(f"{name}: validation_batch must have the asset_ids of the batch")
            if self._with_graph:
                what = f"{name} validation_batch"
                _require_same_graph(what, blank, validation_batch, may_omit=False)
        from ml4t.models.portfolio.components import Maker  # noqa: PLC0415 - torch is optional
        from ml4t.models.portfolio.runtime import fit_policy_network  # noqa: PLC0415
        from ml4t.models.training.checkpoints import to_arrays  # noqa: PLC0415
        from ml4t.models.training.device import resolve_device  # noqa: PLC0415

        placed = None
        if validation_batch is not None:
            placed = self._placed(groups, validation_batch)
        policy = self._policy(blank, Maker.of(self.config))
        trained = fit_policy_network(
            policy,
            batch=self._placed(groups, batch),
            validation_batch=placed,
            config=self.config,
            device=resolve_device(self.config.device),
            listeners=listeners,
            resume=begin(policy, resume),
        )
        states = trained.checkpoint_states
        checkpoints = {step: to_arrays(states[step]) for step in sorted(states)}
        fit = replace(blank, checkpoints=checkpoints, best_step=trained.best_step)
        notes = missing_notes("the batch", batch)
        if validation_batch is not None:
            notes += missing_notes("validation_batch", validation_batch)
        return Estimated(fit, _summary(batch, trained, notes), self._reason(trained))

    def _require_trainable(self, what: str, batch: PortfolioSequenceBatch) -> None:
        """Raise `ValueError` for a batch whose objective has no value."""
        require_training_batch(what, batch)
        require_observed(what, batch, self.config.burn_in)
        self._require_context(batch)
        if batch.costs is not None or self.config.turnover_penalty > 0.0:
            require_finite_trading(batch)

    def _reason(self, trained: PortfolioTrainingArtifacts) -> str:
        early = self.config.max_iters not in trained.checkpoint_states
        return "early_stopping" if early else "completed"

    def _require_context(self, batch: PortfolioSequenceBatch) -> None:
        """Raise `ValueError` for a batch without the groups or costs of the static context."""
        name = type(self).__name__
        if self.config.use_group_embedding and batch.group_ids is None:
            raise ValueError(f"{name}: use_group_embedding requires group_ids; the batch has none")
        if not self.config.use_cost_in_context:
            return
        if batch.costs is None:
            raise ValueError(f"{name}: use_cost_in_context requires costs; the batch has none")
        finite = np.isfinite(batch.costs)
        if not finite.all():
            raise ValueError(
                f"{name}: use_cost_in_context requires finite costs; {int((~finite).sum())} of "
                f"{batch.n_assets} are not"
            )

    def _groups(self, batch: PortfolioSequenceBatch) -> tuple[int, ...]:
        if not self.config.use_group_embedding or batch.group_ids is None:
            return ()
        return tuple(np.unique(batch.group_ids).tolist())

    def _placed(
        self, groups: tuple[int, ...], batch: PortfolioSequenceBatch
    ) -> PortfolioSequenceBatch:
        """Give the groups of the slots by their place among the fitted ones."""
        if not groups or batch.group_ids is None:
            return batch
        unseen = sorted(set(batch.group_ids.tolist()) - set(groups))
        if unseen:
            slot = batch.group_ids.tolist().index(unseen[0])
            raise ValueError(
                f"{type(self).__name__}: group_ids must be among the fitted {groups}; "
                f"got {unseen[0]} of {_name(batch, slot)}, which was not in the fit"
            )
        return replace(batch, group_ids=np.searchsorted(np.array(groups), batch.group_ids))

    @classmethod
    def _blank(
        cls, config: NeuralPortfolioConfig, fit: NeuralPortfolioFit
    ) -> tuple[Any, tuple[int, ...]]:
        import torch  # noqa: PLC0415 - torch is optional

        from ml4t.models.portfolio.components import Maker  # noqa: PLC0415
        from ml4t.models.training.device import generator, resolve_dtype  # noqa: PLC0415

        if bool(fit.groups) != config.use_group_embedding:
            raise ValueError(
                f"the fit must have groups if and only if use_group_embedding; got {fit.groups}"
            )
        if fit.adjacency_mask is not None and not cls._with_graph:
            raise ValueError(f"{cls.__name__} must have no adjacency_mask; the fit has one")
        device = torch.device("meta")
        source = generator(0, device)
        maker = Maker(source, device, resolve_dtype(config.dtype))
        return cls(config)._policy(fit, maker), ()

    @classmethod
    def _last_epoch(cls, config: NeuralPortfolioConfig, label: Any) -> int:
        del label
        return config.max_iters

    def _policy(self, fit: NeuralPortfolioFit, maker: Any) -> nn.Module:
        raise NotImplementedError


class LSTMPortfolioModel(NeuralPortfolioModel):
    """Weights from a recurrent network: see `portfolio.policies.lstm.LSTMPolicy`.

    Parameters
    ----------
    config : LSTMPortfolioConfig

    References
    ----------
    Zhang, Zohren and Roberts (2020), Deep Learning for Portfolio Optimization, JFDS 2(4).
    """

    config_type: ClassVar[type] = LSTMPortfolioConfig

    def _policy(self, fit: NeuralPortfolioFit, maker: Any) -> nn.Module:
        from ml4t.models.portfolio.policies.lstm import LSTMPolicy  # noqa: PLC0415

        config = require_type("config", self.config, LSTMPortfolioConfig)
        return LSTMPolicy((fit.n_assets, fit.n_features, len(fit.groups)), config, maker)


class DeepPortfolioModel(NeuralPortfolioModel):
    """Weights from an attentive network: see `portfolio.policies.deep.DeepPolicy`.

    The graph of the batch's `adjacency_mask`, if any, is part of the fit: a batch to predict may
    leave it out, but may not have another one.

    Parameters
    ----------
    config : DeepPortfolioConfig

    References
    ----------
    Wood, Roberts and Zohren (2026), Deep Portfolio Management, arXiv 2601.05975.
    """

    config_type: ClassVar[type] = DeepPortfolioConfig
    _with_graph: ClassVar[bool] = True

    def _policy(self, fit: NeuralPortfolioFit, maker: Any) -> nn.Module:
        import torch  # noqa: PLC0415 - torch is optional

        from ml4t.models.portfolio.policies.deep import DeepPolicy  # noqa: PLC0415

        config = require_type("config", self.config, DeepPortfolioConfig)
        graph = None if fit.adjacency_mask is None else torch.tensor(fit.adjacency_mask)
        sizes = (fit.n_assets, fit.n_features, len(fit.groups))
        return DeepPolicy(sizes, config, maker, graph)


def _require_same_graph(
    what: str, fit: NeuralPortfolioFit, batch: PortfolioSequenceBatch, *, may_omit: bool
) -> None:
    """Raise `ValueError` for another graph than the fitted one; name the first pair."""
    fitted, got = fit.adjacency_mask, batch.adjacency_mask
    if got is None and (may_omit or fitted is None):
        return
    rule = f"{what}: adjacency_mask must be the fitted one"
    if fitted is None or got is None:
        raise ValueError(f"{rule}; the {'fit' if fitted is None else 'batch'} had none")
    differing = np.argwhere(fitted != got)
    if len(differing):
        one, other = (_name(batch, int(slot)) for slot in differing[0])
        raise ValueError(
            f"{rule}; it differs from {one} to {other}, in {len(differing)} of {got.size} entries"
        )


def _name(batch: PortfolioSequenceBatch, slot: int) -> str:
    return f"asset {batch.asset_ids[slot]!r}" if batch.asset_ids else f"slot {slot}"


def _summary(
    batch: PortfolioSequenceBatch, trained: PortfolioTrainingArtifacts, notes: tuple[str, ...]
) -> FitSummary:
    return FitSummary(
        converged=True,
        train_metrics={"n_train_windows": batch.batch_size},
        val_metrics={"best_validation_sharpe": trained.best_validation_sharpe},
        best_epoch=trained.best_step,
        history=tuple(dict(entry) for entry in trained.history),
        notes=notes,
    )
