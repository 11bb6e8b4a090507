"""Panels: observed cells, imputation, asset matching, cell order."""
