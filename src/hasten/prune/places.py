"""Where a model keeps its parameters: every (module, attribute), also behind a mask and inside wrappers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .._core.wrappers import unwrapped as bare

__all__ = ["Masked", "Place", "bare", "computed", "join", "places"]


class Masked(nn.Module):
    """The parametrization of a masked weight: zero where the mask is, and no gradient there."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        """`weight` where the mask is True, 0 elsewhere, of the weight's shape and dtype."""
        return torch.where(self.mask, weight, torch.zeros((), dtype=weight.dtype, device=weight.device))


@dataclass(frozen=True)
class Place:
    """An attribute of a module that is a parameter, or was one before a mask was put over it.

    Args:
        module, layer, attribute: the module, its name, and the attribute.
        parameter: the parameter.
        masked: the mask over it as a parametrization, if any.
    """

    module: nn.Module
    layer: str
    attribute: str
    parameter: nn.Parameter
    masked: Masked | None = None

    @property
    def name(self) -> str:
        """The full name, the same with and without a mask."""
        return join(self.layer, self.attribute)


def join(layer: str, attribute: str) -> str:
    """The full name of an attribute of a layer; the model itself has the name ""."""
    return f"{layer}.{attribute}" if layer else attribute


def places(model: nn.Module) -> list[Place]:
    """Every place of the (bare) model that holds a parameter, in model order; a tied one has several."""
    found = []
    for layer, module in _modules(model):
        for attribute in _parametrized(module):
            cover: Any = module.get_submodule(f"parametrizations.{attribute}")
            if len(cover) == 1 and isinstance(cover[0], Masked):
                found.append(Place(module, layer, attribute, cover.original, cover[0]))
        found += [Place(module, layer, name, p) for name, p in module._parameters.items() if p is not None]
    return found


def computed(model: nn.Module) -> list[tuple[nn.Module, str, str]]:
    """(module, its name, attribute) of weights that are computed from others, by anything but a mask of ours.

    By a parametrization of torch's, or by the hooks of torch.nn.utils.prune, weight_norm and spectral_norm.
    """
    held = {place.name for place in places(model)}
    found = []
    for layer, module in _modules(model):
        old = [name.removesuffix(end) for name in module._parameters for end in ("_orig", "_v") if name.endswith(end)]
        old = [name for name in old if isinstance(module.__dict__.get(name), Tensor)]
        found += [(module, layer, name) for name in [*_parametrized(module), *old] if join(layer, name) not in held]
    return found


def _modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for layer, module in model.named_modules(remove_duplicate=False):
        if "parametrizations" not in layer.split("."):
            yield layer, module


def _parametrized(module: nn.Module) -> list[str]:
    if not parametrize.is_parametrized(module):
        return []
    return [name for name, _ in module.get_submodule("parametrizations").named_children()]
