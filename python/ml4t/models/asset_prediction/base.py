"""Base of the models that predict assets directly."""

from __future__ import annotations

from typing import Generic, TypeVar

from ml4t.models.training.neural import Neural

ConfigT = TypeVar("ConfigT")
FitT = TypeVar("FitT")


class BaseAssetPredictionModel(Neural[ConfigT, FitT], Generic[ConfigT, FitT]):
    """A model whose fit turns batches into one signal per asset and date.

    Parameters
    ----------
    config
        Settings of the model.
    """
