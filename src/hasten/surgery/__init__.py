"""Surgery: changing a model's modules before training, with a report and a way back; and freezing while it trains.

Each `apply_*(model, ...)` changes the model in place and returns a `Report` (`.changed`, `.note`, `.undo()`). Apply it
before the optimizer is built, before torch.compile and before DistributedDataParallel.
"""

from __future__ import annotations

from .._core.surgery import NoEffectWarning, Report
from .blurpool import BlurConv2d, BlurMaxPool2d, apply_blurpool, blur2d
from .channels_last import apply_channels_last
from .freezing import LayerFreezing, freeze_layers, frozen_fraction, layers_of
from .stochastic_depth import StochasticDepth, apply_stochastic_depth, draw_stochastic_depth

__all__ = [
    "BlurConv2d", "BlurMaxPool2d", "LayerFreezing", "NoEffectWarning", "Report", "StochasticDepth", "apply_blurpool",
    "apply_channels_last", "apply_stochastic_depth", "blur2d", "draw_stochastic_depth", "freeze_layers",
    "frozen_fraction", "layers_of",
]  # fmt: skip
