"""What every model promises: shape, size, seeded initialisation, low precision, compilation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hasten.bench.models import BERT, GPT, MLP, CNN1d, ImageNetResNet, ResNet, SmallCNN, ViT, count_parameters
from hasten.bench.models.resnet import BottleneckBlock


def image(channels: int, size: int) -> Tensor:
    return torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(0))


def vectors() -> Tensor:
    return torch.randn(4, 4, 5, generator=torch.Generator().manual_seed(0))


def tokens() -> Tensor:
    return torch.randint(0, 65, (4, 12), generator=torch.Generator().manual_seed(0))


# name: (model, input, output shape, parameters counted by hand below)
CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], tuple[int, ...], int]] = {
    # 8*9 + 16*8*9 + 16*16*9 + 32*16*9 + 32*32*9 weights, 2*(8+16+16+32+32) of batch norm, 32*10+10
    "SmallCNN": (SmallCNN, lambda: image(1, 16), (4, 10), 17_890),
    # 1*16*9 + 16*32*9 + 32*64*9 + 64*64*9, 2*(16+32+64+64), 64*10+10
    "SmallCNN, 28x28": (
        lambda: SmallCNN(widths=(16, 32, 64, 64), strides=(2, 2, 1, 2)),
        lambda: image(1, 28),
        (4, 10),
        61_050,
    ),
    # 20*64+64, 64*64+64, 64*3+3
    "MLP": (lambda: MLP(20, 3), vectors, (4, 3), 5_699),
    "ResNet-8": (lambda: ResNet(8), lambda: image(3, 32), (4, 10), 78_042),
    # 269,722 with option A shortcuts (He et al. report .27 million), and 16*32 + 2*32 + 32*64 + 2*64 = 2,752 more
    "ResNet-20": (lambda: ResNet(20), lambda: image(3, 32), (4, 10), 269_722 + 2_752),
    # 65*32 + 16*32 + 2*(2*2*32 + 32*96+96 + 32*32+32 + 32*128+128 + 128*32+32) + 2*32 + 32*65
    "GPT": (lambda: GPT(vocabulary=65, context=16, width=32, depth=2, heads=2), tokens, (4, 12, 65), 30_144),
    "GPT, tied": (
        lambda: GPT(vocabulary=65, context=16, width=32, depth=2, heads=2, tied=True),
        tokens,
        (4, 12, 65),
        30_144 - 65 * 32,
    ),
    # 2*32*7 + 32*64*5 + 64*64*3, 2*(32+64+64), 64*3+3
    "CNN1d": (
        lambda: CNN1d(in_channels=2, classes=3),
        lambda: torch.randn(4, 2, 50, generator=torch.Generator().manual_seed(0)),
        (4, 3),
        23_491,
    ),
    # 3*8*9 + 2*8; 4*8*8*9 + 8*8; 32*s*s + 10*s for s of 16, 32, 64 (31.5*s*s in convolutions, .5*s*s in the shortcut,
    # 8*s + 2*s in their norms); 64*5+5
    "ResNet-18, narrow, small stem": (
        lambda: ImageNetResNet(18, classes=5, width=8, stem="small"),
        lambda: image(3, 16),
        (4, 5),
        176_077,
    ),
    # 4*2 + 2*2*9 + 2*8 + 4*8 weights, 2*(2+2+8+8) of batch norm
    "bottleneck block": (lambda: BottleneckBlock(4, 8, stride=2), lambda: image(4, 6), (4, 8, 3, 3), 132),
    # 3*8*8*24+24, 24, 5*24, 2*(2*2*24 + 24*72+72 + 24*24+24 + 24*96+96 + 96*24+24), 2*24, 24*5+5
    "ViT": (lambda: ViT(16, 8, classes=5, width=24, depth=2), lambda: image(3, 16), (4, 5), 19_397),
    # 65*32 + 16*32 + 2*32 + 2*32, 2*(32*96+96 + 32*32+32 + 2*32 + 32*128+128 + 128*32+32 + 2*32), 32*32+32, 32*3+3
    "BERT": (lambda: BERT(vocabulary=65, context=16, width=32, classes=3), tokens, (4, 3), 29_283),
    # the same up to the head: 32*32+32 + 2*32 + 65
    "BERT, tokens": (
        lambda: BERT(vocabulary=65, context=16, width=32, head="tokens"),
        tokens,
        (4, 12, 65),
        29_313,
    ),
}


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor, tuple[int, ...], int]:
    make, inputs, shape, count = CASES[request.param]
    torch.manual_seed(0)
    return make(), inputs(), shape, count


def test_forward_has_the_documented_shape(case):
    model, inputs, shape, _ = case
    outputs = model(inputs)
    assert outputs.shape == shape
    assert outputs.dtype == torch.float32
    assert outputs.isfinite().all()


def test_number_of_parameters(case):
    model, _, _, count = case
    assert count_parameters(model) == count


@pytest.mark.parametrize("name", list(CASES))
def test_the_global_seed_decides_the_initialisation(name):
    def build(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.detach().flatten() for p in CASES[name][0]().parameters()])

    assert torch.equal(build(3), build(3))
    assert not torch.equal(build(3), build(4))


def test_a_forward_pass_draws_nothing(case):
    model, inputs, _, _ = case
    before = torch.get_rng_state()
    model(inputs)
    assert torch.equal(before, torch.get_rng_state())


def test_every_parameter_gets_a_gradient(case):
    model, inputs, _, _ = case
    model(inputs).square().mean().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # Positions beyond the sequence get zeros, so the embedding as a whole still has some.
    assert without == []


def test_bfloat16_autocast_is_close_to_float32(case):
    model, inputs, shape, _ = case
    model.eval()
    with torch.no_grad():
        exact = model(inputs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model(inputs)
    assert rounded.shape == shape
    # bf16 keeps 8 bits; through a few layers the outputs agree to some percent of their size
    assert (rounded.float() - exact).abs().max() < 0.05 * exact.abs().max() + 0.02


def test_compiled_equals_eager(case):
    model, inputs, _, _ = case
    eager = model(inputs)
    eager.square().mean().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)(inputs)
    compiled.square().mean().backward()
    torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", list(CASES))
def test_builds_on_the_meta_device(name):
    make, _, _, count = CASES[name]
    with torch.device("meta"):
        model = make()
    assert count_parameters(model) == count
    assert all(p.is_meta for p in model.parameters())
