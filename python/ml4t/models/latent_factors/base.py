"""Bases of the latent factor models."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

import numpy as np

from ml4t.models.checks import listed, require_type, window_named
from ml4t.models.configs.base import BaseModelConfig
from ml4t.models.configs.latent_factor import LatentFactorConfig
from ml4t.models.latent_factors.statistics import (
    counted,
    factor_names,
    measures_table,
    panel_measures,
    sample_table,
    statistics_table,
)
from ml4t.models.latent_factors.tables import ModelSummary
from ml4t.models.lifecycle.estimator import Fittable
from ml4t.models.panel.masks import require_returns
from ml4t.models.panel.matching import fitted_positions, labels
from ml4t.models.types import FitSummary, LatentFactorState, PersistentPanelBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ml4t.models.latent_factors.tables import Table
    from ml4t.models.lifecycle.estimator import Estimated

ConfigT = TypeVar("ConfigT", bound=BaseModelConfig)
PanelConfigT = TypeVar("PanelConfigT", bound=LatentFactorConfig)
FitT = TypeVar("FitT")


class BaseLatentFactorModel(Fittable[ConfigT, FitT], Generic[ConfigT, FitT]):
    """Base of models that give exposures and realized factors of a batch.

    Parameters
    ----------
    config
        Settings of the model.
    """

    # Exposures of a date depend on that date alone.
    sees_each_date_alone: ClassVar[bool] = True

    @abstractmethod
    def fit(self, batch: Any) -> FitSummary:
        """Estimate from a batch with returns."""

    @abstractmethod
    def extract(self, batch: Any, *, checkpoint: int | None = None) -> LatentFactorState:
        """Give the exposures of a batch, and its realized factors where it has returns."""

    def fit_extract(self, batch: Any, **options: Any) -> tuple[FitSummary, LatentFactorState]:
        """Fit, and extract from the same batch what a forecaster learns from.

        Parameters
        ----------
        batch
            As in `fit`.
        **options
            Keyword arguments of `fit`; `extract` gets those that it takes as well.

        Returns
        -------
        FitSummary
        LatentFactorState
            Realized factors of every date. Exposures may be those of no asset.
        """
        summary = self.fit(batch, **options)
        taken = inspect.signature(self.extract).parameters.keys() & options.keys()
        return summary, self.extract(batch, **{name: options[name] for name in taken})

    def reference_loadings(self, batch: Any) -> NDArray[Any]:
        """Give loadings (rows, K) by which the factors of two fits are matched.

        Parameters
        ----------
        batch
            One date; exposures to the factors of this fit are those of its assets.
        """
        betas: NDArray[Any] = self.extract(batch).asset_betas[0]
        return betas


class StablePanelModel(BaseLatentFactorModel[PanelConfigT, FitT], Generic[PanelConfigT, FitT]):
    """A latent factor model of a panel in which every column is the same asset throughout.

    A subclass names its `method` for messages.

    Parameters
    ----------
    config
        Settings of the model.
    """

    method: ClassVar[str]

    def fit(self, batch: PersistentPanelBatch) -> FitSummary:
        """Estimate loadings and factors.

        Parameters
        ----------
        batch : PersistentPanelBatch
            `returns` (T, N), simple returns per period; NaN marks a missing one. A date without
            any is left out and has no factors (NaN).

        Returns
        -------
        FitSummary

        Raises
        ------
        TypeError
            When `batch` is not a `PersistentPanelBatch`.
        ValueError
            Without returns; when an asset has no finite return; when K exceeds min(T, N) or the
            rank of the panel.
        """
        return self._run(lambda: self._estimate_checked(batch), batch)

    def fit_windows(
        self, batch: PersistentPanelBatch, windows: Sequence[tuple[int, int]]
    ) -> tuple[tuple[Self, FitSummary], ...]:
        """Fit one new model to every window of dates, for little more than one fit costs.

        Parameters
        ----------
        batch : PersistentPanelBatch
            `returns` (T, N).
        windows : sequence of (int, int)
            First date and the date after the last, as in a slice.

        Returns
        -------
        tuple of (model, FitSummary)
            Each as `fit` on the window gives them, to about 1e-11.

        Raises
        ------
        ValueError
            When `fit` rejects a window.
        """
        require_type("batch", batch, PersistentPanelBatch)
        returns = require_returns(type(self).__name__, batch.returns)
        for start, stop in windows:
            with window_named(start, stop):
                if not 0 <= start < stop <= len(returns):
                    raise ValueError(
                        f"windows must be spans of the {len(returns)} dates; got {start} to {stop}"
                    )
                require_panel(
                    self.method, returns[start:stop], self.config.n_factors, batch.asset_ids
                )
        observed = np.isfinite(returns).any(axis=1)
        usable, at = _dates(returns, observed), np.concatenate([[0], observed.cumsum()]).tolist()
        spans = [(at[start], at[stop]) for start, stop in windows]
        estimates = self._estimate_windows(usable, tuple(batch.asset_ids), spans)
        fitted = []
        for (start, stop), estimated in zip(windows, estimates, strict=True):
            model = type(self)(self.config)
            window = PersistentPanelBatch(returns[start:stop], asset_ids=batch.asset_ids)
            fitted.append(
                (model, model._run(partial(_with_gaps, estimated, observed[start:stop]), window))
            )
        return tuple(fitted)

    def extract(
        self, batch: PersistentPanelBatch, *, checkpoint: int | None = None
    ) -> LatentFactorState:
        """Exposures at the dates of `batch`, and realized factors where it has returns.

        Parameters
        ----------
        batch : PersistentPanelBatch
            The fitted assets, in any order if both sides have `asset_ids`; labels alone suffice.
        checkpoint : None
            These models have no checkpoints.

        Returns
        -------
        LatentFactorState
            `asset_betas` (T, N, K) in the order of the batch, the same at every date;
            `factor_returns` (T, K) realized return per period, NaN where a date has no return;
            None without returns.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            When the assets are not the fitted ones, or a checkpoint is given.
        """
        refuse_checkpoint(type(self).__name__, checkpoint)
        fit = self._fitted("extract")
        require_type("batch", batch, PersistentPanelBatch)
        betas, asset_ids = self._fitted_betas(fit)
        order = fitted_positions(
            type(self).__name__,
            fitted=asset_ids,
            n_fitted=len(betas),
            requested=batch.asset_ids,
            n_requested=batch.n_assets,
        )
        realized = None
        if batch.returns is not None:
            realized = self._realized(fit, batch.returns, order).astype(betas.dtype, copy=False)
            realized[~np.isfinite(batch.returns).any(axis=1)] = np.nan
        asset_ids = labels(batch.asset_ids, asset_ids, batch.n_assets)
        return self._state_of(fit, batch, betas[order], asset_ids, realized)

    def fit_extract(
        self, batch: PersistentPanelBatch, **options: Any
    ) -> tuple[FitSummary, LatentFactorState]:
        """Fit, and combine the fitted exposures with the factors of the fit.

        Parameters
        ----------
        batch : PersistentPanelBatch
            As in `fit`.
        **options
            Keyword arguments of `fit`.

        Returns
        -------
        FitSummary
        LatentFactorState
            As `extract` gives it, to rounding: the factors are `train_factor_returns`.
        """
        summary = self.fit(batch, **options)
        fit = self._fitted("fit_extract")
        betas, asset_ids = self._fitted_betas(fit)
        return summary, self._state_of(fit, batch, betas, asset_ids, self._train_factors(fit))

    def _state_of(
        self,
        fit: FitT,
        batch: PersistentPanelBatch,
        betas: NDArray[Any],
        asset_ids: Sequence[str],
        realized: NDArray[Any] | None,
    ) -> LatentFactorState:
        # One (N, K) block in T views: no memory grows with the number of dates.
        return LatentFactorState(
            np.broadcast_to(betas, (batch.n_periods, *betas.shape)),
            factor_returns=realized,
            timestamps=batch.timestamps,
            asset_ids=tuple(asset_ids),
            metadata=self._metadata(fit),
        )

    def usable_assets(self, batch: PersistentPanelBatch) -> NDArray[np.intp] | None:
        """Give the columns of the assets with a return, which alone are fitted; None for all."""
        if not isinstance(batch, PersistentPanelBatch) or batch.returns is None:
            return None
        usable = np.isfinite(batch.returns).any(axis=0)
        return None if usable.all() or not usable.any() else np.flatnonzero(usable)

    @property
    def train_factor_returns(self) -> NDArray[Any]:
        """Realized factors of the training dates, shape (T, K), return per period; NaN is none."""
        return self._train_factors(self._fitted("train_factor_returns is read"))

    def summary(self, batch: PersistentPanelBatch | None = None) -> ModelSummary:
        """Tables of the fit.

        Parameters
        ----------
        batch : PersistentPanelBatch, optional
            Panel of the fitted assets with returns, on which the fit is measured; the training
            panel or any other. Premia are the mean factors of the fit.

        Returns
        -------
        ModelSummary
            Text when printed, HTML in a notebook.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            When the batch has no returns, or other assets than the fitted ones.
        """
        result = self._require_fitted("summary")
        if batch is not None:
            require_type("batch", batch, PersistentPanelBatch)
        factors = self._train_factors(result.fit)
        n_periods, n_factors = factors.shape
        n_assets = len(self._fitted_betas(result.fit)[0])
        names = factor_names(n_factors)
        sizes = {"Periods": n_periods, "Assets": n_assets, "Factors": n_factors}
        tables = [sample_table(result.record, sizes), *self._explained(result.fit)]
        if batch is not None:
            returns = require_returns(type(self).__name__, batch.returns)
            state = self.extract(batch)
            realized = np.empty((0, n_factors)) if (f := state.factor_returns) is None else f
            premia = np.nanmean(factors, axis=0)
            tables.append(
                measures_table(panel_measures(returns, state.asset_betas[0], realized, premia))
            )
        tables.append(statistics_table(factors, names))
        return ModelSummary(f"{type(self).__name__}: {counted(n_factors)}", tuple(tables))

    def _metadata(self, fit: FitT) -> dict[str, Any]:
        del fit
        return {"model_name": self.config.model_name, "persistent_entities": True}

    def _estimate_checked(self, batch: PersistentPanelBatch) -> Estimated[FitT]:
        require_type("batch", batch, PersistentPanelBatch)
        returns = require_returns(type(self).__name__, batch.returns)
        require_panel(self.method, returns, self.config.n_factors, batch.asset_ids)
        observed = np.isfinite(returns).any(axis=1)
        try:
            return _with_gaps(self._estimate(_dates(returns, observed), batch.asset_ids), observed)
        except ValueError as error:  # the kernel checks the rank of the panel
            raise ValueError(f"{self.method} requires a panel with K factors: {error}") from error

    @abstractmethod
    def _estimate(self, returns: NDArray[Any], asset_ids: tuple[str, ...]) -> Estimated[FitT]:
        """Estimate from returns (T, N) with a finite one at every date."""

    @abstractmethod
    def _estimate_windows(
        self,
        returns: NDArray[Any],
        asset_ids: tuple[str, ...],
        windows: Sequence[tuple[int, int]],
    ) -> Iterator[Estimated[FitT]]:
        """Estimate from every window of returns (T, N)."""

    @classmethod
    def _require_settings(cls, config: PanelConfigT, fit: FitT) -> None:
        n_factors = cls(config)._train_factors(fit).shape[1]
        if n_factors != config.n_factors:
            raise ValueError(f"the fit must have n_factors={config.n_factors}; got {n_factors}")

    @abstractmethod
    def _fitted_betas(self, fit: FitT) -> tuple[NDArray[Any], Sequence[str]]:
        """Exposures (N, K) and identifiers in the order of the fit."""

    @abstractmethod
    def _train_factors(self, fit: FitT) -> NDArray[Any]:
        """Realized factors (T, K) of the training dates."""

    @abstractmethod
    def _explained(self, fit: FitT) -> tuple[Table, ...]:
        """Tables of the measures of fit of the method."""

    @abstractmethod
    def _realized(
        self, fit: FitT, returns: NDArray[Any], order: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Factor returns (T, K) of new returns whose columns are the fitted assets `order`."""


