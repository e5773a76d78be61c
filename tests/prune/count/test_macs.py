"""Counted MACs against published numbers, sums by hand and torch's own counter; nothing is left behind."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.prune.networks import Block, mnist_net, mobilenet_v2, resnet18
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize
from torch.utils.flop_counter import FlopCounterMode

from hasten.prune.count import Count, mac_table, macs, sizes


def flops(model: nn.Module, inputs: Any) -> int:
    """Of one pass, by torch's own counter (with gradients: it does not know the fast path of attention)."""
    with FlopCounterMode(display=False) as counter:
        copy.deepcopy(model).eval()(inputs)
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("make", "shape", "parameters", "expected"),
    [
        (mnist_net, (2, 1, 28, 28), 431_080, 2_293_000),
        (resnet18, (1, 3, 224, 224), 11_689_512, 1_814_073_344),
        (mobilenet_v2, (1, 3, 224, 224), 3_504_872, 300_774_272),
    ],
)
def test_published_networks(make: Callable[[], nn.Module], shape: tuple[int, ...], parameters: int, expected: int):
    model, inputs = make(), torch.zeros(shape)
    for parameter in model.parameters():
        parameter.data.fill_(0.1)  # of some millions of random numbers one may well be 0
    assert sizes(model).total == parameters
    found = macs(model, inputs)
    assert found.total == found.nonzero == expected
    assert found.total * shape[0] * 2 == flops(model, inputs)


CASES: dict[str, tuple[nn.Module, tuple[int, ...], int]] = {  # MACs of one sample, by hand
    "linear": (nn.Linear(5, 7), (3, 5), 5 * 7),
    "tokens": (nn.Linear(5, 7), (3, 11, 5), 11 * 5 * 7),
    "tokens without bias": (nn.Linear(5, 7, bias=False), (3, 2, 11, 5), 2 * 11 * 5 * 7),
    "padded": (nn.Conv2d(2, 3, 3, padding=1), (2, 2, 8, 9), 8 * 9 * 2 * 3 * 9),
    "padded round": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 2, 8, 9), 8 * 9 * 2 * 3 * 9),
    "strided": (nn.Conv2d(2, 3, 3, stride=2), (2, 2, 8, 9), 3 * 4 * 2 * 3 * 9),
    "dilated": (nn.Conv2d(2, 3, 3, dilation=2), (2, 2, 8, 9), 4 * 5 * 2 * 3 * 9),
    "grouped": (nn.Conv2d(6, 9, 3, groups=3), (2, 6, 8, 9), 6 * 7 * 6 * 9 // 3 * 9),
    "depthwise": (nn.Conv2d(6, 6, 3, groups=6), (2, 6, 8, 9), 6 * 7 * 6 * 9),
    "1-D": (nn.Conv1d(2, 3, 5), (2, 2, 12), 8 * 2 * 3 * 5),
    "3-D": (nn.Conv3d(2, 3, (1, 2, 3)), (2, 2, 4, 5, 6), 4 * 4 * 4 * 2 * 3 * 6),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (2, 4, 5, 6), 5 * 6 * 4 * 3 * 9),
    "transposed 1-D": (nn.ConvTranspose1d(4, 6, 3), (2, 4, 5), 5 * 4 * 6 * 3),
}


@pytest.mark.parametrize("name", CASES)
def test_layers_by_hand(name: str) -> None:
    model, shape, expected = CASES[name]
    inputs = torch.randn(shape)
    found = macs(model, inputs)
    assert (found.total, found.samples) == (expected, shape[0])
    assert found.by_module == {"": Count(expected, expected)}
    assert found.by_parameter == {"weight": Count(expected, expected)}
    assert flops(model, inputs) == 2 * expected * shape[0]
    assert mac_table(model, inputs)["weight"] == expected / model.weight.numel()


def test_a_layer_of_a_convolution_without_a_batch() -> None:
    assert macs(nn.Conv2d(2, 3, 3), torch.ones(2, 5, 5), samples=1).total == 9 * 54


