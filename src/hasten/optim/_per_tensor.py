"""The loop of optimizers that update one tensor after the other, and what several of them compute alike.

A subclass says which options it takes (`_check`), what state a tensor starts with (`_start`) and how it is updated
(`_update`). The arithmetic is in float32 at least: a bfloat16 parameter is widened, updated and rounded once per step,
its state is float32. Gradients are never changed in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._core.checks import check, refuse_type
from ._options import call_closure, check_betas, check_learning_rate, check_not_negative, dense_gradient, number
from ._state import KeepsState

__all__ = [
    "PerTensor", "adam_moments", "adam_rate", "adam_state", "adamw", "as_matrix", "check_flag", "check_one_of", "count",
]  # fmt: skip

State = dict[str, Any]
Group = dict[str, Any]


class PerTensor(KeepsState):
    """An optimizer whose update of a tensor needs that tensor, its gradient and its state alone.

    Options live in the groups, so every group may have its own, and are checked when a group is added.
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; options that it does not name are those of the constructor."""
        if isinstance(param_group, dict):
            self._check(type(self).__name__, {**self.defaults, **param_group})
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # a state of another optimizer, or of an older version
            for name, default in self.defaults.items():
                if name != "differentiable":  # torch adds it to the defaults here; it is no option of ours
                    group.setdefault(name, default)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step.

        Args:
            closure: evaluates the model again and returns the loss; None: use the gradients that are there.

        Returns:
            What the closure returned, None without one.

        Raises:
            TypeError: a gradient is sparse, or a parameter complex or of integers. Nothing was changed.
        """
        loss = call_closure(closure)
        ready, index = [], -1
        for group in self.param_groups:
            for parameter in group["params"]:
                index += 1
                gradient = dense_gradient(f"{type(self).__name__}.step", parameter)
                if gradient is not None and parameter.numel():
                    ready.append((index, parameter, gradient, group))
        scale = self._gradient_scale([gradient for _, _, gradient, _ in ready])
        for index, parameter, gradient, group in ready:
            wide = torch.promote_types(parameter.dtype, torch.float32)
            x, g = parameter.detach().to(wide), gradient.to(wide)
            if group["maximize"]:
                g = -g
            if scale is not None:
                g = g * scale.to(g.device)
            state = self.state[parameter]
            if not state:
                state.update(self._start(x, group, index))
            self._update(x, g, state, group)
            if parameter.dtype != wide:
                parameter.copy_(x)
        return loss

    def _check(self, call: str, options: Group) -> None:
        """Refuse options that make no sense; subclasses check their own as well."""
        check_learning_rate(call, options["lr"])
        check_not_negative(call, "weight_decay", options["weight_decay"])
        check_flag(call, "maximize", options["maximize"])
        if "betas" in options:
            check_betas(call, options["betas"])
        if "eps" in options:
            check_not_negative(call, "eps", options["eps"])

    def _gradient_scale(self, gradients: list[Tensor]) -> Tensor | None:
        """One factor for all gradients, if they have one."""
        return None

    def _start(self, x: Tensor, group: Group, index: int) -> State:
        """The state of a tensor before its first step; `index` is its place among all parameters."""
        raise NotImplementedError

    def _update(self, x: Tensor, g: Tensor, state: State, group: Group) -> None:
        """Update `x` and `state` in place; `g` may be the gradient itself and stays as it is."""
        raise NotImplementedError


def check_flag(call: str, name: str, value: bool) -> None:
    """A `TypeError` unless `value` is True or False."""
    if not isinstance(value, bool):
        raise refuse_type(call, f"True or False for {name}", value, f"Pass {name}=True or {name}=False.")


def check_one_of(call: str, name: str, value: str, known: tuple[str, ...]) -> None:
    """A `ValueError` unless `value` is one of the known words."""
    check(value in known, call, f"{name} as one of {', '.join(known)}", value, f"Pass {name}={known[0]!r}, say.")


def adam_state(like: Tensor) -> State:
    """Moments of zeros of the shape of `like`, and a count of steps (on the CPU, as in torch)."""
    return {"step": torch.tensor(0.0), "exp_avg": torch.zeros_like(like), "exp_avg_sq": torch.zeros_like(like)}


def count(state: State) -> int:
    """Count a step; returns its number, from 1."""
    state["step"] += 1
    return int(state["step"])


def adam_moments(state: State, g: Tensor, betas: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Move `m = b1 * m + (1 - b1) * g` and `v = b2 * v + (1 - b2) * g ** 2` in place, and return them."""
    m, v = state["exp_avg"], state["exp_avg_sq"]
    m.lerp_(g, 1 - betas[0])
    v.mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
    return m, v


def adam_rate(lr: float | Tensor, betas: tuple[float, float], step: int) -> float:
    """`lr * sqrt(1 - b2 ** step) / (1 - b1 ** step)`: the bias correction where `m / (sqrt(v) + eps)` has none."""
    return number(lr) * math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step)


def adamw(x: Tensor, g: Tensor, state: State, group: Group, step: int) -> None:
    """Step number `step` of AdamW in place, with the bits of `torch.optim.AdamW(foreach=False)` in float32."""
    lr, (beta1, beta2) = number(group["lr"]), group["betas"]
    m, v = adam_moments(state, g, group["betas"])
    x.mul_(1 - lr * group["weight_decay"])
    denominator = (v.sqrt() / math.sqrt(1 - beta2**step)).add_(group["eps"])
    x.addcdiv_(m, denominator, value=-lr / (1 - beta1**step))


def as_matrix(tensor: Tensor) -> Tensor:
    """A tensor of two or more dimensions as (first dimension, all others): the filters of a convolution as rows."""
    return tensor.reshape(len(tensor), -1)
