"""From the history of realised factors to ex-ante premia."""

from ml4t.models.forecasters.ar import AR1FactorForecaster
from ml4t.models.forecasters.ewma import EWMABaseFactorForecaster
from ml4t.models.forecasters.mean import ExpandingMeanFactorForecaster

__all__ = ["AR1FactorForecaster", "EWMABaseFactorForecaster", "ExpandingMeanFactorForecaster"]
