"""Batches and results along time: cut, put together, with their last returns hidden."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ml4t.models.moments.characteristic_moments import CharacteristicMoments
from ml4t.models.types import CrossSectionBatch, PersistentPanelBatch, PortfolioSequenceBatch
from ml4t.models.types.instants import require_ascending
from ml4t.models.types.time_axis import DatedRecord, concatenated
from ml4t.models.types.window_dates import windows_of, with_windows

Data: TypeAlias = (
    PersistentPanelBatch | CrossSectionBatch | PortfolioSequenceBatch | CharacteristicMoments
)

KEY_NAMES = ("timestamp_col", "entity_col", "timestamp_dtype", "entity_dtype")
"""What a long frame says of its key columns in the metadata of its batch."""
# Fields that hold what is not known before the date is over.
_REALISED = ("returns", "factor_returns")


def hidden(data: Data, n_last: int) -> Data:
    """Hide the last dates: their returns become missing, their moments empty."""
    known = data.n_periods - n_last
    if isinstance(data, CharacteristicMoments):
        kept = np.arange(data.n_periods) < known
        return replace(
            data,
            packed_gram=np.where(kept[:, None], data.packed_gram, 0.0),
            cross=np.where(kept[:, None], data.cross, 0.0),
            return_squares=np.where(kept, data.return_squares, 0.0),
            n_assets=np.where(kept, data.n_assets, np.uint32(0)),
        )
    blank: dict[str, Any] = {}
    for name in _REALISED:
        array = getattr(data, name, None)
        if array is None:
            continue
        if known <= 0 and not isinstance(data, PersistentPanelBatch):  # has its shape from them
            blank[name] = None
        else:
            blank[name] = _blanked(array, data.time_axes[name], max(known, 0))
    return replace(data, **blank)


def require_data(data: object) -> Any:
    """Reject what has no axis of time, and dates that go back."""
    if not isinstance(data, DatedRecord) or not hasattr(data, "n_periods"):
        raise TypeError(f"data must be a batch or moments; got {type(data).__name__}")
    require_ascending("timestamps", getattr(data, "timestamps", ()))
    for at, dates in enumerate(windows_of(data)):
        require_ascending(f"timestamps of window {at}", dates)
    return data


@contextmanager
def date_named(data: Data, date: int) -> Iterator[None]:
    """Add the label of the date to an error, whose message counts from another date."""
    try:
        yield
    except Exception as error:
        if len(data.timestamps):
            error.add_note(f"at the date {data.timestamps[date]!r}")
        raise


def joined(parts: Sequence[Any]) -> Any:
    """Join results of successive dates without labels; what one part lacks, the whole lacks."""
    last = _require_result(parts[-1])
    if not last.time_axes:
        names = [field.name for field in fields(last)]
        whole = {name: joined([getattr(part, name) for part in parts]) for name in names}
        return replace(last, **whole)
    lacking = {
        name: None for name in last.time_axes if any(getattr(one, name) is None for one in parts)
    }
    return concatenated([replace(labelled(part, (), ()), **lacking) for part in parts])


def labelled(
    result: Any, timestamps: Any, asset_ids: tuple[str, ...], windows: Sequence[Any] = ()
) -> Any:
    """Give a result, or all that it is made of, labels; empty ones take them away.

    Parameters
    ----------
    result : record
    timestamps : sequence
    asset_ids : tuple of str
    windows : sequence of sequences
        Dates of every window of a portfolio.
    """
    if not _require_result(result).time_axes:
        parts = [(field.name, getattr(result, field.name)) for field in fields(result)]
        return replace(
            result, **{name: labelled(part, timestamps, asset_ids, windows) for name, part in parts}
        )
    given: dict[str, Any] = {"timestamps": timestamps}
    if windows or windows_of(result):
        given["metadata"] = with_windows(result.metadata, windows)
    if hasattr(result, "asset_ids"):
        n_assets = next(getattr(result, name) for name in result.time_axes).shape
        fits = not asset_ids or len(asset_ids) in n_assets
        given["asset_ids"] = asset_ids if fits else ()
    return replace(result, **given)


def with_key_names(result: Any, metadata: Mapping[str, Any]) -> Any:
    """Give a result, or all that it is made of, the names of the key columns of the data."""
    names = {key: metadata[key] for key in KEY_NAMES if key in metadata}
    if not names:
        return result
    if not _require_result(result).time_axes:
        parts = {
            field.name: with_key_names(getattr(result, field.name), names)
            for field in fields(result)
        }
        return replace(result, **parts)
    return replace(result, metadata={**names, **result.metadata})


def _require_result(value: Any) -> Any:
    if not isinstance(value, DatedRecord):
        raise TypeError(f"a result must be one of this package; got {type(value).__name__}")
    return value


def _blanked(array: NDArray[Any], axis: int, known: int) -> NDArray[Any]:
    copy = np.array(array)
    copy[(slice(None),) * axis + (slice(known, None),)] = np.nan
    return copy
