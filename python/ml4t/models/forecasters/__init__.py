"""Forecasters of factor premia."""

from ml4t.models.forecasters.ar import AR1FactorForecaster
from ml4t.models.forecasters.combined import CombinedFactorForecaster
from ml4t.models.forecasters.ewma import EWMABaseFactorForecaster
from ml4t.models.forecasters.macro import MacroFactorForecaster
from ml4t.models.forecasters.mean import ExpandingMeanFactorForecaster
from ml4t.models.forecasters.var import VAR1FactorForecaster

__all__ = [
    "AR1FactorForecaster",
    "CombinedFactorForecaster",
    "EWMABaseFactorForecaster",
    "ExpandingMeanFactorForecaster",
    "MacroFactorForecaster",
    "VAR1FactorForecaster",
]
