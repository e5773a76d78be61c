"""Cutting parameters and buffers, and setting the attributes that speak of their sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .attention import NarrowAttention
from .groups import Groups
from .products import whole_groups

__all__ = ["cut"]

# Attributes that follow the size that a view, a split or a norm of their module gave.
_FOLLOWS = (
    "heads", "num_heads", "n_heads", "n_head", "nhead", "num_attention_heads", "num_key_value_heads", "n_kv_heads",
    "all_head_size", "inner_dim", "split_size", "num_features", "num_channels", "num_groups",
)  # fmt: skip


def cut(model: nn.Module, known: Groups, ids: NDArray[np.bool_]) -> nn.Module:
    """Keep what `ids` says of each parameter and buffer, in place.

    Args:
        model: the model of the groups, or a copy of it.
        known: its groups.
        ids: whether each id stays.

    Returns:
        The model; an attention layer that lost heads is another module.
    """
    keep: dict[str, list[tuple[int, Tensor]]] = {}
    for slot in known.run.slots:
        live = ids[slot.first : slot.first + slot.size]
        if not live.all():
            keep.setdefault(slot.name, []).append((slot.dim, torch.from_numpy(np.flatnonzero(live))))
    _cut_tensors(model, keep)
    modules = dict(model.named_modules())
    for module in modules.values():
        for kind, follow in _LAYERS:
            if isinstance(module, kind):
                follow(module)
    for name, each in (*known.run.facts.views, *known.run.facts.sizes):
        _follow(modules[name], each, ids)
    for name, module in modules.items():
        if type(module) is nn.MultiheadAttention and module.out_proj.weight.shape[1] < module.embed_dim:
            _put(model, name, NarrowAttention.of(module))
    return model


def _cut_tensors(model: nn.Module, keep: dict[str, list[tuple[int, Tensor]]]) -> None:
    """Replace parameters and buffers by what is kept of them; shared ones stay shared."""
    named = [*model.named_parameters(), *model.named_buffers()]
    new = {id(tensor): _smaller(tensor, keep[name]) for name, tensor in named if name in keep}
    for module in model.modules():
        for holder in (module._parameters, module._buffers):
            for attribute, tensor in holder.items():
                if id(tensor) in new:
                    holder[attribute] = new[id(tensor)]


def _smaller(tensor: Tensor, kept: list[tuple[int, Tensor]]) -> Tensor:
    """The places that are kept, in the same memory format."""
    data = tensor.detach()
    for dim, index in kept:
        data = data.index_select(dim, index.to(data.device))
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous():
        data = data.contiguous(memory_format=torch.channels_last)
    return nn.Parameter(data, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data


def _put(model: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, new)


def _follow(module: nn.Module, each: NDArray[np.int64], ids: NDArray[np.bool_]) -> None:
    """Set attributes of the module that are a size of `each` to what is left of it."""
    live = ids[each]
    for axis, before in enumerate(each.shape):
        after = int(live.any(tuple(d for d in range(each.ndim) if d != axis)).sum())
        if after < before:
            for name in _FOLLOWS:
                if type(module.__dict__.get(name)) is int and module.__dict__[name] == before:
                    setattr(module, name, after)


# Layers that know their sizes from their weights ----------------------------------------------------------------------


def _linear(module: nn.Linear) -> None:
    module.out_features, module.in_features = module.weight.shape


def _convolution(module: Any) -> None:
    """Channels and groups of any (transposed) convolution."""
    inside, outside = module.in_channels // module.groups, module.out_channels // module.groups
    long, short = module.weight.shape[:2]
    if whole_groups(module.groups, inside, outside):
        module.groups = long // (inside if module.transposed else outside)
    ends = (long, short * module.groups)
    module.in_channels, module.out_channels = ends if module.transposed else ends[::-1]


def _embedding(module: nn.Embedding) -> None:
    module.embedding_dim = module.weight.shape[1]


def _prelu(module: nn.PReLU) -> None:
    module.num_parameters = len(module.weight)


def _instance_norm(module: Any) -> None:
    if module.weight is not None or module.running_mean is not None:
        module.num_features = len(module.weight if module.weight is not None else module.running_mean)


_LAYERS: tuple[tuple[type, Callable[[Any], None]], ...] = (
    (nn.Linear, _linear),
    (nn.modules.conv._ConvNd, _convolution),
    (nn.Embedding, _embedding),
    (nn.PReLU, _prelu),
    (nn.modules.instancenorm._InstanceNorm, _instance_norm),
)
