"""APOLLO: AdamW's step lengths from a small random sketch of the gradient (arXiv 2412.05270).

AdamW divides every gradient entry by the root of a second moment of its own. Within one row of a matrix these factors
are so alike that one per row, or even one per tensor, serves. APOLLO estimates them: it projects the gradient onto a
few random directions, runs Adam's moments on that sketch only, and asks by how much Adam changed the length of each row
of it. The raw gradient, scaled by that, is the update. The state shrinks from two full tensors to two sketches.

The projection is never stored. It is drawn anew at every step from a seed in the state, and the seed itself moves on
every `update_proj_gap` steps. No global generator is touched.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .._core.checks import check, positive, whole
from .._core.rng import key
from ._options import number
from ._per_tensor import (
    Group,
    PerTensor,
    State,
    adam_moments,
    adam_rate,
    adam_state,
    as_matrix,
    check_flag,
    check_one_of,
    count,
)

__all__ = ["APOLLO", "APOLLOMini", "project"]

_SCALE_TYPES = ("channel", "tensor")


def project(g: Tensor, rank: int, seed: int) -> Tensor:
    """A random sketch of a matrix along its smaller side, `P ~ N(0, 1) / sqrt(rank)` drawn from `seed`.

    Args:
        g: (rows, columns).
        rank: number of random directions; more than the smaller side has are cut to that.
        seed: of the draw, on the device of `g`; equal seeds give equal sketches on one kind of device.

    Returns:
        `g @ P.T`, (rows, rank), if there are at least as many rows as columns; else `P.T @ g`, (rank, columns).

    >>> project(torch.eye(4, 3), rank=2, seed=0).shape, project(torch.eye(3, 4), rank=2, seed=0).shape
    (torch.Size([4, 2]), torch.Size([2, 4]))
    """
    rows, columns = g.shape
    rank = min(rank, rows, columns)
    generator = torch.Generator(g.device).manual_seed(seed)
    shape = (rank, columns) if rows >= columns else (rows, rank)
    P = torch.randn(shape, generator=generator, device=g.device, dtype=g.dtype).div_(math.sqrt(rank))
    return g @ P.T if rows >= columns else P.T @ g


class APOLLO(PerTensor):
    """Scale the raw gradient of a matrix by factors estimated in a space of `rank` random directions.

    With the gradient `G` of a matrix `x`, (rows, columns), and `(b1, b2) = betas`:

    - `R = project(G, rank)`, a sketch along the smaller side
    - `m, v`: Adam's moments of `R`
    - `N = m / (sqrt(v) + eps)`
    - `s = norm(N) / norm(R)`, one per vector along the larger side ("channel") or one in all ("tensor")
    - `U = limited(s * G) * sqrt(scale)`, the norm growing by at most `max_growth` from step to step
    - `x = x - lr * sqrt(1 - b2 ** t) / (1 - b1 ** t) * U`
    - `x = x - lr * weight_decay * x`

    Tensors of at most one dimension, and groups with `rank=None`, use AdamW (with the decay after the step, as above):
    give embeddings and the output layer such a group. Filters of convolutions count as (filters, all else).

    Use it for language models whose optimizer state does not fit; not for small models, where the state is no problem
    (docs/methods/apollo.md). The projections are drawn on the device of the parameter: resuming on another kind of
    device continues with other draws.

    Args:
        params: parameters or groups.
        lr: at least 0; a number or a tensor of one element. The paper trains with 1e-2, above AdamW's usual rates.
        betas: decay of the two moments, in [0, 1).
        eps: at least 0.
        weight_decay: at least 0, decoupled.
        rank: directions of the sketch, at least 1; the paper takes a quarter of the smaller side. None: AdamW.
        scale: of the update, above 0; its root is applied. Larger for a smaller rank.
        scale_type: "channel" or "tensor".
        update_proj_gap: steps between two projections, at least 1.
        max_growth: bound of the growth of the norm of an update from one step to the next, above 1; None: none. Steps
            whose update is zero do not count.
        scale_front: apply `scale` before the limiter, so that it sees what is applied.
        seed: of the projections; with the place of a parameter it gives that parameter's first seed.
        maximize: climb instead.

    State per matrix: two sketches of `rank * max(rows, columns)` numbers, a seed and a norm.

    >>> w = torch.nn.Parameter(torch.zeros(1000, 64)); w.grad = torch.ones_like(w)
    >>> optimizer = APOLLO([w], rank=16)
    >>> _ = optimizer.step()
    >>> optimizer.state[w]["exp_avg"].shape
    torch.Size([1000, 16])

    Source: arXiv 2412.05270; the limiter: arXiv 2410.01623.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        rank: int | None = 256,
        scale: float = 1.0,
        scale_type: str = "channel",
        update_proj_gap: int = 200,
        max_growth: float | None = 1.01,
        scale_front: bool = False,
        seed: int = 0,
        maximize: bool = False,
    ) -> None:
        defaults: dict[str, Any] = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "rank": rank, "scale": scale,
            "scale_type": scale_type, "update_proj_gap": update_proj_gap, "max_growth": max_growth,
            "scale_front": scale_front, "seed": seed, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _check(self, call: str, options: Group) -> None:
        super()._check(call, options)
        if options["rank"] is not None:
            whole(call, "rank", options["rank"], low=1)
        positive(call, "scale", options["scale"])
        check_one_of(call, "scale_type", options["scale_type"], _SCALE_TYPES)
        whole(call, "update_proj_gap", options["update_proj_gap"], low=1)
        growth, fix = options["max_growth"], "Pass max_growth=1.01, or None for no limit."
        check(growth is None or positive(call, "max_growth", growth) > 1, call, "max_growth > 1", growth, fix)
        check_flag(call, "scale_front", options["scale_front"])
        whole(call, "seed", options["seed"])

    def _start(self, x: Tensor, group: Group, index: int) -> State:
        if group["rank"] is None or x.ndim < 2:
            return adam_state(x)
        rows, columns = as_matrix(x).shape
        rank = min(group["rank"], rows, columns)
        sketch = x.new_zeros((rows, rank) if rows >= columns else (rank, columns))
        return {**adam_state(sketch), "seed": key(group["seed"], "apollo", rank=index), "norm": x.new_zeros(())}

    def _update(self, x: Tensor, g: Tensor, state: State, group: Group) -> None:
        step, lr = count(state), group["lr"]
        if "seed" in state:
            if step > 1 and (step - 1) % group["update_proj_gap"] == 0:
                state["seed"] = key(state["seed"], "apollo")
            u = self._scaled(as_matrix(g), state, group).reshape(x.shape)
        else:
            m, v = adam_moments(state, g, group["betas"])
            u = m / v.sqrt().add_(group["eps"])
        x.add_(u, alpha=-adam_rate(lr, group["betas"], step)).mul_(1 - number(lr) * group["weight_decay"])

    def _scaled(self, g: Tensor, state: State, group: Group) -> Tensor:
        """The update of a matrix before the learning rate."""
        r = project(g, min(state["exp_avg"].shape), state["seed"])
        m, v = adam_moments(state, r, group["betas"])
        u = g * _factors(m / v.sqrt().add_(group["eps"]), r, group["scale_type"])
        before, after = math.sqrt(group["scale"]), 1.0
        if not group["scale_front"]:
            before, after = after, before
        u.mul_(before)
        if group["max_growth"] is not None:
            norm, last = torch.linalg.vector_norm(u), state["norm"]
            excess = (norm / (last + 1e-8)).clamp(min=group["max_growth"]) / group["max_growth"]
            excess = torch.where(last == 0, torch.ones_like(norm), excess)  # nothing to compare with yet
            u.div_(excess)
            state["norm"] = torch.where(norm == 0, last, norm / excess)
        return u.mul_(after)


