"""Settings of every model; importing them imports no model."""

from ml4t.models.configs.asset_prediction import SAEConfig
from ml4t.models.configs.forecaster import (
    AR1ForecasterConfig,
    CombinedForecasterConfig,
    EWMABaseForecasterConfig,
    ExpandingMeanForecasterConfig,
    MacroForecasterConfig,
    VAR1ForecasterConfig,
)
from ml4t.models.configs.latent_factor import CAEConfig, IPCAConfig, PCAConfig, RPPCAConfig
from ml4t.models.configs.mapper import RegimeSwitchingMapperConfig, StateConditionalMapperConfig
from ml4t.models.configs.portfolio import (
    DeepPortfolioConfig,
    LinearPortfolioConfig,
    LSTMPortfolioConfig,
)
from ml4t.models.configs.stochastic_discount_factor import StochasticDiscountFactorConfig

__all__ = [
    "AR1ForecasterConfig",
    "CAEConfig",
    "CombinedForecasterConfig",
    "DeepPortfolioConfig",
    "EWMABaseForecasterConfig",
    "ExpandingMeanForecasterConfig",
    "IPCAConfig",
    "LSTMPortfolioConfig",
    "LinearPortfolioConfig",
    "MacroForecasterConfig",
    "PCAConfig",
    "RPPCAConfig",
    "RegimeSwitchingMapperConfig",
    "SAEConfig",
    "StateConditionalMapperConfig",
    "StochasticDiscountFactorConfig",
    "VAR1ForecasterConfig",
]
