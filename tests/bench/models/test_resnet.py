from __future__ import annotations

import doctest
import math

import pytest
import torch
from torch import Tensor, nn

from hasten.bench.models import ResNet, resnet
from hasten.bench.models.resnet import ResidualBlock


class Dropped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(())


@pytest.mark.parametrize(("depth", "blocks"), [(8, 3), (14, 6), (20, 9)])
def test_depth_counts_layers_with_weights(depth, blocks):
    model = ResNet(depth)
    branches = [m for m in model.modules() if isinstance(m, ResidualBlock)]
    assert len(branches) == blocks
    assert 1 + 2 * blocks + 1 == depth


def test_stages_halve_the_image_and_double_the_channels():
    model = ResNet(14)
    x, shapes = model.stem(torch.zeros(1, 3, 32, 32)), []
    for block in model.blocks:
        x = block(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(16, 32, 32)] * 2 + [(32, 16, 16)] * 2 + [(64, 8, 8)] * 2


def test_a_block_is_the_relu_of_shortcut_plus_branch():
    torch.manual_seed(0)
    for block in (ResidualBlock(4, 4), ResidualBlock(4, 8, stride=2)):
        block.eval()
        x = torch.randn(2, 4, 6, 6)
        torch.testing.assert_close(block(x), (block.shortcut(x) + block.branch(x)).clamp(min=0))


def test_a_dropped_branch_leaves_the_shortcut():
    torch.manual_seed(0)
    block = ResidualBlock(4, 8, stride=2).eval()
    block.branch = Dropped()
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(block(x), block.shortcut(x).clamp(min=0))
    assert block(x).shape == (2, 8, 3, 3)


def test_shortcut_is_the_identity_where_shapes_agree():
    assert isinstance(ResidualBlock(4, 4).shortcut, nn.Identity)
    assert not isinstance(ResidualBlock(4, 8).shortcut, nn.Identity)
    assert not isinstance(ResidualBlock(4, 4, stride=2).shortcut, nn.Identity)


def test_convolutions_have_variance_two_over_fan_out():
    torch.manual_seed(0)
    weight = ResNet(8).blocks[2].branch[3].weight  # 64 -> 64 channels, 36,864 values
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.03)


@pytest.mark.parametrize("depth", [2, 9, 10, 21])
def test_refuses_other_depths(depth):
    with pytest.raises(ValueError, match=rf"ResNet: expected a depth of 6n\+2 .* got {depth}"):
        ResNet(depth)


def test_example():
    assert doctest.testmod(resnet).failed == 0
