"""Draws and checks that the batch transforms share; every draw is made where the generator lives, then moved."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._core.batch import MixedTargets, get_inputs, get_targets, map_tensors
from .._core.checks import check, finite, refuse, refuse_type

__all__ = ["beta", "generator_for", "image_inputs", "integer", "mixed_with"]


def generator_for(call: str, generator: Any) -> torch.Generator:
    """`generator`, or a `TypeError` if it is none."""
    if not isinstance(generator, torch.Generator):
        raise refuse_type(call, "a torch.Generator", generator, "Pass generator=torch.Generator().manual_seed(...).")
    return generator


def beta(call: str, alpha: float, count: int, generator: torch.Generator) -> Tensor:
    """`count` draws of Beta(alpha, alpha), float64 on the generator's device; all 0 for `alpha = 0`.

    As `G1 / (G1 + G2)` with `G = Gamma(alpha)`. `torch.distributions` takes no generator, and for small `alpha` both
    gammas underflow, so they are taken in logarithms: `Gamma(alpha) = Gamma(alpha + 1) * U ** (1 / alpha)`.
    """
    check(finite(call, "alpha", alpha) >= 0, call, "alpha >= 0", alpha, "Pass alpha=0 to mix nothing.")
    if alpha == 0:
        return torch.zeros(count, dtype=torch.float64, device=generator.device)
    shape = torch.full((2, count), alpha + 1.0, dtype=torch.float64, device=generator.device)
    log_gamma = torch._standard_gamma(shape, generator=generator).log()
    # 1 - rand is in (0, 1], so its logarithm is finite; the difference comes first, so that no infinities meet.
    log_uniform = torch.rand(2, count, dtype=torch.float64, generator=generator, device=generator.device).neg().log1p()
    return torch.sigmoid((log_uniform[0] - log_uniform[1]) / alpha + log_gamma[0] - log_gamma[1])


def integer(low: int, high: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` whole numbers from `low` to `high`, both included."""
    return torch.randint(low, high + 1, (count,), generator=generator, device=generator.device)


def image_inputs(call: str, batch: Any) -> Tensor:
    """The inputs of an image batch, (batch, channels, height, width)."""
    inputs = get_inputs(batch)
    if not isinstance(inputs, Tensor) or inputs.ndim != 4:
        fix = f"{call} is for images."
        raise refuse(call, "inputs of shape (batch, channels, height, width)", inputs, fix)
    return inputs


def mixed_with(call: str, batch: Any, order: Tensor, weight: Tensor) -> MixedTargets:
    """The batch's targets mixed with those of the samples `order`."""
    targets = get_targets(batch)
    if isinstance(targets, MixedTargets):
        raise refuse(call, "targets that are not mixed yet", "MixedTargets", "Mix a batch once: MixUp or CutMix.")
    found: list[Tensor] = []
    map_tensors(found.append, targets)
    if not found or any(part.ndim == 0 or part.shape[0] != len(order) for part in found):
        fix = "Return one target per sample, as a tensor."
        raise refuse(call, f"targets of shape (batch = {len(order)}, ...)", found[0] if found else targets, fix)
    return MixedTargets(targets, map_tensors(lambda part: part[order.to(part.device)], targets), weight)
