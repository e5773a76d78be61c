from __future__ import annotations

import copy
import itertools
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tests.surgery import reference
from torch import nn
from torch.nn.utils import parametrize

from hasten.surgery import BlurConv2d, BlurMaxPool2d, NoEffectWarning, apply_blurpool, blur2d


def test_an_impulse_of_16_shows_the_filter() -> None:
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 16
    assert blur2d(x)[0, 0, 1:4, 1:4].tolist() == reference.BINOMIAL
    assert blur2d(x).sum() == 16


def test_a_constant_stays_constant_away_from_borders() -> None:
    y = blur2d(torch.full((2, 3, 9, 7), 2.5))
    assert torch.equal(y[:, :, 1:-1, 1:-1], torch.full((2, 3, 7, 5), 2.5))
    assert y[0, 0, 0, 3] == 2.5 * 3 / 4
    assert y[0, 0, 0, 0] == 2.5 * 9 / 16


@given(
    size=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    seed=st.integers(0, 99),
)
def test_blur_equals_the_slow_reference(size: tuple[int, ...], stride: tuple[int, int], seed: int) -> None:
    x = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(blur2d(x, stride), reference.blur(x, stride), rtol=0, atol=1e-12)


def convolutions() -> list[dict]:
    options = itertools.product((1, 3), (2, (2, 1), (1, 3)), (0, 1), (1, 2), (1, 4), ("zeros", "reflect", "circular"))
    names = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    return [dict(zip(names, values, strict=True)) for values in options]


@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
def test_convolutions_of_every_kind_equal_the_reference_and_keep_the_shape(size: tuple[int, int]) -> None:
    x = torch.randn(2, 4, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for options in convolutions():
        conv = nn.Conv2d(4, 8, dtype=torch.float64, **options)
        first = BlurConv2d.of(conv)(x)
        torch.testing.assert_close(first, conv(reference.blur(x)), rtol=0, atol=1e-12)
        dense = copy.copy(conv)
        dense.stride = (1, 1)
        last = BlurConv2d.of(conv, blur_first=False)(x)
        torch.testing.assert_close(last, reference.blur(dense(x), conv.stride), rtol=0, atol=1e-12)
        assert first.shape == last.shape == conv(x).shape


@pytest.mark.parametrize("options", [(2,), (3, 2), (3, 2, 1), (2, 3), ((3, 2), (2, 3)), (2, 2, 0, 2)])
def test_max_pooling_equals_the_reference_and_keeps_the_shape(options: tuple) -> None:
    pool = nn.MaxPool2d(*options)
    blurred = BlurMaxPool2d.of(pool)
    for height, width in ((8, 8), (9, 7), (5, 11)):
        x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height))
        stride = pool.stride if isinstance(pool.stride, tuple) else (pool.stride, pool.stride)
        dense = F.max_pool2d(x, pool.kernel_size, 1, pool.padding, pool.dilation)
        torch.testing.assert_close(blurred(x), reference.blur(dense, stride))
        assert blurred(x).shape == pool(x).shape


@pytest.mark.parametrize("blur_first", [True, False])
def test_a_shift_of_one_pixel_changes_the_output_less(blur_first: bool) -> None:
    x = reference.images(8, 33, 16)
    conv = nn.Conv2d(16, 16, 3, 2, 1)
    blurred = BlurConv2d.of(conv, blur_first=blur_first)

    def change(layer: nn.Module) -> float:
        one, two = layer(x)[..., 2:-2, 2:-2], layer(x.roll(1, -1))[..., 2:-2, 2:-2]
        return ((one - two).norm() / one.norm()).item()

    assert change(blurred) < 0.8 * change(conv)


def test_which_layers_change_and_that_the_stem_is_spared() -> None:
    model = reference.tiny()
    report = apply_blurpool(model)
    assert set(report.changed) == {"pool", "blocks.1.shortcut", "blocks.1.branch.0"}
    assert type(model.stem) is nn.Conv2d
    assert apply_blurpool(reference.tiny(), min_channels=1).changed[0] == "stem"
    assert apply_blurpool(reference.tiny(), replace_convs=False).changed == ("pool",)
    assert "pool" not in apply_blurpool(reference.tiny(), replace_maxpools=False).changed


