"""The loop: run a program for some cycles and evaluate at the end of each.

    for each cycle (start, end, point):
        for each step: hooks, schedule, batch, transforms, forward, backward, optimizer, hooks     <- on the clock
        evaluate, write a checkpoint, tell the observer                                            <- off the clock

Of a branch curve every cycle starts at 0: it shares the trunk with the others up to its fork. There a snapshot is
taken, and after the evaluation the run goes back to it, with its clock: what stands on the clock of a point is what
a run to that point alone would have spent, the rest is charged to "branches".

Same program, seed, machine and versions: the same bits, also after a crash and a resume, because nothing random is
carried from step to step and the checkpoint holds everything else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hasten._core.batch import get_inputs, map_tensors
from hasten._core.checks import check, refuse_type
from hasten._core.clock import Tick, parse_duration
from hasten._core.dispatch import checksum
from hasten._core.rng import fork
from hasten.program import Program

from . import checkpoint as checkpoints
from .build import build
from .environment import digest, environment
from .inference import inference_cost
from .ledger import Ledger, peak_memory, reset_peak_memory
from .run import NonFiniteError, Run
from .source import BatchSource

__all__ = ["Point", "Result", "Task", "evaluate", "total_steps", "train", "weights_digest"]


@dataclass(frozen=True)
class Point:
    """One point of a curve."""

    point: int
    step: int
    epoch: float
    seconds: float  # on the training clock
    metric: float
    train_loss: float  # mean over the cycle
    flops: float
    memory: int | None  # peak bytes so far
    energy: float | None = None  # joules on the training clock so far


@dataclass
class Result:
    """What a run gives back."""

    points: list[Point] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)
    excluded: dict[str, float] = field(default_factory=dict)
    scored_samples: int = 0
    inference: dict[str, float] = field(default_factory=dict)
    parameters: int = 0
    weights: str = ""  # digest of the final weights
    schedule: list[tuple[int, float]] = field(default_factory=list)  # of one in seconds: (step, multiplier) as used
    resumed: bool = False
    stopped: bool = False
    model: nn.Module | None = None  # as it was evaluated last, as the hooks hand it out


@dataclass(frozen=True)
class Task:
    """What to run: a program, a seed, the cycles, and how to evaluate (which no method may change).

    Args:
        program: the program.
        seed: the run's seed.
        cycles: (start, end, point) in steps; the first starts at 0.
        test: `() -> test data`.
        metric: `(model, test) -> float`.
        device: "cpu" or "cuda".
        workers: loader processes (datasets only).
        forks: of a branch curve, the step at which each cycle leaves the trunk.
        energy: measure energy; only where the machine runs nothing else.
        model: the model to train, after surgery (one that was pruned); None builds that of the program.
    """

    program: Program
    seed: int
    cycles: tuple[tuple[int, int, int], ...]
    test: Callable[[], Any]
    metric: Callable[[nn.Module, Any], float]
    device: str = "cpu"
    workers: int = 0
    forks: tuple[int, ...] = ()
    energy: bool = False
    model: nn.Module | None = None


def total_steps(program: Program, source: BatchSource) -> int:
    """The program's duration in optimizer steps on this data."""
    tokens = tokens_per_sample(source)
    duration = parse_duration(program.duration)
    return duration.steps(
        steps_per_epoch=source.steps_per_epoch, batch_size=source.batch_size, tokens_per_sample=tokens
    )


def tokens_per_sample(source: BatchSource) -> int:
    """Elements of one input where inputs are integer sequences, else 0."""
    if not source.in_memory:
        return 0
    inputs = get_inputs(source.data)
    return inputs[0].numel() if not inputs.dtype.is_floating_point and inputs.ndim == 2 else 0


