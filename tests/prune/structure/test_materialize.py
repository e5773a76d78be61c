"""The smaller model computes what the masked one computes, for models of every kind."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from tests.prune.structure.zoo import WITH_HEADS, ZOO, images, make, shaken
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from hasten.bench.models import GPT, ResNet, ViT
from hasten.prune.count import macs
from hasten.prune.masks import apply, masks_of
from hasten.prune.structure import NarrowAttention, channel_masks, groups, head_masks, materialize


def outputs(model: nn.Module, inputs: Any) -> list[Tensor]:
    with torch.no_grad():
        if isinstance(inputs, dict):
            found = model(**inputs)
        else:
            found = model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    return pytree.tree_leaves(found)


def assert_same(one: nn.Module, other: nn.Module, inputs: Any) -> None:
    for found, expected in zip(outputs(one, inputs), outputs(other, inputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


CASES = [(name, "channels") for name in ZOO if name != "grouped queries"] + [(name, "heads") for name in WITH_HEADS]


@pytest.mark.parametrize(("name", "kind"), CASES)
@pytest.mark.parametrize("density", [0.2, 0.6])
def test_cut_is_masked(name: str, kind: str, density: float) -> None:
    model, inputs = make(name)
    masks = {"channels": channel_masks, "heads": head_masks}[kind](model, inputs, density=density)
    masked = apply(copy.deepcopy(model), masks)
    small, removed = materialize(masked, inputs)
    assert_same(small, masked, inputs)
    assert removed.kept == {}
    assert len(removed) > 0
    left = size(model) - masks.total + masks.nonzeros
    assert removed.parameters == (size(model), left)
    assert size(small) == left == round(size(model) / masks.achieved)
    assert len(masks_of(small)) == 0
    assert {name for name, _ in small.named_parameters()} == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("name", ["plain", "resnet", "mobile", "groups", "norms", "gated"])
def test_multiply_adds_are_those_of_the_small_model(name: str) -> None:
    model, inputs = make(name)
    masked = apply(model, channel_masks(model, inputs, density=0.5))
    small, removed = materialize(masked, inputs)
    for one, found in zip((masked, small), removed.macs, strict=True):
        with FlopCounterMode(display=False) as counter:
            outputs(one, inputs)
        assert found == counter.get_total_flops() // 2


class Recurrent(nn.Module):
    """A recurrent layer, which holds what it reads, between layers that can be cut."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.steps = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 9)), nn.LSTM(9, 7)
        self.outside = nn.Sequential(nn.Linear(7, 12), nn.ReLU(), nn.Linear(12, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.outside(self.steps(self.inside(x))[0])


def test_products_that_nothing_makes_smaller_are_counted() -> None:
    """A recurrent layer, and attention whose projections are split into unequal parts."""
    decoder = nn.TransformerDecoderLayer(16, 4, 24, batch_first=True).eval()
    for model, inputs in (
        (Recurrent(), images(3, 2, 5)),
        (decoder, (images(2, 4, 16), images(2, 5, 16))),
    ):
        masked = apply(model, channel_masks(model, inputs, density=0.5))
        small, removed = materialize(masked, inputs)
        for one, found in zip((masked, small), removed.macs, strict=True):
            counted = macs(one, inputs)
            assert found == counted.total * counted.samples


def test_shapes_and_attributes() -> None:
    model, inputs = make("mobile")
    small, _ = materialize(apply(model, channel_masks(model, inputs, density=0.5)), inputs)
    depthwise = small.get_submodule("3.layers.3")
    assert (depthwise.in_channels, depthwise.out_channels, depthwise.groups) == (8, 8, 8)
    assert small.get_submodule("3.layers.4").num_features == 8
    assert small[-1].in_features == 4
    model, inputs = make("encoder")
    small, _ = materialize(apply(model, head_masks(model, inputs, density=0.5)), inputs)
    attention = small.get_submodule("layers.0.self_attn")
    assert (type(attention), attention.num_heads, attention.out_proj.in_features) == (NarrowAttention, 2, 8)
    model, inputs = make("gpt")
    small, _ = materialize(apply(model, head_masks(model, inputs, density=0.5)), inputs)
    attention = small.get_submodule("blocks.0.0.branch.1")
    assert (attention.heads, attention.qkv.out_features, attention.out.in_features) == (2, 36, 12)


def test_tied_weights_stay_tied() -> None:
    model, inputs = make("tied")
    small, _ = materialize(apply(model, channel_masks(model, inputs, density=0.5)), inputs)
    assert small.head.weight is small.tokens.weight
    assert (small.tokens.embedding_dim, small.head.in_features) == (4, 4)


def halved(name: str) -> tuple[nn.Module, Any]:
    model, inputs = make(name)
    make_masks = head_masks if name in WITH_HEADS else channel_masks
    return materialize(apply(model, make_masks(model, inputs, density=0.5)), inputs)[0], inputs


@pytest.mark.parametrize("name", ["resnet", "mobile", "vit", "bert", "encoder"])
def test_the_small_model_is_an_ordinary_one(name: str) -> None:
    (small, inputs), (other, _) = halved(name), halved(name)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(small.state_dict())
    assert_same(other, small, inputs)
    assert_same(copy.deepcopy(small), small, inputs)
    assert_same(pickle.loads(pickle.dumps(small)), small, inputs)


@pytest.mark.slow  # compiles
@pytest.mark.parametrize("name", ["resnet", "mobile", "vit", "bert", "encoder"])
def test_the_small_model_is_exported_and_compiled(name: str) -> None:
    small, inputs = halved(name)
    assert_same(torch.export.export(small, (inputs,)).module(), small, inputs)
    assert_same(torch.compile(small, backend="aot_eager"), small, inputs)


def test_it_trains() -> None:
    model, inputs = make("resnet")
    small, _ = materialize(apply(model, channel_masks(model, inputs, density=0.5)).train(), inputs)
    assert small.training
    before = small(inputs).square().mean()
    before.backward()
    torch.optim.SGD(small.parameters(), lr=1e-3).step()
    assert small(inputs).square().mean() < before


@pytest.mark.parametrize(
    "make_model", [lambda: ResNet(8, width=8), lambda: ViT(16, 4, classes=5, width=24, depth=1, heads=4)]
)
def test_bfloat16(make_model: Any) -> None:
    model, inputs = shaken(make_model()).bfloat16(), images(2, 3, 16, 16).bfloat16()
    masked = apply(model, channel_masks(model, inputs, density=0.5))
    small, removed = materialize(masked, inputs)
    assert removed.kept == {}
    assert {p.dtype for p in small.parameters()} == {torch.bfloat16}
    (found,), (expected,) = outputs(small, inputs), outputs(masked, inputs)
    assert (found - expected).abs().max() <= 0.05 * expected.abs().max()


def test_channels_last_and_frozen_parameters_stay_so() -> None:
    model, inputs = make("resnet")
    model = model.to(memory_format=torch.channels_last)
    model.stem[0].weight.requires_grad_(False)
    small, _ = materialize(apply(model, channel_masks(model, inputs, density=0.5)), inputs)
    weight = small.blocks[0].branch[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert [name for name, p in small.named_parameters() if not p.requires_grad] == ["stem.0.weight"]


def test_masks_as_parametrizations() -> None:
    model, inputs = make("plain")
    masks = channel_masks(model, inputs, density=0.5)
    masked = apply(model, masks, mode="parametrize")
    small, _ = materialize(masked, inputs)
    assert_same(small, masked, inputs)
    assert size(small) == size(model) - masks.total + masks.nonzeros


def test_the_model_stays_as_it_was() -> None:
    model, inputs = make("resnet")
    model.train()
    masked = apply(model, channel_masks(model, inputs, density=0.5))
    before, state = copy.deepcopy(masked.state_dict()), torch.get_rng_state()
    materialize(masked, inputs)
    assert all(torch.equal(value, before[name]) for name, value in masked.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert all(module.training for module in masked.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in masked.modules())


# What holds a channel -------------------------------------------------------------------------------------------------


def zero_rows(*layers: nn.Module, rows: int = 2) -> None:
    with torch.no_grad():
        for layer in layers:
            layer.weight[:rows] = 0
            if layer.bias is not None:
                layer.bias[:rows] = 0


def test_only_what_makes_a_channel_must_be_zero() -> None:
    net = shaken(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)))
    zero_rows(net[0])
    small, removed = materialize(net, images(1, 3, 6, 6))
    assert removed.groups == {"0.weight, dimension 0": (8, 6)}
    assert_same(small, net, images(2, 3, 9, 9, seed=5))


def test_a_shift_behind_a_zero_row_holds_it() -> None:
    net = shaken(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)))
    zero_rows(net[0])
    _, removed = materialize(net, images(1, 3, 6, 6))
    assert removed.groups == {}
    assert removed.kept["0.weight, dimension 0: 2 of 8"] == "not zero in 1.weight, 1.bias, 3.weight"
    zero_rows(net[1])
    small, removed = materialize(net, images(1, 3, 6, 6))
    assert removed.groups == {"0.weight, dimension 0": (8, 6)}
    assert_same(small, net, images(2, 3, 9, 9, seed=5))


