"""Models that learn portfolio weights, and what makes weights obey constraints."""

from ml4t.models.portfolio.linear import LinearFeaturePortfolioModel
from ml4t.models.portfolio.model import DeepPortfolioModel, LSTMPortfolioModel
from ml4t.models.portfolio.postprocessors import (
    VolatilityTargetPostprocessor,
    WeightConstraintPostprocessor,
)

__all__ = [
    "DeepPortfolioModel",
    "LSTMPortfolioModel",
    "LinearFeaturePortfolioModel",
    "VolatilityTargetPostprocessor",
    "WeightConstraintPostprocessor",
]
