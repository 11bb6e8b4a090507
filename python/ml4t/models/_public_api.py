"""The only list of public names: where each one lives."""

from __future__ import annotations

_FAMILIES: dict[str, tuple[str, ...]] = {
    "api": (
        "AssetMapper",
        "AssetPredictionModel",
        "FactorForecaster",
        "LatentFactorModel",
        "PortfolioModel",
        "PortfolioPostprocessor",
        "StochasticDiscountFactorEstimator",
    ),
    "configs": (
        "AR1ForecasterConfig",
        "CAEConfig",
        "DeepPortfolioConfig",
        "EWMABaseForecasterConfig",
        "ExpandingMeanForecasterConfig",
        "IPCAConfig",
        "LSTMPortfolioConfig",
        "LinearPortfolioConfig",
        "PCAConfig",
        "RPPCAConfig",
        "SAEConfig",
        "StochasticDiscountFactorConfig",
    ),
    "forecasters": (
        "AR1FactorForecaster",
        "EWMABaseFactorForecaster",
        "ExpandingMeanFactorForecaster",
    ),
    "mappers": ("BetaLambdaMapper",),
    "pipelines": ("LatentFactorForecastPipeline", "PipelineFitResult"),
    "latent_factors": ("CAEModel",),
    "types": (
        "AssetForecastResult",
        "AssetSignalResult",
        "AssetWeightsResult",
        "CrossSectionBatch",
        "FactorForecastResult",
        "FitRunRecord",
        "FitSummary",
        "LatentFactorPrediction",
        "LatentFactorState",
        "PersistentPanelBatch",
        "PortfolioPrediction",
        "PortfolioSequenceBatch",
        "PortfolioWeightsResult",
        "StochasticDiscountFactorState",
    ),
}

MODULES = tuple(_FAMILIES)
MODULE_OF = {name: module for module, names in _FAMILIES.items() for name in names}
STABLE_ROOT_EXPORTS = tuple(sorted((*MODULE_OF, "__version__")))
