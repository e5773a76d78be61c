"""Optimizers, controllers of weights, and gradient transforms.

A gradient transform is `f(params) -> None`: it changes the gradients in place, between `backward()` and `step()`.
"""

from __future__ import annotations

from .._core.norm import frozen_batch_norm_statistics
from .apollo import APOLLO, APOLLOMini
from .clipping import clip_adaptive, clip_norm, clip_value
from .ema import EMA
from .lamb import LAMB, LARS
from .lion import Lion
from .muon import Muon
from .sam import SAM
from .spam import SPAM, StableSPAM

__all__ = [
    "APOLLO", "APOLLOMini", "EMA", "LAMB", "LARS", "Lion", "Muon", "SAM", "SPAM", "StableSPAM", "clip_adaptive",
    "clip_norm", "clip_value", "frozen_batch_norm_statistics",
]  # fmt: skip
