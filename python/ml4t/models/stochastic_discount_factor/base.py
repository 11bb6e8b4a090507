"""Base of the models of the stochastic discount factor, and the check of their checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from ml4t.models.training.neural import Neural
from ml4t.models.types.arrays import FloatArray

ConfigT = TypeVar("ConfigT")
FitT = TypeVar("FitT")


class BaseStochasticDiscountFactorModel(Neural[ConfigT, FitT], Generic[ConfigT, FitT]):
    """A model whose fit turns batches into portfolio weights of the discount factor.

    Parameters
    ----------
    config
        Settings of the model.
    """


def require_states(checkpoints: Mapping[Any, dict[str, FloatArray]], n_chars: int) -> None:
    """Raise `ValueError` unless there are checkpoints, all with `n_chars` characteristics."""
    if not checkpoints:
        raise ValueError("checkpoints must hold at least one state; got none")
    for label, state in checkpoints.items():
        width = state["first.weight"].shape[2]
        if width != n_chars:
            raise ValueError(f"checkpoint {label} must have {n_chars} characteristics; got {width}")