def _factors(scaled: Tensor, sketch: Tensor, scale_type: str) -> Tensor:
    """`norm(scaled) / norm(sketch)`, shaped to multiply the gradient: (rows, 1), (1, columns) or one number."""
    if scale_type == "tensor":
        return torch.linalg.vector_norm(scaled) / (torch.linalg.vector_norm(sketch) + 1e-8)
    short = 1 if sketch.shape[0] >= sketch.shape[1] else 0
    above = torch.linalg.vector_norm(scaled, dim=short, keepdim=True)
    return above / (torch.linalg.vector_norm(sketch, dim=short, keepdim=True) + 1e-8)


class APOLLOMini(APOLLO):
    """APOLLO with one random direction and one factor per tensor: hardly more state than SGD without momentum.

    `APOLLO` with `rank=1, scale=128, scale_type="tensor"`; all else is described there.

    State per matrix: `2 * max(rows, columns)` numbers, a seed and a norm.

    >>> w = torch.nn.Parameter(torch.zeros(1000, 64)); w.grad = torch.ones_like(w)
    >>> optimizer = APOLLOMini([w])
    >>> _ = optimizer.step()
    >>> optimizer.state[w]["exp_avg"].shape
    torch.Size([1000, 1])

    Source: arXiv 2412.05270.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        rank: int | None = 1,
        scale: float = 128.0,
        update_proj_gap: int = 200,
        max_growth: float | None = 1.01,
        scale_front: bool = False,
        seed: int = 0,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, lr, betas, eps, weight_decay, rank=rank, scale=scale, scale_type="tensor",
            update_proj_gap=update_proj_gap, max_growth=max_growth, scale_front=scale_front, seed=seed,
            maximize=maximize,
        )  # fmt: skip
