"""The control that pruning has to beat: the same network made narrower, dense, trained from scratch for as long.

A width of the model's factory (as for the variant `width`, see `hasten.bench.workloads.variants`) is scaled down until
the model has about as many parameters as a pruned one has left. Families of narrow networks often do better than large
ones that were pruned (arXiv 2003.03033).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hasten._core.batch import get_inputs
from hasten._core.rng import fork
from hasten.program import Call, Program

from ..build import build_model
from ..workloads.variants import widths_of, widths_text, with_widths

__all__ = ["Smaller", "smaller"]

CANDIDATES = 64  # widths that are tried
FAR = 1.5  # a model with more or less than the wanted number of parameters by this factor stands for nothing


@dataclass(frozen=True)
class Smaller:
    """A narrower model.

    Args:
        model: its factory.
        parameters: how many it has.
        change: what was changed, in words.
    """

    model: Call
    parameters: int
    change: str


def smaller(program: Program, ratios: Sequence[float], batch: Any, total: int) -> tuple[dict[float, Smaller], str]:
    """For each ratio the narrower model whose parameters come closest to total / ratio.

    Args:
        program: the workload's.
        ratios: compression ratios above 1.
        batch: a few samples, which a narrower model must take.
        total: parameters of its model.

    Returns:
        The models by ratio, each model once, and "", or why there is none.
    """
    before = widths_of(program.model)
    if not before:
        taken = ", ".join(name for name, _ in program.model.args) or "nothing"
        return {}, f"its model takes no whole number under a name such as width (it takes {taken})"
    every = [Smaller(model, size, change) for model, change in _narrower(program.model, before)
             if (size := parameters_of(program.replace(model=model))) is not None]  # fmt: skip
    found: dict[float, Smaller] = {}
    for ratio in ratios:
        near = [one for one in every if abs(math.log(one.parameters * ratio / total)) < math.log(FAR)]
        best = min(near, key=lambda one: abs(math.log(one.parameters * ratio / total)), default=None)
        if best is not None and best not in found.values() and _works(program.replace(model=best.model), batch):
            found[ratio] = best
    return found, "" if found else "no narrower model comes near the parameters that pruning leaves"


def parameters_of(program: Program) -> int | None:
    """Parameters of a program's model, counted without their values; None where it cannot be built."""
    try:
        with torch.device("meta"):
            model, _ = build_model(program, 0)
    except Exception:  # whatever a user's model says to a width that it was not written for
        return None
    return sum(parameter.numel() for parameter in model.parameters())


def _narrower(factory: Call, before: dict[str, Any]) -> Iterator[tuple[Call, str]]:
    """Factories with all widths scaled alike, the widest first, each once."""
    top = max(max(value) if isinstance(value, tuple) else value for value in before.values())
    count = min(top, CANDIDATES)
    seen = [before]
    for k in range(count - 1, 0, -1):
        factor = k / count if top <= CANDIDATES else top ** (k / count - 1)
        after = {name: _scaled(value, factor) for name, value in before.items()}
        if after not in seen:
            seen.append(after)
            yield with_widths(factory, after), widths_text(before, after)


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, tuple):
        return tuple(_scaled(part, factor) for part in value)
    return max(1, round(factor * value))


def _works(program: Program, batch: Any) -> bool:
    """Whether a narrower model can be built and takes a batch."""
    try:
        model, _ = build_model(program, 0)
        with fork(0, "probe"), torch.no_grad():
            model.eval()(get_inputs(batch))
    except Exception:  # as above
        return False
    return True
