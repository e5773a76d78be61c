"""Sprintz: lossless compression of integer time series (essay to come)."""
