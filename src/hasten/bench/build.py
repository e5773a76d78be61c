"""From a program to live objects: model, optimizer, loss, transforms and hooks, each under its own random stream."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hasten._core.batch import get_targets
from hasten._core.checks import describe, refuse, refuse_type
from hasten._core.clock import Scheduled, Tick
from hasten._core.rng import fork, stream
from hasten._core.surgery import NoEffectWarning, Report
from hasten.program import Call, Entry, Program, ProgramError

__all__ = ["Built", "Transform", "build", "build_model", "check_batch", "checked_loss"]


@dataclass
class Transform:
    """A batch transform or a hook's `on_batch`, at its place in the one stage order."""

    name: str
    stage: int
    function: Callable[..., Any]
    scheduled: dict[str, Scheduled]
    fixed: dict[str, Any]
    is_hook: bool = False

    def __call__(self, batch: Any, run: Any, tick: Tick) -> Any:
        """The changed batch; schedules among the arguments are evaluated at `tick`."""
        if self.is_hook:
            return self.function(batch, run)
        arguments = {**self.fixed, **{name: schedule.at(tick) for name, schedule in self.scheduled.items()}}
        return self.function(batch, generator=run.generator(f"batch/{self.name}"), **arguments)


@dataclass
class Built:
    """The live objects of one run."""

    model: nn.Module
    forward: Callable[..., Any]
    optimizer: Any
    loss: Callable[[Any, Any], Tensor]
    schedule: Scheduled
    transforms: list[Transform]
    hooks: dict[str, Any]
    predict: list[Callable[..., Any]]
    reports: dict[str, Report]


def build_model(program: Program, seed: int) -> tuple[nn.Module, dict[str, Report]]:
    """The model after surgery. A surgery that matched nothing is an error: its arm would measure nothing.

    Works under `torch.device("meta")`, for checking programs without paying for them.
    """
    with fork(seed, "model"):
        model = program.model.build()
    if not isinstance(model, nn.Module):
        raise refuse_type("program.model", "a function that returns an nn.Module", model)
    reports = {}
    for entry in program.surgery:
        with fork(seed, f"surgery/{entry.name}"), warnings.catch_warnings():
            warnings.simplefilter("ignore", NoEffectWarning)
            report = entry.call.build()(model, generator=stream(seed, f"surgery/{entry.name}"))
        if not isinstance(report, Report):
            raise refuse_type(f"surgery {entry.name!r}", "a Report of what changed", report, "Return one.")
        if not len(report):
            fix = "Leave it out for this workload, or loosen its arguments."
            raise ProgramError(f"{entry.name}: expected something to change in this model, found nothing. {fix}")
        reports[entry.name] = report
    return model, reports


def build(program: Program, *, seed: int, device: torch.device, model: nn.Module | None = None) -> Built:
    """Build everything a run needs, in the order the contract fixes: surgery before the optimizer, hooks last.

    Args:
        program: what to build.
        seed: the run's seed.
        device: where it will run.
        model: the model after surgery, where somebody has it already; None builds it.
    """
    model, reports = build_model(program, seed) if model is None else (model, {})
    model.to(device)
    optimizer = program.optimizer.build()(program.param_groups.build()(model))
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    _add_gradient_hooks(program, optimizer)
    loss = program.loss.build()
    for entry in program.losses:
        loss = entry.call.build()(loss)
    schedule = program.schedule.build()
    if not isinstance(schedule, Scheduled):
        fix = "Use call(Scheduled, schedule=..., unit='step')."
        raise refuse_type("program.schedule", "a Scheduled", schedule, fix)
    hooks = {entry.name: entry.call.build() for entry in program.hooks}
    forward = model if program.compile is None else torch.compile(model, backend=program.compile)
    predict = [entry.call.build() for entry in program.predict]
    transforms = _transforms(program, hooks)
    _check_microbatch(program, model)
    return Built(model, forward, optimizer, loss, schedule, transforms, hooks, predict, reports)


def base_optimizer(optimizer: Any) -> Any:
    """The innermost optimizer of a stack of wrappers (a wrapper keeps what it wraps in `.base`)."""
    while hasattr(optimizer, "base"):
        optimizer = optimizer.base
    return optimizer


def _add_gradient_hooks(program: Program, optimizer: Any) -> None:
    """Gradient functions run before the BASE optimizer's step, so that clipping happens once under SAM."""
    base = base_optimizer(optimizer)
    for entry in program.gradients:
        function = entry.call.build()

        def before_step(opt: Any, args: Any, kwargs: Any, function: Callable[..., None] = function) -> None:
            function([p for group in opt.param_groups for p in group["params"] if p.grad is not None])

        base.register_step_pre_hook(before_step)


def _transforms(program: Program, hooks: dict[str, Any]) -> list[Transform]:
    found = [_transform(entry) for entry in program.batch]
    for entry in program.hooks:
        hook = hooks[entry.name]
        if hasattr(hook, "on_batch"):
            found.append(Transform(entry.name, entry.stage, hook.on_batch, {}, {}, is_hook=True))
    return sorted(found, key=lambda transform: transform.stage)  # stable: within a stage, batch entries come first


def _transform(entry: Entry) -> Transform:
    arguments = {name: value.build() if isinstance(value, Call) else value for name, value in entry.call.args}
    function = Call(entry.call.target, (), bind=True).build()
    scheduled = {name: value for name, value in arguments.items() if isinstance(value, Scheduled)}
    fixed = {name: value for name, value in arguments.items() if name not in scheduled}
    for name, value in scheduled.items():
        if value.unit == "seconds":
            got, fix = f"one in seconds for {name}", "Use unit='progress', or a unit that counts."
            raise refuse(f"batch transform {entry.name!r}", "a schedule that gives every run the same data", got, fix)
    return Transform(entry.name, entry.stage, function, scheduled, fixed)


def check_batch(program: Program) -> None:
    """Refuse batch transforms that cannot work, before anything is trained: `build` does, but in the run itself."""
    for entry in program.batch:
        _transform(entry)


def _check_microbatch(program: Program, model: nn.Module) -> None:
    """Batch norm mixes samples: over microbatches it would be another model, so it is refused."""
    if program.microbatch is None or program.microbatch >= program.batch_size:
        return
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            fix = "Use microbatch=None, or a model with group or layer norm."
            raise refuse("program.microbatch", "a model without batch norm", f"{name} ({type(module).__name__})", fix)


def checked_loss(losses: Any, batch: Any, samples: int) -> Tensor:
    """The losses if they are one value per sample, else an error that shows the fix."""
    if isinstance(losses, Tensor) and losses.shape == (samples,):
        return losses
    if isinstance(losses, Tensor) and losses.ndim == 0:
        fix = "Do not average over the batch: use reduction='none'."
    else:
        fix = "Average over everything but the batch, for example .flatten(1).mean(1)."
    got = f"{describe(losses)} for targets {describe(get_targets(batch))}"
    raise refuse("loss", f"one value per sample, shape ({samples},)", got, fix)
