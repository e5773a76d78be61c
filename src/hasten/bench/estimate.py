"""What a plan will cost, from a few real steps of its baseline: for `--dry-run` and the line before a study."""

from __future__ import annotations

import io
import statistics
import time
from dataclasses import dataclass

import torch

from hasten._core.clock import Tick
from hasten._core.rng import fork

from .build import build
from .ledger import Ledger
from .plan import Plan
from .run import Run
from .source import BatchSource

__all__ = ["Estimate", "estimate"]


@dataclass(frozen=True)
class Estimate:
    """Rough costs of a plan's baseline."""

    seconds_per_step: float
    checkpoint_bytes: int


def estimate(plan: Plan, *, steps: int = 5) -> Estimate:
    """Time a few steps of the baseline on one thread (the first one warms up) and size its checkpoint."""
    program, device = plan.arms[plan.baseline], torch.device(plan.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with fork(0, "estimate"):
            source = BatchSource(
                program.data.build()(0), program.sampler.build(), batch_size=program.batch_size, seed=0, device=device
            )
            run = Run(program, build(program, seed=0, device=device), seed=0, device=device, ledger=Ledger(device))
            batches, times = source.batches(0), []
            for step in range(steps + 1):
                begun = time.perf_counter()
                tick = Tick(step, 0, plan.curve.ends[-1], 0.0, source.steps_per_epoch, source.batch_size)
                run.step(tick, batches)
                times.append(time.perf_counter() - begun)
    finally:
        torch.set_num_threads(threads)
    buffer = io.BytesIO()
    torch.save(run.state_dict(), buffer)
    return Estimate(statistics.median(times[1:]), buffer.tell())
