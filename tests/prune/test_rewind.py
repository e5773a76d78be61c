"""Weight rewinding: early weights under late masks, with or without the optimizer of that time."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.prune.nets import inputs, small
from torch import nn

from hasten.prune import Masks, apply, hold, keep_largest, masks_of, rewind, snapshot


def step(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    net(inputs()).square().sum().backward()
    optimizer.step()


def masks_for(net: nn.Module) -> Masks:
    return Masks({"4.weight": keep_largest([net[4].weight.abs()], 50)[0]})  # type: ignore[index, union-attr]


def test_early_weights_under_late_masks() -> None:
    net = small()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    step(net, optimizer)
    early, state = copy.deepcopy(net.state_dict()), copy.deepcopy(optimizer.state_dict())
    start = snapshot(net, optimizer)
    for _ in range(3):
        step(net, optimizer)
    masks = masks_for(net)
    assert rewind(net, masks, start, optimizer) is net
    assert masks_of(net) == masks
    for name, value in early.items():
        expected = value * masks[name] if name in masks else value
        assert torch.equal(net.state_dict()[name], expected), name
    moments = optimizer.state[net[4].weight]["exp_avg"]
    assert torch.equal(moments, state["state"][4]["exp_avg"] * masks["4.weight"])
    with hold(net, optimizer):
        step(net, optimizer)
    assert (net[4].weight[~masks["4.weight"]] == 0).all()


def test_rounds_of_pruning_and_rewinding() -> None:
    net = small()
    start = snapshot(net)
    first = masks_for(net)
    rewind(net, first, start)
    again = snapshot(net)  # of a masked model; its masks are not in it
    tighter = Masks({"4.weight": first["4.weight"] & (torch.rand(8, 16) < 0.5)})
    rewind(net, tighter, again)
    assert masks_of(net) == tighter
    assert torch.equal(net[4].weight, start.tensors["4.weight"] * tighter["4.weight"])


def test_without_its_state_the_optimizer_starts_afresh() -> None:
    net = small()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    start = snapshot(net)
    step(net, optimizer)
    rewind(net, masks_for(net), start, optimizer)
    assert len(optimizer.state) == 0


def test_a_snapshot_is_a_copy_and_of_one_model() -> None:
    net = small()
    start = snapshot(net)
    net[4].weight.data.zero_()
    assert start.tensors["4.weight"].any()
    other = nn.Sequential(nn.Linear(2, 2))
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match="a snapshot of this model, got one that differs in 0.bias, 0.weight"):
        rewind(other, {}, start)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    apply(net, masks_for(small()))
    with pytest.raises(ValueError, match="a mask of shape"):
        rewind(net, {"4.weight": torch.ones(2, 2, dtype=torch.bool)}, start)
