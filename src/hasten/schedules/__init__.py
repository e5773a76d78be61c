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
from .combine import Floor, Over, Rewarm, Scale, Then, Warmup, floor, over, rewarm, scale, then, warmup
from .cyclic import Cyclic, cycle_ends, cyclic
from .decays import (
    Constant,
    Cosine,
    Exponential,
    Linear,
    Polynomial,
    Rex,
    Step,
    constant,
    cosine,
    exponential,
    linear,
    polynomial,
    rex,
    step,
)
from .open_ended import Infinite, InverseSqrt, Power, infinite, inverse_sqrt, power
from .phases import WSD, OneCycle, one_cycle, wsd
from .text import format, parse  # noqa: A004 (the inverse of `parse`, as in string.Formatter)
from .torch_face import LR, lr_scheduler

__all__ = [
    "LR", "WSD", "BaseSchedule", "Constant", "Cosine", "Cyclic", "Exponential", "Floor", "Infinite", "InverseSqrt",
    "Linear", "OneCycle", "Over", "Polynomial", "Power", "Rewarm", "Rex", "Scale", "Step", "Then", "Warmup", "constant",
    "cosine", "cycle_ends", "cyclic", "exponential", "floor", "format", "infinite", "inverse_sqrt", "linear",
    "lr_scheduler", "one_cycle", "over", "parse", "polynomial", "power", "rewarm", "rex", "scale", "step", "then",
    "warmup", "wsd",
]  # fmt: skip
