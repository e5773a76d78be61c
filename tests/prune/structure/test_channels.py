"""Masks of channels and heads: which are kept, how many, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.prune.structure.zoo import images, make, shaken
from torch import nn

from hasten.prune.masks import Masks, apply
from hasten.prune.structure import channel_masks, groups, head_masks, materialize


def kept(masks: Masks, name: str, dim: int = 0) -> list[int]:
    """Places of a dimension that are kept."""
    mask = masks[name]
    return mask.movedim(dim, 0).flatten(1).any(1).nonzero().flatten().tolist() if mask.ndim > 1 else kept_of(mask)


def kept_of(mask: torch.Tensor) -> list[int]:
    return mask.nonzero().flatten().tolist()


def chain() -> nn.Sequential:
    """Hidden widths 4 and 6, with weights whose norms grow with the place."""
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        for layer, factor in ((net[0], 1.0), (net[2], 10.0), (net[4], 0.0)):
            layer.bias.zero_()
            layer.weight.copy_(factor * torch.arange(1.0, 1 + len(layer.weight))[:, None].expand_as(layer.weight))
    return net


def test_the_largest_stay_in_every_layer() -> None:
    masks = channel_masks(chain(), torch.zeros(1, 2), density=0.5)
    assert (kept(masks, "0.weight"), kept(masks, "0.bias"), kept(masks, "2.weight", 1)) == ([2, 3],) * 3
    assert (kept(masks, "2.weight"), kept(masks, "2.bias"), kept(masks, "4.weight", 1)) == ([3, 4, 5],) * 3
    assert "4.bias" not in masks
    assert masks["2.weight"].sum() == 6
    assert (masks.strategy, masks.pattern, masks.asked) == ("channel_l2", "channel", {"density": 0.5})


def test_scores_are_compared_over_the_whole_model() -> None:
    scores = {"0.bias": torch.tensor([1.0, 1, 2, 2.5]), "2.bias": torch.arange(6.0)}
    masks = channel_masks(chain(), torch.zeros(1, 2), density=0.4, scope="global", scores=scores)
    assert (kept(masks, "0.weight"), kept(masks, "2.weight")) == ([3], [3, 4, 5])
    scores["2.bias"] /= 10
    masks = channel_masks(chain(), torch.zeros(1, 2), density=0.4, scope="global", scores=scores)
    assert (kept(masks, "0.weight"), kept(masks, "2.weight")) == ([0, 2, 3], [5])  # one of every family


@pytest.mark.parametrize(("norm", "expected"), [("l1", [0]), ("l2", [1])])
def test_norms(norm: str, expected: list[int]) -> None:
    net = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[2.0, -2.0, 2.0], [0.0, 4.0, 0.0]]))
        net[1].weight.zero_()
    assert kept(channel_masks(net, torch.zeros(1, 3), density=0.5, norm=norm), "0.weight") == expected


def test_given_scores_are_averaged() -> None:
    scores = {"0.bias": torch.tensor([4.0, 3.0, 2.0, 1.0]), "4.weight": torch.tensor([[0.0, 9, 0, 9, 0, 9]] * 2)}
    masks = channel_masks(chain(), torch.zeros(1, 2), density=0.5, scores=scores)
    assert kept(masks, "0.weight") == [0, 1]
    assert kept(masks, "2.weight") == [1, 3, 5]
    assert masks.strategy == "channel_given scores"


def test_equal_scores_keep_the_first() -> None:
    net = chain()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1)
    for scope in ("layer", "global"):
        masks = channel_masks(net, torch.zeros(1, 2), density=0.5, scope=scope)
        assert kept(masks, "0.weight") == list(range(len(kept(masks, "0.weight"))))
        assert len(kept(masks, "0.weight")) + len(kept(masks, "2.weight")) == 5


@given(st.floats(0.01, 1), st.sampled_from(["layer", "global"]))
def test_counts(density: float, scope: str) -> None:
    model, inputs = chain(), torch.zeros(1, 2)
    masks = channel_masks(model, inputs, density=density, scope=scope)
    counts = [len(kept(masks, "0.weight")), len(kept(masks, "2.weight"))]
    assert min(counts) >= 1
    if scope == "global":
        assert sum(counts) == max(2, round(10 * density))
    less = channel_masks(model, inputs, density=density / 2, scope=scope)
    assert all((mask <= masks[name]).all() for name, mask in less.items())


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("ask", [{"compression": 2.0}, {"compression": 5.0}, {"speedup": 2.0}, {"speedup": 4.0}])
def test_targets_are_reached_by_the_cut_model(scope: str, ask: dict[str, float]) -> None:
    model, inputs = make("resnet")
    masks = channel_masks(model, inputs, scope=scope, **ask)
    _, removed = materialize(apply(copy.deepcopy(model), masks), inputs)
    (what, asked), (before, after) = next(iter(ask.items())), removed.parameters
    assert masks.achieved == before / after
    before, after = removed.parameters if what == "compression" else removed.macs
    assert asked <= before / after < 1.3 * asked


def test_round_to() -> None:
    model, inputs = make("resnet")
    masks = channel_masks(model, inputs, density=0.6, round_to=4)
    small, _ = materialize(apply(model, masks), inputs)
    assert {m.out_channels for m in small.modules() if isinstance(m, nn.Conv2d)} == {4, 12, 20}


def test_what_is_ignored_stays_whole() -> None:
    model, inputs = make("plain")
    masks = channel_masks(model, inputs, density=0.5, ignore=["6"])
    assert len(kept(masks, "2.weight", 0)) == 12  # the same dimension joins layer 2 and layer 6
    assert "6.bias" not in masks
    assert len(kept(masks, "0.weight")) == 4


def test_heads_and_channels_are_apart() -> None:
    model, inputs = make("vit")
    heads, channels = head_masks(model, inputs, density=0.5), channel_masks(model, inputs, density=0.5)
    assert heads.pattern == "head"
    assert heads.keys().isdisjoint(channels)
    qkv = heads["blocks.0.0.branch.1.qkv.weight"].view(3, 4, 6, 24)
    assert (qkv == qkv[:1, :, :1, :1]).all()  # queries, keys and values of the same heads
    assert qkv[0, :, 0, 0].sum() == 2


def test_the_model_stays_as_it_was() -> None:
    model, inputs = make("resnet")
    model.train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    channel_masks(model, inputs, density=0.5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        ({}, r"expected one of density=, compression= and speedup=, got none\. Pass density=0\.5"),
        ({"density": 0.5, "speedup": 2}, "got density and speedup"),
        ({"density": 0.0}, "expected density above 0, got 0.0"),
        ({"density": 1.5}, r"expected density in \[0, 1\]"),
        ({"compression": 0.5}, "expected compression of at least 1, got 0.5"),
        ({"speedup": float("nan")}, "expected a finite number for speedup"),
        ({"compression": 1000.0}, r"can be reached, at most 6\.2\d+ here, got 1000"),
        ({"density": 0.5, "norm": "l3"}, 'norm "l1" or "l2"'),
        ({"density": 0.5, "scope": "row"}, 'scope "layer" or "global"'),
        ({"density": 0.5, "round_to": 0}, "round_to"),
        ({"density": 0.5, "ignore": ["5"]}, "expected ignore= what the model has"),
        ({"density": 0.5, "scores": {"9.weight": torch.zeros(1)}}, "expected scores of parameters, got '9.weight'"),
        ({"density": 0.5, "scores": {"0.bias": torch.zeros(3)}}, r"scores of shape \(4,\) for 0.bias"),
        ({"density": 0.5, "scores": {"0.bias": torch.zeros(4)}}, "scores of 2.weight, dimension 0"),
    ],
)
def test_bad_questions(ask: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"prune.channel_masks: .*{message}"):
        channel_masks(chain(), torch.zeros(1, 2), **ask)


def test_bad_models() -> None:
    with pytest.raises(ValueError, match=r"heads that can be removed, got none\. What holds them: .*an output of the"):
        head_masks(chain(), torch.zeros(1, 2), density=0.5)
    net = chain()
    with torch.no_grad():
        net[0].weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="finite weights and scores of 0.weight"):
        channel_masks(net, torch.zeros(1, 2), density=0.5)


def test_groups_say_what_goes_together() -> None:
    model, inputs = make("dense")
    found = groups(model, inputs)
    assert [len(group) for group in found] == [8, 3, 3, 3]
    assert {group.kind for group in found} == {"channels"}
    names = [name for name, _, _ in found[1].unit(0)]
    assert names[0] == "1.layers.0.2.weight"
    assert {"1.layers.1.2.weight", "1.layers.2.2.weight", "6.weight"} < set(names)
    assert {name: places for name, _, places in found[1].unit(2)}["6.weight"] == [10]
    assert found.fixed["6.weight", 0] == "an output of the model"
    assert found.fixed["0.weight", 1] == "convolution in 0 meets a tensor of fixed size"


def test_flattened_channels_take_their_columns_along() -> None:
    model, inputs = make("plain")
    unit = {name: places for name, _, places in groups(model, inputs)[2].unit(1)}
    assert unit == {"6.weight": [1], "6.bias": [1], "8.weight": list(range(9, 18))}


def test_batch_size_does_not_matter() -> None:
    model = shaken(nn.TransformerEncoderLayer(8, 4, 16))
    for shape in ((1, 1, 8), (4, 1, 8), (4, 4, 8), (1, 4, 8), (8, 3, 8)):
        assert [(len(g), g.kind) for g in groups(model, images(*shape))] == [(4, "heads"), (16, "channels")]
