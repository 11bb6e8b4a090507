"""Context features of states: information of a date before its returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ml4t.models.checks import require_type
from ml4t.models.types import LatentFactorState
from ml4t.models.types.instants import require_ascending

if TYPE_CHECKING:
    from numpy.typing import NDArray


def require_history(state: object) -> LatentFactorState:
    """Return a state whose dates ascend, where they have an order: estimates go along them.

    Raises
    ------
    TypeError
        When it is no state.
    ValueError
        When dates go back or come twice, naming both.
    """
    known = require_type("state", state, LatentFactorState)
    require_ascending("timestamps", known.timestamps, opaque=True)
    return known


def require_context(model: str, state: LatentFactorState) -> NDArray[np.float64]:
    """Context features (T, Q) of a state in float64, NaN for whatever is not finite.

    Raises
    ------
    ValueError
        When the state has none.
    """
    context = state.context_features
    if context is None:
        raise ValueError(f"{model} requires context_features (T, Q); the state has none")
    values = np.asarray(context, dtype=np.float64)
    return np.ascontiguousarray(np.where(np.isfinite(values), values, np.nan))


def require_context_history(model: str, state: LatentFactorState) -> NDArray[np.float64]:
    """Context features (T, Q) to learn from: every column has a finite value."""
    context = require_context(model, state)
    empty = np.flatnonzero(np.isnan(context).all(axis=0))
    if empty.size:
        raise ValueError(
            "context_features require at least one finite value in every column; "
            f"column {empty[0]} has none over {len(context)} periods"
        )
    return context
