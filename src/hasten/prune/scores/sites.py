"""Where weights multiply, and what with: layers that are watched while the model runs.

A site is a layer and one of its weights. A module that is called twice, and a weight that two layers share, are seen
every time; projections of attention are seen like linear layers.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..places import places
from .matrices import batched, from_matrices, rows, to_matrices

__all__ = ["Seen", "Site", "sites", "watch"]

Parameters = Mapping[str, nn.Parameter]
Prepare = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Site:
    """A layer that multiplies with a weight: `name` is the parameter's, `attribute` what it is in the layer."""

    name: str
    layer: nn.Module
    attribute: str
    weight: nn.Parameter

    def matrices(self, like: Tensor) -> Tensor:
        """A tensor of the weight's shape as (groups, outputs, columns)."""
        if self.attribute == "in_proj_weight":
            return like.unflatten(0, (3, -1))
        return to_matrices(self.layer, like) if self.attribute == "weight" else like.unsqueeze(0)

    def restore(self, matrices: Tensor) -> Tensor:
        """The inverse of `matrices`."""
        if self.attribute == "weight":
            return from_matrices(self.layer, matrices, self.weight)
        return matrices.reshape(self.weight.shape)

    def rows(self, args: Sequence[Any], kwargs: Mapping[str, Any], prepare: Prepare) -> list[Tensor]:
        """What a call of the layer multiplies each matrix with, (rows, columns) each; inputs go through `prepare`."""
        if not isinstance(self.layer, nn.MultiheadAttention):
            x = args[0] if args else next(iter(kwargs.values()))
            return rows(self.layer, prepare(batched(self.layer, x.detach())))
        named = dict(zip(("query", "key", "value"), args, strict=False)) | dict(kwargs)
        if self.attribute == "out_proj.weight":
            inputs = [_attended(self.layer, args, kwargs)]
        else:
            inputs = [named[key] for key in _PROJECTED[self.attribute]]
        return [prepare(x.detach().reshape(-1, x.shape[-1])) for x in inputs]


_PROJECTED = {
    "in_proj_weight": ("query", "key", "value"),
    "q_proj_weight": ("query",), "k_proj_weight": ("key",), "v_proj_weight": ("value",),
}  # fmt: skip


def _attended(layer: nn.MultiheadAttention, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """What attention multiplies its output projection with: its output, had it the identity for that projection."""
    projection, like = layer.out_proj, layer.out_proj.weight
    identity = nn.Linear(
        like.shape[1], like.shape[1], projection.bias is not None, device=like.device, dtype=like.dtype
    )
    nn.init.eye_(identity.weight)
    if identity.bias is not None:
        nn.init.zeros_(identity.bias)
    layer.out_proj = identity  # type: ignore[assignment]
    try:
        return layer(*args, **kwargs)[0]
    finally:
        layer.out_proj = projection


def sites(model: nn.Module, parameters: Parameters) -> list[Site]:
    """Every layer that multiplies with a matrix among `parameters`; one that is shared has several."""
    names = {id(p): name for name, p in parameters.items() if p.ndim > 1}
    found = []
    attentions = {id(m.out_proj): m for m in model.modules() if isinstance(m, nn.MultiheadAttention)}
    done = set()
    for place in places(model):
        if id(place.parameter) in names and (id(place.module), place.attribute) not in done:
            done.add((id(place.module), place.attribute))
            attention = attentions.get(id(place.module))
            layer = place.module if attention is None else attention
            attribute = place.attribute if attention is None else "out_proj.weight"
            found.append(Site(names[id(place.parameter)], layer, attribute, place.parameter))
    return found


Seen = Callable[[Site, Sequence[Any], Mapping[str, Any]], None]


@contextlib.contextmanager
def watch(found: Sequence[Site], seen: Seen) -> Iterator[None]:
    """Inside, `seen(site, args, kwargs)` is told of every call of the sites' layers, before it.

    What `seen` itself calls is not reported.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it computes without calling the layers
    busy: set[Site] = set()

    def hook(site: Site, _: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        if not busy:
            busy.add(site)
            try:
                seen(site, args, kwargs)
            finally:
                busy.clear()

    handles = [site.layer.register_forward_pre_hook(functools.partial(hook, site), with_kwargs=True) for site in found]
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for handle in handles:
            handle.remove()
