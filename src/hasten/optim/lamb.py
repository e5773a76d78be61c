"""Layer-wise step lengths for large batches: LAMB (arXiv 1904.00962) and LARS (arXiv 1708.03888).

Both compute an update per tensor and then set its length by the norm of the weights: a layer moves by the same share of
itself at every step, whatever the scale of its gradient. LAMB does it to Adam, LARS to SGD with momentum.

LAMB's variants differ in public code. Here the decay is part of the update before its norm is taken, as in the paper.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .._core.checks import below_one, check, positive
from ._options import number
from ._per_tensor import Group, PerTensor, State, adam_moments, adam_state, check_flag, count

__all__ = ["LAMB", "LARS", "trust_ratio"]


def trust_ratio(
    weight: Tensor, update: Tensor, *, max_weight_norm: float | None = None, max_trust: float | None = None
) -> Tensor:
    """`min(norm(weight), max_weight_norm) / norm(update)`, at most `max_trust`; 1 where either norm is 0.

    Returns:
        A tensor of no dimensions; NaN if a norm is.

    >>> trust_ratio(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 0.5]))
    tensor(10.)
    """
    weight_norm, update_norm = torch.linalg.vector_norm(weight), torch.linalg.vector_norm(update)
    bounded = weight_norm if max_weight_norm is None else weight_norm.clamp(max=max_weight_norm)
    ratio = torch.where((weight_norm == 0) | (update_norm == 0), torch.ones_like(weight_norm), bounded / update_norm)
    return ratio if max_trust is None else ratio.clamp(max=max_trust)


class LAMB(PerTensor):
    """Adam whose update of each tensor is as long as `lr` times the tensor itself.

    With the gradient `g` of a tensor `x`:

    - `m, v`: Adam's moments of `g`, divided by `1 - b ** t` with `bias_correction`
    - `r = m / (sqrt(v) + eps) + weight_decay * x`
    - `trust = norm(x) / norm(r)`, one number per tensor
    - `x = x - lr * trust * r`

    Use it for batches of thousands of samples, where AdamW needs a learning rate at which some layers diverge; with
    smaller ones AdamW is the simpler choice (docs/methods/lamb.md).

    Args:
        params: parameters or groups.
        lr: at least 0; a number or a tensor of one element.
        betas: decay of the two moments, in [0, 1).
        eps: at least 0.
        weight_decay: at least 0; part of the update, hence of its norm.
        bias_correction: divide the moments by `1 - b ** t`, as in the paper's algorithm; False: as they are. The length
            of the update is set by the trust ratio in either case, only decay and `eps` weigh differently.
        max_weight_norm: bound of `norm(x)` in the trust ratio, above 0 (10 is common); None: none.
        max_trust: bound of the trust ratio itself, above 0; None: none.
        max_grad_norm: before the step, scale all gradients together down to this norm (1 in NVIDIA's variant); of the
            whole optimizer, not of a group. None: not.
        exclude_vectors: tensors of at most one dimension (biases, norm layers) get no decay and trust 1, as is common
            practice; False: all alike, as in the paper's formula.
        maximize: climb instead.

    State per parameter: `exp_avg` and `exp_avg_sq`, 8 bytes.

    >>> w = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    >>> w.grad = torch.tensor([[1e-3, 0.0]])
    >>> _ = LAMB([w], lr=0.1, weight_decay=0.0).step()
    >>> w.data  # moved by 0.1 * norm(w) = 0.5, however small the gradient
    tensor([[2.5000, 4.0000]])

    Source: arXiv 1904.00962.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        *,
        bias_correction: bool = True,
        max_weight_norm: float | None = None,
        max_trust: float | None = None,
        max_grad_norm: float | None = None,
        exclude_vectors: bool = True,
        maximize: bool = False,
    ) -> None:
        defaults: dict[str, Any] = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "bias_correction": bias_correction,
            "max_weight_norm": max_weight_norm, "max_trust": max_trust, "max_grad_norm": max_grad_norm,
            "exclude_vectors": exclude_vectors, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _check(self, call: str, options: Group) -> None:
        super()._check(call, options)
        check_flag(call, "bias_correction", options["bias_correction"])
        check_flag(call, "exclude_vectors", options["exclude_vectors"])
        for name in ("max_weight_norm", "max_trust", "max_grad_norm"):
            if options[name] is not None:
                positive(call, name, options[name])
        whole, own = self.defaults["max_grad_norm"], options["max_grad_norm"]
        fix = "Pass it to the constructor: the norm is that of all gradients together."
        check(own == whole, call, f"max_grad_norm {whole} in every group", own, fix)

    def _gradient_scale(self, gradients: list[Tensor]) -> Tensor | None:
        limit = self.defaults["max_grad_norm"]
        if limit is None or not gradients:
            return None
        wide = [torch.promote_types(g.dtype, torch.float32) for g in gradients]
        norms = [torch.linalg.vector_norm(g, dtype=dtype) for g, dtype in zip(gradients, wide, strict=True)]
        total = torch.linalg.vector_norm(torch.stack([norm.to(norms[0]) for norm in norms]))
        return (limit / total).clamp(max=1.0)

    def _start(self, x: Tensor, group: Group, index: int) -> State:
        return adam_state(x)

    def _update(self, x: Tensor, g: Tensor, state: State, group: Group) -> None:
        beta1, beta2 = group["betas"]
        step, (m, v) = count(state), adam_moments(state, g, group["betas"])
        if group["bias_correction"]:
            m = m / (1 - beta1**step)
            root = v.sqrt().div_(math.sqrt(1 - beta2**step))
        else:
            root = v.sqrt()
        r = m / root.add_(group["eps"])
        lr, adapt = number(group["lr"]), x.ndim > 1 or not group["exclude_vectors"]
        if adapt:
            r.add_(x, alpha=group["weight_decay"])
            r.mul_(trust_ratio(x, r, max_weight_norm=group["max_weight_norm"], max_trust=group["max_trust"]))
        x.add_(r, alpha=-lr)