@given(data=st.data())
def test_any_convolution_by_hand(data: st.DataObject) -> None:
    groups, kernel = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    inner, outer = groups * data.draw(st.integers(1, 3)), groups * data.draw(st.integers(1, 3))
    stride, padding, dilation = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 2)), data.draw(st.integers(1, 2))
    conv = nn.Conv2d(inner, outer, kernel, stride, padding, dilation, groups)
    side, batch = data.draw(st.integers(5, 9)), data.draw(st.integers(1, 3))
    weight = conv.weight.data
    weight[torch.rand_like(weight) < data.draw(st.floats(0, 1))] = 0
    found = macs(conv, torch.randn(batch, inner, side, side))
    positions = ((side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1) ** 2
    assert found.total == positions * weight.numel()
    assert found.nonzero == positions * int(weight.count_nonzero())


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_a_transformer_block(need_weights: bool, training: bool) -> None:
    """Both ways to attend (products one by one, and the fused kernel) and the fast path of evaluation count alike."""
    model, tokens, width = Block(64, 4, need_weights=need_weights).train(training), 10, 64
    found = macs(model, torch.randn(3, tokens, width))
    attention = 2 * tokens * tokens * width
    assert found.by_module["attention"].total + found.by_module.get("attention.out_proj", Count()).total == (
        4 * tokens * width**2 + attention
    )
    assert found.total == 12 * tokens * width**2 + attention
    assert found.total - sum(count.total for count in found.by_parameter.values()) == attention
    assert model.training is training


def test_attention_between_two_sequences_and_one_with_heads_that_share() -> None:
    model = nn.MultiheadAttention(8, 2, kdim=6, vdim=4, batch_first=True)
    inputs = torch.randn(2, 5, 8), torch.randn(2, 7, 6), torch.randn(2, 7, 4)
    projections = 5 * 64 + 7 * 6 * 8 + 7 * 4 * 8 + 5 * 64
    assert macs(model, inputs).total == projections + 2 * 5 * 7 * 8

    class Shared(nn.Module):
        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True)

    assert macs(Shared(), (torch.randn(3, 4, 5, 8), torch.randn(3, 2, 5, 8))).total == 2 * 4 * 5 * 5 * 8


def test_attention_agrees_with_torch_where_it_runs_in_single_products() -> None:
    model, inputs = Block(need_weights=True), torch.randn(2, 10, 64)
    assert macs(model, inputs).total * 2 * 2 == flops(model, inputs)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("grad", [False, True])
def test_recurrent_layers_meet_their_weights_at_each_step(kind: type[nn.RNNBase], grad: bool) -> None:
    model = kind(3, 4, num_layers=2, bidirectional=True, batch_first=True)
    with torch.set_grad_enabled(grad):
        found = macs(model, torch.randn(2, 5, 3))
    matrices = {name: p for name, p in model.named_parameters() if p.ndim == 2}
    assert found.total == 5 * sum(p.numel() for p in matrices.values())
    assert {name: count.total for name, count in found.by_parameter.items()} == {
        name: 5 * p.numel() for name, p in matrices.items()
    }


def test_products_that_a_forward_does_by_hand() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix, self.vector = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(6))
            self.pair = nn.Bilinear(4, 4, 5)

        def forward(self, x: Tensor) -> Tensor:  # (batch, 6)
            y = torch.einsum("bi,oi->bo", x, self.matrix)
            return self.pair(y, y).sum() + x @ self.vector

    model = Own()
    model.matrix.data[0] = 0
    found = macs(model, torch.randn(3, 6))
    assert {name: (count.total, count.nonzero) for name, count in found.by_parameter.items()} == {
        "matrix": (24, 18), "vector": (6, 6), "pair.weight": (80, 80),
    }  # fmt: skip


