"""Predictions of every checkpoint and fold in one frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models.checks import require_items
from ml4t.models.integration.layout import Surface, add_constants, concatenate, long_columns
from ml4t.models.integration.output_keys import FrameKeys
from ml4t.models.integration.publish import CHECKPOINTS
from ml4t.models.integration.result_frame import predicted_part
from ml4t.models.integration.surfaces import PredictionsFrame

if TYPE_CHECKING:
    from ml4t.models.integration.frame_columns import AnyColumn


def predictions_frame_from_checkpoints(
    results: Any,
    batch: Any = None,
    *,
    fold: int | str = 0,
    checkpoints: Sequence[Any] | None = None,
    constants: Mapping[str, Any] | None = None,
    outcomes: Any = None,
    feed_spec: Any = None,
    prices: Any = None,
) -> PredictionsFrame:
    """Put the predictions of several folds and checkpoints below one another.

    Parameters
    ----------
    results : iterable of (fold, checkpoint, result), or a fitted model or pipeline
        A result is a forecast, signals, weights, or a bundle that holds one of them. A model
        predicts at each of its `available_checkpoints` (one without any, once).
    batch : batch, optional
        Batch that a model predicts; only with a model.
    fold : int or str, default 0
        Label of a model's rows; only with a model.
    checkpoints : sequence, optional
        Checkpoints of a model, by default all.
    outcomes : ndarray, batch, or mapping from fold to one of them, optional
        Realised returns, as in `predictions_frame_from_asset_forecast`.
    constants, feed_spec, prices : optional
        See `predictions_frame_from_asset_forecast`.

    Returns
    -------
    PredictionsFrame
        Columns timestamp, asset, [batch_id], prediction_value, [realized_return], fold, checkpoint,
        *constants. Checkpoints are integers or else text: ("conditional", 1024) reads
        ``conditional:1024``. `metadata["checkpoint"]` is the one checkpoint, or the tuple of all.

    Raises
    ------
    ValueError
        When there is no result, or results differ in columns.
    TypeError
        When a result holds no predictions.
    """
    rows = list(
        _predicted(results, batch, fold, checkpoints) if _is_model(results) else _triples(results)
    )
    if not rows:
        raise ValueError("results must hold at least one (fold, checkpoint, result); got none")
    folds = _labels([one for one, _, _ in rows])
    steps = _labels([one for _, one, _ in rows])
    parts: list[dict[str, AnyColumn]] = []
    keys: FrameKeys | None = None
    for place, (this_fold, _, result) in enumerate(rows):
        surface = _surface(result)
        keys = keys or FrameKeys.find(feed_spec=feed_spec, prices=prices, metadata=surface.metadata)
        realised = outcomes
        if isinstance(outcomes, Mapping):
            if this_fold not in outcomes:
                raise ValueError(f"outcomes must have every fold; got none for {this_fold!r}")
            realised = outcomes[this_fold]
        part = long_columns(surface, "prediction_value", keys, outcomes=realised)
        parts.append(add_constants(part, {"fold": folds[place], "checkpoint": steps[place]}))
    metadata = _metadata(_surface(rows[0][2]).metadata, steps)
    return PredictionsFrame.from_columns(add_constants(concatenate(parts), constants), metadata)


def _triples(results: Any) -> Iterator[tuple[Any, Any, Any]]:
    for place, entry in enumerate(require_items("results", results)):
        triple = require_items(f"results entry {place}", entry)
        if len(triple) != 3:
            raise ValueError(
                f"results entry {place} must be (fold, checkpoint, result); got {len(triple)} parts"
            )
        yield triple


def _is_model(results: Any) -> bool:
    return hasattr(results, "predict") or hasattr(results, "extract")


def _predicted(
    model: Any, batch: Any, fold: int | str, checkpoints: Sequence[Any] | None
) -> Iterator[tuple[Any, Any, Any]]:
    if batch is None:
        raise ValueError("batch must be given with a model; got None")
    ask = model.predict if hasattr(model, "predict") else model.extract
    inner = getattr(model, "model", model)  # a pipeline has the checkpoints of its model
    available = getattr(inner, "available_checkpoints", ())
    chosen = available if checkpoints is None else checkpoints
    if not chosen:
        yield fold, None, ask(batch)
    for checkpoint in chosen:
        yield fold, checkpoint, ask(batch, checkpoint=checkpoint)


def _metadata(of_first: Mapping[str, Any], steps: Sequence[Any]) -> dict[str, Any]:
    """Name all checkpoints of the frame, not that of its first result."""
    metadata = {key: value for key, value in of_first.items() if key not in CHECKPOINTS}
    distinct = tuple(dict.fromkeys(step for step in steps if step is not None))
    if distinct:
        metadata["checkpoint"] = distinct[0] if len(distinct) == 1 else distinct
    return {"frame_type": "prediction", **metadata}


def _surface(result: Any) -> Surface:
    return Surface.of(*predicted_part(result))


def _labels(values: Iterable[Any]) -> list[Any]:
    """Keep integers where all are integers; else convert to text."""
    labels = [value.item() if isinstance(value, np.generic) else value for value in values]
    present = [value for value in labels if value is not None]
    if all(isinstance(value, int) and not isinstance(value, bool) for value in present):
        return labels
    return [None if value is None else _text(value) for value in labels]


def _text(value: Any) -> str:
    return ":".join(map(str, value)) if isinstance(value, tuple) else str(value)
