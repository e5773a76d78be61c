"""Approximate matrix products `A @ B`: B is known, A's rows come one by one and are like those that came before.

`Maddness` multiplies without multiplying. Nothing here loads torch, except for what is a torch module.
"""

from __future__ import annotations

import importlib
from typing import Any

from .base import ApproxMatmul, Cost, NotFittedError, nmse
from .maddness.estimator import Maddness

__all__ = ["ApproxMatmul", "Cost", "Maddness", "NotFittedError", "nmse"]

# Loaded when they are asked for: name -> module.
_LAZY = {
    "Exact": ".exact",
    "PCA": ".projections",
    "TruncatedSVD": ".projections",
    "FastJL": ".sketches",
    "CountSketch": ".sketches",
    "OSNAP": ".sketches",
    "GaussianSketch": ".sketches",
    "RowSampling": ".sketches",
    "PQ": ".quantizers",
    "OPQ": ".quantizers",
    "Bolt": ".quantizers",
    "MaddnessLinear": ".maddness.layers",
    "MaddnessConv2d": ".maddness.layers",
    "maddnessify": ".maddness.convert",
    "progressive": ".maddness.convert",
    "freeze": ".maddness.models",
    "finetune_mode": ".maddness.models",
    "parameter_groups": ".maddness.models",
    "prepare": ".maddness.models",
    "Budget": ".maddness.planner",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name], __name__), name)
