"""Optimizers, controllers of weights, and gradient transforms.

A gradient transform is `f(params) -> None`: it changes the gradients in place, between `backward()` and `step()`.
"""

from __future__ import annotations

from .._core.norm import frozen_batch_norm_statistics
from .apollo import APOLLO, APOLLOMini
from .clipping import clip_adaptive, clip_norm, clip_value
from .ema import EMA
from .flash import (
    FlashAdam,
    FlashAdamW,
    FlashLion,
    FlashSGD,
    FlashSGDW,
    cast_model,
    enable_gradient_release,
    memory_report,
)
from .lamb import LAMB, LARS
from .lion import Lion
from .muon import Muon
from .sam import SAM
from .spam import SPAM, StableSPAM

__all__ = [
    "APOLLO", "APOLLOMini", "EMA", "FlashAdam", "FlashAdamW", "FlashLion", "FlashSGD", "FlashSGDW", "LAMB", "LARS",
    "Lion", "Muon", "SAM", "SPAM", "StableSPAM", "cast_model", "clip_adaptive", "clip_norm", "clip_value",
    "enable_gradient_release", "frozen_batch_norm_statistics", "memory_report",
]  # fmt: skip
