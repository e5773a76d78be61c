"""Masks under DistributedDataParallel, on two processes of gloo."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.optim.flash.distributed import run_distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from hasten import prune
from hasten.prune.controller import _check_ranks


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 4))


def on_each_rank(rank: int, world: int) -> dict[str, Any]:
    """RigL on data of its own for each rank; masks and weights, and what a difference does."""
    torch.set_num_threads(1)
    model = DistributedDataParallel(net())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    controller = prune.rigl(model, optimizer, sparsity=0.7, every=2, steps=12)
    started = {name: mask.clone() for name, mask in controller.masks.items()}
    for step in range(12):
        generator = torch.Generator().manual_seed(100 * rank + step)
        x, y = torch.randn(8, 12, generator=generator), torch.randint(0, 4, (8,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        controller.step()
    differs = ""
    try:
        _check_ranks({"w": torch.arange(9) % 2 == rank})
    except ValueError as error:
        differs = str(error)
    held = all(bool((p[~controller.masks[n]] == 0).all()) for n, p in controller.parameters.items())
    weights = {name: value.detach() for name, value in model.module.named_parameters()}
    return {
        "masks": dict(controller.masks), "weights": weights, "differs": differs, "held": held,
        "moved": controller.masks != started, "names": list(prune.masks_of(model)),
    }  # fmt: skip


@pytest.mark.slow
def test_all_ranks_have_the_same_masks() -> None:
    first, second = run_distributed(on_each_rank, 2)
    assert prune.Masks(first["masks"]) == second["masks"]
    assert all(torch.equal(value, second["weights"][name]) for name, value in first["weights"].items())
    for one in (first, second):
        assert one["held"]
        assert one["moved"]
        assert one["names"] == ["0.weight", "0.bias", "2.weight", "2.bias"]
        assert "expected the same masks on every rank, got masks that differ" in one["differs"]
