"""What is asked for, checked before anything is scored: model, targets, strategy, pattern, data and the ratio."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .._core.checks import check, refuse, refuse_type
from .._core.rng import fork
from . import allocate
from .count.macs import macs
from .masks import Masks, masks_of
from .patterns import Pattern, parse
from .scores.data import Data, inputs_of, repeatable
from .strategies import Strategy, get
from .targets import Targets, bare, find

__all__ = ["Ignore", "Request", "asked_for", "request"]

Ignore = str | nn.Module | Sequence[str | nn.Module]


@dataclass(frozen=True)
class Request:
    """All that is known before anything is scored; `held` is what the model wears already."""

    call: str
    model: nn.Module
    strategy: Strategy
    targets: Targets
    pattern: Pattern
    data: Data
    held: Mapping[str, Tensor]
    ignore: Ignore

    def keep(self, asked: Mapping[str, float], densities_at: Callable[[float], Mapping[str, float]]) -> int:
        """How many of the prunable entries to keep; `densities_at` gives those of the tensors, for a speed-up."""
        if "speedup" in asked:
            density = self._density_for(asked["speedup"], densities_at)
        else:
            density = allocate.fraction_to_keep(self.targets.total, self.targets.prunable, **asked, call=self.call)
        return round(density * self.targets.prunable)

    def _density_for(self, speedup: float, densities_at: Callable[[float], Mapping[str, float]]) -> float:
        table, total = self.work
        return allocate.density_for_speedup(table, total, speedup, densities_at, call=self.call)

    @functools.cached_property
    def work(self) -> tuple[dict[str, float], float]:
        """MACs of each target, of those that have any, and of the whole model, for the first batch."""
        counted = macs(self.model, (self.first_inputs(),))
        per_weight = {name: count.total for name, count in counted.by_parameter.items() if name in self.targets.names}
        return per_weight, counted.total

    def first_inputs(self) -> Any:
        """What the model is called with for the first batch."""
        if self.data.batches is None:
            raise refuse(self.call, "batch=, as MACs and channels are followed through the model", "none",
                         "Pass batch=inputs.")  # fmt: skip
        device = next(iter(self.targets.parameters.values())).device
        with fork(self.data.seed, "prune"):  # a loader that shuffles draws
            return inputs_of(next(self.data.on(device)))

    def record(self, masks: Mapping[str, Tensor], asked: Mapping[str, float]) -> Masks:
        """Masks with how they were made."""
        masks = {name: masks[name].contiguous() for name in self.targets.names}
        left = self.targets.total - self.targets.prunable + sum(int(mask.sum()) for mask in masks.values())
        achieved = self.targets.total / left if left else math.inf
        return Masks(masks, strategy=self.strategy.name, pattern=str(self.pattern), asked=asked, achieved=achieved)


def request(
    call: str, model: nn.Module, strategy: Any, batch: Any, loss_fn: Any, ignore: Ignore, pattern: Any, generator: Any
) -> Request:
    """The request of a call, from its arguments."""
    chosen, shape = get(strategy, call=call), parse(pattern)
    model = bare(model)
    targets = find(model, ignore, call=call)
    fix = "Pass batch=(inputs, targets) or a loader."
    if chosen.needs != "weights" and batch is None:
        raise refuse(call, f"batch=, as {chosen.name} looks at data", "none", fix)
    if loss_fn is not None and not callable(loss_fn):
        raise refuse_type(call, "loss_fn(outputs, targets)", loss_fn)
    held = {name: mask for name, mask in masks_of(model).items() if name in targets.parameters}
    data = Data(repeatable(batch), loss_fn, generator, call, held or None)
    return Request(call, model, chosen, targets, shape, data, held, ignore)


def asked_for(call: str, pattern: Pattern, **given: float | None) -> dict[str, float]:
    """What is asked for, by its name."""
    asked = {name: value for name, value in given.items() if value is not None}
    if pattern.density is None:
        fix = "Pass compression=8, for example."
        check(len(asked) == 1, call, "one of compression=, sparsity= and speedup=", sorted(asked) or "none", fix)
    else:
        same = not asked or (list(asked) == ["sparsity"] and math.isclose(asked["sparsity"], 1 - pattern.density))
        fix = "Leave compression=, sparsity= and speedup= out."
        check(same, call, f"nothing beside pattern {pattern}, which keeps {pattern.density:g}", asked, fix)
    return asked
