from __future__ import annotations

import doctest

import pytest
import torch
from torch import nn

from hasten.bench.models import SmallCNN, cnn


def test_layers_are_convolution_norm_relu_with_the_given_strides():
    model = SmallCNN()
    convolutions = [m for m in model.features if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [8, 16, 16, 32, 32]
    assert [m.stride for m in convolutions] == [(1, 1), (2, 2), (1, 1), (2, 2), (1, 1)]
    assert all(m.bias is None and m.kernel_size == (3, 3) for m in convolutions)
    assert [type(m) for m in model.features] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 5


@pytest.mark.parametrize("size", [4, 16, 17, 28])
def test_any_image_size(size):
    model = SmallCNN(in_channels=3, classes=7, widths=(4, 8), strides=(1, 2))
    x = torch.zeros(2, 3, size, size)
    assert model.features(x).shape == (2, 8, -(-size // 2), -(-size // 2))
    assert model(x).shape == (2, 7)


@pytest.mark.parametrize(
    ("widths", "strides", "message"),
    [((8, 8), (1,), "one stride per width"), ((), (), "one stride per width"), ((8, 0), (1, 1), "at least 1")],
)
def test_refuses_shapes_that_are_no_network(widths, strides, message):
    with pytest.raises(ValueError, match=f"SmallCNN: expected .*{message}"):
        SmallCNN(widths=widths, strides=strides)


def test_example():
    assert doctest.testmod(cnn).failed == 0
