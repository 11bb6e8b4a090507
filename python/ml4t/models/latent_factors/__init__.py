"""Latent factor models: exposures and realised factors."""
