"""Optimizers, controllers of weights, and gradient transforms.

A gradient transform is `f(params) -> None`: it changes the gradients in place, between `backward()` and `step()`.
"""

from __future__ import annotations

from .._core.norm import frozen_batch_norm_statistics
from .clipping import clip_adaptive, clip_norm, clip_value
from .ema import EMA
from .sam import SAM

__all__ = ["EMA", "SAM", "clip_adaptive", "clip_norm", "clip_value", "frozen_batch_norm_statistics"]
