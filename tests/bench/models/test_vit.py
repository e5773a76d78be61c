from __future__ import annotations

import doctest

import pytest
import torch
from torch import nn

from hasten.bench.models import ViT, vit


@pytest.fixture
def model() -> ViT:
    torch.manual_seed(0)
    return ViT(image=12, patch=4, in_channels=2, classes=5, width=8, depth=1, heads=2)


def images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 2, 12, 12, generator=torch.Generator().manual_seed(0))


def test_patches_are_tokens_row_by_row_behind_the_class_token(model):
    seen: list[torch.Tensor] = []
    model.blocks.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    x = images()
    model(x)
    (tokens,) = seen
    assert tokens.shape == (3, 1 + 9, 8)
    torch.testing.assert_close(tokens[:, 0], (model.class_token + model.positions[:, :1])[:, 0].expand(3, -1))
    kernel = model.patches.weight.flatten(1)
    for place in range(9):
        row, column = divmod(place, 3)
        patch = x[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].flatten(1)
        expected = patch @ kernel.T + model.patches.bias + model.positions[0, 1 + place]
        torch.testing.assert_close(tokens[:, 1 + place], expected)


def test_the_classifier_reads_the_class_token_only(model):
    x = images()
    expected = model(x)
    model.blocks.register_forward_hook(lambda _, __, out: torch.cat([out[:, :1], out[:, 1:] + 7], dim=1))
    torch.testing.assert_close(model(x), expected)


def test_initial_scales():
    torch.manual_seed(0)
    model = ViT(image=32, patch=4, width=96, depth=1)
    for weight in (model.patches.weight, model.positions, model.head.weight, model.blocks[0][0].branch[1].qkv.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert all(not m.bias.any() for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d, nn.LayerNorm)))


def test_refuses_what_does_not_fit(model):
    with pytest.raises(ValueError, match=r"ViT: expected images of \(12, 12\), got .*8, 12.* model with image="):
        model(images()[:, :, :8])
    with pytest.raises(ValueError, match=r"ViT: expected an image size divisible by patch, got \(32, 5\)"):
        ViT(32, 5)
    with pytest.raises(ValueError, match="a width divisible by heads"):
        ViT(32, 4, width=64)
    with pytest.raises(ValueError, match="ViT: expected sizes of at least 1"):
        ViT(depth=0)


def test_example():
    assert doctest.testmod(vit).failed == 0