def test_a_channel_behind_a_sigmoid_is_not_zero() -> None:
    net = shaken(nn.Sequential(nn.Linear(3, 8), nn.Sigmoid(), nn.Linear(8, 4)))
    zero_rows(net[0])
    _, removed = materialize(net, images(2, 3))
    assert removed.groups == {}
    with torch.no_grad():
        net[2].weight[:, :2] = 0  # nobody reads it
    small, removed = materialize(net, images(2, 3))
    assert removed.groups == {"0.weight, dimension 0": (8, 6)}
    assert_same(small, net, images(2, 3, seed=5))


def test_a_unit_that_is_dead_on_the_examples_only_stays() -> None:
    net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
    _, removed = materialize(net, torch.ones(3, 1))
    assert len(removed) == 0


def test_both_ends_of_a_residual_sum_must_be_zero() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x).relu()
            return self.c(x + self.b(x).relu())

    net = shaken(Net())
    zero_rows(net.a)
    assert len(materialize(net, images(2, 3))[1]) == 0
    zero_rows(net.b, rows=1)
    small, removed = materialize(net, images(2, 3))
    assert removed.groups == {"a.weight, dimension 0": (6, 5)}
    assert_same(small, net, images(2, 3, seed=5))


def test_one_channel_is_left_where_all_are_zero() -> None:
    model, inputs = make("resnet")
    branch = model.blocks[0].branch
    zero_rows(branch[0], branch[1], rows=8)
    small, removed = materialize(model, inputs)
    assert removed.groups == {"blocks.0.branch.0.weight, dimension 0": (8, 1)}
    assert_same(small, model, inputs)


