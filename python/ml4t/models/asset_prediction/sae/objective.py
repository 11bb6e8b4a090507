"""Loss of the supervised autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    from ml4t.models.asset_prediction.sae.net import Outputs


@dataclass(frozen=True, slots=True)
class Parts:
    """Weighted means over rows.

    Attributes
    ----------
    reconstruction : Tensor, shape ()
        Squared error of the raw features, mean over features.
    main, aux : Tensor, shape ()
        Squared error or cross-entropy of the heads, mean over targets.
    """

    reconstruction: Tensor
    main: Tensor
    aux: Tensor

    def total(self, alpha: float, aux_weight: float) -> Tensor:
        """Reconstruction + alpha main + aux_weight aux."""
        return self.reconstruction + alpha * self.main + aux_weight * self.aux


def parts(
    outputs: Outputs, features: Tensor, targets: Tensor, weights: Tensor, *, classification: bool
) -> Parts:
    """Terms of the loss.

    Parameters
    ----------
    outputs : Outputs
    features : Tensor, shape (L, B)
        Raw.
    targets : Tensor, shape (J, B)
    weights : Tensor, shape (B,)
        A row of weight two counts as two rows.
    classification : bool
    """
    share = weights / weights.sum()

    def error(scores: Tensor) -> Tensor:
        if classification:
            each = functional.binary_cross_entropy_with_logits(scores, targets, reduction="none")
        else:
            each = functional.mse_loss(scores, targets, reduction="none")
        return (each @ share).mean()

    squares = functional.mse_loss(outputs.reconstruction, features, reduction="none")
    return Parts((squares @ share).mean(), error(outputs.main), error(outputs.aux))
