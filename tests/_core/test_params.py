"""Parameter groups: every trained parameter once, and only matrices decay."""

from __future__ import annotations

import torch
from torch import nn

from hasten._core.params import all_parameters, decay_groups


def model() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))


def test_all_parameters_are_one_group() -> None:
    net = model()
    (group,) = all_parameters(net)
    assert [id(p) for p in group["params"]] == [id(p) for p in net.parameters()]


def test_matrices_and_filters_decay_the_rest_does_not() -> None:
    net = model()
    decayed, plain = decay_groups(net)
    assert [p.ndim for p in decayed["params"]] == [4, 2]
    assert [p.ndim for p in plain["params"]] == [1, 1, 1, 1]
    assert "weight_decay" not in decayed
    assert plain["weight_decay"] == 0.0


def test_a_tied_weight_is_listed_once_and_a_frozen_one_not_at_all() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    net[1].bias.requires_grad_(False)
    decayed, plain = decay_groups(net)
    assert (len(decayed["params"]), len(plain["params"])) == (1, 1)
    assert len(all_parameters(net)[0]["params"]) == 2


def test_empty_groups_are_left_out() -> None:
    assert len(decay_groups(nn.Linear(2, 2, bias=False))) == 1
    assert len(decay_groups(nn.LayerNorm(2))) == 1


def test_the_optimizer_takes_them() -> None:
    net = model()
    optimizer = torch.optim.SGD(decay_groups(net), lr=0.1, weight_decay=0.5)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]
