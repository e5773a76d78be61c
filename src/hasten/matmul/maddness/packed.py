"""What a frozen layer computes with, and the trees and tables that kernels read of it.

Those are made once, and again when a tensor was written to: torch counts its writes. It does not count those through
`.data`, through NumPy or another view of the same memory, nor any to tensors of `torch.inference_mode`: `forget` is for
the former, the latter are read anew at each call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .tables import Tables
from .trees import Trees

__all__ = ["Packed", "forget", "kept", "trees_and_tables"]

_T = TypeVar("_T")
_MEMORY: Any = WeakTensorKeyDictionary()


class Packed(NamedTuple):
    """The tensors of a frozen layer, in the order in which operators take them."""

    split_dims: Tensor  # (C, L) int32
    thresholds: Tensor  # (C, K - 1) float32
    luts: Tensor  # (M, C, K) uint8
    scale: Tensor  # (M,) float32
    offset: Tensor  # (M,) float32

    @property
    def outputs(self) -> int:
        """M."""
        return self.luts.shape[0]


def trees_and_tables(packed: Packed) -> tuple[Trees, Tables]:
    """As kernels take them; the memory is that of the tensors, on the CPU."""
    dims, thresholds, *rest = packed
    trees = kept(lambda: Trees(dims.numpy(), thresholds.numpy()), thresholds, dims)
    return trees, kept(lambda: Tables(*(tensor.numpy() for tensor in rest)), *rest)


def kept(make: Callable[[], _T], *tensors: Tensor) -> _T:
    """What `make` makes of these tensors: from memory while they live and are not written to."""
    if any(t.is_inference() for t in tensors):  # nothing tells whether they were written to
        return make()
    stamp = tuple((t.data_ptr(), t._version) for t in tensors)
    found = _MEMORY.get(tensors[0])
    if found is None or found[0] != stamp:
        found = _MEMORY[tensors[0]] = (stamp, make())
    return found[1]


def forget(packed: Packed) -> None:
    """Whatever was made of these tensors is made anew when it is next asked for."""
    for tensor in packed:
        _MEMORY.pop(tensor, None)
