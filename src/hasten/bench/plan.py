"""What a study will do, checked before anything runs: arms, seeds, curve, jobs."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from hasten._core.call import canonical, encode
from hasten._core.checks import check, describe, near, refuse, refuse_type
from hasten._core.clock import Tick, parse_duration
from hasten._core.rng import fork
from hasten.program import Method, MethodFactory, Program, ProgramError

from .build import build_model, check_batch
from .curves import DECAY, KINDS, Curve, branch_schedule, check_control, check_decay, choose_kind
from .source import BatchSource, tensors_of
from .train import tokens_per_sample
from .workloads.base import Workload, halves, probe

__all__ = ["Control", "Job", "Plan", "Work", "check_device", "check_test_data", "make_plan", "seeds_of"]


@dataclass(frozen=True)
class Job:
    """One run: an arm, a seed, the kind of curve, and the points it yields."""

    arm: str
    seed: int
    points: tuple[int, ...]
    kind: str

    @property
    def first(self) -> int:
        """Index of the first point."""
        return self.points[0]


class Work(Protocol):
    """What a driver can run: jobs in order, and for each what its worker and the store must know."""

    @property
    def device(self) -> str:
        """ "cpu" or "cuda"."""
        ...

    def identity(self) -> str:
        """Hex digits of what is being asked: a folder holds one question."""
        ...

    def jobs(self) -> list[Job]:
        """Every run, in the order in which they are given out."""
        ...

    def programs(self) -> list[Program]:
        """Every program, whose files of the user's travel with the study."""
        ...

    def label(self, job: Job) -> str:
        """The name of its curve in the store."""
        ...

    def fingerprint(self, job: Job) -> str:
        """Hex digits of what it computes, whatever its seed."""
        ...

    def length(self, job: Job, reached: tuple[int, ...]) -> int:
        """Optimizer steps until it has yielded these points, its first one among them."""
        ...

    def task(self, job: Job) -> dict[str, Any]:
        """What its worker is told: `function` is "module:name" of what runs it, the rest is that function's."""
        ...

    def needs(self, job: Job) -> Job | None:
        """The job that must be done before, because this one begins with its weights."""
        ...


@dataclass(frozen=True)
class Control:
    """The baseline in another kind of curve, to see what the kind does to the levels; it enters no verdict."""

    curve: Curve
    program: Program


@dataclass(frozen=True)
class Plan:
    """Everything a study is, before it runs.

    Args:
        workload: the question.
        arms: name -> program; the baseline is among them.
        baseline: the name of the arm that the others are compared with.
        seeds: the seeds, in order.
        curve: where the points lie.
        reason: why the curve kind was chosen, in words.
        steps_per_epoch: of the training data.
        device: "cpu" or "cuda".
        controls: what `calibrate` adds.
    """

    workload: Workload
    arms: Mapping[str, Program]
    baseline: str
    seeds: tuple[int, ...]
    curve: Curve
    reason: str
    steps_per_epoch: int
    device: str = "cpu"
    controls: tuple[Control, ...] = ()

    def jobs(self) -> list[Job]:
        """Runs in interleaved order: seed by seed, the arms in turn A B C, C B A, so that drift meets all alike."""
        found = []
        for position, seed in enumerate(self.seeds):
            names = list(self.arms) if position % 2 == 0 else list(self.arms)[::-1]
            curves = [(self.curve, names), *((control.curve, [self.baseline]) for control in self.controls)]
            found += [
                Job(name, seed, points, curve.kind)
                for curve, arms in curves
                for points in curve.runs()
                for name in arms
            ]
        return found

    def program(self, job: Job) -> Program:
        """What a job trains."""
        return next((c.program for c in self.controls if c.curve.kind == job.kind), self.arms[job.arm])

    def curve_of(self, job: Job) -> Curve:
        """The curve that a job is of."""
        return next((c.curve for c in self.controls if c.curve.kind == job.kind), self.curve)

    def programs(self) -> list[Program]:
        """Every program of the study."""
        return [*self.arms.values(), *(control.program for control in self.controls)]

    def label(self, job: Job) -> str:
        """The name of its curve in the store."""
        return self.curve_of(job).label

    def fingerprint(self, job: Job) -> str:
        """That of its program."""
        return self.program(job).fingerprint()

    def length(self, job: Job, reached: tuple[int, ...]) -> int:
        """Optimizer steps until it has yielded these points."""
        return self.curve_of(job).steps(reached)

    def task(self, job: Job) -> dict[str, Any]:
        """What its worker is told."""
        curve = self.curve_of(job)
        return {
            "function": "hasten.bench.task:train_program",
            "program": self.program(job).to_json(),
            "test": encode(self.workload.test),
            "metric": encode(self.workload.metric),
            "cycles": curve.cycles(job.points),
            "forks": curve.leaves(job.points),
        }

    def needs(self, job: Job) -> Job | None:
        """Nothing: every run begins with weights of its own."""
        return None

    def steps(self) -> int:
        """Optimizer steps of the whole study."""
        return sum(self.curve_of(job).steps(job.points) for job in self.jobs())

    def budgets(self) -> list[str]:
        """The points in epochs, for people."""
        return [f"{end / self.steps_per_epoch:.3g} ep" for end in self.curve.ends]

    def identity(self) -> str:
        """16 hex digits of what is being asked.

        Seeds and controls are not part of it, so a study can be given more of them.
        """
        record = {
            "workload": self.workload.program.workload,
            "arms": {name: program.fingerprint() for name, program in self.arms.items()},
            "baseline": self.baseline,
            "curve": [self.curve.kind, list(self.curve.ends), *([list(self.curve.forks)] if self.curve.forks else [])],
            "evaluation": [encode(self.workload.test), encode(self.workload.metric)],
            "device": self.device,
        }
        return hashlib.sha256(canonical(record).encode()).hexdigest()[:16]


