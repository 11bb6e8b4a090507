"""What a fit of the conditional autoencoder leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ml4t.models.checks import require_shape
from ml4t.models.types.arrays import FloatArray

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class CAEFit:
    """What `CAEModel.fit` learned.

    Attributes
    ----------
    asset_ids : tuple of str
    n_characteristics : int
        L.
    n_inputs : int
        P, what the factor network sees: L + 1 managed portfolios, or Q context features.
    checkpoints : dict of int to dict of str to ndarray
        Parameters by epoch; every array has a leading member axis E. Epoch 0 holds each member's
        best by validation.
    bases : dict of int to ndarray, shape (E, K, K)
        What brings the members' betas to a common basis before they are averaged.
    default_checkpoint : int
    """

    asset_ids: tuple[str, ...]
    n_characteristics: int
    n_inputs: int
    checkpoints: dict[int, dict[str, FloatArray]]
    bases: dict[int, NDArray[np.float64]]
    default_checkpoint: int

    def __post_init__(self) -> None:
        """Refuse a fit whose parts disagree; `load` relies on it."""
        complete = self.bases.keys() == self.checkpoints.keys()
        if self.default_checkpoint not in self.checkpoints or not complete:
            raise ValueError(
                f"checkpoints must hold default_checkpoint={self.default_checkpoint} and one basis "
                f"each; got {tuple(self.checkpoints)} and bases {tuple(self.bases)}"
            )
        for epoch, state in self.checkpoints.items():
            weight = state["factor_weight"]
            n_members, n_factors, _ = weight.shape
            require_shape("factor_weight", (n_members, n_factors, self.n_inputs), weight.shape)
            require_shape("bases", (n_members, n_factors, n_factors), self.bases[epoch].shape)
