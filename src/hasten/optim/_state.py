"""Optimizer state that keeps its dtype when it is loaded.

`torch.optim.Optimizer.load_state_dict` casts every floating-point state tensor to the dtype of its parameter: with
bfloat16 parameters, float32 moments would lose 16 bits at every resume. There is no switch for it. `KeepsState` hands
torch the state of each parameter in an opaque holder, which it passes on as it is, and opens the holders at the end.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["KeepsState"]


class _Holder:
    """The state of one parameter, which torch neither looks into nor casts."""

    __slots__ = ("content",)

    def __init__(self, content: Any) -> None:
        self.content = content


def _copied(value: Any, device: torch.device | None) -> Any:
    """A copy of a state entry, with its tensors on `device` (None: where they are) and of the dtype they had."""
    if isinstance(value, Tensor):
        return value.detach().to(device=device, copy=True)
    if isinstance(value, dict):
        # As in torch, the counter of steps stays where it is: on the CPU it is read without waiting for a GPU.
        return {name: _copied(entry, None if name == "step" else device) for name, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_copied(entry, device) for entry in value)
    return copy.deepcopy(value)


def _hide(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    return {**state_dict, "state": {index: _Holder(state) for index, state in state_dict["state"].items()}}


class KeepsState(Optimizer):
    """An optimizer whose `load_state_dict` changes no bit of its state.

    Tensors keep dtype and values and move to the device of their parameter; everything else (numbers, strings, None,
    nested dicts and lists) comes back as it was. What is loaded is a copy: two optimizers never share a buffer, as
    they do in torch where no cast was needed. Load hooks see plain tensors.

    Subclasses put their options into `param_groups` and everything else into `state`: an attribute of the instance is
    lost by pickle and deepcopy.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a `state_dict()`, bit for bit; one that is refused changes nothing."""
        before = {"state": self.state, "param_groups": self.param_groups}
        # As a hook that runs after all others, so that those see the state itself.
        hiding = self.register_load_state_dict_pre_hook(_hide)
        try:
            super().load_state_dict(state_dict)
        except BaseException:
            self.__dict__.update(before)
            raise
        finally:
            hiding.remove()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for owner, held in self.state.items():
            if isinstance(held, _Holder):
                self.state[owner] = _copied(held.content, owner.device if isinstance(owner, Tensor) else None)
