"""SPAM and Stable-SPAM: Adam that survives gradient spikes (arXiv 2501.06842 and 2502.17055).

A spike, a gradient some hundred times its usual size, stays in Adam's moments for hundreds of steps. SPAM clips each
entry against its own second moment and starts the moments again from zero every so often. Stable-SPAM, made for
training in four bits, clips each tensor against a running maximum, then normalises it by a running norm.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .._core.checks import below_one, fraction, positive, whole
from ._options import number
from ._per_tensor import Group, PerTensor, State, adam_moments, adam_rate, adam_state, adamw, count

__all__ = ["SPAM", "StableSPAM", "clip_spikes"]


def clip_spikes(g: Tensor, v: Tensor, threshold: float) -> Tensor:
    """Clamp each entry of `g` to `sqrt(threshold * v)` in absolute value; where `v` is 0 nothing is known: no clamp.

    Args:
        g: gradient, any shape.
        v: second moment of earlier gradients, same shape.
        threshold: above 0.

    >>> clip_spikes(torch.tensor([3.0, -300.0, 1.0]), torch.tensor([1.0, 1.0, 0.0]), threshold=100.0)
    tensor([  3., -10.,   1.])
    """
    limit = (v * threshold).sqrt()
    return torch.where(v > 0, g.clamp(-limit, limit), g)


class SPAM(PerTensor):
    """Adam with spikes clipped entry by entry, and moments that start again from zero every `reset_interval` steps.

    With the gradient `g` and `(b1, b2) = betas`:

    - at every `reset_interval`-th step: `m = v = 0`
    - `g = clip_spikes(g, v, threshold)`, from `clip_start` steps after the start or a reset on
    - `m, v`: Adam's moments of `g`
    - `x = x - warm * lr * sqrt(1 - b2 ** t) / (1 - b1 ** t) * m / (sqrt(v) + eps)`
    - `x = x - lr * weight_decay * x`

    `t` goes on counting through resets; instead `warm` goes from 0.01 to 1 along a cosine in the `warmup_steps` steps
    after each of them. The authors' optional sparse momentum (which saves memory) is not here.

    Use it where a loss curve shows spikes that gradient clipping by the global norm does not cure; not where there are
    none (docs/methods/spam.md).

    Args:
        params: parameters or groups.
        lr: at least 0; a number or a tensor of one element.
        betas: decay of the two moments, in [0, 1).
        eps: at least 0.
        weight_decay: at least 0, decoupled.
        threshold: largest `g ** 2 / v` that is not a spike, above 0; None: no clipping.
        reset_interval: steps between resets, at least 1; None: no resets.
        warmup_steps: after a reset, at least 0.
        clip_start: steps without clipping after the start and after each reset, while `v` is not yet known.
        maximize: climb instead.

    State per parameter: `exp_avg` and `exp_avg_sq`, 8 bytes.

    >>> w = torch.nn.Parameter(torch.zeros(1)); optimizer = SPAM([w], lr=0.1, clip_start=1)
    >>> for gradient in (1.0, 1e6):
    ...     w.grad = torch.tensor([gradient])
    ...     _ = optimizer.step()
    >>> round(optimizer.state[w]["exp_avg"].item(), 4)  # 0.9 * 0.1 + 0.1 * sqrt(5000 * 0.001), not 1e5
    0.3136

    Source: arXiv 2501.06842.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        threshold: float | None = 5000.0,
        reset_interval: int | None = 500,
        warmup_steps: int = 150,
        clip_start: int = 20,
        maximize: bool = False,
    ) -> None:
        defaults: dict[str, Any] = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "threshold": threshold,
            "reset_interval": reset_interval, "warmup_steps": warmup_steps, "clip_start": clip_start,
            "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _check(self, call: str, options: Group) -> None:
        super()._check(call, options)
        if options["threshold"] is not None:
            positive(call, "threshold", options["threshold"])
        if options["reset_interval"] is not None:
            whole(call, "reset_interval", options["reset_interval"], low=1)
        whole(call, "warmup_steps", options["warmup_steps"])
        whole(call, "clip_start", options["clip_start"])

    def _start(self, x: Tensor, group: Group, index: int) -> State:
        return adam_state(x)

    def _update(self, x: Tensor, g: Tensor, state: State, group: Group) -> None:
        step, interval, warmup = count(state), group["reset_interval"], group["warmup_steps"]
        since = step if interval is None else step % interval  # steps since the last reset
        warm = 1.0
        if since == 0:
            state["exp_avg"].zero_()
            state["exp_avg_sq"].zero_()
        if since < step and since < warmup:
            warm = 1 - 0.99 * (1 + math.cos(math.pi * since / (warmup + 1))) / 2
        if group["threshold"] is not None and since >= group["clip_start"]:
            g = clip_spikes(g, state["exp_avg_sq"], group["threshold"])
        m, v = adam_moments(state, g, group["betas"])
        x.addcdiv_(m, v.sqrt().add_(group["eps"]), value=-warm * adam_rate(group["lr"], group["betas"], step))
        x.mul_(1 - number(group["lr"]) * group["weight_decay"])


