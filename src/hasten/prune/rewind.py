"""Weight rewinding: prune by the weights of the end, train again from those of an early step.

A pruned network that starts from early weights of its own training often learns what the dense one learned, where the
same masks on new weights do not. `snapshot` remembers weights, buffers and the optimizer at some step; `rewind` puts
them back under masks that were found later.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .._core.checks import refuse
from .hold import held_by, zero_entries
from .masks import apply, beside
from .places import bare, places

__all__ = ["Snapshot", "rewind", "snapshot"]


@dataclass(frozen=True)
class Snapshot:
    """A copy of parameters and buffers by their plain names, and of the optimizer's state, if it was given."""

    tensors: Mapping[str, Tensor]
    optimizer: Mapping[str, Any] | None = None


@torch.no_grad()
def snapshot(model: nn.Module, optimizer: Optimizer | None = None) -> Snapshot:
    """Remember where a training is.

    Args:
        model: masked or not; its masks are not remembered, since those to come are what matters.
        optimizer: to remember its state, too; None lets `rewind` start it afresh.

    Returns:
        Copies, on the devices of the originals.
    """
    tensors = {name: value.detach().clone() for name, value in _tensors(bare(model)).items()}
    return Snapshot(tensors, None if optimizer is None else copy.deepcopy(optimizer.state_dict()))


@torch.no_grad()
def rewind(
    model: nn.Module, masks: Mapping[str, Tensor], to: Snapshot, optimizer: Optimizer | None = None
) -> nn.Module:
    """Put the weights of a snapshot back, under these masks.

    Args:
        model: of the kind that the snapshot is of; changed in place.
        masks: which of the early weights stay.
        to: as from `snapshot`.
        optimizer: gets the state of the snapshot back, masked; where the snapshot has none, its state is cleared, as
            of a new one. None leaves every optimizer alone.

    Returns:
        The model, masked in place.

    Raises:
        ValueError: a snapshot of another model; nothing was changed.

    >>> model = nn.Linear(2, 1, bias=False)
    >>> early = snapshot(model)
    >>> _ = model.weight.data.mul_(10)
    >>> _ = rewind(model, {"weight": torch.tensor([[True, False]])}, early)
    >>> torch.equal(model.weight[0, 0], early.tensors["weight"][0, 0]), model.weight[0, 1].item()
    (True, 0.0)

    Source: arXiv 1912.05671 (late rewinding), arXiv 1803.03635.
    """
    tensors = _tensors(bare(model))
    shapes = [{name: tuple(value.shape) for name, value in found.items()} for found in (tensors, to.tensors)]
    if shapes[0] != shapes[1]:
        other = sorted({name for name, _ in set(shapes[0].items()) ^ set(shapes[1].items())})
        raise refuse("prune.rewind", "a snapshot of this model", f"one that differs in {', '.join(other)}")
    apply(model, masks)
    for name, value in tensors.items():
        value.copy_(to.tensors[name])
    apply(model, masks)
    if optimizer is not None:
        if to.optimizer is None:
            optimizer.state.clear()
        else:
            optimizer.load_state_dict(copy.deepcopy(dict(to.optimizer)))
        for place in held_by(bare(model), optimizer):
            zero_entries(optimizer, place.parameter, place.module.get_buffer(f"{place.attribute}_mask"))
    return model


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, tied ones once, without masks."""
    found: dict[str, Tensor] = dict(model.named_parameters())
    ours = {f"{place.name}_mask" for place in places(model) if beside(place) is not None}
    found.update((name, value) for name, value in model.named_buffers() if name not in ours)
    return found
