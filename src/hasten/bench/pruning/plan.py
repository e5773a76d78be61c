"""What a pruning study will do, checked before anything is trained: strategies, ratios, seeds, controls, jobs.

    start       per seed: the dense model, trained from scratch on the part to learn from
    unpruned    per seed: the start weights trained on for as long as every pruned model (ratio 1, a control)
    <strategy>  per seed and ratio: the start weights pruned, and trained on
    smaller     per seed and ratio: a narrower dense model trained from scratch for both lengths together (a control)

All runs of a seed see the same start weights, the same batches in the same order, the same held-out part that chooses
the epoch and the same learning rates; the test data are looked at for results alone.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import math
import numbers
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hasten._core.batch import take
from hasten._core.call import canonical, encode
from hasten._core.checks import check, describe, positive, refuse, refuse_type
from hasten._core.clock import Scheduled, parse_duration
from hasten._core.rng import fork
from hasten.program import Entry, Program, bind, call
from hasten.prune import NoClassifierWarning, fraction_to_keep
from hasten.schedules import cosine, scale

from ..build import build_model
from ..plan import Job, check_device, check_test_data, seeds_of
from ..source import BatchSource
from ..train import tokens_per_sample
from ..workloads.base import Workload
from . import data
from .cut import SAMPLES, check_arm, cut, parameters_of, pattern_of
from .hooks import HoldMasks, KeepBest, mean_loss
from .smaller import Smaller, smaller
from .task import BATCHES, batches_of

__all__ = ["PATTERN", "RATE", "RATIOS", "SMALLER", "START", "STRATEGIES", "UNPRUNED", "PrunePlan", "make_prune_plan"]

START, UNPRUNED, SMALLER = "start", "unpruned", "smaller"
BASELINE = "random"  # always among the strategies
STRATEGIES = ("random", "global_magnitude", "layer_magnitude", "lamp", "snip", "global_activation")
RATIOS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # those of arXiv 2003.03033, as far as a model can be pruned
RATE = 1.0  # learning rate of training on, as a share of the training's: high ones repair more (arXiv 2003.02389)
TUNE = 0.2  # length of fine-tuning where none is given, as a share of the training's
PATTERN = "unstructured"
CALL = "hasten prune"


@dataclass(frozen=True)
class PrunePlan:
    """A pruning study before it runs (a `hasten.bench.plan.Work`).

    Args:
        workload: the question.
        strategies: their names, the baseline `random` among them.
        ratios: compression ratios, rising, the first one 1: places on the curve are indices of it.
        seeds: the seeds, in order.
        pattern: which sets of entries a mask may keep.
        start, tune: programs of the dense start and of training on.
        smaller: ratio -> narrower model, and why there is none.
        without_smaller: the reason, or "".
        steps: optimizer steps of start and tune.
        rate: learning rate of training on, as a share of the start's.
        held_out: samples that choose the epoch, and by what: the metric's name, or "loss".
        parameters: (all, prunable) of the dense model.
        device: "cpu" or "cuda".
        classifier: whether the model has a layer that is known as one, and so is never pruned.
    """

    workload: Workload
    strategies: tuple[str, ...]
    ratios: tuple[float, ...]
    seeds: tuple[int, ...]
    pattern: str
    start: Program
    tune: Program
    smaller: Mapping[float, Smaller]
    without_smaller: str
    steps: tuple[int, int]
    rate: float
    held_out: tuple[int, str]
    parameters: tuple[int, int]
    device: str = "cpu"
    classifier: bool = True

    def jobs(self) -> list[Job]:
        """Seed by seed: the start, what can be trained beside it, then every strategy and ratio, there and back."""
        found = []
        for position, seed in enumerate(self.seeds):
            others = [Job(UNPRUNED, seed, (0,), "prune")]
            others += [
                Job(name, seed, (point,), "prune") for point in range(1, len(self.ratios)) for name in self.strategies
            ]
            found.append(Job(START, seed, (0,), "start"))
            found += [Job(SMALLER, seed, (self.ratios.index(ratio),), "prune") for ratio in self.smaller]
            found += others if position % 2 == 0 else others[::-1]
        return found

    def program(self, job: Job) -> Program:
        """What a job trains."""
        if job.arm == START:
            return self.start
        if job.arm != SMALLER:
            return self.tune
        narrow = self.smaller[self.ratios[job.first]].model
        return self.start.replace(model=narrow, duration=f"{sum(self.steps)}step")

    def programs(self) -> list[Program]:
        """Every program."""
        return [self.start, self.tune]

    def label(self, job: Job) -> str:
        """The name of its curve in the store."""
        return job.kind

    def length(self, job: Job, reached: tuple[int, ...]) -> int:
        """Optimizer steps of a job."""
        return {START: self.steps[0], SMALLER: sum(self.steps)}.get(job.arm, self.steps[1])

    def needs(self, job: Job) -> Job | None:
        """The start of its seed, for whatever begins with its weights."""
        return None if job.arm in (START, SMALLER) else Job(START, job.seed, (0,), "start")

    def fingerprint(self, job: Job) -> str:
        """32 hex digits of what a job computes: its program, and what it is begun with."""
        record: dict[str, Any] = {"program": self.program(job).fingerprint()}
        if self.needs(job) is not None:
            record |= {"start": self.start.fingerprint(), **self._cut(job)}
        return _digest(record, 32)

    def _cut(self, job: Job) -> dict[str, Any]:
        if job.arm in (START, SMALLER, UNPRUNED):
            return {"strategy": None, "ratio": 1.0, "pattern": PATTERN}
        strategy, pattern = pattern_of(job.arm, self.pattern)
        return {"strategy": strategy, "ratio": self.ratios[job.first], "pattern": pattern}

    def task(self, job: Job) -> dict[str, Any]:
        """What its worker is told."""
        function = "train_dense" if job.arm in (START, SMALLER) else "fine_tune"
        return {
            "function": f"hasten.bench.pruning.task:{function}",
            "program": self.program(job).to_json(),
            "reference": self.start.to_json(),
            "test": encode(self.workload.test),
            "metric": encode(self.workload.metric),
            "cycles": [(0, self.length(job, job.points), job.first)],
            "forks": [],
            **self._cut(job),
        }

    def identity(self) -> str:
        """16 hex digits of what is being asked; seeds are not part of it, so a study can be given more of them."""
        record = {
            "kind": "prune",
            "workload": self.workload.program.workload,
            "programs": [program.fingerprint() for program in self.programs()],
            "strategies": list(self.strategies),
            "ratios": list(self.ratios),
            "pattern": self.pattern,
            "smaller": [encode(one.model) for one in self.smaller.values()],
            "evaluation": [encode(self.workload.test), encode(self.workload.metric)],
            "device": self.device,
        }
        return _digest(record, 16)

    def total_steps(self) -> int:
        """Optimizer steps of the whole study."""
        return sum(self.length(job, job.points) for job in self.jobs())


def _digest(record: Any, digits: int) -> str:
    return hashlib.sha256(canonical(record).encode()).hexdigest()[:digits]


def make_prune_plan(
    workload: Workload,
    *,
    strategies: Sequence[str] = STRATEGIES,
    ratios: Sequence[float] | None = None,
    seeds: int | Sequence[int] = 3,
    train: str | None = None,
    finetune: str | None = None,
    rate: float = RATE,
    pattern: str = PATTERN,
    device: str = "cpu",
) -> PrunePlan:
    """Check a pruning study and lay it out (see `prune_curve`). Nothing is trained.

    Raises:
        ValueError, TypeError: an unknown strategy or pattern, a ratio below 1 or above what can be reached (the message
            says it), a model without prunable layers, a strategy that does not work on this model.
    """
    check_device(device, CALL)
    names, chosen = _strategies(strategies, pattern), seeds_of(seeds, CALL)
    asked = None if ratios is None else _ratios(ratios)
    positive(CALL, "rate", rate)
    check_test_data(workload)
    base = workload.program
    durations = _durations(workload, train, finetune)
    learn = base.replace(data=bind(data.learning_part, source=base.data), duration=durations[0])
    best, held_out = _keep_best(workload)
    start = learn.replace(hooks=(*base.hooks, best))
    source = _source(start)
    lengths = _steps(durations[0], source), _steps(durations[1], source)
    tune = start.replace(
        duration=f"{lengths[1]}step",
        schedule=call(Scheduled, schedule=scale(cosine(), rate), unit="step"),
        hooks=(*base.hooks, Entry("masks", call(HoldMasks), 70), best),
    )
    start = start.replace(duration=f"{lengths[0]}step")
    batches = batches_of(start, 0, "cpu", min(BATCHES, source.steps_per_epoch))
    model, parameters, classifier = _model(start)
    asked = _reached(parameters) if asked is None else asked
    _try(model, start, names, asked, parameters, pattern, batches)
    narrow, why = smaller(base, asked[1:], take(batches[0], slice(2)), parameters[0])
    data.forget()
    return PrunePlan(
        workload, names, asked, chosen, pattern, start, tune, narrow, why, lengths, float(rate), held_out, parameters,
        device, classifier,
    )  # fmt: skip


def _strategies(given: Sequence[str], pattern: str) -> tuple[str, ...]:
    """The strategies, checked, with the baseline."""
    fix = "For example --strategies random,global_magnitude,lamp."
    if isinstance(given, str) or not all(isinstance(name, str) for name in given):
        raise refuse_type(CALL, "strategies as a list of names", describe(given), fix)
    for arm in given:
        check(arm not in (START, UNPRUNED, SMALLER), CALL, "a name that no control has", arm, fix)
        check_arm(CALL, arm, pattern)
    check(len(given) > 0, CALL, "a strategy", list(given), fix)
    twice = sorted({name for name in given if list(given).count(name) > 1})
    check(not twice, CALL, "each strategy once", ", ".join(twice), fix)
    return tuple(given) if BASELINE in given else (BASELINE, *given)


def _ratios(given: Sequence[float]) -> tuple[float, ...]:
    """The ratios in order, with 1, which is the unpruned control."""
    fix = "For example --ratios 1,2,4,8."
    for ratio in given:
        number = isinstance(ratio, numbers.Real) and not isinstance(ratio, bool) and math.isfinite(ratio)
        if not number or ratio < 1:
            raise refuse(CALL, "compression ratios of at least 1 (size before / size after)", describe(ratio), fix)
    check(len(set(given)) == len(given), CALL, "each ratio once", list(given), fix)
    found = sorted({1.0, *map(float, given)})
    check(len(found) > 1, CALL, "a ratio above 1", list(given), fix)
    return tuple(found)


def _keep_best(workload: Workload) -> tuple[Entry, tuple[int, str]]:
    """The hook that keeps the best epoch, how many samples choose it, and by what."""
    base = workload.program
    held = bind(data.held_out_part, source=base.data)
    part = held.build()(0)
    count = len(part) if isinstance(part, data.Part) else len(next(iter(data.tensors_of(part) or [()])))
    if data.same_form(part, workload.test.build()()):
        score, minimize, by = workload.metric, workload.minimize, workload.metric_name
    else:
        score, minimize, by = bind(mean_loss, loss=base.loss), True, "loss"
    return Entry("best", call(KeepBest, held_out=held, score=score, minimize=minimize), 90), (count, by)


def _source(program: Program) -> BatchSource:
    with fork(0, "data"):
        found = program.data.build()(0)
    return BatchSource(
        found, program.sampler.build(), batch_size=program.batch_size, seed=0, device=torch.device("cpu")
    )


def _durations(workload: Workload, train: str | None, finetune: str | None) -> tuple[str, str]:
    """The lengths of training and of training on: as asked, else the workload's own, else a fifth of the first."""
    if train is None:
        train, finetune = workload.prune_duration or workload.program.duration, finetune or workload.prune_finetune
    length = parse_duration(train)
    return train, finetune or f"{TUNE * length.value:.12g}{length.unit}"


