"""A workload is the question: a model and data to train, and a metric that no method may change.

Built-in workloads and a user's file are the same thing: a module with four functions (`model`, `data`, `loss`,
`metric`) and a few optional constants. `from_module` turns it into a `Workload`: the baseline program plus evaluation.
"""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hasten._core import params, sources
from hasten._core.batch import get_inputs, get_targets
from hasten._core.checks import describe, near, refuse, refuse_type
from hasten._core.clock import Scheduled, parse_duration
from hasten._core.rng import fork
from hasten.data.order import shuffled
from hasten.program import Call, Program, bind, call
from hasten.schedules import cosine, warmup

__all__ = [
    "FirstPass", "Workload", "first_pass", "from_file", "from_module", "halves", "probe", "provides", "test_part",
    "train_part", "warmed_up",
]  # fmt: skip

FUNCTIONS = {"model": "model()", "data": "data(seed)", "loss": "loss(outputs, batch)", "metric": "metric(model, test)"}


@dataclass(frozen=True)
class Workload:
    """A question to ask of programs.

    Args:
        name: its short name.
        program: the baseline.
        test: partial `() -> test data`.
        metric: partial `(model, test) -> float`.
        metric_name: what reports call it, such as "accuracy".
        minimize: True where a lower metric is better.
        target: a metric worth reaching, or None.
        points, mult, warmup: the default curve (see `hasten.bench.curves`).
        paired_sd: standard deviation of seed-paired metric differences, where a record has measured it.
        summary: one line.
        prune_duration, prune_finetune: training lengths of `hasten prune` where they are not the usual ones.
    """

    name: str
    program: Program
    test: Call
    metric: Call
    metric_name: str = "metric"
    minimize: bool = False
    target: float | None = None
    points: int = 4
    mult: float = 2.0
    warmup: int = 0
    paired_sd: float | None = None
    summary: str = ""
    prune_duration: str | None = None
    prune_finetune: str | None = None


def train_part(seed: int, *, source: Callable[[int], Any]) -> Any:
    """The training half of a `data(seed)` function."""
    return halves(source(seed))[0]


def test_part(*, source: Callable[[int], Any]) -> Any:
    """The test half of a `data(seed)` function; it must not depend on the seed."""
    return halves(source(0))[1]


test_part.__test__ = False  # type: ignore[attr-defined]  # not a test, for pytest


def halves(parts: Any) -> tuple[Any, Any]:
    """The (train, test) pair that a `data(seed)` function must return."""
    if not (isinstance(parts, (tuple, list)) and len(parts) == 2):
        fix = "End it with `return train, test`."
        raise refuse_type("data(seed)", "a pair (train, test)", type(parts).__name__, fix)
    return parts[0], parts[1]


