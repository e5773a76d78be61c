"""Losses per sample, and wrappers around them.

A loss here is `loss(outputs, batch) -> Tensor (batch,)`: one value per sample, unreduced, so that samples can be
weighted, selected and mixed. A wrapper takes a loss and returns a loss; it is a frozen record that pickles if the
loss inside does.
"""

from __future__ import annotations

from .label_smoothing import LabelSmoothing, label_smoothing, smoothing_term
from .mixing import Interpolated, interpolated

__all__ = ["Interpolated", "LabelSmoothing", "interpolated", "label_smoothing", "smoothing_term"]
