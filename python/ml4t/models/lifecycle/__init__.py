"""Estimators: running a fit, its record, parameters, saving, loading."""
