"""Scores from what layers are called with, collected batch by batch: only sums over rows are kept.

    activation           |w_ij| E|x_j|              the mean size of what the entry adds to its output
    wanda                |w_ij| ||x_j||_2           the same with the norm over all rows; compared within a row
    channel_activation   E|y_i|                     the mean size of the output channel, for all its entries

x_j is what the entry is multiplied with: for a convolution the pixels that its place of the kernel meets, so padding
and stride are counted as they are. A bias counts like an input of the layer's mean size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..._core.checks import NonFiniteError, refuse
from ..places import places
from .data import Data, inputs_of, undisturbed
from .matrices import batched, from_matrices, rows, to_matrices

__all__ = ["Site", "activation", "channel_activation", "input_sums", "sites", "wanda", "watch"]

Parameters = Mapping[str, nn.Parameter]


def wanda(matrices: Tensor, squares: Tensor) -> Tensor:
    """`|w_ij| ||x_j||_2` for matrices (groups, outputs, columns) and the sums of squares of inputs (groups, columns).

    >>> wanda(torch.tensor([[[1.0, -2.0]]]), torch.tensor([[16.0, 1.0]]))
    tensor([[[4., 2.]]])

    Source: arXiv 2306.11695.
    """
    return matrices.detach().abs() * squares.sqrt().unsqueeze(1)


@dataclass(frozen=True)
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

    def rows(self, args: Sequence[Any], kwargs: Mapping[str, Any], prepare: Callable[[Tensor], Tensor]) -> list[Tensor]:
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
    projection = layer.out_proj
    replaced = {"out_proj.weight": torch.eye(projection.in_features).to(projection.weight)}
    if projection.bias is not None:
        replaced["out_proj.bias"] = torch.zeros_like(projection.bias)
    with _deaf(layer):
        return functional_call(layer, replaced, tuple(args), dict(kwargs))[0]


@contextlib.contextmanager
def _deaf(layer: nn.Module) -> Iterator[None]:
    """Inside, calls of the layer are not listened to."""
    hooks, layer._forward_pre_hooks = layer._forward_pre_hooks, type(layer._forward_pre_hooks)()
    try:
        yield
    finally:
        layer._forward_pre_hooks = hooks


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


@contextlib.contextmanager
def watch(found: Sequence[Site], seen: Callable[[Site, Sequence[Any], Mapping[str, Any]], None]) -> Iterator[None]:
    """Inside, `seen(site, args, kwargs)` is told of every call of the sites' layers, before it."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # which computes without calling the layers
    handles = []
    try:
        for site in found:
            hook = _hook(site, seen)
            handles.append(site.layer.register_forward_pre_hook(hook, with_kwargs=True))
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for handle in handles:
            handle.remove()


def _hook(site: Site, seen: Callable[..., None]) -> Callable[..., None]:
    def hook(_: nn.Module, args: Any, kwargs: Any) -> None:
        seen(site, args, kwargs)

    return hook


class Sums:
    """Sums over rows of `|x_j|^power` for each site's columns, (groups, columns), and the number of rows."""

    def __init__(self, power: int) -> None:
        self.power = power
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def __call__(self, site: Site, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        blocks = site.rows(args, kwargs, self._prepare)
        sums = torch.stack([block.sum(0) for block in blocks])
        count = self._rows
        if site.name in self.sums:
            sums, count = sums + self.sums[site.name], count + self.counts[site.name]
        if not bool(sums.isfinite().all()):
            raise NonFiniteError(f"prune: expected finite activations, got NaN or infinity before {site.name}.")
        self.sums[site.name], self.counts[site.name] = sums, count

    def _prepare(self, x: Tensor) -> Tensor:
        """Sums over the batch first: windows need then be taken of one sample only."""
        wide = x.abs() if self.power == 1 else x.to(torch.promote_types(x.dtype, torch.float32)).square()
        self._rows = x.shape[0]
        return wide.sum(0, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
