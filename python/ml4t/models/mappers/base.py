"""What mappers share."""

from __future__ import annotations

from typing import ClassVar

from ml4t.models.checks import require_shape, require_type
from ml4t.models.configs.pipeline import MapperConfig
from ml4t.models.lifecycle.params import Parameters
from ml4t.models.types import FactorForecastResult, LatentFactorState


class BaseAssetMapper(Parameters):
    """A mapper: a configuration and no fit.

    Parameters
    ----------
    config : MapperConfig, optional
    """

    config_type: ClassVar[type] = MapperConfig

    def __init__(self, config: MapperConfig | None = None) -> None:
        self.config = MapperConfig() if config is None else config

    def __repr__(self) -> str:
        """Show the settings."""
        return f"{type(self).__name__}({self.config!r})"


def require_agreement(state: LatentFactorState, forecast: FactorForecastResult) -> None:
    """Refuse premia that do not line up with the exposures on dates and factors."""
    require_type("state", state, LatentFactorState)
    require_type("factor_forecast", forecast, FactorForecastResult)
    require_shape("factor_premia", (state.n_periods, state.n_factors), forecast.factor_premia.shape)
