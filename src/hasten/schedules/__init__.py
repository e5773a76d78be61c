"""Schedules: pure values over time, `s(t, T) -> multiplier`, relative to the peak learning rate.

`t` counts updates from 0, `T` is how many there will be: update `k` uses `s(k, T)`. A schedule is a frozen record:
picklable, hashable, equal by value, and it knows nothing but its arguments, so that resuming at step `k` is asking
for `s(k, T)`. Every schedule takes a number or a numpy array for `t`.

>>> from hasten.schedules import cosine, warmup
>>> s = warmup(cosine(), 10)
>>> [s(t, 110) for t in (0, 5, 10, 60, 110)]
[0.0, 0.5, 1.0, 0.5, 0.0]
"""

from __future__ import annotations

from .base import BaseSchedule
from .combine import Floor, Scale, Then, Warmup, floor, scale, then, warmup
from .cyclic import Cyclic, cycle_ends, cyclic
from .decays import (
    Constant,
    Cosine,
    Exponential,
    Linear,
    Polynomial,
    Step,
    constant,
    cosine,
    exponential,
    linear,
    polynomial,
    step,
)
from .phases import WSD, OneCycle, one_cycle, wsd
from .text import format, parse  # noqa: A004 (the inverse of `parse`, as in string.Formatter)
from .torch_face import lr_scheduler

__all__ = [
    "BaseSchedule", "Constant", "Cosine", "Cyclic", "Exponential", "Floor", "Linear", "OneCycle", "Polynomial", "Scale",
    "Step", "Then", "WSD", "Warmup", "constant", "cosine", "cycle_ends", "cyclic", "exponential", "floor", "format",
    "linear", "lr_scheduler", "one_cycle", "parse", "polynomial", "scale", "step", "then", "warmup", "wsd",
]  # fmt: skip
