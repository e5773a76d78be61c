"""A workload is the question: a model and data to train, and a metric that no method may change.

Built-in workloads and a user's file are the same thing: a module with four functions (`model`, `data`, `loss`,
`metric`) and a few optional constants. `from_module` turns it into a `Workload`: the baseline program plus evaluation.
"""

from __future__ import annotations

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
from hasten._core.checks import near, refuse, refuse_type
from hasten._core.clock import Scheduled
from hasten._core.rng import fork
from hasten.data.order import shuffled
from hasten.program import Call, Program, bind, call
from hasten.schedules import cosine, warmup

__all__ = ["Workload", "from_module", "halves", "provides", "test_part", "train_part"]

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
        TypeError: a function is missing; the message shows its signature.
    """
    for function, signature in FUNCTIONS.items():
        if not callable(getattr(module, function, None)):
            others = near(function, [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")])
            raise refuse_type(f"workload {name!r}", f"a function {signature}", f"no {function}", others)
    get = lambda key, default: getattr(module, key, default)  # noqa: E731
    separate = hasattr(module, "train_data") and hasattr(module, "test_data")
    source = bind(module.data)
    steps = int(get("WARMUP", 10))
    program = Program(
        workload=identity or name,
        model=call(module.model),
        data=bind(module.train_data) if separate else bind(train_part, source=source),
        sampler=bind(shuffled),
        loss=bind(module.loss),
        param_groups=bind(params.decay_groups),
        optimizer=_optimizer(module),
        schedule=call(Scheduled, schedule=warmup(cosine(), steps) if steps else cosine(), unit="step"),
        duration=str(get("DURATION", "10ep")),
        batch_size=int(get("BATCH_SIZE", 64)),
    )
    return Workload(
        name=name,
        program=program,
        test=bind(module.test_data) if separate else bind(test_part, source=source),
        metric=bind(module.metric),
        metric_name=str(get("METRIC", "metric")),
        minimize=bool(get("MINIMIZE", False)),
        target=get("TARGET", None),
        points=int(get("POINTS", 4)),
        mult=float(get("MULT", 2.0)),
        warmup=steps,
        paired_sd=get("PAIRED_SD", None),
        summary=str(get("SUMMARY", (module.__doc__ or "").strip().split("\n")[0])),
    )


def _optimizer(module: ModuleType) -> Call:
    choice = getattr(module, "OPTIMIZER", "adamw")
    if callable(choice):
        return bind(choice)
    decay = float(getattr(module, "WEIGHT_DECAY", 5e-4 if choice == "sgd" else 0.01))
    if choice == "sgd":
        momentum = float(getattr(module, "MOMENTUM", 0.9))
        lr = float(getattr(module, "LEARNING_RATE", 0.1))
        return bind(torch.optim.SGD, lr=lr, momentum=momentum, nesterov=momentum > 0, weight_decay=decay)
    if choice == "adamw":
        return bind(torch.optim.AdamW, lr=float(getattr(module, "LEARNING_RATE", 1e-3)), weight_decay=decay)
    raise refuse("workload", "OPTIMIZER 'sgd', 'adamw' or a function of parameter groups", repr(choice))


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
        return provides(batch, outputs, losses)
