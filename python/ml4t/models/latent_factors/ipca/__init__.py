"""Instrumented principal components (Kelly, Pruitt and Su)."""
