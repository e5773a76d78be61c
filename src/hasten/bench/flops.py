"""FLOPs of real steps, counted by torch on a copy and remembered by what they depend on.

What a pass costs depends on the input's shape, on which parameters still need gradients (frozen layers have no
backward) and on which branches ran; the count is made once per combination, off the clock, on a deep copy of the model.

A layer whose cost changes from pass to pass says so: `flops_key` is what the cost of its next pass depends on, and
`compute_all()` makes that pass the full one. A compiled graph holds every branch and computes it, whatever was drawn.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hasten._core.batch import get_inputs
from hasten._core.rng import fork

__all__ = ["FlopCounter", "compute_all"]


def compute_all(model: nn.Module) -> None:
    """Make the next pass of a model the full one, with every branch."""
    modules: Any = model.modules()
    for module in modules:
        if hasattr(module, "flops_key"):
            module.compute_all()


class FlopCounter:
    """Counts forward-and-backward and forward-only passes of a model.

    Args:
        model: the raw model.
        compiled: the program runs compiled; the count itself is made on an eager copy.
    """

    def __init__(self, model: nn.Module, *, compiled: bool = False) -> None:
        self.model, self.compiled = model, compiled
        self.parameters = list(model.parameters())
        self.variable = [module for module in model.modules() if hasattr(module, "flops_key")]
        self.known: dict[Any, float] = {}

    def key(self, batch: Any, *, backward: bool) -> Any:
        """What the cost of a pass over `batch` depends on."""
        inputs = get_inputs(batch)
        shape = tuple(inputs.shape) if isinstance(inputs, Tensor) else ()
        trained = sum(p.requires_grad for p in self.parameters) if backward else -1
        return shape, trained, () if self.compiled else tuple(module.flops_key for module in self.variable)

    def count(self, key: Any, batch: Any, loss: Callable[[Any, Any], Tensor], *, backward: bool) -> float:
        """FLOPs of one pass, from a deep copy; the model, its gradients and the random state stay as they are."""
        if key not in self.known:
            twin = copy.deepcopy(self.model)
            twin.zero_grad(set_to_none=True)
            if self.compiled:
                compute_all(twin)
            with fork(0, "flops"), FlopCounterMode(display=False) as counter:
                losses = loss(twin(get_inputs(batch)), batch)
                if backward and losses.requires_grad:
                    losses.sum().backward()
            self.known[key] = float(counter.get_total_flops())
        return self.known[key]
