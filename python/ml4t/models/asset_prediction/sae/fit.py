"""What a fit of the supervised autoencoder leaves behind."""

from __future__ import annotations

from dataclasses import dataclass

from ml4t.models.types.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class SAEFit:
    """What `SAEModel.fit` learned.

    Attributes
    ----------
    asset_ids : tuple of str
    n_features : int
        L.
    n_targets : int
        J.
    checkpoints : dict of int to dict of str to ndarray
        Parameters by epoch.
    best_epoch : int
        Of the kept ones that with the lowest validation loss.
    """

    asset_ids: tuple[str, ...]
    n_features: int
    n_targets: int
    checkpoints: dict[int, dict[str, FloatArray]]
    best_epoch: int

    def __post_init__(self) -> None:
        """Refuse a fit whose parts disagree; `load` relies on it."""
        if self.best_epoch not in self.checkpoints:
            raise ValueError(
                f"checkpoints must hold best_epoch={self.best_epoch}; got {tuple(self.checkpoints)}"
            )
        for epoch, state in self.checkpoints.items():
            got = (state["encoder.weight"].shape[1], len(state["main_output.bias"]))
            if got != (self.n_features, self.n_targets):
                raise ValueError(
                    f"checkpoint {epoch} must have {self.n_features} features and "
                    f"{self.n_targets} targets; got {got}"
                )