class StableSPAM(PerTensor):
    """AdamW on gradients that are clipped by their tensor's running maximum and rescaled to its running norm.

    With the gradient `g` of a tensor `x`:

    - `a = max(abs(g)); M = theta * M + (1 - theta) * a; M' = M / (1 - theta ** T)`
    - `g = g / a * M'` where `abs(g) > M'`
    - `n = norm(g); mu = gamma1 * mu + (1 - gamma1) * n; nu = gamma2 * nu + (1 - gamma2) * n ** 2`
    - `g = g / n * (mu / (1 - gamma1 ** T)) / (sqrt(nu / (1 - gamma2 ** T)) + eps)`
    - at every `reset_interval`-th step: `m = v = 0` and `t = 1`
    - `x`: AdamW's step number `t` with `g` and `weight_decay`

    `T` counts the steps of a tensor and is never reset. A gradient that is zero throughout stays zero. With `t_max`,
    `b1` and `gamma1` are multiplied by a cosine from 1 to `eta_min` over `t_max` steps.

    Use it for training in low precision, or where SPAM's clipping by entries comes too late; not where AdamW is stable
    (docs/methods/spam.md).

    Args:
        params: parameters or groups.
        lr: at least 0; a number or a tensor of one element.
        betas: decay of the two moments, in [0, 1).
        eps: at least 0.
        weight_decay: at least 0, decoupled.
        gamma1: decay of the mean norm, in [0, 1).
        gamma2: decay of the mean squared norm, in [0, 1).
        theta: decay of the maximum, in [0, 1).
        reset_interval: steps between resets, at least 1; None: none.
        t_max: length of the cosine in steps, at least 1; None: no cosine.
        eta_min: end of the cosine, in [0, 1].
        maximize: climb instead.

    State per parameter: `exp_avg` and `exp_avg_sq`, 8 bytes, and three numbers per tensor.

    >>> w = torch.nn.Parameter(torch.zeros(2)); optimizer = StableSPAM([w])
    >>> for gradient in ([1.0, 1.0], [1e6, 1.0]):
    ...     w.grad = torch.tensor(gradient)
    ...     _ = optimizer.step()
    >>> bool(optimizer.state[w]["exp_avg"].abs().max() < 1)
    True

    Source: arXiv 2502.17055.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        gamma1: float = 0.7,
        gamma2: float = 0.9,
        theta: float = 0.999,
        reset_interval: int | None = 1000,
        t_max: int | None = None,
        eta_min: float = 0.5,
        maximize: bool = False,
    ) -> None:
        defaults: dict[str, Any] = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "gamma1": gamma1, "gamma2": gamma2,
            "theta": theta, "reset_interval": reset_interval, "t_max": t_max, "eta_min": eta_min, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _check(self, call: str, options: Group) -> None:
        super()._check(call, options)
        for name in ("gamma1", "gamma2", "theta"):
            below_one(call, name, options[name])
        for name in ("reset_interval", "t_max"):
            if options[name] is not None:
                whole(call, name, options[name], low=1)
        fraction(call, "eta_min", options["eta_min"])

    def _start(self, x: Tensor, group: Group, index: int) -> State:
        return {**adam_state(x), **{name: x.new_zeros(()) for name in ("mean_max", "mean_norm", "mean_norm_sq")}}

    def _update(self, x: Tensor, g: Tensor, state: State, group: Group) -> None:
        step, interval = count(state), group["reset_interval"]
        shrink = _cosine(group, step)
        g = _bounded(g, state, group["theta"], step)
        g = _rescaled(g, state, group["gamma1"] * shrink, group["gamma2"], group["eps"], step)
        since = step
        if interval is not None and step >= interval:
            since = step % interval + 1  # Adam's own count
            if since == 1:
                state["exp_avg"].zero_()
                state["exp_avg_sq"].zero_()
        beta1, beta2 = group["betas"]
        adamw(x, g, state, {**group, "betas": (beta1 * shrink, beta2)}, since)


def _cosine(group: Group, step: int) -> float:
    """What `b1` and `gamma1` are multiplied by at step `step`."""
    t_max, low = group["t_max"], group["eta_min"]
    if t_max is None:
        return 1.0
    return low + (1 - low) * (1 + math.cos(math.pi * min(1.0, step / (t_max + 1)))) / 2


def _bounded(g: Tensor, state: State, theta: float, step: int) -> Tensor:
    """Clip `g` to the running mean of its largest entry: what is above is scaled so that the largest lands on it."""
    largest = g.abs().max()
    state["mean_max"].lerp_(largest, 1 - theta)
    bound = state["mean_max"] / (1 - theta**step)
    return torch.where(g.abs() > bound, g / largest * bound, g)


def _rescaled(g: Tensor, state: State, gamma1: float, gamma2: float, eps: float, step: int) -> Tensor:
    """`g` with the norm `mean / sqrt(mean square)` of its norms so far."""
    norm = torch.linalg.vector_norm(g)
    state["mean_norm"].lerp_(norm, 1 - gamma1)
    state["mean_norm_sq"].lerp_(norm.square(), 1 - gamma2)
    mean, square = state["mean_norm"] / (1 - gamma1**step), state["mean_norm_sq"] / (1 - gamma2**step)
    return torch.where(norm == 0, g, g / norm * (mean / (square.sqrt() + eps)))
