"""Training with 16-bit weights and 8-bit optimizer state (arXiv 2602.23349)."""

from __future__ import annotations

from .cast import cast_model

__all__ = ["cast_model"]
