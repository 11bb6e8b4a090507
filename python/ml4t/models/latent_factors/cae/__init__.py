"""Conditional autoencoder of Gu, Kelly and Xiu (2021), Autoencoder Asset Pricing Models."""