def train(
    task: Task,
    *,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 20.0,
    observe: Callable[[dict[str, Any]], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Run a task to its end, from its checkpoint if there is one.

    Args:
        task: what to run.
        checkpoint: file to resume from and to write to; None writes nothing.
        checkpoint_seconds: at most this often between points.
        observe: called with {"event": "point" | "progress" | "note", ...}, off the clock.
        should_stop: asked after each point; True ends the run there.

    Raises:
        NonFiniteError: the loss or the metric is not a finite number.
        ProgramError, ValueError: the program does not fit its workload.
    """
    device = torch.device(task.device)
    with fork(task.seed, "run"):
        return _Loop(task, device, checkpoint, checkpoint_seconds, observe, should_stop).run()


class _Loop:
    """The state of one call of `train`."""

    def __init__(
        self,
        task: Task,
        device: torch.device,
        checkpoint: Path | None,
        checkpoint_seconds: float,
        observe: Callable[[dict[str, Any]], None],
        should_stop: Callable[[], bool],
    ) -> None:
        check(bool(task.cycles) and task.cycles[0][0] == 0, "train", "cycles that start at step 0", task.cycles)
        # Where each cycle leaves the trunk; at its own end where there is no trunk.
        self.forks = task.forks or tuple(end for _, end, _ in task.cycles)
        check(len(self.forks) == len(task.cycles), "train", "one fork a cycle", task.forks)
        self.trunk: dict[str, Any] | None = None  # while on a branch: where to go back to
        self.task, self.checkpoint, self.every = task, checkpoint, checkpoint_seconds
        self.observe, self.should_stop = observe, should_stop
        self.result = Result()
        self.ledger = ledger = Ledger(device, energy=task.energy)
        reset_peak_memory(device)
        program = task.program
        # What a checkpoint must agree with: another version of torch would continue with other bits.
        cycles = [list(cycle) for cycle in task.cycles]
        self.identity = [program.fingerprint(), digest(environment(task.device)), task.seed, cycles, list(task.forks)]
        with ledger.off("data"):
            with fork(task.seed, "data"):
                data = program.data.build()(task.seed)
            self.source = BatchSource(
                data, program.sampler.build(), batch_size=program.batch_size, seed=task.seed, device=device,
                workers=task.workers,
            )  # fmt: skip
            self.tokens = tokens_per_sample(self.source)
            test = task.test()
            self.test = map_tensors(lambda tensor: tensor.to(device), test) if isinstance(test, (tuple, dict)) else test
        self._batches: Iterator[Any] | None = None  # from the current step on
        built = build(program, seed=task.seed, device=device, model=task.model)
        self.live = Run(program, built, seed=task.seed, device=device, ledger=ledger)
        ledger.mark("setup")
        self.step = self._restore()
        self.saved = self.told = time.monotonic()

    def run(self) -> Result:
        self.ledger.start()
        cycles = self.task.cycles
        for index in range(len(self.result.points), len(cycles)):
            self._cycle(index)
            if self.should_stop() and index + 1 < len(cycles):
                self.result.stopped = True
                break
        return self._finish()

    def _cycle(self, index: int) -> None:
        """Train to the end of a cycle and evaluate; a branch then goes back to its trunk, unless it is the last."""
        start, end, point = self.task.cycles[index]
        fork = self.forks[index]
        if self.step == start:
            self.live.loss_sum, self.live.loss_steps = 0.0, 0
        if self._batches is None:
            self._batches = self.source.batches(self.step)
        self._train(start, end, until=min(fork, end))
        if fork < end:
            self._branch_off()
            self._train(start, end, until=end)
        self._evaluate(point)
        if fork < end and index + 1 < len(self.task.cycles):
            self._back_to_trunk()
        if self.checkpoint is not None:
            self._save()

    def _train(self, start: int, end: int, *, until: int) -> None:
        assert self._batches is not None
        while self.step < until:
            loss = self.live.step(self._tick(start, end), self._batches)
            self.live.loss_sum += loss
            self.live.loss_steps += 1
            self.step += 1
            self._housekeeping(end)

    def _branch_off(self) -> None:
        """Remember the trunk, as a checkpoint in memory; a run resumed on a branch remembers it already."""
        if self.trunk is None:
            with self.ledger.off("checkpoint"):
                self.trunk = {"step": self.step, "run": checkpoints.pack(self.live.state_dict())}

    def _back_to_trunk(self) -> None:
        assert self.trunk is not None
        with self.ledger.off("checkpoint"):
            self.step = int(self.trunk["step"])
            self.live.tick = self._tick_at(self.step)
            self.live.rewind(checkpoints.unpack(self.trunk["run"], self.ledger.device))
            self.trunk, self._batches = None, None

    def _tick(self, start: int, end: int) -> Tick:
        source = self.source
        return Tick(
            self.step, start, end, self.ledger.seconds, source.steps_per_epoch, source.batch_size, self.tokens
        )  # fmt: skip

    def _housekeeping(self, end: int) -> None:
        """Between steps: a progress event twice a second, a checkpoint now and then; never at the end of a cycle."""
        now = time.monotonic()
        if now - self.told >= 0.5:
            with self.ledger.off("reporting"):
                self.observe({"event": "progress", "step": self._taken()})
            self.told = now
        if self.checkpoint is not None and self.step != end and now - self.saved >= self.every:
            self._save()

    def _taken(self) -> int:
        """Steps of this run so far, those of finished branches too."""
        ended = zip(self.task.cycles[: len(self.result.points)], self.forks, strict=False)
        return self.step + sum(end - fork for (_, end, _), fork in ended)

    def _evaluate(self, index: int) -> None:
        with self.ledger.off("evaluation"):
            predictor = self.live.predictor()
            with self.live.autocast():
                metric = evaluate(predictor, self.task.metric, self.test, seed=self.task.seed, step=self.step)
        if not math.isfinite(metric):
            raise NonFiniteError(f"the metric became {metric} at step {self.step}.")
        point = Point(
            point=index,
            step=self.step,
            epoch=self.step / self.source.steps_per_epoch,
            seconds=self.ledger.seconds,
            metric=metric,
            train_loss=self.live.loss_sum / self.live.loss_steps,
            flops=self.ledger.flops,
            memory=peak_memory(self.ledger.device),
            energy=self.ledger.energy,
        )
        self.result.points.append(point)
        with self.ledger.off("reporting"):
            self.observe({"event": "point", **asdict(point)})

    def _save(self) -> None:
        with self.ledger.off("checkpoint"):
            state = {
                "identity": self.identity,
                "step": self.step,
                "points": [asdict(point) for point in self.result.points],
                "run": self.live.state_dict(),
                "trunk": self.trunk,
            }
            assert self.checkpoint is not None
            try:
                checkpoints.save(self.checkpoint, state)
            except OSError as error:  # a full disk must not end the run, which only lacks a place to go on from
                text = f"cannot write checkpoints ({error.strerror}); going on without."
                self.observe({"event": "note", "text": text})
        self.saved = time.monotonic()

    def _restore(self) -> int:
        """Continue from the checkpoint if it is this run's; returns the step to go on from."""
        state = checkpoints.load(self.checkpoint, self.ledger.device) if self.checkpoint is not None else None
        if state is None:
            return 0
        if state.get("identity") != self.identity:
            return 0
        self.result.points = [Point(**point) for point in state["points"]]
        self.live.tick = self._tick_at(state["step"])
        self.live.load_state_dict(state["run"])
        self.trunk = state["trunk"]
        self.result.resumed = True
        for point in self.result.points:
            self.observe({"event": "point", **asdict(point)})
        return int(state["step"])

    def _tick_at(self, step: int) -> Tick:
        """The tick before the update at `step`, in the cycle whose point comes next."""
        start, end, _ = self.task.cycles[min(len(self.result.points), len(self.task.cycles) - 1)]
        source = self.source
        return Tick(step, start, end, 0.0, source.steps_per_epoch, source.batch_size, self.tokens)

    def _finish(self) -> Result:
        result, ledger = self.result, self.ledger
        predictor = self.live.predictor()
        with ledger.off("evaluation"), self.live.autocast():
            result.inference = inference_cost(predictor, self.test, ledger.device)
        result.model = predictor.model
        result.phases, result.excluded = dict(ledger.phases), dict(ledger.excluded)
        result.scored_samples = ledger.scored_samples
        result.parameters = sum(p.numel() for p in self.live.model.parameters())
        result.weights = weights_digest(self.live.model)
        result.schedule = self.live.logged
        return result


def evaluate(model: nn.Module, metric: Callable[[nn.Module, Any], float], data: Any, *, seed: int, step: int) -> float:
    """The metric of a model in evaluation mode, under the random state of this seed and step; it may be no number."""
    model.eval()  # a metric that forgets it must not train the running statistics
    with fork(seed, "evaluation", step):
        return _number(metric(model, data))


def _number(found: Any) -> float:
    """The metric as a float."""
    try:
        return float(found)
    except (TypeError, ValueError, RuntimeError) as error:
        fix = "End it with `return value`; a tensor needs .item()."
        raise refuse_type("metric", "one number", found, fix) from error


def weights_digest(model: nn.Module) -> str:
    """16 hex digits over every parameter and buffer: equal for models that are equal to the bit."""
    digest = 0
    for name, tensor in sorted(model.state_dict().items()):
        data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        part = checksum(name.encode()) ^ checksum(data)
        digest = checksum(np.array([digest, part], dtype=np.uint64).view(np.uint8))
    return f"{digest:016x}"
