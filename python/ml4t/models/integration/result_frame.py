"""The frame of any result: of a model, a pipeline, a walk or a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ml4t.models.integration.surfaces import (
    predictions_frame_from_asset_forecast,
    predictions_frame_from_asset_signal,
    weights_frame_from_asset_weights,
)
from ml4t.models.types import AssetWeightsResult, StochasticDiscountFactorState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ml4t.models.integration.surfaces import ResultsFrame

_BUNDLED = ("asset_forecast", "processed_weights")
_FRAMES: dict[str, Any] = {
    "expected_returns": predictions_frame_from_asset_forecast,
    "signal_values": predictions_frame_from_asset_signal,
    "weights": weights_frame_from_asset_weights,
}


def frame_of(result: Any, *, constants: Mapping[str, Any] | None = None) -> ResultsFrame:
    """Put the forecasts, signals or weights of a result into one long frame.

    Parameters
    ----------
    result : record
        A forecast, signals, weights (also of a discount factor), or a bundle with one of them.
    constants : mapping, optional
        Columns with one value in every row.

    Returns
    -------
    PredictionsFrame or WeightsFrame

    Raises
    ------
    TypeError
        When the result has none of them.
    """
    part, field = predicted_part(result)
    frame: ResultsFrame = _FRAMES[field](part, constants=constants)
    return frame


def predicted_part(result: Any) -> tuple[Any, str]:
    """Give the part of a result that is predicted for assets, and the field of its values."""
    part = result
    for name in _BUNDLED:
        part = getattr(part, name, part)
    if isinstance(part, StochasticDiscountFactorState):
        part = AssetWeightsResult(
            part.asset_weights,
            timestamps=part.timestamps,
            asset_ids=part.asset_ids,
            metadata=part.metadata,
        )
    for field in _FRAMES:
        if hasattr(part, field):
            return part, field
    raise TypeError(
        f"result must have one of {list(_FRAMES)}; got {type(part).__name__}; "
        "factor models predict through a pipeline"
    )
