from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from tests.prune import reference
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hasten._core.checks import NonFiniteError
from hasten.prune.scores.data import Data
from hasten.prune.scores.flow import synflow


def named(model: nn.Module) -> dict[str, nn.Parameter]:
    return dict(model.named_parameters())


def chain(*sizes: int, bias: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inside, outside in itertools.pairwise(sizes):
        layers += [nn.Linear(inside, outside, bias=bias), nn.Tanh()]
    return nn.Sequential(*layers)


def test_paths_one_by_one() -> None:
    model = chain(3, 4, 2, 3)
    expected = reference.synflow([p.detach() for p in model.parameters()])
    for score, share in zip(synflow(model, named(model), Data(torch.randn(5, 3))).values(), expected, strict=True):
        torch.testing.assert_close(score.double(), share, rtol=1e-5, atol=1e-8)


def test_what_flows_in_flows_out() -> None:
    model = chain(6, 5, 4, 3)
    scores = synflow(model, named(model), Data(torch.randn(2, 6)))
    assert [score.sum().item() for score in scores.values()] == pytest.approx([1, 1, 1], rel=1e-5)
    torch.testing.assert_close(scores["0.weight"].sum(1), scores["2.weight"].sum(0), rtol=1e-5, atol=1e-7)


def test_biases_are_sources_of_flow() -> None:
    model = chain(6, 5, 4, bias=True)
    scores = synflow(model, named(model), Data(torch.randn(2, 6)))
    flows_in = scores["0.weight"].sum(1) + scores["0.bias"]
    torch.testing.assert_close(flows_in, scores["2.weight"].sum(0), rtol=1e-5, atol=1e-7)


def test_batch_norms_are_their_scale() -> None:
    torch.manual_seed(0)
    convs = nn.Conv2d(2, 3, 3, bias=False), nn.Conv2d(3, 2, 1, bias=False)
    norm = nn.BatchNorm2d(3, affine=True)
    norm.weight.data.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    norm.running_mean.uniform_(5, 9)  # would turn what flows into its opposite
    model, x = nn.Sequential(convs[0], norm, nn.ReLU(), convs[1]), torch.randn(1, 2, 6, 6)
    scores = synflow(model, {"w": convs[0].weight}, Data(x))["w"]
    scale = norm.weight.detach().abs() / (norm.running_var + norm.eps).sqrt()
    folded = nn.Sequential(copy.deepcopy(convs[0]), nn.ReLU(), convs[1])
    folded[0].weight.data *= scale.view(-1, 1, 1, 1)
    expected = synflow(folded, {"w": folded[0].weight}, Data(x))["w"]
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    "norm", [nn.LayerNorm(6), nn.RMSNorm(6), nn.GroupNorm(2, 6), nn.InstanceNorm1d(6, affine=True)]
)
def test_norms_let_pass(norm: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(6, 6, bias=False), norm, nn.Linear(6, 2, bias=False)).eval()
    x = torch.randn(2, 6) if not isinstance(norm, nn.InstanceNorm1d) else torch.randn(2, 6, 6)
    scores = synflow(model, named(model), Data(x))
    assert scores["0.weight"].sum() == pytest.approx(1, rel=1e-5)


def test_deep_networks_stay_in_range() -> None:
    """|w| of 64 columns multiplies the flow by 50 in each layer: float32 ends after 23 of them."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(60)))
    for layer in model:
        nn.init.normal_(layer.weight)
    scores = synflow(model, named(model), Data(torch.randn(1, 64)))
    assert all(score.dtype == torch.float32 and score.isfinite().all() for score in scores.values())
    assert [score.sum().item() for score in scores.values()] == pytest.approx([1] * 60, rel=1e-4)


def test_beyond_float64_is_said() -> None:
    model = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(40)))
    for layer in model:
        nn.init.constant_(layer.weight, 1e10)
    with pytest.raises(NonFiniteError, match="a flow within float64, got inf"):
        synflow(model, named(model), Data(torch.randn(1, 8)))


class Largest(TorchDispatchMode):
    """The most float64 entries that were alive after any operation, and the backward pass is one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[StorageWeakRef, int] = {}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64:
                self.alive[StorageWeakRef(tensor.untyped_storage())] = tensor.untyped_storage().nbytes() // 8
        self.alive = {storage: size for storage, size in self.alive.items() if not storage.expired()}
        self.most = max(self.most, sum(self.alive.values()))
        return out


def test_wide_weights_do_not_lie_around() -> None:
    sizes = []
    for depth in (2, 16):
        model = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(depth)))
        with Largest() as largest:
            synflow(model, named(model), Data(torch.randn(1, 64)))
        sizes.append(largest.most / 64**2)
    assert sizes[1] < sizes[0] + 1, "in weights of one layer"
    assert sizes[1] < 6


def test_masks_take_entries_away() -> None:
    model = chain(4, 5, 3)
    mask = torch.rand(5, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    with_mask = synflow(model, named(model), Data(torch.randn(1, 4), masks={"0.weight": mask}))
    model[0].weight.data *= mask
    for score, expected in zip(
        with_mask.values(), synflow(model, named(model), Data(torch.randn(1, 4))).values(), strict=True
    ):
        torch.testing.assert_close(score, expected)


def test_no_flow_scores_nothing() -> None:
    model = chain(4, 5, 3)
    model[2].weight.data.zero_()
    assert not any(score.any() for score in synflow(model, named(model), Data(torch.randn(1, 4))).values())


def test_the_model_comes_back() -> None:
    model = nn.Sequential(
        nn.Linear(4, 4), nn.BatchNorm1d(4), nn.TransformerEncoderLayer(4, 2, 8), nn.Linear(4, 2)
    ).train()
    before, forward = copy.deepcopy(model.state_dict()), model[0].__dict__.get("forward")
    model[3].weight.requires_grad_(False)
    synflow(model, named(model), Data(torch.randn(3, 4)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [type(value) for value in model[0]._parameters.values()] == [nn.Parameter, nn.Parameter]
    assert model[0].__dict__.get("forward") is forward
    assert model[0].training
    assert not model[3].weight.requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_tokens_are_taken_as_they_are() -> None:
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 3, bias=False))
    scores = synflow(model, {"1.weight": model[1].weight}, Data(torch.tensor([[1, 2, 3]])))
    assert scores["1.weight"].sum() == pytest.approx(1, rel=1e-5)