Arms = Mapping[str, "Sequence[Method] | Method | Program"]


def make_plan(
    workload: Workload,
    arms: Arms,
    *,
    baseline: str | None = None,
    seeds: int | Sequence[int] = 5,
    curve: str = "auto",
    duration: str | None = None,
    points: int | None = None,
    mult: float | None = None,
    decay: float | None = None,
    calibrate: bool = False,
    device: str = "cpu",
) -> Plan:
    """Check a study and lay it out. Nothing is trained.

    Raises:
        ProgramError: conflicting methods, or a method that finds nothing to change in this model.
        ValueError: an unknown baseline, too few steps for the points, a workload that lacks what a method needs.
    """
    check_device(device)
    base = _lasting(workload.program, duration)
    _check_names(arms)
    programs = {name: _program(base, name, arm, duration) for name, arm in arms.items()}
    chosen = baseline if baseline is not None else next(iter(programs))
    if chosen not in programs:
        raise refuse("compare", "a baseline among the arms", repr(chosen), near(chosen, programs))
    numbers = seeds_of(seeds)
    _check_programs(workload, programs)
    check_test_data(workload)
    kind, reason = choose_kind(curve, programs, base)
    check_decay(decay, kind, calibrate)
    source = _source(base)
    steps = _steps(base, source)
    decay = DECAY if decay is None else decay

    def lay(kind: str) -> Curve:
        return Curve.of(
            kind,
            steps,
            points=workload.points if points is None else points,
            mult=workload.mult if mult is None else mult,
            warmup=workload.warmup,
            decay=decay,
        )

    def in_kind(kind: str, program: Program) -> Program:
        return program if kind != "branch" else program.replace(schedule=branch_schedule(workload.warmup, decay))

    others = [other for other in KINDS if calibrate and other != kind]
    controls = tuple(Control(lay(other), in_kind(other, programs[chosen])) for other in others)
    for other in others:
        check_control(other, chosen, programs[chosen], base)
    programs = {name: in_kind(kind, program) for name, program in programs.items()}
    plan = Plan(workload, programs, chosen, numbers, lay(kind), reason, source.steps_per_epoch, device, controls)
    _check_curves(plan, base, steps)
    return plan


def _check_names(arms: Any) -> None:
    fix = "For example {'base': [], 'blur': [blurpool()]}."
    if not isinstance(arms, Mapping):
        raise refuse_type("compare", "arms as a dict of name -> methods", describe(arms), fix)
    check(len(arms) >= 1, "compare", "at least one arm", list(arms), fix)
    for name in arms:
        check(isinstance(name, str) and bool(name.strip()), "compare", "arm names that are text", name, fix)


def check_device(device: str, verb: str = "compare") -> None:
    """Refuse a device that is not known or not there."""
    if device not in ("cpu", "cuda"):
        raise refuse(verb, "device 'cpu' or 'cuda'", repr(device))
    if device == "cuda" and not torch.cuda.is_available():
        raise refuse(verb, "a machine with a CUDA device", "none", "Use device='cpu'.")


def _lasting(program: Program, duration: str | None) -> Program:
    return program if duration is None else program.replace(duration=duration)


def seeds_of(seeds: int | Sequence[int], verb: str = "compare") -> tuple[int, ...]:
    """The seeds, from how many or which."""
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) for seed in numbers) and seeds is not True
    fix = "Pass how many, or a list of whole numbers."
    check(bool(numbers) and whole and len(set(numbers)) == len(numbers), verb, "seeds, each once", seeds, fix)
    return numbers


def _program(base: Program, name: str, arm: Any, duration: str | None) -> Program:
    if isinstance(arm, Program):
        if arm.workload != base.workload:
            fix = "Compare programs of one workload; it is the question."
            raise refuse(f"arm {name!r}", f"a program of the workload {base.workload!r}", repr(arm.workload), fix)
        return _lasting(arm, duration)
    if isinstance(arm, (Method, MethodFactory)):
        arm = [arm]
    if not isinstance(arm, (list, tuple)):
        fix = "For example [blurpool()]."
        raise refuse_type(f"arm {name!r}", "a list of methods, or a Program", describe(arm), fix)
    with _of_arm(name):
        return base.then(*arm)