def test_a_branch_is_counted_when_it_is_taken() -> None:
    class Either(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cond(x.sum() > 0, lambda x: x @ x.T, lambda x: x, (x,))

    assert macs(Either(), torch.ones(2, 3)).total == 2 * 3  # shared by two samples: 12
    assert macs(Either(), -torch.ones(2, 3)).total == 0


def test_work_that_samples_share_is_no_whole_number() -> None:
    class Shared(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum(0) @ torch.ones(5)

    assert macs(Shared(), torch.ones(3, 5)).total == pytest.approx(5 / 3)


def pruned(model: nn.Module, share: float) -> nn.Module:
    """Zeros in all weights, at places drawn by chance."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data[torch.rand(parameter.shape, generator=generator) < share] = 0
    return model


def test_nonzero_macs_follow_the_zeros_of_each_layer() -> None:
    model = pruned(mnist_net(), 0.75)
    found = macs(model, torch.randn(2, 1, 28, 28))
    positions = {"0": 24 * 24, "3": 8 * 8, "7": 1, "9": 1}
    expected = {name: n * int(model[int(name)].weight.count_nonzero()) for name, n in positions.items()}
    assert {name: count.nonzero for name, count in found.by_module.items()} == expected
    assert (found.total, found.nonzero) == (2_293_000, sum(expected.values()))
    assert found.speedup == 2_293_000 / sum(expected.values())
    table = mac_table(model, torch.randn(2, 1, 28, 28))
    assert table == {
        f"{name}.{kind}": float(n if kind == "weight" else 0)
        for name, n in positions.items()
        for kind in ("weight", "bias")
    }


def test_a_split_weight_counts_the_zeros_of_each_part() -> None:
    """Attention between two sequences multiplies parts of one parameter, here with zeros in its queries alone."""
    model = nn.MultiheadAttention(8, 2, batch_first=True)
    model.in_proj_weight.data[:8] = 0
    found = macs(model, (torch.randn(2, 5, 8), torch.randn(2, 7, 8), torch.randn(2, 7, 8)))
    assert found.by_parameter["in_proj_weight"] == Count((5 + 7 + 7) * 64, (7 + 7) * 64)


def test_masks_that_are_multiplied_in_the_forward() -> None:
    class Masked(nn.Module):
        def __init__(self, shape: torch.Size) -> None:
            super().__init__()
            self.register_buffer("mask", torch.arange(shape.numel()).view(shape) % 4 == 0)

        def forward(self, weight: Tensor) -> Tensor:
            return weight * self.mask

    model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4))
    for layer in (model[0], model[2]):
        parametrize.register_parametrization(layer, "weight", Masked(layer.weight.shape))
    found = macs(model, torch.randn(3, 5, 8))
    assert (found.total, found.nonzero) == (5 * (96 + 48), 5 * (24 + 12))
    assert found.by_parameter["0.parametrizations.weight.original"] == Count(480, 120)


def test_normalised_weights_count_as_the_larger_parameter() -> None:
    model = parametrizations.weight_norm(nn.Linear(3, 4))
    assert macs(model, torch.ones(2, 3)).by_parameter == {"parametrizations.weight.original1": Count(12, 12)}


def test_tied_weights_and_modules_count_each_time_under_their_first_name() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(11, 6), nn.Linear(6, 11, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embed(x))

    found = macs(Tied(), torch.zeros(2, 3, dtype=torch.long))
    assert found.by_module == {"head": Count(3 * 66, 3 * 66)}
    assert found.by_parameter == {"embed.weight": Count(3 * 66, 3 * 66)}
    layer = nn.Linear(4, 4)
    assert macs(nn.Sequential(layer, layer), torch.ones(1, 4)).by_module == {"0": Count(32, 32)}


def test_sparse_tensors_as_weights() -> None:
    layer = nn.Linear(8, 8)
    layer.weight.data.triu_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the layout is in beta
        layer.weight = nn.Parameter(layer.weight.detach().to_sparse_csr(), requires_grad=False)
    found = macs(layer, torch.ones(2, 8))
    assert (found.total, found.nonzero) == (64, 36)


def test_sums_over_modules() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4)), *(nn.Linear(4, 4) for _ in range(10)))
    found = macs(model, torch.ones(1, 2))
    assert found.of("0") == Count(18, 18)
    assert found.of("1") == Count(16, 16)  # and not that of "10"
    assert found.of("") == Count(found.total, found.nonzero) == Count(178, 178)
    assert found.of("nowhere") == Count()


def test_a_compiled_model_is_counted_as_if_it_were_not() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    x = torch.ones(3, 4)
    compiled = torch.compile(model, backend="eager")
    compiled(x)
    assert macs(compiled, x).total == macs(model, x).total == 36


def test_counting_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), Lazy())
    model[1].eval()
    model(torch.randn(4, 5)).sum().backward()
    before, grads = copy.deepcopy(model.state_dict()), [p.grad for p in model.parameters()]
    modes, random = [m.training for m in model.modules()], torch.get_rng_state()
    macs(model, torch.randn(4, 5, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is grad for p, grad in zip(model.parameters(), grads, strict=True))
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled()
    assert torch.backends.mha.get_fastpath_enabled()


class Lazy(nn.Module):
    """Draws something in evaluation mode, too."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


def test_an_error_of_the_model_leaves_no_hook_behind() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("broken")

    model = nn.Sequential(nn.Linear(2, 2), Broken())
    with pytest.raises(RuntimeError, match="broken"):
        macs(model, torch.ones(1, 2))
    assert torch.backends.mha.get_fastpath_enabled()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_model_that_catches_an_error_of_a_part_is_counted_right() -> None:
    class Patient(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 3), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.first(x)
            except RuntimeError:
                return self.last(x)

    assert macs(Patient(), torch.ones(2, 4)).by_module == {"last": Count(20, 20)}


def test_what_is_not_counted_is_named() -> None:
    with torch.library._scoped_library("hasten_test", "FRAGMENT") as library:
        library.define("twice(Tensor x) -> Tensor")
        library.impl("twice", lambda x: 2 * x, "CPU")

        class Custom(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.ops.hasten_test.twice(x)

        assert macs(Custom(), torch.ones(2, 3)).uncounted == ("hasten_test.twice",)


def test_speedup_of_models_that_multiply_nothing() -> None:
    assert macs(nn.ReLU(), torch.ones(2)).speedup == 1
    assert macs(pruned(nn.Linear(3, 3), 2), torch.ones(2, 3)).speedup == math.inf


def test_bad_input() -> None:
    layer, x = nn.Linear(2, 2), torch.ones(3, 2)
    with pytest.raises(TypeError, match="macs: expected a torch.nn.Module"):
        macs(lambda x: x, x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="macs: expected inputs whose first tensor has a batch dimension"):
        macs(layer, torch.tensor(1.0))
    with pytest.raises(TypeError, match=r"got 3\. Pass samples="):
        macs(layer, 3)
    with pytest.raises(ValueError, match="macs: expected at least one sample, got 0"):
        macs(layer, x[:0])
    with pytest.raises(ValueError, match="macs: expected at least one sample, got True"):
        macs(layer, x, samples=True)
    with pytest.raises(ValueError, match="weight on the meta device. Load the weights first"):
        macs(layer.to("meta"), x)
    with pytest.raises(ValueError, match="weight, which has no shape yet. Call the model once"):
        macs(nn.LazyLinear(3), x)


def test_agreement_with_torch_pruning() -> None:
    """Its MACs are those of one pass of one sample, in layers that are modules (attention is left out)."""
    peer = pytest.importorskip("torch_pruning", reason="torch_pruning is not installed")
    convolutional = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, groups=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8))
    for model, x in (
        (mnist_net(), torch.zeros(1, 1, 28, 28)),
        (resnet18(), torch.zeros(1, 3, 224, 224)),
        (mobilenet_v2(), torch.zeros(1, 3, 224, 224)),
        (convolutional, torch.zeros(1, 3, 9, 9)),
    ):
        theirs, parameters = peer.utils.count_ops_and_params(model, x)
        assert parameters == sizes(model).total
        assert theirs == macs(model, x).total