def test_a_layer_norm_holds_the_stream_and_says_so() -> None:
    torch.manual_seed(0)
    model, inputs = GPT(11, 8, 24, 1, 4), torch.ones(2, 7, dtype=torch.long)
    with torch.no_grad():
        model.tokens.weight[:, 0] = 0
        model.positions.weight[:, 0] = 0
    small, removed = materialize(model, inputs)
    assert small.tokens.embedding_dim == 24
    why = removed.kept["tokens.weight, dimension 1: 1 of 24"]
    assert why == "native_layer_norm in blocks.0.0.branch.0 takes statistics over it"
    assert why in str(removed)


def test_an_unknown_operation_holds_what_reaches_it() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x)) @ torch.linalg.inv(self.a(x).T @ self.a(x))

    net = Net()
    known = groups(net, images(4, 3))
    assert len(known) == 0
    assert "linalg_inv_ex is not understood" in known.fixed.values()


class Written(nn.Module):
    """A model with the width of a flattened image written in its code."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3), nn.Linear(32, 10), nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.b(F.relu(self.a(x))))
        return self.d(self.c(x.view(-1, 32)).relu())


def test_sizes_that_are_written_in_code_hold_what_passes_them() -> None:
    net, inputs = shaken(Written()), images(2, 3, 6, 6)
    masks = channel_masks(net, inputs, density=0.5)
    small, removed = materialize(apply(net, masks), inputs)
    assert removed.groups == {"a.weight, dimension 0": (6, 3), "c.weight, dimension 0": (10, 5)}
    assert removed.kept["b.weight, dimension 0: 4 of 8"] == "a size is written in the code of the model"
    assert_same(small, net, inputs)


def test_sizes_that_nothing_tells_are_refused() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            if x.shape[1] != 6:
                raise ValueError("six features, please")
            return self.b(x)

    net = shaken(Net())
    zero_rows(net.a)
    with pytest.raises(ValueError, match=r"prune\.materialize: expected a model that runs.*six features, please"):
        materialize(net, images(2, 3))


def test_writing_into_shared_memory_holds() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            x[:, 0] += 1
            return self.b(x)

    net, inputs = shaken(Net()), images(2, 3)
    zero_rows(net.a)
    small, removed = materialize(net, inputs)
    assert len(removed) == 0
    assert_same(small, net, inputs)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(2, 2, device="meta"), "expected weight with values, got one without"),
        (nn.LazyLinear(2), "expected weight with values, got one without"),
        (torch.relu, "expected a torch.nn.Module"),
    ],
)
def test_bad_models(model: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        materialize(model, torch.zeros(1, 2))


def test_no_parameters() -> None:
    with pytest.raises(ValueError, match="expected a model with parameters, got none"):
        groups(nn.ReLU(), torch.zeros(1, 2))
