"""Latent factor models: exposures and realized factors."""

from ml4t.models.latent_factors.cae.model import CAEModel
from ml4t.models.latent_factors.ipca.evaluation import (
    FactorPortfolio,
    FitLevel,
    FitMeasures,
    RSquared,
)
from ml4t.models.latent_factors.ipca.inference import BootstrapTest, IPCAStandardErrors
from ml4t.models.latent_factors.ipca.model import IPCAModel
from ml4t.models.latent_factors.ipca.penalty_path import IPCAPenaltyPath
from ml4t.models.latent_factors.ipca.report import CharacteristicImportance
from ml4t.models.latent_factors.pca import PCAModel
from ml4t.models.latent_factors.rp_pca import RPPCAModel
from ml4t.models.latent_factors.tables import ModelSummary

__all__ = [
    "BootstrapTest",
    "CAEModel",
    "CharacteristicImportance",
    "FactorPortfolio",
    "FitLevel",
    "FitMeasures",
    "IPCAModel",
    "IPCAPenaltyPath",
    "IPCAStandardErrors",
    "ModelSummary",
    "PCAModel",
    "RPPCAModel",
    "RSquared",
]
