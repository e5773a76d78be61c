"""Masked entries stay exactly zero while an optimizer steps, whichever it is.

A zero weight with a zero gradient is not safe: momentum that was gathered before moves it, weight decay of Adam feeds
its moments, Lion moves by the sign, Muon mixes rows and columns. So before each step the gradient is zeroed where the
mask is, and after it the weight and every tensor of the optimizer's state that has the parameter's shape. Nothing is
wrapped: these are the step hooks that torch.optim offers.

What an optimizer sees is therefore what it would see if the model computed with `weight * mask`: the live entries move
as in that training, also under optimizers that look at norms. Gradients that are needed dense (to choose what grows
again) are read between the backward pass and the step; see `SparseController`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from .._core.checks import refuse, refuse_type
from .masks import beside, changes, masks_of
from .places import Place, bare, places

__all__ = ["Hold", "hold"]


class Hold:
    """What `hold` returns: `remove()` lets go; also a context manager that lets go at its end."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, look: Callable[[], None] | None = None) -> None:
        self._model, self._optimizer, self._look = bare(model), optimizer, look
        self._held: list[Place] = []
        self._known = (-1, -1)
        self._hooks = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    @property
    def active(self) -> bool:
        """True until `remove()`."""
        return bool(self._hooks)

    def remove(self) -> None:
        """Let go: the masks stay on the model, but nothing keeps its weights at zero. A second call does nothing."""
        while self._hooks:
            self._hooks.pop().remove()

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @torch.no_grad()
    def zero_gradients(self) -> None:
        """Zero the gradients of masked entries, as before each step; call it before clipping by the whole norm."""
        for parameter, mask in self._entries():
            if parameter.grad is not None:
                parameter.grad.masked_fill_(mask.logical_not(), 0)

    @torch.no_grad()
    def zero_entries(self) -> None:
        """Zero masked weights and the optimizer's state of them, as after each step."""
        for parameter, mask in self._entries():
            zero_entries(self._optimizer, parameter, mask)

    def _entries(self) -> list[tuple[nn.Parameter, Tensor]]:
        """Held parameters with their masks; they are looked up again whenever masks or parameters came or went."""
        state = changes(), sum(len(group["params"]) for group in self._optimizer.param_groups)
        if self._known != state:
            self._held, self._known = held_by(self._model, self._optimizer), state
        return [(place.parameter, mask) for place in self._held if (mask := beside(place)) is not None]

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """The step's pre-hook; where the gradients come from a closure, they are zeroed after each of its calls."""
        self._gradients_are_there()
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            return None

        def closed() -> Any:
            loss = closure()
            self._gradients_are_there()
            return loss

        return args[:1], {**kwargs, "closure": closed}

    def _gradients_are_there(self) -> None:
        if self._look is not None:
            self._look()
        self.zero_gradients()

    def _after(self, *_: Any) -> None:
        self.zero_entries()


def hold(model: nn.Module, optimizer: Optimizer) -> Hold:
    """Keep the masked entries of `model` at zero under `optimizer`, from its next step on.

    Args:
        model: with masks (`apply`), bare or wrapped. Masks that change or come later are held, too; those put on as
            parametrizations need no holding and are left alone.
        optimizer: holds the masked parameters (others are not held); any that steps from gradients. Its
            `zero_entries(parameter, mask)` is used where it has one.

    Returns:
        The handle. A copy or a pickle of the optimizer is not held: torch copies no hooks.

    Raises:
        ValueError: the model has no masks, or the optimizer holds no masked parameter.
        TypeError: LBFGS, whose history is one long vector.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> from hasten.prune.masks import apply
    >>> _ = apply(layer, {"weight": torch.tensor([[True, False]])})
    >>> optimizer = torch.optim.Adam(layer.parameters(), weight_decay=0.1)
    >>> with hold(layer, optimizer):
    ...     layer(torch.ones(1, 2)).sum().backward()
    ...     optimizer.step()
    >>> layer.weight[0, 1].item(), optimizer.state[layer.weight]["exp_avg"][0, 1].item()
    (0.0, 0.0)
    """
    call = "prune.hold"
    if isinstance(optimizer, LBFGS):
        raise refuse_type(call, "an optimizer that steps from gradients", "LBFGS", 'Use mode="parametrize" with it.')
    if not isinstance(optimizer, Optimizer):
        raise refuse_type(call, "a torch optimizer", optimizer)
    if not len(masks_of(model)):
        raise refuse(call, "a model with masks", f"{type(bare(model)).__name__} without", "Call prune.apply first.")
    if not held_by(bare(model), optimizer):
        if any(place.masked is not None for place in places(bare(model))):
            raise refuse(call, "masks in place", "masks as parametrizations", "They hold by themselves: leave it out.")
        fix = "Build it from the parameters of this model."
        raise refuse(call, "an optimizer of masked parameters", f"{type(optimizer).__name__} of others", fix)
    return Hold(model, optimizer)


def held_by(model: nn.Module, optimizer: Optimizer) -> list[Place]:
    """Where the optimizer's parameters lie that have a mask beside them."""
    stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return [place for place in places(model) if id(place.parameter) in stepped and beside(place) is not None]


def zero_entries(optimizer: Optimizer, parameter: Tensor, mask: Tensor) -> None:
    """Zero a parameter, and every tensor of its shape in the optimizer's state, where `mask` is False."""
    own = getattr(optimizer, "zero_entries", None)
    if own is not None:
        own(parameter, mask)
        return
    dead = mask.logical_not()
    parameter.masked_fill_(dead, 0)
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value.masked_fill_(dead, 0)