class LARS(PerTensor):
    """SGD with momentum in which the learning rate of each tensor follows the norm of the tensor.

    With the gradient `g` of a tensor `x`:

    - `local = trust_coefficient * norm(x) / (norm(g) + weight_decay * norm(x))`
    - `v = momentum * v + lr * local * (g + weight_decay * x)`
    - `x = x - v`

    `lr` is inside the momentum, as in the paper: after a drop of the schedule the old, larger steps fade out. Use it
    for convolutional networks with large batches and a warm-up; not for transformers, where LAMB is at home.

    Args:
        params: parameters or groups.
        lr: at least 0; a number or a tensor of one element. With `trust_coefficient` 0.001, values above 1 are usual.
        momentum: in [0, 1); with 0 there is no state.
        weight_decay: at least 0, coupled.
        trust_coefficient: above 0: the share of a tensor's norm that a step with lr 1 moves it by.
        exclude_vectors: tensors of at most one dimension get no decay and local rate 1; False: all alike.
        maximize: climb instead.

    The local rate is 1 where either norm is 0. State per parameter: `momentum_buffer`, 4 bytes.

    >>> w = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    >>> w.grad = torch.tensor([[100.0, 0.0]])
    >>> _ = LARS([w], lr=1.0, trust_coefficient=0.1, weight_decay=0.0).step()
    >>> w.data
    tensor([[2.5000, 4.0000]])

    Source: arXiv 1708.03888.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        *,
        trust_coefficient: float = 1e-3,
        exclude_vectors: bool = True,
        maximize: bool = False,
    ) -> None:
        defaults: dict[str, Any] = {
            "lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust_coefficient": trust_coefficient,
            "exclude_vectors": exclude_vectors, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _check(self, call: str, options: Group) -> None:
        super()._check(call, options)
        below_one(call, "momentum", options["momentum"], "Pass momentum=0.9, say.")
        positive(call, "trust_coefficient", options["trust_coefficient"])
        check_flag(call, "exclude_vectors", options["exclude_vectors"])

    def _start(self, x: Tensor, group: Group, index: int) -> State:
        return {}

    def _update(self, x: Tensor, g: Tensor, state: State, group: Group) -> None:
        if x.ndim > 1 or not group["exclude_vectors"]:
            decay = group["weight_decay"]
            weight_norm, gradient_norm = torch.linalg.vector_norm(x), torch.linalg.vector_norm(g)
            local = group["trust_coefficient"] * weight_norm / (gradient_norm + decay * weight_norm)
            local = torch.where((weight_norm == 0) | (gradient_norm == 0), torch.ones_like(local), local)
            g = g.add(x, alpha=decay).mul_(local)
        move = g * number(group["lr"])
        if group["momentum"]:
            if "momentum_buffer" not in state:  # not in _start: without momentum there is none
                state["momentum_buffer"] = torch.zeros_like(x)
            move = state["momentum_buffer"].mul_(group["momentum"]).add_(move)
        x.sub_(move)
