from __future__ import annotations

import pytest
import torch
from torch import nn

from hasten._core.checks import NonFiniteError
from hasten.prune.scores import activations
from hasten.prune.scores.activations import Outputs, Sums, activation, channel_activation, run
from hasten.prune.scores.data import Data
from hasten.prune.scores.sites import sites
from hasten.prune.targets import find


def targets_of(model: nn.Module) -> object:
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.is_classifier = False
    return find(model)


def sums_of(model: nn.Module, batches: object, power: int = 2) -> dict[str, torch.Tensor]:
    found, sums = sites(model, targets_of(model).parameters), Sums(power)
    run(model, found, Data(batches), sums)
    return sums.sums


def test_hand_case() -> None:
    model = nn.Linear(2, 2)
    model.weight.data, model.bias.data = torch.tensor([[1.0, 2.0], [-3.0, 0.0]]), torch.tensor([1.0, -1.0])
    x = torch.tensor([[1.0, -2.0], [3.0, -4.0]])
    scores = activation(model, targets_of(model), Data(x))
    assert scores["weight"].tolist() == [[2, 6], [6, 0]]
    assert scores["bias"].tolist() == [2.5, 2.5]
    assert channel_activation(model, targets_of(model), Data(x))["weight"].tolist() == [[3, 3], [7, 7]]
    norms = activations.wanda(model.weight.unsqueeze(0), sums_of(model, x)["weight"])
    torch.testing.assert_close(norms[0], model.weight.detach().abs() * x.norm(dim=0))


def test_batches_add_up() -> None:
    model, x = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), nn.Flatten()), torch.randn(6, 2, 7, 7)
    whole = activation(model, targets_of(model), Data(x))
    for parts in ([x[:1], x[1:3], x[3:]], list(x.split(1))):
        for one, other in zip(activation(model, targets_of(model), Data(parts)).values(), whole.values(), strict=True):
            torch.testing.assert_close(one, other)


def test_windows_of_the_sum_are_the_sum_of_windows() -> None:
    layer, x = nn.Conv2d(2, 3, 3, padding=1, stride=2), torch.randn(5, 2, 6, 6)
    patches = nn.functional.unfold(x, 3, padding=1, stride=2).unflatten(1, (2, 9))  # (batch, channel, place, window)
    expected = patches.square().sum((0, 3)).T.reshape(1, -1)  # channels last
    torch.testing.assert_close(sums_of(layer, x)["weight"], expected)


def test_a_module_called_twice_and_a_shared_weight_are_seen_each_time() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)
            self.two.weight = self.one.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(2 * x) + self.one(x) + self.one(3 * x)

    model, x = Twice(), torch.randn(4, 3)
    found = sums_of(model, x)
    assert list(found) == ["one.weight"]
    torch.testing.assert_close(found["one.weight"][0], 14 * x.square().sum(0))


@pytest.mark.parametrize("same", [True, False])
def test_projections_of_attention(same: bool) -> None:
    torch.manual_seed(0)
    model = nn.MultiheadAttention(4, 2, batch_first=True, kdim=None if same else 3, vdim=None if same else 5)
    q, k, v = torch.randn(2, 6, 4), torch.randn(2, 7, 4 if same else 3), torch.randn(2, 7, 4 if same else 5)
    wrapped = nn.Module()
    wrapped.attention, wrapped.forward = model, lambda x: model(*x, need_weights=False)[0]
    found, sums, outputs = sites(wrapped, targets_of(wrapped).parameters), Sums(2), Outputs()
    run(wrapped, found, Data(((q, k, v), None)), sums)
    run(wrapped, found, Data(((q, k, v), None)), outputs)
    attended = []
    model.eval().out_proj.bias.data.zero_()
    with torch.no_grad():
        attended = torch.linalg.lstsq(model.out_proj.weight, wrapped((q, k, v)).reshape(-1, 4).T).solution.T
    expected = {"attention.out_proj.weight": attended.square().sum(0)[None]}
    inputs = [x.square().sum((0, 1)) for x in (q, k, v)]
    if same:
        expected["attention.in_proj_weight"] = torch.stack(inputs)
    else:
        expected |= {f"attention.{n}_proj_weight": x[None] for n, x in zip("qkv", inputs, strict=True)}
    assert sums.sums.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(sums.sums[name], value, rtol=1e-4, atol=1e-4)
    means = {site.name: outputs.mean(site) for site in found}
    torch.testing.assert_close(means["attention.out_proj.weight"][0],
                               (attended @ model.out_proj.weight.T).abs().mean(0), rtol=1e-4, atol=1e-4)  # fmt: skip


def test_fast_paths_of_transformers_are_seen() -> None:
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False)
    found = sums_of(model, torch.randn(2, 5, 8))
    assert len(found) == 8
    assert all(value.any() for value in found.values())
    assert torch.backends.mha.get_fastpath_enabled()


def test_what_is_never_called_scores_zero() -> None:
    model = nn.ModuleDict({"used": nn.Linear(2, 2), "unused": nn.Linear(2, 2)})
    model.forward = lambda x: model["used"](x)
    assert not activation(model, targets_of(model), Data(torch.ones(1, 2)))["unused.weight"].any()


def test_half_weights_are_summed_in_float32() -> None:
    model = nn.Linear(2, 2).bfloat16()
    found = sums_of(model, torch.full((300, 2), 0.1).bfloat16(), power=1)["weight"]
    assert found.dtype == torch.float32
    assert found[0, 0] == pytest.approx(300 * 0.1001, rel=1e-3)


def test_activations_that_are_not_finite_are_named() -> None:
    with pytest.raises(NonFiniteError, match=r"got NaN or infinity at weight"):
        sums_of(nn.Linear(2, 2), torch.tensor([[1.0, float("nan")]]))
