"""What an optimizer holds in memory, counted from its live tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from .slots import local

__all__ = ["MemoryReport", "memory_report"]

KINDS = ("weights", "gradients", "correction", "states", "scales", "steps")


@dataclass(frozen=True)
class MemoryReport:
    """Bytes by kind, each storage once.

    Args:
        parameters: number of elements, tied ones once; of this rank's shards.
        bytes: "weights", "gradients", "correction" (low bits of weights), "states" (codes or float32 moments),
            "scales", "steps" (counters).
    """

    parameters: int
    bytes: dict[str, int]

    @property
    def total(self) -> int:
        """The sum."""
        return sum(self.bytes.values())

    @property
    def bytes_per_parameter(self) -> float:
        """The sum for each parameter; 0 without parameters."""
        return self.total / self.parameters if self.parameters else 0.0

    def __str__(self) -> str:
        rows = [(kind, size, size / max(self.parameters, 1)) for kind, size in self.bytes.items()]
        rows.append(("total", self.total, self.bytes_per_parameter))
        lines = [f"{kind:<11}{size:>16,} bytes {each:>9.4f} per parameter" for kind, size, each in rows]
        return "\n".join([f"{self.parameters:,} parameters", *lines])


def memory_report(optimizer: Optimizer) -> MemoryReport:
    """Bytes of an optimizer's parameters, their gradients and its state, as they are now.

    Works for any torch optimizer: what is not known by name counts as "states". State is made in the first step;
    before it there is none.

    >>> import torch
    >>> weight = torch.nn.Parameter(torch.zeros(8)); weight.grad = torch.ones(8)
    >>> adamw = torch.optim.AdamW([weight]); adamw.step()
    >>> memory_report(adamw).bytes["states"]
    64
    """
    tensors: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
    parameters = [local(p) for group in optimizer.param_groups for p in group["params"]]
    tensors["weights"] = parameters
    tensors["gradients"] = [
        local(p.grad) for group in optimizer.param_groups for p in group["params"] if p.grad is not None
    ]
    for state in list(optimizer.state.values()):
        for name, value in _tensors(state):
            kind = "correction" if name == "correction" else "steps" if name == "step" else "states"
            tensors["scales" if name.endswith("_scales") else kind].append(local(value))
    return MemoryReport(
        sum(p.numel() for p in parameters), {kind: _storage_bytes(found) for kind, found in tensors.items()}
    )


def _tensors(state: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(state, Tensor):
        yield name, state
    elif isinstance(state, dict):
        for key, value in state.items():
            yield from _tensors(value, str(key))
    elif isinstance(state, (list, tuple)):
        for value in state:
            yield from _tensors(value, name)


def _storage_bytes(tensors: Iterable[Tensor]) -> int:
    storages = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage.nbytes()
    return sum(storages.values())
