"""Batches and results along time: cut, put together, with their last returns hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import date
from itertools import pairwise
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ml4t.models.panel.moments import CharacteristicMoments
from ml4t.models.types import (
    AssetForecastResult,
    AssetSignalResult,
    AssetWeightsResult,
    CrossSectionBatch,
    FactorForecastResult,
    LatentFactorState,
    PersistentPanelBatch,
    PortfolioSequenceBatch,
    PortfolioWeightsResult,
    StochasticDiscountFactorState,
)

Data: TypeAlias = (
    PersistentPanelBatch | CrossSectionBatch | PortfolioSequenceBatch | CharacteristicMoments
)
ResultT = TypeVar("ResultT")

# Axis of time of every field that has one.
_TIME: dict[type, dict[str, int]] = {
    PersistentPanelBatch: {"returns": 0, "characteristics": 0, "context_features": 0},
    CrossSectionBatch: dict.fromkeys(
        ("characteristics", "returns", "factor_returns", "context_features", "mask"), 0
    ),
    PortfolioSequenceBatch: dict.fromkeys(("features", "returns", "vol_scale", "mask"), 1),
    LatentFactorState: {"asset_betas": 0, "factor_returns": 0, "context_features": 0},
    FactorForecastResult: {"factor_premia": 0},
    AssetForecastResult: {"expected_returns": 0},
    AssetSignalResult: {"signal_values": 0},
    AssetWeightsResult: {"weights": 0},
    StochasticDiscountFactorState: {"asset_weights": 0, "sdf_values": 0},
    PortfolioWeightsResult: {"weights": 1},
}
# Fields that hold what is not known before the date is over.
_REALISED = ("returns", "factor_returns")


def span(value: Any, start: int, stop: int) -> Any:
    """Take the dates from position `start` up to `stop` of a batch or a result; no copy."""
    if isinstance(value, CharacteristicMoments):
        return value.slice(start, stop)
    axes = _TIME.get(type(value))
    if axes is None:  # a result made of results
        return replace(value, **{name: span(part, start, stop) for name, part in _parts(value)})
    cut: dict[str, Any] = {
        name: array[(slice(None),) * axis + (slice(start, stop),)]
        for name, axis in axes.items()
        if (array := getattr(value, name)) is not None
    }
    if len(value.timestamps):
        cut["timestamps"] = value.timestamps[start:stop]
    return replace(value, **cut)


def hidden(data: Data, n_last: int) -> Data:
    """Hide what the last dates brought: their returns become missing, their moments empty."""
    known = data.n_periods - n_last
    if isinstance(data, CharacteristicMoments):
        there = np.arange(data.n_periods) < known
        return replace(
            data,
            packed_gram=np.where(there[:, None], data.packed_gram, 0.0),
            cross=np.where(there[:, None], data.cross, 0.0),
            return_squares=np.where(there, data.return_squares, 0.0),
            n_assets=np.where(there, data.n_assets, np.uint32(0)),
        )
    blank: dict[str, Any] = {}
    for name in _REALISED:
        array = getattr(data, name, None)
        if array is None:
            continue
        if known <= 0 and not isinstance(data, PersistentPanelBatch):  # has its shape from them
            blank[name] = None
        else:
            blank[name] = _blanked(array, _TIME[type(data)][name], max(known, 0))
    return replace(data, **blank)


def require_data(data: object) -> Any:
    """Refuse what cannot be cut along time, and dates that go back."""
    if type(data) not in _TIME and not isinstance(data, CharacteristicMoments):
        raise TypeError(f"data must be a batch or moments; got {type(data).__name__}")
    labels = list(getattr(data, "timestamps", ()))
    for at, (one, later) in enumerate(pairwise(labels)):
        # Only what certainly is time: text may be in the caller's own order.
        if isinstance(one, (date, np.datetime64)) and type(one) is type(later) and later < one:
            raise ValueError(
                f"timestamps must be in order of time; got {later} after {one} at date {at + 1}"
            )
    return data


def joined(parts: Sequence[ResultT]) -> ResultT:
    """Put results of successive dates together; all else comes from the last."""
    last: Any = parts[-1]
    axes = _TIME.get(type(last))
    if axes is None:
        made = {name: joined([getattr(one, name) for one in parts]) for name, _ in _parts(last)}
        composed: ResultT = replace(last, **made)
        return composed
    whole: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts], axis=axis)
        for name, axis in axes.items()
        if all(getattr(part, name) is not None for part in parts)
    }
    absent = dict.fromkeys((name for name in axes if name not in whole), None)
    result: ResultT = replace(last, **whole, **absent, timestamps=())
    return result


def labelled(result: Any, timestamps: Any, asset_ids: tuple[str, ...]) -> Any:
    """Give a result, or all that it is made of, labels; empty ones take them away."""
    if type(result) not in _TIME:
        parts = {name: labelled(part, timestamps, asset_ids) for name, part in _parts(result)}
        return replace(result, **parts)
    given: dict[str, Any] = {"timestamps": timestamps}
    if hasattr(result, "asset_ids"):
        n_assets = next(getattr(result, name) for name in _TIME[type(result)]).shape
        there = not asset_ids or len(asset_ids) in n_assets
        given["asset_ids"] = asset_ids if there else ()
    return replace(result, **given)


def _parts(value: Any) -> list[tuple[str, Any]]:
    if not is_dataclass(value):
        raise TypeError(f"a result must be one of this package; got {type(value).__name__}")
    return [(field.name, getattr(value, field.name)) for field in fields(value)]


def _blanked(array: NDArray[Any], axis: int, known: int) -> NDArray[Any]:
    copy = np.array(array)
    copy[(slice(None),) * axis + (slice(known, None),)] = np.nan
    return copy
