"""Muon: momentum whose matrices are made orthogonal before the step (K. Jordan, 2024; arXiv 2502.16982).

The momentum of a weight matrix is dominated by a few directions. Muon replaces it by the nearest orthogonal matrix, in
which all directions have the same weight, by a few Newton-Schulz steps: matrix products only, good in bfloat16. There
is no second moment. Everything that is not a hidden matrix stays with AdamW.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .._core.checks import below_one, finite, refuse, refuse_type, whole
from ._options import check_not_negative, number
from ._per_tensor import Group, PerTensor, State, adam_state, adamw, as_matrix, check_flag, check_one_of, count

__all__ = ["Muon", "orthogonalize"]

# Chosen by K. Jordan for the steepest slope at 0: small singular values grow fast, none settles exactly at 1.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ADJUSTMENTS = ("match_rms_adamw", "original")


def orthogonalize(
    matrix: Tensor,
    *,
    steps: int = 5,
    coefficients: tuple[float, float, float] = COEFFICIENTS,
    eps: float = 1e-7,
    dtype: torch.dtype = torch.bfloat16,
) -> Tensor:
    """Approximate `U @ V.T` of `matrix = U @ S @ V.T`: singular values go to 0.68 ... 1.21, singular vectors stay.

    Each step is `X = a * X + (b * A + c * A @ A) @ X` with `A = X @ X.T`, from `X = matrix / norm(matrix)`: every
    singular value `s` goes to `a * s + b * s ** 3 + c * s ** 5`. A singular value below 0.002 of the norm
    does not arrive in five steps.

    Args:
        matrix: (rows, columns).
        steps: Newton-Schulz steps.
        coefficients: a, b, c.
        eps: smallest norm to divide by; a matrix of zeros stays zero.
        dtype: of the computation; bfloat16 as published, float32 for more exact values at several times the cost.

    Returns:
        A matrix of the same shape, of `dtype`.

    >>> x = orthogonalize(torch.diag(torch.tensor([3.0, 1.0])), dtype=torch.float32)
    >>> bool(torch.all((torch.linalg.svdvals(x) > 0.6) & (torch.linalg.svdvals(x) < 1.3)))
    True
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.to(dtype)
    x = x.T if tall else x  # the smaller Gram matrix
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(PerTensor):
    """Step along the orthogonalised momentum for matrices, AdamW for everything else.

    With the gradient `g` as a matrix, (first dimension, all others):

    - `m = momentum * m + (1 - momentum) * g`
    - `u = (1 - momentum) * g + momentum * m` with `nesterov`, else `m`
    - `x = (1 - lr * weight_decay) * x - lr * size * orthogonalize(u)`

    `size` is `0.2 * sqrt(max(rows, columns))` with "match_rms_adamw": the entries of a step are then about as large as
    AdamW's, so learning rates and decay tuned for AdamW carry over and one `lr` serves both kinds of tensor. With
    "original" it is `sqrt(max(1, rows / columns))`, and `lr` is a spectral norm: 0.02 is usual, far too much for AdamW.

    Use it for the hidden matrices of transformers and the filters of convolutional networks. Embeddings and the output
    layer are matrices, too, but belong to AdamW: give them a group with `use_muon=False` (docs/methods/muon.md). Not
    for fine-tuning what AdamW has trained without a trial.

    Names are those of `torch.optim.Muon`, which takes matrices only and scales by "original" unless told otherwise.

    Args:
        params: parameters or groups.
        lr: at least 0; a number or a tensor of one element.
        weight_decay: at least 0, decoupled.
        momentum: in [0, 1).
        nesterov: look one step ahead.
        ns_coefficients: of the Newton-Schulz steps.
        eps: smallest norm to divide by, at least 0.
        ns_steps: number of Newton-Schulz steps, at least 1.
        adjust_lr_fn: "match_rms_adamw" or "original".
        ns_dtype: dtype of the Newton-Schulz steps.
        use_muon: for tensors of two or more dimensions; False: AdamW for the whole group.
        betas: of AdamW, in [0, 1).
        adamw_eps: of AdamW, at least 0.
        maximize: climb instead.

    State per parameter: `momentum_buffer`, 4 bytes; under AdamW 8.

    >>> w = torch.nn.Parameter(torch.zeros(2, 2)); w.grad = torch.diag(torch.tensor([1.0, 1e-2]))
    >>> _ = Muon([w], lr=1.0, adjust_lr_fn="original", ns_dtype=torch.float32).step()
    >>> [round(value, 1) for value in w.data.diagonal().tolist()]  # small directions move like large ones
    [-0.7, -0.7]

    Source: kellerjordan.github.io/posts/muon; scaling and decay: arXiv 2502.16982.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str = "match_rms_adamw",
        *,
        ns_dtype: torch.dtype = torch.bfloat16,
        use_muon: bool = True,
        betas: tuple[float, float] = (0.9, 0.95),
        adamw_eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:
        defaults: dict[str, Any] = {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn,
            "ns_dtype": ns_dtype, "use_muon": use_muon, "betas": betas, "adamw_eps": adamw_eps, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _check(self, call: str, options: Group) -> None:
        super()._check(call, options)
        below_one(call, "momentum", options["momentum"], "Pass momentum=0.95, say.")
        three = options["ns_coefficients"]
        if not isinstance(three, (tuple, list)) or len(three) != 3:
            raise refuse(call, "three numbers for ns_coefficients", three, f"Pass ns_coefficients={COEFFICIENTS}.")
        for coefficient in three:
            finite(call, "ns_coefficients", coefficient)
        whole(call, "ns_steps", options["ns_steps"], low=1)
        check_one_of(call, "adjust_lr_fn", options["adjust_lr_fn"], _ADJUSTMENTS)
        check_not_negative(call, "adamw_eps", options["adamw_eps"])
        for name in ("nesterov", "use_muon"):
            check_flag(call, name, options[name])
        dtype = options["ns_dtype"]
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise refuse_type(call, "a floating-point dtype for ns_dtype", dtype, "Pass ns_dtype=torch.bfloat16.")

    def _start(self, x: Tensor, group: Group, index: int) -> State:
        if group["use_muon"] and x.ndim >= 2:
            return {"momentum_buffer": torch.zeros_like(x)}
        return adam_state(x)

    def _update(self, x: Tensor, g: Tensor, state: State, group: Group) -> None:
        if "momentum_buffer" not in state:
            adamw(x, g, state, {**group, "eps": group["adamw_eps"]}, count(state))
            return
        m, momentum, lr = state["momentum_buffer"], group["momentum"], number(group["lr"])
        m.lerp_(g, 1 - momentum)
        u = as_matrix(g.lerp(m, momentum) if group["nesterov"] else m)
        direction = orthogonalize(
            u, steps=group["ns_steps"], coefficients=group["ns_coefficients"], eps=group["eps"], dtype=group["ns_dtype"]
        )
        rows, columns = u.shape
        matched = group["adjust_lr_fn"] == "match_rms_adamw"
        size = 0.2 * math.sqrt(max(rows, columns)) if matched else math.sqrt(max(1, rows / columns))
        x.mul_(1 - lr * group["weight_decay"]).add_(direction.reshape(x.shape), alpha=-lr * size)
