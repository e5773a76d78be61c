"""Sizes and costs that were published for these shapes, counted on the meta device: nothing is computed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hasten.bench.models import BERT, ImageNetResNet, ResNet, ViT, count_parameters, gpt_small

IMAGE, SMALL = (2, 3, 224, 224), (2, 3, 32, 32)

# name: (model, input shape, output shape, parameters)
SHAPES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[int, ...], int]] = {
    "ResNet-18": (lambda: ImageNetResNet(18), IMAGE, (2, 1000), 11_689_512),
    "ResNet-34": (lambda: ImageNetResNet(34), IMAGE, (2, 1000), 21_797_672),
    "ResNet-50": (lambda: ImageNetResNet(50), IMAGE, (2, 1000), 25_557_032),
    "ResNet-101": (lambda: ImageNetResNet(101), IMAGE, (2, 1000), 44_549_160),
    # a 3x3 stem has 3*64*9 weights where the 7x7 one has 3*64*49; ten classes 512*990 + 990 fewer than a thousand
    "ResNet-18, small stem": (
        lambda: ImageNetResNet(18, classes=10, stem="small"),
        SMALL,
        (2, 10),
        11_689_512 - 3 * 64 * 40 - 513 * 990,
    ),
    # 853,018 with option A shortcuts, and 16*32 + 2*32 + 32*64 + 2*64 = 2,752 for the two of option B
    "ResNet-56": (lambda: ResNet(56), SMALL, (2, 10), 853_018 + 2_752),
    "DeiT-Ti": (ViT, IMAGE, (2, 1000), 5_717_416),
    # 3*16*192 weights of patches of 4x4 where those of 16x16 have 3*256*192; 65 positions where there are 197
    "DeiT-Ti for CIFAR": (
        lambda: ViT(32, 4, classes=10),
        SMALL,
        (2, 10),
        5_717_416 - 3 * 240 * 192 - 132 * 192 - 193 * 990,
    ),
    "GPT-2 small": (gpt_small, (2, 1024), (2, 1024, 50257), 124_439_808),
    "BERT-tiny": (BERT, (2, 512), (2, 2), 4_385_920 + 128 * 2 + 2),  # and its classifier
    # without the pooler's 128*128 + 128; with as large a transform, its norm, and a bias per word
    "BERT-tiny, tokens": (lambda: BERT(head="tokens"), (2, 512), (2, 512, 30522), 4_385_920 + 2 * 128 + 30_522),
}

# Multiplications of one image: torchvision's 1.814 and 4.089 billion at 224 pixels. At 32, ResNet-56 has the published
# 125.49 million and 2 * 131,072 in the shortcuts of option B.
MULTIPLICATIONS = {"ResNet-18": 1_814_073_344, "ResNet-50": 4_089_184_256, "ResNet-56": 125_485_696 + 2 * 131_072}


def built(name: str) -> tuple[nn.Module, torch.Tensor]:
    make, shape, _, _ = SHAPES[name]
    with torch.device("meta"):
        return make(), torch.zeros(shape, dtype=torch.float32 if len(shape) == 4 else torch.long)


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_and_outputs(name):
    model, inputs = built(name)
    _, _, outputs, count = SHAPES[name]
    assert count_parameters(model) == count
    assert model(inputs).shape == outputs


@pytest.mark.parametrize("name", MULTIPLICATIONS)
def test_multiplications(name):
    model, inputs = built(name)
    with FlopCounterMode(display=False) as counter:
        model(inputs[:1])
    assert counter.get_total_flops() == 2 * MULTIPLICATIONS[name]  # an addition for each


def test_multiplications_of_a_vision_transformer():
    """196 patches of 768 numbers; per block 12 width^2 for each of 197 tokens and twice 197^2 width; the classifier."""
    model, inputs = built("DeiT-Ti")
    with FlopCounterMode(display=False) as counter:
        model(inputs[:1])
    width, tokens = 192, 197
    blocks = 12 * (12 * width**2 * tokens + 2 * tokens**2 * width)
    assert counter.get_total_flops() == 2 * (196 * 768 * width + blocks + width * 1000)
