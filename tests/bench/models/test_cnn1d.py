from __future__ import annotations

import doctest
import math

import pytest
import torch

from hasten.bench.models import CNN1d, cnn1d


@pytest.mark.parametrize("length", [1, 2, 23, 140])
def test_any_length(length):
    model = CNN1d(in_channels=2, classes=5).eval()
    assert model(torch.zeros(3, 2, length)).shape == (3, 5)
    assert model.features(torch.zeros(3, 2, length)).shape[2] == math.ceil(math.ceil(length / 2) / 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernels": (7, 5)}, "one kernel and one stride per width"),
        ({"kernels": (7, 4, 3)}, "odd kernels"),
        ({"strides": (1, 0, 1)}, "sizes of at least 1"),
        ({"widths": (), "kernels": (), "strides": ()}, "one kernel and one stride per width"),
    ],
)
def test_refuses_shapes_that_are_no_network(change, message):
    with pytest.raises(ValueError, match=f"CNN1d: expected {message}"):
        CNN1d(**change)


def test_example():
    assert doctest.testmod(cnn1d).failed == 0
