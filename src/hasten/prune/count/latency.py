"""Seconds that a model takes, measured: a median, how sure it is, and what it was measured on.

A counted speed-up (`macs`) is a hope; this is what a user waits for. Models that are compared take turns in each round,
so that a machine that slows down slows both, and what is reported is the median of the rounds' ratios. The intervals
are order statistics that hold the median with 95 %, whatever the law of the times is.
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hasten._core.checks import whole
from hasten._core.evaluation import evaluation_mode
from hasten._core.timing import FEWEST, SECONDS, median_interval, take_turns

from .inputs import call, check_model, device_of

__all__ = ["Comparison", "Latency", "compare_latency", "latency"]

ROUNDS = 31


@dataclass(frozen=True)
class Latency:
    """Seconds of one call of a model.

    Args:
        median: of the rounds.
        low, high: hold the median of the law with 95 %.
        device: where it ran; a GPU with its name.
        threads: of torch on the CPU.
        rounds: seconds of each round, in order.
    """

    median: float
    low: float
    high: float
    device: str
    threads: int
    rounds: tuple[float, ...] = ()

    def __str__(self) -> str:
        return f"{self.text} on {self.where}"

    @property
    def text(self) -> str:
        """The median with its interval, in a unit that suits it."""
        unit, scale = next((pair for pair in (("s", 1.0), ("ms", 1e3)) if self.median * pair[1] >= 1), ("us", 1e6))
        middle, low, high = (f"{scale * value:.3g}" for value in (self.median, self.low, self.high))
        return f"{middle} {unit} [{low}, {high}]"

    @property
    def where(self) -> str:
        """Device and threads in words."""
        return f"{self.device}, {self.threads} thread{'s' if self.threads > 1 else ''}"


@dataclass(frozen=True)
class Comparison:
    """A model's time as a multiple of a baseline's: below 1 it is faster.

    Args:
        ratio: median over the rounds, in which both took turns.
        low, high: hold the median of the law with 95 %.
        model, baseline: their own times.
    """

    ratio: float
    low: float
    high: float
    model: Latency
    baseline: Latency

    @property
    def faster(self) -> bool:
        """Is the model measurably faster: is the whole interval below 1?"""
        return self.high < 1

    def __str__(self) -> str:
        measured = "faster" if self.faster else "slower" if self.low > 1 else "no difference measured"
        return f"{self.ratio:.3g}x the time of the baseline [{self.low:.3g}, {self.high:.3g}]: {measured}"


def latency(
    model: nn.Module,
    inputs: Any,
    *,
    rounds: int = ROUNDS,
    threads: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Measure one call of a model in evaluation mode without gradients.

    Args:
        model: any module, compiled ones included (it is called twice before the clock runs).
        inputs: a tensor, a tuple of positional arguments, or a dict of arguments by name, on the model's device.
        rounds: measurements, at least 6: of fewer no order statistics hold the median with 95 %. Short calls are
            repeated in a round.
        threads: of torch on the CPU during the measurement; None: as it is set.
        clock: seconds, for tests.

    Returns:
        The median with its interval.

    Raises:
        TypeError: no module. ValueError: fewer than 6 rounds, or less than one thread.

    >>> ticks = iter(range(100))
    >>> print(latency(nn.Linear(2, 2), torch.ones(1, 2), rounds=6, threads=1, clock=lambda: float(next(ticks))))
    1 s [1, 1] on cpu, 1 thread
    """
    check_model("latency", model)
    [seconds] = _measure("latency", [model], inputs, rounds, threads, clock)
    return _latency(seconds, _where(model, inputs), threads)


def compare_latency(
    model: nn.Module,
    baseline: nn.Module,
    inputs: Any,
    *,
    rounds: int = ROUNDS,
    threads: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Measure a model against a baseline on the same inputs; in each round both take turns.

    Args:
        model, baseline: two modules that take the same inputs.
        inputs, rounds, threads, clock: as for `latency`.

    Returns:
        The ratio of their times with its interval, and both times.

    Raises:
        TypeError: no module. ValueError: fewer than 6 rounds, or less than one thread.

    >>> found = compare_latency(nn.Linear(8, 1), nn.Linear(8, 8), torch.ones(1, 8), rounds=6)
    >>> found.low <= found.ratio <= found.high
    True
    """
    for each in (model, baseline):
        check_model("compare_latency", each)
    times = _measure("compare_latency", [model, baseline], inputs, rounds, threads, clock)
    ratios = [a / b if b else math.nan for a, b in zip(*times, strict=True)]
    ratio, (low, high) = median_interval(ratios)
    where = _where(model, inputs)
    return Comparison(ratio, low, high, *(_latency(seconds, where, threads) for seconds in times))


def _measure(
    name: str,
    models: Sequence[nn.Module],
    inputs: Any,
    rounds: int,
    threads: int | None,
    clock: Callable[[], float],
) -> list[list[float]]:
    whole(name, "rounds", rounds, low=FEWEST)
    devices = {device_of(model, inputs) for model in models} - {torch.device("cpu")}

    def run(model: nn.Module) -> None:
        call(model, inputs)
        for device in devices:
            torch.accelerator.synchronize(device)

    with evaluation_mode(*models), _threads(name, threads), _no_collection():
        return take_turns([lambda model=model: run(model) for model in models], rounds, seconds=SECONDS, clock=clock)


def _latency(seconds: Sequence[float], device: str, threads: int | None) -> Latency:
    median, (low, high) = median_interval(seconds)
    return Latency(median, low, high, device, threads or torch.get_num_threads(), tuple(seconds))


def _where(model: nn.Module, inputs: Any) -> str:
    device = device_of(model, inputs)
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


@contextlib.contextmanager
def _threads(name: str, count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(whole(name, "threads", count, low=1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """A collection of garbage in one round would be charged to whoever had its turn."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
