"""Every neural model into one frame of all its checkpoints, and what is said beside the file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ml4t.models import (
    BetaLambdaMapper,
    ExpandingMeanFactorForecaster,
    LatentFactorForecastPipeline,
    PortfolioSequenceBatch,
)
from ml4t.models.configs import DeepPortfolioConfig, LSTMPortfolioConfig
from ml4t.models.integration import predictions_frame_from_checkpoints, write_backtest_frames
from ml4t.models.portfolio import DeepPortfolioModel, LSTMPortfolioModel
from neural_families import cae, head, one_thread, ragged_batch, sae, sdf  # noqa: F401

EPOCHS = {"checkpoint_epochs": (1, 3)}
SHORT = {"max_iters": 4, "eval_every": 2, "checkpoint_every": 2, "vvsn_hidden_dim": 3}


def windows():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((2, 6, 3, 2))
    return PortfolioSequenceBatch(features, returns=0.02 * features[..., 0])


def factors():
    """A factor model predicts through a pipeline."""
    return LatentFactorForecastPipeline(
        cae(**EPOCHS), ExpandingMeanFactorForecaster(), BetaLambdaMapper()
    )


MODELS = {
    "cae": (factors, ragged_batch, [1, 3]),
    "sae": (lambda: sae(**EPOCHS), ragged_batch, [1, 3]),
    "sdf": (sdf, ragged_batch, ["unconditional:3", "conditional:3"]),
    "beta head": (head, ragged_batch, [3]),
    "lstm": (
        lambda: LSTMPortfolioModel(LSTMPortfolioConfig(**SHORT, hidden_size=4)),
        windows,
        [2, 4],
    ),
    "deep": (lambda: DeepPortfolioModel(DeepPortfolioConfig(**SHORT, d_model=4)), windows, [2, 4]),
}


def told(model, batch, checkpoint):
    """Predictions of one checkpoint, asked for by itself, in row order."""
    ask = getattr(model, "predict", None) or model.extract
    result = ask(batch, checkpoint=checkpoint)
    result = getattr(result, "asset_forecast", result)
    fields = ("expected_returns", "signal_values", "weights", "asset_weights")
    values = np.concatenate(
        [getattr(result, one).ravel() for one in fields if hasattr(result, one)]
    )
    return values[np.isfinite(values)]


@pytest.mark.parametrize("name", MODELS)
def test_one_call_gives_every_checkpoint_its_own_predictions(name, tmp_path):
    make, batch_of, labels = MODELS[name]
    model, batch = make(), batch_of()
    model.fit(batch)
    inner = getattr(model, "model", model)
    frame = predictions_frame_from_checkpoints(model, batch, fold=7, outcomes=batch)
    table = frame.to_polars()
    assert table.columns[-3:] == ["realized_return", "fold", "checkpoint"]
    assert table["fold"].unique().to_list() == [7]
    assert table["checkpoint"].unique(maintain_order=True).to_list() == labels
    for label, checkpoint in zip(labels, inner.available_checkpoints, strict=True):
        got = table.filter(table["checkpoint"] == label)["prediction_value"].to_numpy()
        np.testing.assert_array_equal(got, told(model, batch, checkpoint))

    write_backtest_frames(tmp_path, predictions=frame, fit_record=inner.last_fit_record)
    spec = json.loads((tmp_path / "predictions.spec.json").read_text())
    assert spec["checkpoint"] == (labels if len(labels) > 1 else labels[0])
    assert spec["input_sha256"] == inner.last_fit_record.input_sha256
    assert spec["model_name"] == inner.last_fit_record.model_name
