"""Multiply-accumulates of a model on given inputs: those it runs, and those that no zero weight is part of.

One pass in evaluation mode, watched operation by operation (`tally`), so that padding, stride, dilation, groups,
tokens, attention and whatever a forward does by hand are counted as they are run. Additions of biases, norms,
activations, pooling and look-ups multiply no weight with an input and are not counted: one MAC is two FLOPs of
`torch.utils.flop_counter`.

Nonzero MACs are those whose weight is not 0: MACs * nnz(weight) / numel(weight) of each linear, convolutional or
recurrent layer. Products of activations (attention) have no weight and count in full. They are a bound of what a
perfect sparse kernel could save; a dense kernel saves nothing (measure it: `latency`).
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hasten._core.evaluation import evaluation_mode
from hasten._core.rng import fork

from .inputs import call, check_model, samples_of
from .tally import watch

__all__ = ["Count", "Macs", "mac_table", "macs"]


@dataclass(frozen=True)
class Count:
    """MACs of one sample: all, and those with a nonzero weight; whole numbers unless samples share work."""

    total: float = 0
    nonzero: float = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.total + other.total, self.nonzero + other.nonzero)


@dataclass(frozen=True)
class Macs:
    """What a model multiplies for one sample.

    Args:
        total: multiply-accumulates.
        nonzero: those whose weight is not 0.
        samples: how many were in the inputs.
        by_module: of each module itself, without its children, by its first name; "" is the model.
        by_parameter: of each weight, by its first name. What no parameter is part of (attention) is missing here.
        uncounted: operations from outside torch that were run and have no formula; what they multiply is not in here.
            `torch.utils.flop_counter.register_flop_formula` teaches one.
    """

    total: float
    nonzero: float
    samples: int
    by_module: Mapping[str, Count]
    by_parameter: Mapping[str, Count]
    uncounted: tuple[str, ...] = ()

    @property
    def speedup(self) -> float:
        """Theoretical: all MACs for each nonzero one; 1 without any, infinity where all weights are 0."""
        if self.nonzero:
            return self.total / self.nonzero
        return math.inf if self.total else 1.0

    def of(self, module: str) -> Count:
        """MACs of a module with all in it."""
        inside = (count for name, count in self.by_module.items() if f"{name}.".startswith(f"{module}.") or not module)
        return sum(inside, Count())


def macs(model: nn.Module, inputs: Any, *, samples: int | None = None) -> Macs:
    """Count what a model multiplies for one sample of the inputs.

    One pass in evaluation mode without gradients: weights, gradients, training flags and random state stay as they are.
    Compiled modules run uncompiled meanwhile.

    Args:
        model: any module. Zeros in its weights count as zeros, however they came there (in place, or as a product with
            a mask that is computed in the forward).
        inputs: a tensor, a tuple of positional arguments, or a dict of arguments by name.
        samples: samples in `inputs`; None: the first dimension of its first tensor.

    Returns:
        The counts, for one sample.

    Raises:
        TypeError: no module, or no tensor among the inputs. ValueError: no sample, or weights without values.

    >>> model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(8 * 4, 10))
    >>> model[2].weight.data[:, ::2] = 0
    >>> found = macs(model, torch.ones(5, 1, 4, 4))
    >>> found.total, found.nonzero, found.by_module["2"]
    (608, 448, Count(total=320, nonzero=160))

    Source: FLOPs as in `torch.utils.flop_counter`, halved; the nonzero share as in arXiv 2003.03033.
    """
    check_model("macs", model)
    samples = samples_of("macs", inputs, samples)
    with fork(0, "macs"), evaluation_mode(model), _eager(), watch(model) as tally:
        call(model, inputs)
    by_module: dict[str, Count] = defaultdict(Count)
    by_parameter: dict[str, Count] = defaultdict(Count)
    for (module, parameter), (total, nonzero) in tally.counts.items():
        by_module[module] += Count(total, nonzero)
        if parameter is not None:
            by_parameter[parameter] += Count(total, nonzero)
    whole = _per_sample(sum(by_module.values(), Count()), samples)
    return Macs(
        whole.total,
        whole.nonzero,
        samples,
        {name: _per_sample(count, samples) for name, count in by_module.items()},
        {name: _per_sample(count, samples) for name, count in by_parameter.items()},
        tuple(sorted(tally.uncounted)),
    )


def mac_table(model: nn.Module, inputs: Any, *, samples: int | None = None) -> dict[str, float]:
    """MACs that one entry of each parameter takes part in, for one sample; 0 for biases, norms and what is looked up.

    Keeping `k[name]` entries of each parameter leaves `sum(table[name] * k[name])` MACs of those that `macs` counts by
    parameter; what it counts beside them no mask can save.

    Args:
        model, inputs, samples: as for `macs`.

    Returns:
        A number for each parameter, by its first name: the output positions of a convolution, the tokens of a linear
        layer, the time steps of a recurrent one.

    >>> mac_table(nn.Conv2d(2, 3, 3), torch.ones(4, 2, 6, 5))
    {'weight': 12.0, 'bias': 0.0}
    """
    counts = macs(model, inputs, samples=samples).by_parameter
    return {
        name: counts[name].total / parameter.numel() if name in counts else 0.0
        for name, parameter in model.named_parameters()
    }


def _per_sample(count: Count, samples: int) -> Count:
    def share(value: float) -> float:
        return value // samples if value % samples == 0 else value / samples

    return Count(share(count.total), share(count.nonzero))


@contextlib.contextmanager
def _eager() -> Iterator[None]:
    """Inside: attention in its single operations, and nothing runs compiled (where anything was ever compiled)."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