def from_module(module: ModuleType, name: str, *, identity: str | None = None) -> Workload:
    """The workload of a module that has the four functions.

    Args:
        module: a built-in workload module or a user's loaded file.
        name: the short name.
        identity: what the question is, beyond its name (a content digest); defaults to the name.

    Raises:
        TypeError: a function is missing (the message shows its signature), or a constant is of another type.
        ValueError: a constant out of its range.
    """
    for function, signature in FUNCTIONS.items():
        if not callable(getattr(module, function, None)):
            others = near(function, [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")])
            raise refuse_type(f"workload {name!r}", f"a function {signature}", f"no {function}", others)
    get = functools.partial(_constant, module, f"workload {name!r}")
    separate = hasattr(module, "train_data") and hasattr(module, "test_data")
    source = bind(module.data)
    steps = get("WARMUP", 10, _COUNT)
    program = Program(
        workload=identity or name,
        model=call(module.model),
        data=bind(module.train_data) if separate else bind(train_part, source=source),
        sampler=bind(shuffled),
        loss=bind(module.loss),
        param_groups=bind(params.decay_groups),
        optimizer=_optimizer(get),
        schedule=warmed_up(steps),
        duration=get("DURATION", "10ep", _LENGTH),
        batch_size=get("BATCH_SIZE", 64, _SIZE),
    )
    return Workload(
        name=name,
        program=program,
        test=bind(module.test_data) if separate else bind(test_part, source=source),
        metric=bind(module.metric),
        metric_name=get("METRIC", "metric", _TEXT),
        minimize=get("MINIMIZE", False, _FLAG),
        target=get("TARGET", None, _MAYBE_NUMBER),
        points=get("POINTS", 4, _SIZE),
        mult=get("MULT", 2.0, _FACTOR),
        warmup=steps,
        paired_sd=get("PAIRED_SD", None, _MAYBE_SPREAD),
        summary=get("SUMMARY", (module.__doc__ or "").strip().split("\n")[0], _TEXT),
        prune_duration=get("PRUNE_DURATION", None, _LENGTH),
        prune_finetune=get("PRUNE_FINETUNE", None, _LENGTH),
    )


def warmed_up(steps: int) -> Call:
    """The schedule of every workload: a cosine, after a linear warm-up of so many steps (0: none)."""
    return call(Scheduled, schedule=warmup(cosine(), steps) if steps else cosine(), unit="step")


def _optimizer(get: Callable[[str, Any, _Kind], Any]) -> Call:
    choice = get("OPTIMIZER", "adamw", _OPTIMIZER)
    if callable(choice):
        return bind(choice)
    decay = get("WEIGHT_DECAY", 5e-4 if choice == "sgd" else 0.01, _AT_LEAST_0)
    if choice == "sgd":
        momentum, lr = get("MOMENTUM", 0.9, _AT_LEAST_0), get("LEARNING_RATE", 0.1, _POSITIVE)
        return bind(torch.optim.SGD, lr=lr, momentum=momentum, nesterov=momentum > 0, weight_decay=decay)
    return bind(torch.optim.AdamW, lr=get("LEARNING_RATE", 1e-3, _POSITIVE), weight_decay=decay)


@dataclass(frozen=True)
class _Kind:
    """What a constant of a workload file may be.

    Args:
        words: for the error: "a whole number of at least 1".
        read: the value as the program wants it; None refuses the type.
        example: for the error.
        allows: whether a value of the right type is in range.
    """

    words: str
    read: Callable[[Any], Any]
    example: str
    allows: Callable[[Any], bool] = lambda value: True


def _constant(module: ModuleType, where: str, name: str, default: Any, kind: _Kind) -> Any:
    """A constant of the module, or the default; nothing is cast that would lose or change a meaning."""
    value = getattr(module, name, default)
    if value is None and default is None:
        return None
    read, fix = kind.read(value), f"For example {name} = {kind.example}."
    if read is None:
        raise refuse_type(where, f"{name} {kind.words}", describe(value), fix)
    if not kind.allows(read):
        raise refuse(where, f"{name} {kind.words}", describe(value), fix)
    return read


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, numbers.Integral) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _is_length(text: str) -> bool:
    try:
        parse_duration(text)
    except ValueError:
        return False
    return True


_COUNT = _Kind("a whole number of at least 0", _whole, "10", lambda n: n >= 0)
_SIZE = _Kind("a whole number of at least 1", _whole, "4", lambda n: n >= 1)
_FACTOR = _Kind("a number of at least 1", _number, "2.0", lambda x: 1 <= x < math.inf)
_POSITIVE = _Kind("a number above 0", _number, "0.1", lambda x: 0 < x < math.inf)
_AT_LEAST_0 = _Kind("a number of at least 0", _number, "0.01", lambda x: 0 <= x < math.inf)
_MAYBE_NUMBER = _Kind("a finite number or None", _number, "0.9", math.isfinite)
_MAYBE_SPREAD = _Kind("a number above 0 or None", _number, "0.005", _POSITIVE.allows)
_FLAG = _Kind("True or False", lambda value: value if isinstance(value, bool) else None, "True")
_TEXT = _Kind("a text", _text, "'accuracy'")
_LENGTH = _Kind("a training length", _text, "'10ep', '500step' or '2e6tok'", _is_length)
_OPTIMIZER = _Kind(
    "'sgd', 'adamw' or a function of parameter groups",
    lambda value: value if isinstance(value, str) or callable(value) else None,
    "'sgd'",
    lambda value: callable(value) or value in ("sgd", "adamw"),
)


def from_file(path: str | Path, *, stored: sources.Source | None = None) -> Workload:
    """The workload of a user's file; its identity is the content of the file and of the siblings it imports."""
    source = stored or sources.read(path)
    module = sources.load(source, Path(path))
    return from_module(module, Path(path).stem, identity=f"user:{source.digest}")


def provides(batch: Any, outputs: Any, losses: Tensor) -> frozenset[str]:
    """What a workload offers to methods, read off one batch.

    "float_inputs": inputs can be mixed · "images": inputs are (batch, channels, height, width) · "logits": outputs end
    in a class dimension and targets are class indices · "cross_entropy": the loss is cross entropy of those logits.
    """
    inputs, targets = get_inputs(batch), get_targets(batch)
    found = set()
    if isinstance(inputs, Tensor) and inputs.dtype.is_floating_point:
        found.add("float_inputs")
        if inputs.ndim == 4:
            found.add("images")
    classes = isinstance(outputs, Tensor) and isinstance(targets, Tensor) and outputs.shape[:-1] == targets.shape
    if classes and not targets.dtype.is_floating_point and _are_classes(targets, outputs.shape[-1]):
        found.add("logits")
        flat = F.cross_entropy(outputs.float().flatten(0, -2), targets.flatten().long(), reduction="none")
        expected = flat.view(targets.shape).flatten(1).mean(1) if targets.ndim > 1 else flat
        if losses.shape == expected.shape and torch.allclose(losses.float(), expected, rtol=1e-4, atol=1e-5):
            found.add("cross_entropy")
    return frozenset(found)


def _are_classes(targets: Tensor, count: int) -> bool:
    """Whether whole-number targets can be classes; counts and ages cannot, where they exceed the outputs."""
    return bool((((targets >= 0) | (targets == -100)) & (targets < count)).all())  # -100: torch's own ignore_index


def probe(workload: Workload, *, seed: int = 0) -> frozenset[str]:
    """What the workload provides, from one forward pass of its baseline on two training samples."""
    seen = first_pass(workload, seed=seed)
    return provides(seen.batch, seen.outputs, seen.losses)


@dataclass(frozen=True)
class FirstPass:
    """What the baseline does with two training samples, and how many there are."""

    batch: Any
    outputs: Any
    losses: Tensor  # (2,)
    samples: int


def first_pass(workload: Workload, *, seed: int = 0) -> FirstPass:
    """One forward pass of the baseline, in evaluation mode, without gradients."""
    from ..build import build_model, checked_loss
    from ..source import BatchSource

    program = workload.program
    with fork(seed, "probe"), torch.no_grad():
        source = BatchSource(
            program.data.build()(seed), program.sampler.build(), batch_size=2, seed=seed, device=torch.device("cpu")
        )
        batch = next(source.batches(0))
        model, _ = build_model(program, seed)
        outputs = model.eval()(get_inputs(batch))
        losses = checked_loss(program.loss.build()(outputs, batch), batch, 2)
        return FirstPass(batch, outputs, losses, source.n)
