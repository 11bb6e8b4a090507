"""Latent factor models: exposures and realised factors."""

from ml4t.models.latent_factors.cae.model import CAEModel

__all__ = ["CAEModel"]
