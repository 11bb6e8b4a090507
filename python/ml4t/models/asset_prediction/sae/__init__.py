"""Supervised autoencoder: a code that reconstructs the features and predicts the target."""
