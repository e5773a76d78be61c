from __future__ import annotations

import doctest

from torch import nn

from hasten.bench.models import count, count_parameters


def test_a_shared_parameter_counts_once():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    assert count_parameters(nn.Sequential(first, second)) == 9 + 3 + 3


def test_frozen_parameters_can_be_left_out():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    model[0].weight.requires_grad_(False)
    assert count_parameters(model) == 6 + 2 + 4
    assert count_parameters(model, trainable=True) == 2 + 4


def test_buffers_do_not_count():
    assert count_parameters(nn.BatchNorm1d(5, affine=False)) == 0


def test_example():
    assert doctest.testmod(count).failed == 0
