"""What fits of discount factor networks leave behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml4t.models.types.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class StochasticDiscountFactorFit:
    """What `StochasticDiscountFactorModel.fit` learned.

    Attributes
    ----------
    asset_ids : tuple of str
    n_characteristics : int
        L.
    n_context : int
        Q; 0 without context.
    checkpoints : dict of (phase, epoch) to dict of str to ndarray
        Parameters of the weight network; every array has a leading member axis E. Epoch 0 is the
        best by validation loss, epoch -1 by validation Sharpe ratio.
    """

    asset_ids: tuple[str, ...]
    n_characteristics: int
    n_context: int
    checkpoints: dict[tuple[str, int], dict[str, FloatArray]]

    def __post_init__(self) -> None:
        """Refuse a fit without checkpoints; `load` relies on it."""
        _require_states(self.checkpoints, self.n_characteristics)


@dataclass(frozen=True, slots=True)
class BetaNetworkFit:
    """What `StochasticDiscountFactorBetaNetworkHead.fit` learned.

    Attributes
    ----------
    asset_ids : tuple of str
    n_characteristics, n_context : int
        L and Q.
    checkpoints : dict of int to dict of str to ndarray
        Parameters by epoch; every array has a leading axis of length 1.
    f_hat_scale : float
        Standard deviation of the factor, by which targets were divided.
    best_epoch : int
    """

    asset_ids: tuple[str, ...]
    n_characteristics: int
    n_context: int
    checkpoints: dict[int, dict[str, FloatArray]]
    f_hat_scale: float
    best_epoch: int

    def __post_init__(self) -> None:
        """Refuse a fit without checkpoints; `load` relies on it."""
        _require_states(self.checkpoints, self.n_characteristics)


def _require_states(checkpoints: Mapping[Any, dict[str, FloatArray]], n_chars: int) -> None:
    if not checkpoints:
        raise ValueError("checkpoints must hold at least one state; got none")
    for label, state in checkpoints.items():
        width = state["first.weight"].shape[2]
        if width != n_chars:
            raise ValueError(f"checkpoint {label} must have {n_chars} characteristics; got {width}")
