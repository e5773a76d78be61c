"""The update rules, on float32 tensors: what one step does to a weight and its state.

    Adam      m = b1 m + (1 - b1) g      v = b2 v + (1 - b2) g^2
              x = keep x - lr / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps)
    SGD       m = mu m + (1 - dampening) g, in the first step m = g      x = keep x - lr (nesterov ? g + mu m : m)
    Lion      u = sign(b1 m + (1 - b1) g)      m = b2 m + (1 - b2) g      x = keep x - lr u

`keep` is 1 - decay, where the decay is decoupled; else the decay is added to the gradient, `g = g + wd x`, before all
of this. The step uses the new state as it is before it is encoded: encoding only touches what the next step reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["MOMENTS", "Numbers", "numbers", "update"]

# Rule -> the names of its states, torch's own, and whether each is a variance (never negative).
MOMENTS: Mapping[str, dict[str, bool]] = {
    "adam": {"exp_avg": False, "exp_avg_sq": True},
    "momentum": {"momentum_buffer": False},
    "plain": {},
    "lion": {"exp_avg": False},
}


@dataclass(frozen=True)
class Numbers:
    """The numbers of a tensor's step, made ready."""

    step: float  # what the direction is multiplied with
    keep: float = 1.0  # what the weight is multiplied with
    coupled: float | None = None  # L2 penalty
    sign: float = 1.0  # -1 to maximize
    beta1: float = 0.0
    rest1: float = 1.0
    beta2: float = 0.0
    rest2: float = 1.0
    root_factor: float = 0.0  # Adam: learning rate * direction = m / (sqrt(v) * root_factor + epsilon_factor)
    epsilon_factor: float = 0.0
    nesterov: bool = False


def numbers(rule: str, group: Mapping[str, Any], t: int) -> Numbers:
    """The numbers of step `t` (the first one is 1) under the options of a group.

    `group` holds the optimizer's own options, and `decay` (what the weight loses) or `coupled` (what is added to the
    gradient), of which one is 0.
    """
    lr = float(group["lr"])
    common = {
        "keep": 1.0 - float(group["decay"]),
        "coupled": group["coupled"] or None,
        "sign": -1.0 if group["maximize"] else 1.0,
    }
    if rule == "adam":
        beta1, beta2 = group["betas"]
        step = lr / (1.0 - beta1**t)
        root, epsilon = math.inf, math.inf
        if step > 1e-300:
            root, epsilon = 1.0 / (math.sqrt(1.0 - beta2**t) * step), group["eps"] / step
        if not max(root, epsilon) < 3e38:  # no learning rate, or next to none: no step
            root, epsilon = 0.0, math.nan if math.isnan(lr) else math.inf
        return Numbers(lr, **common, beta1=beta1, rest1=1.0 - beta1, beta2=beta2, rest2=1.0 - beta2,
                       root_factor=root, epsilon_factor=epsilon)  # fmt: skip
    if rule == "momentum":
        rest = 1.0 if t == 1 else 1.0 - group["dampening"]
        return Numbers(lr, **common, beta1=group["momentum"], rest1=rest, nesterov=group["nesterov"])
    if rule == "lion":
        beta1, beta2 = group["betas"]
        return Numbers(lr, **common, beta1=beta1, rest1=1.0 - beta1, beta2=beta2, rest2=1.0 - beta2)
    return Numbers(lr, **common)


def update(rule: str, n: Any, x: Tensor, g: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The new weight and states; of a variance its square root, which is what is encoded.

    Args:
        rule: a key of `MOMENTS`.
        n: `Numbers`; floats, or tensors of one element under torch.compile.
        x: weight, float32 (float64 stays float64).
        g: gradient, likewise.
        states: as `MOMENTS` orders them; float32.
    """
    if n.sign != 1.0:
        g = -g
    if n.coupled is not None:
        g = g + n.coupled * x
    if rule == "plain":
        return x * n.keep - n.step * g, []
    m = states[0]
    if rule == "adam":
        m = n.beta1 * m + n.rest1 * g
        root = (n.beta2 * states[1] + n.rest2 * g * g).sqrt()
        return x * n.keep - m / (root * n.root_factor + n.epsilon_factor), [m, root]
    if rule == "lion":
        mean = n.beta1 * m + n.rest1 * g
        direction = torch.where(mean.isnan(), torch.nan, torch.sign(mean))
        return x * n.keep - n.step * direction, [n.beta2 * m + n.rest2 * g]
    m = n.beta1 * m + n.rest1 * g
    direction = g + n.beta1 * m if n.nesterov else m
    return x * n.keep - n.step * direction, [m]
