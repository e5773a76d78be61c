"""What a plan will cost, from a few real steps and one evaluation of its baseline: said before a study begins."""

from __future__ import annotations

import io
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from hasten._core.batch import map_tensors
from hasten._core.clock import Tick
from hasten._core.rng import fork
from hasten.program import Program

from .build import build
from .ledger import Ledger
from .plan import Plan
from .run import Run
from .source import BatchSource
from .train import tokens_per_sample
from .workloads.base import Workload

__all__ = ["Costs", "Estimate", "costs", "estimate"]


@dataclass(frozen=True)
class Estimate:
    """Rough costs of a plan.

    Args:
        seconds: training and evaluation of all its runs at the baseline's speed, one after the other on one thread;
            without starting processes, preparing data and compilation.
        checkpoint_bytes: a checkpoint of the baseline.
    """

    seconds: float
    checkpoint_bytes: int


@dataclass(frozen=True)
class Costs:
    """What one program costs on one thread: seconds of a step and of an evaluation, bytes of a checkpoint."""

    step: float
    evaluation: float
    checkpoint_bytes: int


def estimate(plan: Plan, *, steps: int = 5) -> Estimate | None:
    """Time a few steps of the baseline on one thread and size its checkpoint; None if it cannot take them.

    Only the baseline is run here: an arm that breaks shall end alone, in a worker, with the others going on.
    """
    found = costs(plan.arms[plan.baseline], plan.workload, plan.device, plan.curve.ends[-1], steps=steps)
    if found is None:
        return None
    points = sum(len(job.points) for job in plan.jobs())
    return Estimate(found.step * plan.steps() + found.evaluation * points, found.checkpoint_bytes)


def costs(program: Program, workload: Workload, device: str, end: int, *, steps: int = 5) -> Costs | None:
    """Time a few steps of a program and one evaluation on one thread; None if it cannot take them.

    Args:
        program: of the workload.
        workload: how it is evaluated.
        device: "cpu" or "cuda".
        end: steps of its whole run.
        steps: how many count, after one that warms up.
    """
    place, threads = torch.device(device), torch.get_num_threads()
    program = program.replace(compile=None)  # a compiler would take minutes
    torch.set_num_threads(1)
    try:
        with fork(0, "estimate"):
            data = program.data.build()(0)
            source = BatchSource(data, program.sampler.build(), batch_size=program.batch_size, seed=0, device=place)
            run = Run(program, build(program, seed=0, device=place), seed=0, device=place, ledger=Ledger(place))
            batches, times, tokens = source.batches(0), [], tokens_per_sample(source)
            for step in range(min(steps + 1, end)):
                begun = time.perf_counter()
                tick = Tick(step, 0, end, 0.0, source.steps_per_epoch, source.batch_size, tokens)
                run.step(tick, batches)
                times.append(time.perf_counter() - begun)
            test = _on(place, workload.test.build()())
            begun = time.perf_counter()
            workload.metric.build()(run.predictor().eval(), test)
            evaluation = time.perf_counter() - begun
            buffer = io.BytesIO()
            torch.save(run.state_dict(), buffer)
    except Exception:  # whatever user code raises: the study will meet the same error in a worker and report it
        return None
    finally:
        torch.set_num_threads(threads)
    return Costs(statistics.median(times[1:] or times), evaluation, buffer.tell())


def _on(device: torch.device, test: Any) -> Any:
    return map_tensors(lambda tensor: tensor.to(device), test) if isinstance(test, (tuple, dict)) else test
