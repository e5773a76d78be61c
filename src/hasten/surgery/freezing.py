"""Layer freezing: stop training the first layers as training goes on, and save their backward pass.

A controller, not a surgery: nothing is replaced. A frozen parameter has `requires_grad=False` and no gradient, so
autograd builds no graph for a frozen prefix of the model: its backward pass is really gone, and so are the
activations kept for it. Frozen parameters stay in the optimizer's groups (an optimizer skips what has no gradient).

A *layer* is a module that has no children or holds parameters of its own, in definition order; the parameters that the
model itself holds (not in a layer) are never frozen. At progress `p = t / T`, with `n` layers, the first
`int(level * (p - start) / (1 - start) * (n - 1))` are frozen: the last layer always trains.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .._core.checks import below_one, check, fraction, positive, whole
from .._core.norm import running_norms

__all__ = ["LayerFreezing", "freeze_layers", "frozen_fraction", "layers_of"]


def frozen_fraction(progress: float, *, start: float = 0.5, level: float = 1.0) -> float:
    """The fraction of layers frozen at `progress`: 0 until `start`, then linear up to `level` at the end.

    >>> [frozen_fraction(p, start=0.5, level=0.8) for p in (0.4, 0.75, 1.0)]
    [0.0, 0.4, 0.8]
    """
    return level * min(1.0, max(0.0, (progress - start) / (1.0 - start)))


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """The layers of `model` by name, in definition order; one that is used in several places comes at its last one.

    A layer has no children or holds parameters of its own; a parametrised module is one layer with all it holds.

    >>> list(layers_of(nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Linear(2, 1))))
    ['0.0', '0.1', '1']
    """
    place: dict[nn.Module, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        is_layer = not list(module.children()) or module._parameters or parametrize.is_parametrized(module)
        if is_layer and module is not model and "parametrizations" not in name.split("."):
            place.pop(module, None)
            place[module] = name
    return {name: module for module, name in place.items()}


def _own_parameters(layer: nn.Module) -> list[nn.Parameter]:
    return list(layer.parameters(recurse=parametrize.is_parametrized(layer)))


def freeze_layers(model: nn.Module, count: int) -> tuple[str, ...]:
    """Freeze the first `count` layers of `model`: no gradient, batch norms in evaluation mode.

    A parameter that an unfrozen layer (or the model itself) holds too stays trainable. Call it after `model.train()`,
    which puts frozen batch norms back into training mode. Nothing is ever unfrozen.

    Args:
        model: the raw model.
        count: how many of `layers_of(model)`; more than there are is refused.

    Returns:
        Names of the frozen layers.
    """
    layers = layers_of(model)
    whole("freeze_layers", "count", count)
    check(count <= len(layers), "freeze_layers", f"count of at most {len(layers)} layers", count)
    frozen, trained = list(layers.items())[:count], list(layers.values())[count:]
    kept = {id(p) for layer in trained for p in _own_parameters(layer)} | {id(p) for p in model._parameters.values()}
    for _, layer in frozen:
        for parameter in _own_parameters(layer):
            if id(parameter) not in kept:
                parameter.requires_grad_(False)
                parameter.grad = None
        if layer in running_norms(layer):
            layer.eval()
    for layer in trained:
        if frozen and isinstance(layer, nn.GroupNorm) and _plain_order not in layer._forward_pre_hooks.values():
            layer.register_forward_pre_hook(_plain_order)
    return tuple(name for name, _ in frozen)


def _plain_order(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The inputs of a group norm, not channels-last where it trains behind frozen layers: torch's CPU kernel for that
    order writes the gradient of the input also where none is asked for, and the process ends (seen in torch 2.13)."""
    if not (torch.is_grad_enabled() and any(p.requires_grad for p in layer.parameters(recurse=False))):
        return inputs
    return tuple(value if value.requires_grad else value.contiguous() for value in inputs)


class LayerFreezing:
    """Controller: `step(t, T)` before each training step freezes the layers due by then.

    Use for fine-tuning and long runs whose first layers settle early. The count never goes down, also where the clock
    starts again (a new cycle of a curve): the effect is irreversible. A compiled model recompiles at each change.

    Args:
        model: the raw model.
        optimizer: not used; controllers take it. Frozen parameters stay in its groups.
        start: progress at which freezing begins, in [0, 1).
        level: fraction of the layers (all but the last) frozen at the end, in [0, 1]; 0 freezes none.

    Attributes:
        count: how many layers are frozen.
        names: their names.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    >>> freezing = LayerFreezing(model, start=0.0)
    >>> freezing.step(5, 10)
    >>> freezing.names
    ('0',)
    """

    def __init__(self, model: nn.Module, optimizer: Any = None, *, start: float = 0.5, level: float = 1.0) -> None:
        fraction("LayerFreezing", "level", level)
        below_one("LayerFreezing", "start", start)
        self.start, self.level, self.count = start, level, 0
        self.names: tuple[str, ...] = ()
        self.model = model

    def step(self, t: float, T: float) -> None:
        """Freeze what is due at time `t` of `T`. Call it every step, after `model.train()` and before the forward."""
        progress = t / positive("LayerFreezing.step", "T", T)
        due = int(frozen_fraction(progress, start=self.start, level=self.level) * (len(layers_of(self.model)) - 1))
        self.count = max(self.count, due)
        self._apply()

    def _apply(self) -> None:
        self.names = freeze_layers(self.model, self.count)

    def evaluated(self, model: nn.Module) -> nn.Module:
        """`model` itself: freezing changes nothing at evaluation."""
        return model

    def rebind(self, model: nn.Module, optimizer: Any = None) -> None:
        """Hold this model from now on, with the same number of layers frozen."""
        self.model = model
        self._apply()

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs: the number of frozen layers."""
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state and freeze what it says."""
        self.count = int(state["count"])
        self._apply()
