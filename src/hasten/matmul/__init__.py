"""Approximate matrix products."""