def refuse_checkpoint(model: str, checkpoint: object) -> None:
    """Raise `ValueError` for a checkpoint."""
    if checkpoint is not None:
        raise ValueError(f"{model} has no checkpoints; checkpoint must be None; got {checkpoint!r}")


def require_panel(
    method: str, returns: NDArray[Any], n_factors: int, asset_ids: Sequence[str] = ()
) -> None:
    """Raise `ValueError` for a panel too small for K factors, or an asset without a return."""
    if n_factors > min(returns.shape):
        raise ValueError(
            f"{method} requires K <= min(T, N): n_factors={n_factors} exceeds {min(returns.shape)} "
            f"(T={returns.shape[0]}, N={returns.shape[1]})"
        )
    empty = np.flatnonzero(~np.isfinite(returns).any(axis=0))
    if empty.size:
        names = f": {listed([asset_ids[int(i)] for i in empty])}" if asset_ids else ""
        raise ValueError(
            f"{method} requires a finite return for every asset; asset {empty[0]} has none "
            f"({empty.size} of {returns.shape[1]} have none{names}); leave it out of the batch"
        )


def missing_note(returns: NDArray[Any], handled: str) -> tuple[str, ...]:
    """Count the missing returns and describe their treatment."""
    n_missing = returns.size - int(np.isfinite(returns).sum())
    if n_missing == 0:
        return ()
    share = 100.0 * n_missing / returns.size
    return (f"{n_missing} of {returns.size} returns are missing ({share:.2g} %): {handled}.",)


def _dates(returns: NDArray[Any], observed: NDArray[np.bool_]) -> NDArray[Any]:
    """Select the dates with a return; no copy where all have one."""
    return returns if observed.all() else returns[observed]


def _with_gaps(estimated: Estimated[FitT], observed: NDArray[np.bool_]) -> Estimated[FitT]:
    """Insert NaN for the factors of dates without returns."""
    if observed.all():
        return estimated
    fit: Any = estimated.fit
    factors = np.full((len(observed), fit.train_factor_returns.shape[1]), np.nan)
    factors[observed] = fit.train_factor_returns
    factors = factors.astype(fit.train_factor_returns.dtype, copy=False)
    return replace(estimated, fit=replace(fit, train_factor_returns=factors))
