"""Bytes behind live objects: tensors, modules, optimizers, and what autograd keeps for a backward pass.

What is counted are storages, each once and whole, whoever shares it: tied weights, views, what two layers both keep.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["SavedTensors", "module_bytes", "optimizer_bytes", "saved_bytes", "storage_bytes", "tensors_in"]


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested dicts, lists, tuples, sets and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for part in value:
            yield from tensors_in(part)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from tensors_in(vars(value) if hasattr(value, "__dict__") else ())


def storage_bytes(tensors: Iterable[Tensor], *, ignore: Iterable[Tensor] = ()) -> int:
    """Bytes of the storages behind some tensors, each storage once and whole.

    Args:
        tensors: views and sparse tensors too.
        ignore: tensors whose storages do not count.

    >>> x = torch.zeros(4, 3)
    >>> storage_bytes([x, x[0], x.t()]), storage_bytes([x[0]], ignore=[x])
    (48, 0)
    """
    left_out = _storages(ignore)
    return sum(size for key, size in _storages(tensors).items() if key not in left_out)


def _storages(tensors: Iterable[Tensor]) -> dict[Any, int]:
    """A key of each storage, with its bytes."""
    return dict(_storage(plain) for tensor in tensors for plain in _plain(tensor))


def _storage(tensor: Tensor) -> tuple[Any, int]:
    storage = tensor.untyped_storage()
    # Memory of the meta device has no address.
    where = storage._cdata if storage.device.type == "meta" else storage.data_ptr()
    return (str(storage.device), where), storage.nbytes()


def _plain(tensor: Tensor) -> Iterator[Tensor]:
    """The tensors that hold the numbers of a sparse tensor, or of a subclass that wraps others."""
    if hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            yield from _plain(getattr(tensor, name))
    elif tensor.layout == torch.sparse_coo:
        yield from (tensor._indices(), tensor._values())
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        yield from (tensor.crow_indices(), tensor.col_indices(), tensor.values())
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        yield from (tensor.ccol_indices(), tensor.row_indices(), tensor.values())
    else:
        yield tensor


def module_bytes(module: nn.Module) -> dict[str, int]:
    """Bytes of a module's parameters, buffers and gradients. A buffer that is a view of a weight costs nothing more.

    >>> module_bytes(nn.Linear(3, 2))
    {'parameters': 32, 'buffers': 0, 'gradients': 0}
    """
    parameters = list(module.parameters())
    return {
        "parameters": storage_bytes(parameters),
        "buffers": storage_bytes(module.buffers(), ignore=parameters),
        "gradients": storage_bytes(p.grad for p in parameters if p.grad is not None),
    }


def optimizer_bytes(optimizer: Any) -> int:
    """Bytes of an optimizer's state: every tensor in `.state` and in the settings of its groups.

    Most optimizers make their state in the first step; before it there is none. Weights and gradients that the state
    holds again are not counted.

    Args:
        optimizer: a torch optimizer, or a wrapper that shows the state of what it wraps.

    >>> layer = nn.Linear(3, 2)
    >>> adamw = torch.optim.AdamW(layer.parameters())
    >>> layer(torch.ones(1, 3)).sum().backward()
    >>> adamw.step()
    >>> optimizer_bytes(adamw)  # two moments of 8 parameters, and a step count of 4 bytes for each of 2 tensors
    72
    """
    groups = optimizer.param_groups
    parameters = [p for group in groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    settings = [{name: value for name, value in group.items() if name != "params"} for group in groups]
    return storage_bytes(tensors_in([optimizer.state, settings]), ignore=[*parameters, *gradients])


class SavedTensors:
    """What autograd keeps for backward passes, while it keeps it.

    Args:
        ignore: tensors that are there anyway (weights, the batch).

    Attributes:
        bytes: kept now.
        peak: the most that was kept at a time.

    >>> weight, x = torch.ones(3, requires_grad=True), torch.ones(3)
    >>> saved = SavedTensors(ignore=[weight])
    >>> with saved.watching():
    ...     y = (weight * x).exp()  # the product keeps x, the exponential its result
    >>> saved.bytes
    24
    >>> y.sum().backward()
    >>> saved.bytes, saved.peak
    (0, 24)
    """

    def __init__(self, ignore: Iterable[Tensor] = ()) -> None:
        self.bytes = self.peak = 0
        self._ignored: set[Any] = set()
        self._alive: list[Tensor] = []  # what is ignored: its memory must not be given to others
        self._holders: dict[Any, int] = {}  # storage -> how many hold it
        self.ignore(ignore)

    def ignore(self, tensors: Iterable[Tensor]) -> None:
        """Do not count these, from now on."""
        there = list(tensors)
        self._alive += there
        self._ignored.update(_storages(there))

    def watching(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which forward passes are watched; what they keep is followed after it, too."""
        return torch.autograd.graph.saved_tensors_hooks(lambda tensor: _Saved(self, tensor), lambda saved: saved.tensor)

    def hold(self, storages: dict[Any, int]) -> dict[Any, int]:
        """Count storages that somebody begins to hold; returns those that count."""
        counted = {key: size for key, size in storages.items() if key not in self._ignored}
        for key, size in counted.items():
            self._holders[key] = self._holders.get(key, 0) + 1
            self.bytes += size if self._holders[key] == 1 else 0
        self.peak = max(self.peak, self.bytes)
        return counted

    def release(self, storages: dict[Any, int]) -> None:
        """Somebody holds these no longer."""
        for key, size in storages.items():
            self._holders[key] -= 1
            if not self._holders[key]:
                del self._holders[key]
                self.bytes -= size


class _Saved:
    """A tensor in autograd's hands; when autograd drops it, its storage is released."""

    __slots__ = ("held", "tensor", "watch")

    def __init__(self, watch: SavedTensors, tensor: Tensor) -> None:
        self.watch, self.tensor = watch, tensor
        self.held = watch.hold(_storages([tensor]))

    def __del__(self) -> None:
        self.watch.release(self.held)


def saved_bytes(run: Callable[[], Any], *, ignore: Iterable[Tensor] = ()) -> int:
    """Bytes that autograd keeps for the backward pass while `run()` runs, at their fullest.

    Args:
        run: a forward pass, with or without its backward.
        ignore: what is there anyway: usually the parameters, and the inputs.

    >>> net, x = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)), torch.ones(4, 3)
    >>> saved_bytes(lambda: net(x), ignore=[*net.parameters(), x])  # the ReLU's result, which both layers share
    80
    """
    watch = SavedTensors(ignore)
    with watch.watching():
        result = run()
    del result
    return watch.peak
