"""One way to look into a batch: `(inputs, targets)` or a dict, as everybody's loaders give it.

Mixed targets (MixUp, CutMix) travel as `MixedTargets`, so that the transform that mixes and the loss that
interpolates need not know each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .checks import refuse, refuse_type

__all__ = [
    "MixedTargets", "batch_size", "get_inputs", "get_targets", "map_tensors", "replace_parts", "take", "to_device",
]  # fmt: skip

_INPUT_KEYS = ("inputs", "input_ids", "pixel_values", "x")
_TARGET_KEYS = ("targets", "labels", "label", "y")


class MixedTargets(NamedTuple):
    """Targets of a mixed batch: the loss is `(1 - weight) * L(first) + weight * L(second)`, per sample."""

    first: Any  # (batch, ...)
    second: Any  # (batch, ...)
    weight: Tensor  # (batch,), in [0, 1]


def _key(batch: Mapping[str, Any], keys: tuple[str, ...], what: str) -> str:
    for name in keys:
        if name in batch:
            return name
    raise refuse("batch", f"a dict with {what} under one of {', '.join(keys)}", f"the keys {sorted(batch)}")


def _pair(batch: Any) -> None:
    if not (isinstance(batch, (tuple, list)) and len(batch) == 2):
        raise refuse_type("batch", "(inputs, targets) or a dict", type(batch).__name__, "Return one of the two.")


def get_inputs(batch: Any) -> Any:
    """What the model is called with."""
    if isinstance(batch, Mapping):
        return batch[_key(batch, _INPUT_KEYS, "inputs")]
    _pair(batch)
    return batch[0]


def get_targets(batch: Any) -> Any:
    """What the loss compares with; a `MixedTargets` after mixing."""
    if isinstance(batch, Mapping):
        return batch[_key(batch, _TARGET_KEYS, "targets")]
    _pair(batch)
    return batch[1]


def replace_parts(batch: Any, *, inputs: Any = None, targets: Any = None) -> Any:
    """A new batch of the same kind with the given parts replaced; the old one is untouched."""
    if isinstance(batch, Mapping):
        new = dict(batch)
        if inputs is not None:
            new[_key(batch, _INPUT_KEYS, "inputs")] = inputs
        if targets is not None:
            new[_key(batch, _TARGET_KEYS, "targets")] = targets
        return new
    _pair(batch)
    return (batch[0] if inputs is None else inputs, batch[1] if targets is None else targets)


def map_tensors(function: Callable[[Tensor], Any], batch: Any) -> Any:
    """Apply `function` to every tensor of a batch, keeping its structure."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, MixedTargets):
        return MixedTargets(*(map_tensors(function, part) for part in batch))
    if isinstance(batch, Mapping):
        return {name: map_tensors(function, part) for name, part in batch.items()}
    if isinstance(batch, (tuple, list)):
        return tuple(map_tensors(function, part) for part in batch)
    return batch


def batch_size(batch: Any) -> int:
    """Number of samples: the first dimension of the inputs."""
    inputs = get_inputs(batch)
    if not isinstance(inputs, Tensor) or inputs.ndim == 0:
        raise refuse_type("batch", "inputs that are a tensor with a batch dimension", inputs)
    return inputs.shape[0]


def take(batch: Any, index: Tensor | slice) -> Any:
    """The samples `index` of every tensor of the batch."""
    return map_tensors(lambda tensor: tensor[index], batch)


def to_device(batch: Any, device: torch.device | str) -> Any:
    """The batch on `device` (no copy where it is there already)."""
    return map_tensors(lambda tensor: tensor.to(device, non_blocking=True), batch)
