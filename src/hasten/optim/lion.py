"""Lion: the sign of a momentum, found by a search over programs (arXiv 2302.06675)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from ._options import number
from ._per_tensor import Group, PerTensor, State

__all__ = ["Lion", "signs"]


def signs(x: Tensor) -> Tensor:
    """-1, 0 or 1 for each entry, and NaN for NaN, where `torch.sign` says 0 and hides it.

    >>> signs(torch.tensor([-2.0, 0.0, float("inf"), float("nan")]))
    tensor([-1.,  0.,  1., nan])
    """
    return x.sign().masked_fill_(x.isnan(), torch.nan)


class Lion(PerTensor):
    """Step by `lr` in the direction of each sign: one moment of state, and the same step length for every weight.

    With the gradient `g`, the momentum `m` (`exp_avg` in the state) and `(b1, b2) = betas`:

    - `u = sign(b1 * m + (1 - b1) * g)`
    - `x = (1 - lr * weight_decay) * x - lr * u`
    - `m = b2 * m + (1 - b2) * g`

    Use it where AdamW's state is twice what fits; published gains grow with the batch, so not for small batches without
    a trial. Every weight moves by exactly `lr` (sign(0) = 0): take a third to a tenth of AdamW's learning rate and, to
    keep `lr * weight_decay`, three to ten times its weight decay (docs/methods/lion.md).

    Args:
        params: parameters or groups.
        lr: at least 0; a number or a tensor of one element.
        betas: in [0, 1): weight of the momentum in the step, and its decay.
        weight_decay: at least 0, decoupled; 0 is none.
        maximize: climb instead.

    State per parameter: `exp_avg`, 4 bytes.

    >>> w = torch.nn.Parameter(torch.tensor([1.0, 1.0, 1.0]))
    >>> w.grad = torch.tensor([100.0, -1e-6, 0.0])
    >>> _ = Lion([w], lr=0.25).step()
    >>> w.data
    tensor([0.7500, 1.2500, 1.0000])

    Source: arXiv 2302.06675.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults: dict[str, Any] = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults)

    def _start(self, x: Tensor, group: Group, index: int) -> State:
        return {"exp_avg": torch.zeros_like(x)}

    def _update(self, x: Tensor, g: Tensor, state: State, group: Group) -> None:
        lr, (beta1, beta2), m = number(group["lr"]), group["betas"], state["exp_avg"]
        direction = signs(m.lerp(g, 1 - beta1))
        x.mul_(1 - lr * group["weight_decay"]).add_(direction, alpha=-lr)
        m.lerp_(g, 1 - beta2)
