"""A pass of a model, watched: each product with the module that it happened in and the parameter it used.

An operand is known by its memory: what shares the storage of a parameter is that parameter or a part of it (transposed,
split, expanded). What was computed from parameters and buffers alone (a weight times its mask, a normalised weight)
stands for the largest parameter that it came from, and is kept until the pass ends so that no other tensor takes its
place in memory.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .products import Product, has_formula, products

__all__ = ["Tally", "watch"]

_TORCH = {"aten", "prim", "prims", "profiler"}  # namespaces in which all that multiplies has a formula


@dataclass(frozen=True)
class _Origin:
    """Part of a storage that holds a parameter or what was computed from it; without a name: from buffers alone."""

    name: str | None
    size: int
    start: int
    end: float
    tensor: Tensor


class Tally(TorchDispatchMode):
    """Inside, each operation's products are added up in `counts`, by module and parameter; see `watch`."""

    supports_higher_order_operators = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.counts: dict[tuple[str, str | None], list[int]] = defaultdict(lambda: [0, 0])  # all, with nonzero weights
        self.uncounted: set[str] = set()
        self.inside = [""]  # the modules that are running, the innermost last
        self._origins: dict[int, list[_Origin]] = {}
        self._nonzeros: dict[Any, int] = {}
        for name, parameter in model.named_parameters():
            self._remember(parameter.detach(), name, parameter.numel(), whole=False)
        for buffer in model.buffers():
            self._remember(buffer, None, 0, whole=False)
        self._kept = set(self._origins)

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(operation, torch._ops.HigherOrderOperator):
            return self._higher_order(operation, args)
        packet = operation.overloadpacket
        if operation.namespace == "aten" and not has_formula(packet):
            with self:  # what is made of other operations: look inside
                out = operation.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = operation(*args, **kwargs)
        for product in products(packet, args, kwargs, out):
            self._add(product)
        if operation.namespace not in _TORCH and not has_formula(packet):
            self.uncounted.add(str(packet))
        self._follow(tree_leaves((args, kwargs)), tree_leaves(out))
        return out

    def _higher_order(self, operation: Any, args: Any) -> Any:
        """Of a condition, the branch that is taken; what else takes functions is run as it is."""
        if operation is not torch.ops.higher_order.cond:
            self.uncounted.add(str(operation))
            return NotImplemented
        predicate, when_true, when_false, operands = args
        with self:
            return when_true(*operands) if predicate else when_false(*operands)

    def _add(self, product: Product) -> None:
        named = [(operand, origin) for operand in product.operands if (origin := self._origin(operand))]
        weight, origin = next(((w, o) for w, o in named if o.name is not None), (None, None))
        count = self.counts[self.inside[-1], origin.name if origin else None]
        count[0] += product.macs
        count[1] += product.macs if weight is None else product.macs * self._count(weight) // math.prod(weight.shape)

    def _count(self, weight: Tensor) -> int:
        """Nonzero entries of a weight or a part of one; a layer that runs at many time steps is looked at once."""
        values = _values(weight)
        key = values.untyped_storage()._cdata, values.storage_offset(), values.shape, values.stride()
        if key not in self._nonzeros:
            self._nonzeros[key] = int(torch.count_nonzero(values))
        return self._nonzeros[key]

    def _origin(self, tensor: Tensor) -> _Origin | None:
        values = _values(tensor)
        found = self._origins.get(values.untyped_storage()._cdata, ())
        return next((origin for origin in found if origin.start <= values.storage_offset() < origin.end), None)

    def _remember(self, tensor: Tensor, name: str | None, size: int, *, whole: bool) -> None:
        """Note where a tensor came from: all of its storage, or the part that it takes (others may hold the rest)."""
        values = _values(tensor)
        start = values.storage_offset()
        span = sum((n - 1) * stride for n, stride in zip(values.shape, values.stride(), strict=True)) + 1
        origin = _Origin(name, size, 0 if whole else int(start), math.inf if whole else int(start + span), values)
        self._origins.setdefault(values.untyped_storage()._cdata, []).append(origin)

    def _follow(self, inputs: list[Any], outputs: list[Any]) -> None:
        """What came from parameters and buffers alone has an origin; what anything else was written to has none."""
        origins = [self._origin(tensor) for tensor in inputs if isinstance(tensor, Tensor)]
        known = [origin for origin in origins if origin is not None]
        constant = bool(known) and len(known) == len(origins)
        for tensor in outputs:
            if not isinstance(tensor, Tensor):
                continue
            storage = _values(tensor).untyped_storage()._cdata
            if not constant and storage not in self._kept:
                self._origins.pop(storage, None)
            elif constant and storage not in self._origins:
                largest = max(known, key=lambda origin: origin.size)
                self._remember(tensor, largest.name, largest.size, whole=True)


def _values(tensor: Tensor) -> Tensor:
    """The stored entries as a strided tensor."""
    if tensor.layout == torch.strided:
        return tensor
    if tensor.layout == torch.sparse_coo:
        return tensor._values()
    return tensor.to_dense() if tensor.is_mkldnn else tensor.values()


@contextlib.contextmanager
def watch(model: nn.Module) -> Iterator[Tally]:
    """Inside: a tally of what the model multiplies. Modules that are not its own count as the one around them.

    >>> layer = nn.Linear(3, 4)
    >>> with torch.no_grad(), watch(layer) as tally: layer(torch.ones(2, 3)).shape
    torch.Size([2, 4])
    >>> dict(tally.counts)
    {('', 'weight'): [24, 24]}
    """
    tally, hooks = Tally(model), []
    for name, module in model.named_modules():
        enter, leave = partial(_enter, tally.inside, name), partial(_leave, tally.inside)
        hooks.append(module.register_forward_pre_hook(enter, prepend=True))
        hooks.append(module.register_forward_hook(leave, always_call=True))
    try:
        with tally:
            yield tally
    finally:
        for hook in hooks:
            hook.remove()


def _enter(inside: list[str], name: str, _module: nn.Module, _inputs: Any) -> None:
    inside.append(name)


def _leave(inside: list[str], _module: nn.Module, _inputs: Any, _output: Any) -> None:
    inside.pop()
