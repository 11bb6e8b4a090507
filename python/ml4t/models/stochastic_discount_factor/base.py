"""What models of the stochastic discount factor share."""

from __future__ import annotations

from typing import Generic, TypeVar

from ml4t.models.training.neural import Neural

ConfigT = TypeVar("ConfigT")
FitT = TypeVar("FitT")


class BaseStochasticDiscountFactorModel(Neural[ConfigT, FitT], Generic[ConfigT, FitT]):
    """A model whose fit turns batches into portfolio weights of the discount factor.

    Parameters
    ----------
    config
        Settings of the model.
    """