@contextmanager
def _of_arm(name: str) -> Iterator[None]:
    """Errors inside say which arm they are about."""
    try:
        yield
    except (ValueError, TypeError) as error:
        kind = next(kind for kind in (ProgramError, ValueError, TypeError) if isinstance(error, kind))
        raise kind(f"arm {name!r}: {error}") from error


def _check_compiled(programs: Mapping[str, Program]) -> None:
    """Compiled and eager arithmetic differ, so an effect between the two would be partly the compiler's."""
    backends = {name: program.compile for name, program in programs.items()}
    if len(set(backends.values())) > 1:
        got = ", ".join(f"{name}: {backend or 'eager'}" for name, backend in backends.items())
        raise refuse("compare", "all arms compiled by the same backend, or none", got, "Compile every arm, or none.")
    for backend in set(backends.values()) - {None}:
        known = torch.compiler.list_backends(exclude_tags=())
        if backend not in known:
            raise refuse("compare", "a backend of torch.compile", repr(backend), near(str(backend), known))


def _check_programs(workload: Workload, programs: Mapping[str, Program]) -> None:
    _check_compiled(programs)
    _check_needs(workload, programs)
    for name, program in programs.items():
        _check_builds(name, program)


def _check_needs(workload: Workload, programs: Mapping[str, Program]) -> None:
    offered = probe(workload)
    for name, program in programs.items():
        for method in program.methods:
            lacking = sorted(method.card.needs - offered)
            if lacking:
                got = f"a workload with {', '.join(sorted(offered)) or 'none of these'}"
                fix = f"Leave {method.name} out for {workload.name!r}."
                raise refuse(f"arm {name!r}: {method.name}", f"a workload with {', '.join(lacking)}", got, fix)


def _check_builds(name: str, program: Program) -> None:
    """Build the model and its surgery: a surgery that matches nothing is an error here, and not after an hour.

    On the meta device, which costs no weights; a model that needs numbers while it is built (`.item()`) is built for
    real instead.
    """
    with _of_arm(name), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_batch(program)
        try:
            with torch.device("meta"):
                build_model(program, 0)
        except (RuntimeError, NotImplementedError):
            build_model(program, 0)


def _check_curves(plan: Plan, base: Program, steps: int) -> None:
    for name, program in plan.arms.items():
        _check_length(name, program, base, steps)
        _check_schedule(name, program, plan.curve, plan.steps_per_epoch)
    for control in plan.controls:
        _check_schedule(plan.baseline, control.program, control.curve, plan.steps_per_epoch)


def _check_length(name: str, program: Program, base: Program, steps: int) -> None:
    """Every arm is measured at the same budgets in steps: one whose own length differs would be cut or stretched."""
    if (program.duration, program.batch_size, program.data) == (base.duration, base.batch_size, base.data):
        return
    own = _steps(program, _source(program))
    if own != steps:
        got = f"{own} ({program.duration} with batches of {program.batch_size})"
        fix = "Give every arm the same number of steps, for example duration='500step'."
        raise refuse(f"arm {name!r}", f"a training length of {steps} steps, like the baseline's", got, fix)


def _check_schedule(name: str, program: Program, curve: Curve, steps_per_epoch: int) -> None:
    """A schedule that cannot serve a budget (a warm-up longer than it) fails here, and not in every run."""
    schedule = program.schedule.build()
    for run in curve.runs():
        for start, end, _ in curve.cycles(run):
            try:
                schedule.at(Tick(start, start, end, 0.0, steps_per_epoch, program.batch_size, 1))
            except ValueError as error:
                raise ValueError(f"arm {name!r}, the cycle from step {start} to {end}: {error}") from error


def check_test_data(workload: Workload) -> None:
    """A user's `data(seed)` must return the same test part for every seed, or seeds would not be paired."""
    if not workload.test.target.endswith(":test_part"):
        return
    source = workload.test["source"].build()
    one, two = (_test_digests(source, seed) for seed in (0, 1))
    if one != two:
        fix = "Split before using the seed: the seed may drive the training part only."
        raise refuse(f"workload {workload.name!r}", "a test part that does not depend on the seed", "two", fix)


def _test_digests(source: Any, seed: int) -> list[str] | None:
    with fork(seed, "data"):
        tensors = tensors_of(halves(source(seed))[1])
    return None if tensors is None else [_digest(tensor) for tensor in tensors]


def _digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data).hexdigest()


def _source(program: Program) -> BatchSource:
    with fork(0, "data"):
        data = program.data.build()(0)
    return BatchSource(
        data, program.sampler.build(), batch_size=program.batch_size, seed=0, device=torch.device("cpu")
    )  # fmt: skip


def _steps(program: Program, source: BatchSource) -> int:
    return parse_duration(program.duration).steps(
        steps_per_epoch=source.steps_per_epoch,
        batch_size=source.batch_size,
        tokens_per_sample=tokens_per_sample(source),
    )
