"""Parameters of a model, in groups: which weights decay."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["all_parameters", "decay_groups"]


def all_parameters(model: nn.Module) -> list[dict[str, Any]]:
    """One group with every parameter that is trained."""
    return [{"params": [p for p in model.parameters() if p.requires_grad]}]


def decay_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Two groups: matrices and filters decay, biases and norm scales (one dimension) do not.

    A shared parameter is listed once. Empty groups are left out.

    >>> [len(group["params"]) for group in decay_groups(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))]
    [1, 3]
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = {"params": [p for p in trained if p.ndim > 1]}
    plain = {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0}
    return [group for group in (decayed, plain) if group["params"]]
