"""What a layer learns from its rows: an estimator, and how wide the soft signs are that it trains with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._core.checks import check, refuse, refuse_type
from .estimator import Maddness
from .soft import node_dims

__all__ = ["INPUTS", "fit_rows", "new_estimator", "spread_of", "width_of"]

INPUTS = (torch.float32, torch.bfloat16, torch.float16)  # of a layer
WIDTH_ROWS = 4096  # rows from which the soft sign's width is taken


def fit_rows(call: str, estimator: Maddness, rows: Tensor, matrix: Tensor) -> np.ndarray:
    """Fit the trees to rows (R, D) in float32, and say what is wrong with them in the layer's words."""
    if rows.dtype not in (*INPUTS, torch.float64):
        raise refuse_type(call, "inputs of a floating-point dtype", rows, "Cast them: inputs.float().")
    check(estimator.lut_bits == 8, call, "lut_bits=8", estimator.lut_bits, "Layers hold tables of 8 bits.")
    check(len(rows) > 0, call, "at least one row of inputs", rows, "Pass calibration data.")
    numbers = rows.float().cpu().numpy()
    if not np.isfinite(numbers).all():
        raise refuse(call, "finite inputs", "NaN or infinity", "Look for the layer before that makes them.")
    fix = f"Pass ncodebooks of at most {numbers.shape[1]}."
    check(estimator.ncodebooks <= numbers.shape[1], call, f"at most {numbers.shape[1]} codebooks, one for each column",
          estimator.ncodebooks, fix)  # fmt: skip
    estimator.fit(numbers, matrix.detach().float().cpu().numpy().T)
    return numbers


def new_estimator(ncodebooks: int, leaves: int, options: Mapping[str, Any]) -> Maddness:
    """An estimator for a layer: B is known, so cuts are chosen by the product's error, unless the caller says other."""
    given: dict[str, Any] = {"split_metric": "output", **options}
    return Maddness(ncodebooks, leaves=leaves, **given)


def width_of(rows: np.ndarray, split_dims: Tensor, thresholds: Tensor) -> Tensor:
    """(C,) the mean distance of a value from a threshold of its codebook: where tanh bends; 1 where all are equal."""
    sample = torch.from_numpy(rows[:: max(1, len(rows) // WIDTH_ROWS)])
    distance = (sample[:, node_dims(split_dims)] - thresholds).abs()
    live = (thresholds < torch.finfo(torch.float32).max).expand_as(distance)
    width = torch.where(live, distance, 0).sum((0, 2)) / live.sum((0, 2)).clamp(min=1)
    return torch.where(width > 0, width, torch.ones_like(width))


def spread_of(thresholds: Tensor) -> Tensor:
    """(C,) a width from thresholds alone: their standard deviation, or 1."""
    live = thresholds < torch.finfo(torch.float32).max
    count = live.sum(1).clamp(min=1)
    mean = torch.where(live, thresholds, 0).sum(1) / count
    spread = (torch.where(live, thresholds - mean[:, None], 0).square().sum(1) / count).sqrt()
    return torch.where(spread > 0, spread, torch.ones_like(spread))