def test_parameters_keys_and_optimizer_membership_are_kept() -> None:
    model = reference.tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parameters, keys = list(model.parameters()), list(model.state_dict())
    saved = copy.deepcopy(model.state_dict())
    apply_blurpool(model)
    assert all(new is old for new, old in zip(model.parameters(), parameters, strict=True))
    assert list(model.state_dict()) == keys
    model(reference.images()).sum().backward()
    optimizer.step()
    assert not torch.equal(model.blocks[1].branch[0].weight, saved["blocks.1.branch.0.weight"])
    reference.tiny().load_state_dict(model.state_dict())
    model.load_state_dict(saved)


def test_undo_gives_the_old_layers_with_the_trained_weights() -> None:
    model, x = reference.tiny().eval(), reference.images()
    before, layers = model(x), list(model.modules())
    report = apply_blurpool(model)
    assert not torch.equal(model(x), before)
    with torch.no_grad():
        model.blocks[1].branch[0].weight.mul_(2)
    report.undo()
    assert all(new is old for new, old in zip(model.modules(), layers, strict=True))
    with torch.no_grad():
        model.blocks[1].branch[0].weight.div_(2)
    assert torch.equal(model(x), before)


def test_hooks_and_shared_layers_survive() -> None:
    conv = nn.Conv2d(16, 16, 3, 2, 1)
    model, calls = nn.Sequential(conv, nn.ReLU(), conv), []
    handle = conv.register_forward_hook(lambda *_: calls.append(1))
    report = apply_blurpool(model)
    assert model[0] is model[2]
    assert report.changed == ("0",)
    model(reference.images(2, 9, 16))
    handle.remove()
    model(reference.images(2, 9, 16))
    assert len(calls) == 2


def test_applying_twice_finds_nothing_more() -> None:
    model = reference.tiny()
    apply_blurpool(model)
    with pytest.warns(NoEffectWarning, match=r"nn\.Conv2d or nn\.MaxPool2d with a stride above 1.*in_channels >= 16"):
        assert len(apply_blurpool(model)) == 0


def test_layers_with_a_meaning_of_their_own_are_left_and_named() -> None:
    class Scale(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return 2 * weight

    model = nn.ModuleDict({"weight_norm": nn.Conv2d(16, 16, 3, 2), "ceil": nn.MaxPool2d(3, 2, ceil_mode=True)})
    model["plain"] = nn.MaxPool2d(2)
    parametrize.register_parametrization(model["weight_norm"], "weight", Scale())
    with pytest.warns(UserWarning, match=r"not plain, left as they are: weight_norm, ceil"):
        report = apply_blurpool(model)
    assert report.changed == ("plain",)
    assert report.note == "left as they are: weight_norm, ceil"


def test_works_on_cpu_in_every_setting() -> None:
    model = reference.tiny().eval()
    apply_blurpool(model)
    x = reference.images()
    expected = model(x)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), expected)
    assert model(x[:1]).shape == (1, 5)
    torch.testing.assert_close(pickle.loads(pickle.dumps(model))(x), expected)
    torch.testing.assert_close(copy.deepcopy(model)(x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(model(x).float(), expected, atol=0.05)
    model.to(memory_format=torch.channels_last)
    wide = x.contiguous(memory_format=torch.channels_last)
    assert model.blocks[:2](model.pool(model.stem(wide))).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(wide), expected)


def test_builds_on_the_meta_device_and_has_the_right_gradient() -> None:
    with torch.device("meta"):
        model = reference.TinyResNet()
        apply_blurpool(model)
        assert model(torch.empty(2, 3, 16, 16)).shape == (2, 5)
    blurred = BlurConv2d(2, 2, 3, 2, dtype=torch.float64, blur_first=False)
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(blurred, (x,))
    assert "blur_first=False" in repr(blurred)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a kind of layer to replace"):
        apply_blurpool(nn.Sequential(), replace_convs=False, replace_maxpools=False)
    with pytest.raises(ValueError, match="at least 1 for min_channels, got 0"):
        apply_blurpool(nn.Sequential(), min_channels=0)
    with pytest.raises(TypeError, match=r"floating-point x of shape \(batch, channels, height, width\), got Tensor of"):
        blur2d(torch.zeros(3, 8, 8))
    with pytest.raises(TypeError, match="dtype torch.uint8"):
        blur2d(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="neither ceil_mode nor return_indices"):
        BlurMaxPool2d(2, return_indices=True)
    with pytest.raises(ValueError, match="Keep nn.MaxPool2d here"):
        BlurMaxPool2d.of(nn.MaxPool2d(2, ceil_mode=True))
