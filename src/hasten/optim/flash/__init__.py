"""Training with 16-bit weights and 8-bit optimizer state (arXiv 2602.23349)."""

from __future__ import annotations

from .cast import cast_model
from .release import GradientRelease, enable_gradient_release

__all__ = ["GradientRelease", "cast_model", "enable_gradient_release"]
