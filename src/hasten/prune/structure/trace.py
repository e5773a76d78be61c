"""The model's own forward pass, watched: every parameter begins with an id for each place of each dimension.

The pass is a real one, on the example inputs, so whatever Python the model does is right. It runs in evaluation mode
and leaves weights, buffers, training modes and random numbers as they were.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from ..._core.checks import refuse, refuse_type
from ..count.products import products as products_of
from ..places import bare
from . import products, reductions  # noqa: F401  # their rules
from .fields import Facts, Field, Fields, Ids
from .rules import RULES, elementwise

__all__ = ["Slot", "Trace", "checked", "evaluated", "run", "trace"]


@dataclass(frozen=True)
class Slot:
    """A dimension of a parameter or buffer, whose places have the ids `first .. first + size - 1`."""

    name: str
    dim: int
    size: int
    first: int
    parameter: bool


@dataclass(frozen=True)
class Trace:
    """What a run says: the dimensions that have ids, the facts about them, and the model's outputs."""

    slots: tuple[Slot, ...]
    facts: Facts
    zero: NDArray[np.bool_]  # for each id of a slot, whether the parameter is zero there
    entries: Mapping[str, int]  # of each parameter
    outputs: Any


def trace(model: nn.Module, example_inputs: Any) -> Trace:
    """Run a `checked` model once and collect what its operations say about its channels.

    Args:
        model: any module.
        example_inputs: a tensor, a tuple of positional arguments or a mapping of named ones.
    """
    watch = _Watch()
    slots = [slot for name, tensor, parameter in _tensors(model) for slot in watch.enter(name, tensor, parameter)]
    with evaluated(model), watch.modules(model), watch:
        outputs = run(model, example_inputs)
    watch.give(pytree.tree_leaves(outputs))
    for slot in slots:
        if slot.name not in watch.reached:
            watch.facts.fix(np.arange(slot.first, slot.first + slot.size), "not used with these example inputs")
    entries = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return Trace(tuple(slots), watch.facts, np.concatenate(watch.zero), entries, outputs)


def run(model: nn.Module, example_inputs: Any) -> Any:
    """The model's outputs for example inputs, without gradients."""
    with torch.no_grad():
        if isinstance(example_inputs, Mapping):
            return model(**example_inputs)
        return model(*example_inputs) if isinstance(example_inputs, (tuple, list)) else model(example_inputs)


