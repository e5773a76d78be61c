"""What a plan will cost, from a few real steps of every arm: for `--dry-run` and the line before a study."""

from __future__ import annotations

import io
import statistics
import time
from dataclasses import dataclass

import torch

from hasten._core.clock import Tick
from hasten._core.rng import fork
from hasten.program import Program

from .build import build
from .ledger import Ledger
from .plan import Plan
from .run import Run
from .source import BatchSource
from .train import tokens_per_sample

__all__ = ["Estimate", "estimate"]


@dataclass(frozen=True)
class Estimate:
    """Rough costs of a plan.

    Args:
        seconds: training of all its runs, one after the other on one thread; without evaluation and compilation.
        checkpoint_bytes: the largest checkpoint of an arm.
    """

    seconds: float
    checkpoint_bytes: int


def estimate(plan: Plan, *, steps: int = 5) -> Estimate:
    """Time a few first steps of every arm on one thread and size its checkpoint.

    An arm that cannot take a step (a loss of the wrong shape, an argument out of range) fails here, before the study.
    """
    device = torch.device(plan.device)
    sources: dict[tuple, BatchSource] = {}  # arms share their data, as a rule
    costs = {}
    for name, program in plan.arms.items():
        data = program.data, program.sampler, program.batch_size
        source = sources[data] = sources.get(data) or _source(program, device)
        costs[name] = _costs(program.replace(compile=None), source, plan.curve.ends[-1], steps)
    seconds = sum(costs[job.arm][0] * plan.curve.ends[job.points[-1]] for job in plan.jobs())
    return Estimate(seconds, max(size for _, size in costs.values()))


def _costs(program: Program, source: BatchSource, end: int, steps: int) -> tuple[float, int]:
    """(seconds per step, bytes of a checkpoint); the first step warms up. Eager: a compiler would take minutes."""
    device, threads, tokens = source.device, torch.get_num_threads(), tokens_per_sample(source)
    run = Run(program, build(program, seed=0, device=device), seed=0, device=device, ledger=Ledger(device))
    torch.set_num_threads(1)
    try:
        with fork(0, "estimate"):
            batches, times = source.batches(0), []
            for step in range(min(steps + 1, end)):
                begun = time.perf_counter()
                tick = Tick(step, 0, end, 0.0, source.steps_per_epoch, source.batch_size, tokens)
                run.step(tick, batches)
                times.append(time.perf_counter() - begun)
    finally:
        torch.set_num_threads(threads)
    buffer = io.BytesIO()
    torch.save(run.state_dict(), buffer)
    return statistics.median(times[1:] or times), buffer.tell()


def _source(program: Program, device: torch.device) -> BatchSource:
    with fork(0, "data"):
        data = program.data.build()(0)
    return BatchSource(data, program.sampler.build(), batch_size=program.batch_size, seed=0, device=device)