def _steps(duration: str, source: BatchSource) -> int:
    return parse_duration(duration).steps(
        steps_per_epoch=source.steps_per_epoch,
        batch_size=source.batch_size,
        tokens_per_sample=tokens_per_sample(source),
    )


def _model(program: Program) -> tuple[nn.Module, tuple[int, int], bool]:
    """The untrained model; entries of all its parameters and of the prunable ones; whether its classifier is known."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("ignore")
        model, _ = build_model(program, 0)
        warnings.simplefilter("always", NoClassifierWarning)
        parameters = parameters_of(CALL, model)
    for one in told:  # a user should know that it can be pruned away
        warnings.warn(one.message, stacklevel=5)
    return model, parameters, not told


def _reached(parameters: tuple[int, int]) -> tuple[float, ...]:
    """Of the usual ratios those that a model can be pruned to."""
    total, prunable = parameters
    found = tuple(ratio for ratio in RATIOS if total / ratio > total - prunable)
    fix = "Pass --ratios below it, such as 1.2."
    most = total / max(1, total - prunable)
    check(len(found) > 1, CALL, f"a model that can be pruned to {RATIOS[1]:g}", f"one to {most:.4g} at most", fix)
    return found


def _try(
    model: nn.Module, program: Program, names: Sequence[str], ratios: Sequence[float], parameters: tuple[int, int],
    default: str, batches: list[Any],
) -> None:  # fmt: skip
    """Prune the untrained model by every strategy to the largest ratio: what cannot work is said now."""
    small, loss = [take(batch, slice(SAMPLES)) for batch in batches[:1]], program.loss.build()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for arm in names:
            strategy, pattern = pattern_of(arm, default)
            if pattern == PATTERN:  # in the words of this verb
                fraction_to_keep(*parameters, compression=ratios[-1], call=CALL)
            with _of_strategy(arm, ratios[-1]), fork(0, "prune"):
                cut(copy.deepcopy(model), strategy, ratios[-1], pattern=pattern, batches=small, loss=loss, seed=0)


@contextlib.contextmanager
def _of_strategy(arm: str, ratio: float) -> Iterator[None]:
    """Errors inside say which strategy they are about."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"strategy {arm!r} at ratio {ratio:g}: {error}") from error