@contextlib.contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, without fused attention, and with random numbers that are given back."""
    modes = [(module, module.training) for module in model.modules()]
    fused = torch.backends.mha.get_fastpath_enabled()
    devices = {t.get_device() for t in model.parameters() if t.is_cuda}
    model.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.random.fork_rng(sorted(devices)):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, mode in modes:
            module.training = mode


def checked(model: nn.Module, call: str) -> nn.Module:
    """The model without wrappers (torch.compile, DistributedDataParallel), if it has weights."""
    if not isinstance(model, nn.Module):
        raise refuse_type(call, "a torch.nn.Module", model)
    model = bare(model)
    for name, tensor, _ in _tensors(model):
        if is_lazy(tensor) or tensor.is_meta:
            fix = "Give the model its weights first; lazy layers get them in a first forward pass."
            raise refuse_type(call, f"{name} with values", "one without (meta or lazy)", fix)
    if not any(True for _ in model.parameters()):
        raise refuse(call, "a model with parameters", "none")
    return model


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor, bool]]:
    """(name, tensor, whether a parameter); one that is shared comes once, by its first name."""
    yield from ((name, tensor, True) for name, tensor in model.named_parameters())
    yield from ((name, tensor, False) for name, tensor in model.named_buffers())


class _Watch(TorchDispatchMode):
    """Applies the rules to each operation as it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.facts = Facts()
        self.reached: set[str] = set()
        self.zero: list[NDArray[np.bool_]] = []
        self.why = ""
        self._fields: Any = WeakIdKeyDictionary()
        self._names: Any = WeakIdKeyDictionary()
        self._owed: Any = WeakIdKeyDictionary()
        self._stack = [""]

    @property
    def module(self) -> str:
        """The name of the module whose code is running."""
        return self._stack[-1]

    def of(self, value: Any) -> Fields:
        """Fields of a tensor; none of anything else."""
        return self._fields.get(value, ()) if isinstance(value, Tensor) else ()

    def owe(self, out: Any, ids: list[Ids]) -> None:
        """Fix ids as soon as anything uses these results."""
        for each in (leaf for leaf in pytree.tree_leaves(out) if ids and isinstance(leaf, Tensor)):
            self._owed[each] = [(one, f"{self.why} runs along it") for one in ids]

    def give(self, outputs: list[Any]) -> None:
        """Fix what the model gives."""
        self._use(outputs)
        for one in (one for leaf in outputs for one in self.of(leaf)):
            self.facts.fix(one.ids, "an output of the model")

    def _use(self, tensors: list[Any]) -> None:
        for tensor in tensors:
            for ids, why in self._owed.pop(tensor, ()) if isinstance(tensor, Tensor) else ():
                self.facts.fix(ids, why)

    def enter(self, name: str, tensor: Tensor, parameter: bool) -> list[Slot]:
        """Give ids to a parameter or buffer."""
        slots, fields = [], []
        with torch.no_grad():
            nonzero = tensor.detach() != 0
            for dim, size in enumerate(tensor.shape):
                if size > 1:
                    others = [d for d in range(tensor.ndim) if d != dim]
                    live = nonzero.any(others) if others else nonzero
                    shape = [size if d == dim else 1 for d in range(tensor.ndim)]
                    ids = self.facts.fresh(size)
                    slots.append(Slot(name, dim, size, int(ids[0]), parameter))
                    self.zero.append(~live.cpu().numpy())
                    fields.append(Field(ids.reshape(shape), self.zero[-1].reshape(shape)))
        self._fields[tensor], self._names[tensor] = tuple(fields), name
        return slots

    @contextlib.contextmanager
    def modules(self, model: nn.Module) -> Iterator[None]:
        """Know which module is running."""
        handles = []

        def leave(*_: Any) -> None:
            self._stack.pop()

        for name, module in model.named_modules():

            def enter(*_: Any, name: str = name) -> None:
                self._stack.append(name)

            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self.reached.update(self._names[t] for t in inputs if t in self._names)
        self._use(inputs)
        tagged = any(self.of(t) for t in inputs)
        name = func.overloadpacket.__name__
        self.why = f"{name} in {self.module}" if self.module else name
        out = func(*args, **kwargs)
        known = len(self.facts.work)
        if tagged or name == "expand":
            self._apply(func, name, args, kwargs, out, inputs)
        if len(self.facts.work) == known:  # products that nothing removed makes smaller
            self.facts.work += [(product.macs, []) for product in products_of(func.overloadpacket, args, kwargs, out)]
        return out

    def _apply(self, func: Any, name: str, args: tuple, kwargs: dict, out: Any, inputs: list[Tensor]) -> None:
        rule = RULES.get(name) or RULES.get(name.rstrip("_"))
        if rule is None and torch.Tag.pointwise in func.tags:
            rule = elementwise
        if name.endswith("_") and rule is not elementwise:
            rule = None  # changes a tensor in place, its shape perhaps
        if rule is None:
            for one in (one for t in inputs for one in self.of(t)):
                self.facts.fix(one.ids, f"{self.why} is not understood")
            found: Any = ()
        else:
            found = rule(self, func, args, kwargs, out)
        if func._schema.is_mutable and isinstance(out, Tensor):
            self._fix_aliases(out)
        several = not isinstance(out, Tensor)
        for place, each in enumerate(out if several else [out]):
            if isinstance(each, Tensor):
                self._fields[each] = (found[place] if found else ()) if several else found

    def _fix_aliases(self, changed: Tensor) -> None:
        """Others see what was written into a tensor's memory; what they hold is no longer known."""
        place = changed.untyped_storage().data_ptr()
        shared = [t for t in self._fields if t is not changed and t.untyped_storage().data_ptr() == place]
        for one in (one for t in (shared and [*shared, changed]) for one in self.of(t)):
            self.facts.fix(one.ids, f"{self.why} writes into memory that is shared")
