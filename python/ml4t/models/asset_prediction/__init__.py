"""Models that predict assets directly."""

from ml4t.models.asset_prediction.sae.model import SAEModel

__all__ = ["SAEModel"]
