"""Latent factor models: exposures and realised factors."""

from ml4t.models.latent_factors.cae.model import CAEModel
from ml4t.models.latent_factors.ipca.bootstrap import BootstrapTest
from ml4t.models.latent_factors.ipca.model import IPCAModel
from ml4t.models.latent_factors.ipca.standard_errors import IPCAStandardErrors
from ml4t.models.latent_factors.pca import PCAModel
from ml4t.models.latent_factors.rp_pca import RPPCAModel

__all__ = [
    "BootstrapTest",
    "CAEModel",
    "IPCAModel",
    "IPCAStandardErrors",
    "PCAModel",
    "RPPCAModel",
]
