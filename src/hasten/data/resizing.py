"""Progressive resizing: train on smaller images first, on full ones at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from .._core.batch import replace_parts
from .._core.checks import check, fraction, near, positive, refuse, refuse_type, whole
from .._core.clock import ramp
from ._draw import generator_for, image_inputs, integer

__all__ = ["ResizingSchedule", "resize", "resizing_schedule", "scaled_size"]

MODES = ("bilinear", "crop")


def scaled_size(size: int, scale: float, increment: int = 4) -> int:
    """`scale * size` rounded to a multiple of `increment` (halves up), at least one increment, at most `size`.

    >>> scaled_size(32, 0.7), scaled_size(6, 0.1), scaled_size(3, 0.5)
    (24, 4, 3)
    """
    return min(size, max(increment, increment * math.floor(scale * size / increment + 0.5)))


def resize(
    batch: Any,
    *,
    scale: float,
    increment: int = 4,
    mode: str = "bilinear",
    generator: torch.Generator,
) -> Any:
    """Shrink the images of a batch to about `scale` times their height and width.

    Cost falls with the square of `scale` in convolutional models, which take any size; the model must end in a global
    pooling. For targets of the whole image (classes), not for dense ones, whose size would no longer match.

    Args:
        batch: `(inputs, targets)` or a dict; inputs (batch, channels, height, width).
        scale: in (0, 1]; 1 returns the batch itself. In a training program, a schedule.
        increment: sizes are rounded to multiples of this many pixels, so that few sizes (compilations, kernel choices)
            occur.
        mode: "bilinear" (antialiased, floating point only) or "crop" (a random window, the same for the batch).
        generator: draws the window of a crop; "bilinear" draws nothing.

    Returns:
        A new batch of the same kind, or `batch` itself where the size stays.

    Raises:
        ValueError: `scale` outside (0, 1], inputs that are not images, an unknown mode.
        TypeError: "bilinear" on integer images.

    >>> images, classes = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
    >>> resize((images, classes), scale=0.5, generator=torch.Generator())[0].shape
    torch.Size([2, 3, 16, 16])
    """
    generator_for("resize", generator)
    fraction("resize", "scale", scale)
    check(scale > 0, "resize", "scale > 0", scale, "Pass scale= a value in (0, 1].")
    whole("resize", "increment", increment, low=1)
    if mode not in MODES:
        raise refuse("resize", f"mode among {', '.join(map(repr, MODES))}", repr(mode), near(str(mode), MODES))
    inputs = image_inputs("resize", batch)
    height, width = inputs.shape[2:]
    size = scaled_size(height, scale, increment), scaled_size(width, scale, increment)
    if scale == 1 or size == (height, width):
        return batch
    if mode == "crop":
        top = int(integer(0, height - size[0], 1, generator))
        left = int(integer(0, width - size[1], 1, generator))
        return replace_parts(batch, inputs=inputs[:, :, top : top + size[0], left : left + size[1]])
    if not inputs.is_floating_point():
        fix = "Scale images with x.float() / 255 first, or use mode='crop'."
        raise refuse_type("resize", "floating-point images", inputs, fix)
    wide = inputs.to(torch.promote_types(inputs.dtype, torch.float32))  # torch antialiases no narrower type on CPUs
    small = F.interpolate(wide, size, mode="bilinear", antialias=True)
    return replace_parts(batch, inputs=small.to(inputs.dtype))


@dataclass(frozen=True)
class ResizingSchedule:
    """The scale of `resize` over training; see `resizing_schedule`."""

    initial_scale: float = 0.5
    delay_fraction: float = 0.5
    finetune_fraction: float = 0.2
    anytime: ClassVar[bool] = False

    def __post_init__(self) -> None:
        call = "resizing_schedule"
        fraction(call, "initial_scale", self.initial_scale)
        check(self.initial_scale > 0, call, "initial_scale > 0", self.initial_scale, "Pass a value in (0, 1].")
        fraction(call, "delay_fraction", self.delay_fraction)
        fraction(call, "finetune_fraction", self.finetune_fraction)
        total = self.delay_fraction + self.finetune_fraction
        check(total <= 1, call, "delay_fraction + finetune_fraction <= 1", total, "Leave room for the ramp.")

    @property
    def body(self) -> ResizingSchedule:
        """The schedule itself: it has no warm-up."""
        return self

    def __call__(self, t: Any, T: float | None = None) -> Any:
        """The scale at time `t` of `T`, in any one unit; a float for a number, an array for an array."""
        if T is None:
            raise refuse("resizing_schedule", "T, the length of the run", "None", "Call it as s(t, T).")
        end = 1.0 - self.finetune_fraction
        progress = np.asarray(t, dtype=float) / positive("resizing_schedule", "T", float(T))
        scale = self.initial_scale + (1.0 - self.initial_scale) * ramp(progress, self.delay_fraction, end)
        return float(scale) if np.ndim(t) == 0 else scale


def resizing_schedule(
    initial_scale: float = 0.5, delay_fraction: float = 0.5, finetune_fraction: float = 0.2
) -> ResizingSchedule:
    """A schedule for `resize(scale=...)`: `initial_scale`, then a linear ramp to 1, then full size.

    With `p = t / T`: `initial_scale` for `p < delay_fraction`, 1 from `p = 1 - finetune_fraction` on, linear between
    (a step where the two meet).

    Args:
        initial_scale: in (0, 1]; 1 never resizes.
        delay_fraction: share of training at the initial scale, in [0, 1].
        finetune_fraction: share of training at full size, in [0, 1 - delay_fraction].

    Returns:
        A schedule: `s(t, T)`, picklable, vectorised over arrays; it needs `T`.

    >>> s = resizing_schedule()
    >>> [round(s(t, 100), 12) for t in (0, 50, 65, 80, 100)]
    [0.5, 0.5, 0.75, 1.0, 1.0]
    """
    return ResizingSchedule(initial_scale, delay_fraction, finetune_fraction)
