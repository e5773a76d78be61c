from __future__ import annotations

import doctest
import math

import pytest
import torch
from torch import Tensor, nn

from hasten.bench.models import ImageNetResNet, ResNet, resnet
from hasten.bench.models.resnet import BottleneckBlock, ResidualBlock


class Dropped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(())


@pytest.mark.parametrize(("depth", "blocks"), [(8, 3), (14, 6), (20, 9), (56, 27)])
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
    for block in (ResidualBlock(4, 4), ResidualBlock(4, 8, stride=2), BottleneckBlock(4, 8, stride=2)):
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


@pytest.mark.parametrize(("depth", "per_block"), [(18, 2), (34, 2), (50, 3), (101, 3)])
def test_depth_of_the_large_nets_counts_layers_with_weights(depth, per_block):
    with torch.device("meta"):
        model = ImageNetResNet(depth)
    assert 1 + per_block * len(model.blocks) + 1 == depth
    layers = [m for block in model.blocks for m in block.branch if isinstance(m, nn.Conv2d)]
    assert len(layers) == per_block * len(model.blocks)


@pytest.mark.parametrize(
    ("stem", "size", "expected"),
    [
        ("imagenet", 64, [(8, 16, 16), (16, 8, 8), (32, 4, 4), (64, 2, 2)]),
        ("small", 32, [(8, 32, 32), (16, 16, 16), (32, 8, 8), (64, 4, 4)]),
        ("small", 33, [(8, 33, 33), (16, 17, 17), (32, 9, 9), (64, 5, 5)]),
    ],
)
def test_four_stages_behind_either_stem(stem, size, expected):
    model = ImageNetResNet(18, width=8, stem=stem)
    x, shapes = model.stem(torch.zeros(1, 3, size, size)), []
    for block in model.blocks:
        x = block(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [shape for shape in expected for _ in range(2)]


def test_a_bottleneck_is_a_quarter_as_wide_inside_and_strides_in_its_middle():
    convolutions = [m for m in BottleneckBlock(16, 32, stride=2).branch if isinstance(m, nn.Conv2d)]
    assert [m.weight.shape for m in convolutions] == [(8, 16, 1, 1), (8, 8, 3, 3), (32, 8, 1, 1)]
    assert [m.stride for m in convolutions] == [(1, 1), (2, 2), (1, 1)]
    widths = [block.branch[-1].num_features for block in ImageNetResNet(50, width=4).blocks]
    assert widths == [16] * 3 + [32] * 4 + [64] * 6 + [128] * 3


@pytest.mark.parametrize("stem", ["imagenet", "small"])
def test_surgeries_find_every_strided_layer(stem):
    from hasten.surgery import apply_blurpool

    changed = apply_blurpool(ImageNetResNet(18, width=16, stem=stem)).changed
    strided = [f"blocks.{k}.{where}.0" for k in (2, 4, 6) for where in ("branch", "shortcut")]
    assert sorted(changed) == sorted(strided + (["stem.3"] if stem == "imagenet" else []))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 20}, "a depth among 18, 34, 50, 101, got 20"),
        ({"width": 0}, "sizes of at least 1"),
        ({"stem": "imagnet"}, "stem among 'imagenet', 'small', got 'imagnet'. Did you mean imagenet"),
    ],
)
def test_the_large_nets_refuse_what_they_are_not(change, message):
    with pytest.raises(ValueError, match=f"ImageNetResNet: expected {message}"):
        ImageNetResNet(**change)


def test_example():
    assert doctest.testmod(resnet).failed == 0
