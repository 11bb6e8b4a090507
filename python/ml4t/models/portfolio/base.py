"""Base of the portfolio models, and the checks of their batches."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from ml4t.models.checks import require_type
from ml4t.models.configs.portfolio import PortfolioConfig
from ml4t.models.lifecycle.estimator import Fittable
from ml4t.models.types import PortfolioSequenceBatch, PortfolioWeightsResult
from ml4t.models.types.instants import require_ascending
from ml4t.models.types.window_dates import WINDOW_TIMESTAMPS, fitting_dates, window_dates

if TYPE_CHECKING:
    from numpy.typing import NDArray

ConfigT = TypeVar("ConfigT", bound=PortfolioConfig)
FitT = TypeVar("FitT")


class Fitted(Protocol):
    """Sizes and labels that every portfolio fit has of its batch."""

    @property
    def asset_ids(self) -> tuple[str, ...]:
        """Slots in order; empty when the batch had none."""
        ...

    @property
    def n_assets(self) -> int:
        """Number of slots, N."""
        ...

    @property
    def n_features(self) -> int:
        """Number of features, F."""
        ...


class BasePortfolioModel(Fittable[ConfigT, FitT], Generic[ConfigT, FitT]):
    """A model whose fit turns windows of features into weights.

    Parameters
    ----------
    config
        Settings of the model.
    """

    # Whether the weights of a date depend on no other date: `WalkForward` then predicts it alone.
    sees_each_date_alone: ClassVar[bool] = False

    def _result(
        self,
        batch: PortfolioSequenceBatch,
        weights: NDArray[np.float64],
        step: int,
        asset_ids: tuple[str, ...],
    ) -> PortfolioWeightsResult:
        return PortfolioWeightsResult(
            weights,
            checkpoint_step=step,
            timestamps=batch.timestamps,
            asset_ids=batch.asset_ids or asset_ids,
            metadata={"model_name": self.config.model_name, **_window_dates(batch)},
        )


def _window_dates(batch: PortfolioSequenceBatch) -> dict[str, Any]:
    """Carry the dates of several windows, where the batch has them."""
    if len(batch.timestamps):
        return {}
    try:
        dates = window_dates(batch.metadata, *batch.features.shape[:2])
    except ValueError as error:
        warnings.warn(f"the weights have no dates: {error}", stacklevel=4)
        return {}
    return {WINDOW_TIMESTAMPS: dates} if dates else {}


def require_order(batch: PortfolioSequenceBatch) -> None:
    """Raise `ValueError` unless dates ascend, as policies, turnover and volatility require."""
    require_ascending("timestamps", batch.timestamps, opaque=True)
    for at, dates in enumerate(fitting_dates(batch.metadata, *batch.features.shape[:2])):
        require_ascending(f"timestamps of window {at}", dates, opaque=True)


def available(batch: PortfolioSequenceBatch) -> NDArray[np.bool_]:
    """Mark the tradable cells, shape (B, T, N); all of them without a mask."""
    if batch.mask is not None:
        return batch.mask
    return np.ones(batch.features.shape[:3], dtype=np.bool_)


def require_training_batch(model: str, batch: object) -> NDArray[Any]:
    """Return the returns of a training batch; raise `ValueError` without any."""
    sequence = require_type("batch", batch, PortfolioSequenceBatch)
    require_order(sequence)
    if sequence.returns is None:
        raise ValueError(f"{model} requires returns to fit; the batch has none")
    if not available(sequence).any():
        raise ValueError(
            f"{model}: no valid observations; the mask leaves none of the "
            f"{sequence.returns.size} cells"
        )
    return sequence.returns


def require_observed(model: str, batch: PortfolioSequenceBatch, burn_in: int) -> None:
    """Raise `ValueError` when no return is finite after the burn-in.

    A burn-in of all periods is refused by the objective.
    """
    returns = require_training_batch(model, batch)[:, burn_in:]
    known = available(batch)[:, burn_in:] & np.isfinite(returns)
    if returns.size and not known.any():
        raise ValueError(
            f"{model}: no valid observations; an observation needs the mask and a finite return, "
            f"and none of the {returns.size} cells after the burn-in of {burn_in} periods has both"
        )


def missing_notes(what: str, batch: PortfolioSequenceBatch) -> tuple[str, ...]:
    """Count the available cells whose return is not known, for the notes of a fit."""
    if batch.returns is None:
        return ()
    tradable = available(batch)
    known = tradable & np.isfinite(batch.returns)
    n_cells = int(tradable.sum()) - int(known.sum())
    if not n_cells:
        return ()
    without = tradable.any(axis=2) & ~known.any(axis=2)
    return (
        f"{n_cells} of {int(tradable.sum())} available cells of {what} have no finite return and "
        f"take no part in the objective; {int(without.sum())} of {without.size} dates have none.",
    )


def require_finite_trading(batch: PortfolioSequenceBatch) -> None:
    """Raise `ValueError` unless the positions and costs that turnover reads are finite."""
    for name, array, where in (
        ("vol_scale", batch.vol_scale, available(batch)),
        ("prev_weights", batch.prev_weights, None),
        ("costs", batch.costs, None),
    ):
        if array is None:
            continue
        bad = ~np.isfinite(array)
        if where is not None:
            bad &= where
        if bad.any():
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ValueError(
                f"{name} must be finite{'' if where is None else ' at available positions'}; "
                f"got {array[at]} at {at} ({int(bad.sum())} such entries)"
            )


def require_finite_features(batch: PortfolioSequenceBatch, where: NDArray[np.bool_]) -> None:
    """Raise `ValueError` for a feature that is not finite at a tradable cell."""
    bad = where & ~np.isfinite(batch.features).all(axis=3)
    if bad.any():
        window, date, asset = (int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"features must be finite at available positions; they are not at window {window}, "
            f"date {date}, asset {asset} ({int(bad.sum())} such cells; mask them)"
        )


def require_same_slots(model: str, fit: Fitted, batch: PortfolioSequenceBatch) -> None:
    """Raise `ValueError` unless slots and features are the fitted ones, in order."""
    require_order(batch)
    n_features = batch.features.shape[3]
    if batch.n_assets != fit.n_assets or n_features != fit.n_features:
        raise ValueError(
            f"{model}: the batch must have the fitted n_assets={fit.n_assets} and "
            f"n_features={fit.n_features}; got {batch.n_assets} and {n_features}"
        )
    if batch.asset_ids and fit.asset_ids and batch.asset_ids != fit.asset_ids:
        differing = sum(
            one != other for one, other in zip(batch.asset_ids, fit.asset_ids, strict=True)
        )
        raise ValueError(
            f"{model}: asset_ids must be the fitted ones in the fitted order; "
            f"{differing} of {fit.n_assets} differ"
        )
