"""Which assets take part in a fold: those with a return in its window.

A model of a stable panel learns nothing of an asset without a return. A walk leaves such an asset
out of the window, by id, and has NaN for it in the predictions of the fold; `fit` alone refuses it.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models.checks import listed
from ml4t.models.types import FitSummary, PersistentPanelBatch
from ml4t.models.walk_forward import hooks

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OF_ASSETS = ("asset_betas", "expected_returns")
"""Fields of results whose second axis is that of the assets."""


def taking_part(estimator: Any, data: Any, start: int, stop: int) -> NDArray[np.intp] | None:
    """Give the columns of the assets with a return in the window; None for all, or no choice."""
    return hooks.usable_assets(estimator, data.slice(start, stop))


def narrowed(data: PersistentPanelBatch, columns: NDArray[np.intp]) -> PersistentPanelBatch:
    """Take these assets of a panel."""
    z, r = data.characteristics, data.returns
    return replace(
        data,
        returns=None if r is None else r[:, columns],
        characteristics=None if z is None else z[:, columns],
        asset_ids=tuple(data.asset_ids[i] for i in columns) if data.asset_ids else (),
    )


def widened(result: Any, columns: NDArray[np.intp], n_assets: int) -> Any:
    """Put results of some assets, without labels, among those of all; NaN for the others."""
    changed: dict[str, Any] = {}
    for field in fields(result):
        value = getattr(result, field.name)
        if field.name in _OF_ASSETS and value is not None:
            whole = np.full((len(value), n_assets, *value.shape[2:]), np.nan, dtype=value.dtype)
            whole[:, columns] = value
            changed[field.name] = whole
        elif is_dataclass(value):
            changed[field.name] = widened(value, columns, n_assets)
    return replace(result, **changed) if changed else result


def noted(summary: Any, data: PersistentPanelBatch, columns: NDArray[np.intp]) -> Any:
    """Say in what a fit reports which assets it left out."""
    if not isinstance(summary, FitSummary):  # of a pipeline
        fit = noted(summary.structural_fit, data, columns)
        return replace(summary, structural_fit=fit)
    absent = np.setdiff1d(np.arange(data.n_assets), columns)
    names = [data.asset_ids[i] if data.asset_ids else f"asset {i}" for i in absent]
    note = (
        f"{len(absent)} of {data.n_assets} assets have no return in the window and are left out: "
        f"{listed(names)}."
    )
    return replace(summary, notes=(*summary.notes, note))
