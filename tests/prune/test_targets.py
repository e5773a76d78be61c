"""Which parameters are prunable: kinds of layers, classifiers, `ignore`, ties, and weights that are refused."""

from __future__ import annotations

import pytest
import torch
from tests.prune.nets import MnistNet, Tied, small
from torch import nn
from torch.nn.utils import parametrizations, prune

from hasten.prune import NoClassifierWarning, find
from hasten.prune.places import bare, computed, places


def test_weights_and_biases_of_the_published_network() -> None:
    targets = find(MnistNet())
    assert targets.names == ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias", "fc1.weight", "fc1.bias")
    assert targets.layers["conv2"] == ["conv2.weight", "conv2.bias"]
    assert (targets.total, targets.prunable) == (431_080, 426_070)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(4, 4), nn.Conv1d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv3d(4, 4, 3), nn.ConvTranspose1d(4, 4, 3),
        nn.ConvTranspose2d(4, 4, 3), nn.ConvTranspose3d(4, 4, 3),
    ],
)  # fmt: skip
def test_kinds_of_layers(layer: nn.Module) -> None:
    assert find(layer).names == ("weight", "bias")


def test_attention_has_its_projections_and_nothing_else() -> None:
    attention = nn.MultiheadAttention(8, 2, add_bias_kv=True)
    assert find(attention).names == ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    other = nn.MultiheadAttention(8, 2, kdim=4, vdim=4)
    assert {"q_proj_weight", "k_proj_weight", "v_proj_weight"} <= set(find(other, "out_proj").names)


def test_norms_and_embeddings_are_counted_but_not_prunable() -> None:
    net = nn.Sequential(nn.Embedding(10, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    targets = find(net)
    assert targets.names == ("2.weight", "2.bias")
    assert targets.total == 40 + 8 + 20 + 10


@pytest.mark.parametrize("head", ["fc", "classifier", "head", "heads", "lm_head", "score"])
@pytest.mark.parametrize("nested", [False, True])
def test_heads_are_found_by_name(head: str, nested: bool) -> None:
    net = nn.Module()
    net.body = nn.Linear(4, 4)
    last = nn.Linear(4, 2)
    setattr(net, head, nn.Sequential(nn.Linear(4, 4), nn.ReLU(), last) if nested else last)
    names = find(net).names
    assert "body.weight" in names
    assert all(parameter is not last.weight for parameter in find(net).parameters.values())
    assert len(names) == (4 if nested else 2)


def test_marks_decide_where_there_are_any() -> None:
    net = nn.Module()
    net.body, net.fc = nn.Linear(4, 4), nn.Linear(4, 2)
    net.fc.is_classifier = False  # type: ignore[assignment]
    assert find(net).names == ("body.weight", "body.bias", "fc.weight", "fc.bias")
    net.body.is_classifier = True  # type: ignore[assignment]
    assert find(net).names == ("fc.weight", "fc.bias")


def test_a_model_without_a_known_classifier_warns() -> None:
    net = nn.Module()
    net.first, net.second = nn.Linear(4, 4), nn.Linear(4, 2)
    with pytest.warns(NoClassifierWarning, match="no classifier found in Module, all layers are prunable"):
        assert len(find(net).names) == 4
    assert find(net, ignore="second").names == ("first.weight", "first.bias")  # whoever ignores has decided


def test_ignore_takes_names_patterns_and_modules() -> None:
    net = small()
    assert find(net, "0").names == ("4.weight", "4.bias")
    assert find(net, ["*.bias"]).names == ("0.weight", "4.weight")
    assert find(net, [net[4], "0.bias"]).names == ("0.weight",)
    with pytest.raises(ValueError, match=r"expected ignore= what the model has, got 'convx'"):
        find(net, "convx")
    with pytest.raises(ValueError, match="Pass a module of this model"):
        find(net, [nn.Linear(1, 1)])
    with pytest.raises(TypeError, match="names, patterns or modules"):
        find(net, [3])  # type: ignore[list-item]


def test_tied_weights_come_once_and_never_through_a_layer_that_is_left_out() -> None:
    net = Tied()
    assert find(net).names == ("up.weight", "up.bias", "down.bias")
    assert find(net).total == 16 + 4 + 4 + 10
    assert find(net, "down").names == ("up.bias",)
    language = nn.Module()
    language.embed, language.body, language.head = nn.Embedding(6, 4), nn.Linear(4, 4), nn.Linear(4, 6)
    language.head.weight = language.embed.weight
    language.head.is_classifier = False  # type: ignore[assignment]
    assert find(language).names == ("body.weight", "body.bias", "head.bias")


def test_wrappers_are_looked_through() -> None:
    net = small()
    assert find(torch.compile(nn.DataParallel(net), backend="eager")).names == find(net).names
    assert bare(torch.compile(net, backend="eager")) is net


def test_nothing_prunable_is_refused() -> None:
    with pytest.raises(TypeError, match=r"prune\.compute: expected a torch\.nn\.Module, got 3"):
        find(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a model with a prunable layer, got LayerNorm with none"):
        find(nn.LayerNorm(3))
    net = nn.Linear(2, 2)
    net.is_classifier = True  # type: ignore[assignment]
    with pytest.raises(ValueError, match="no classifier and not ignored"):
        find(net)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value: float) -> None:
    net = small()
    net[4].weight.data[2, 1] = value  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"prune\.compute: expected finite weights, got 4\.weight from"):
        find(net)
    assert find(net, "4").names == ("0.weight", "0.bias")


def test_weights_without_values_are_refused() -> None:
    with pytest.raises(TypeError, match="weight on the meta device"):
        find(nn.Linear(2, 2, device="meta"))
    with pytest.raises(TypeError, match="the lazy weight.*Run the model once first"):
        find(nn.LazyLinear(2))


def test_quantized_and_integer_weights_are_refused() -> None:
    net = nn.Linear(2, 2)
    net.weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.int8), requires_grad=False)
    with pytest.raises(TypeError, match=r"got weight of torch\.int8"):
        find(net)
    net.weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.complex64))
    with pytest.raises(TypeError, match="16, 32 or 64-bit floats"):
        find(net)

    class Packed(nn.Module):  # as the modules of torch.ao.nn.quantized: no parameters, a packed weight
        pass

    Packed.__module__ = "torch.ao.nn.quantized.modules.linear"
    with pytest.raises(TypeError, match=r"got the quantized Packed '1'\. Prune the model first"):
        find(nn.Sequential(nn.Linear(2, 2), Packed()))


def test_weights_that_are_computed_are_refused() -> None:
    for cover in (parametrizations.weight_norm, lambda layer: prune.l1_unstructured(layer, "weight", 1)):
        net = small()
        cover(net[4])
        assert [layer for _, layer, _ in computed(net)] == ["4"]
        with pytest.raises(ValueError, match=r"got 4\.weight, which is computed from others"):
            find(net)
        assert find(net, "4").names == ("0.weight", "0.bias")


def test_places_of_a_tied_parameter() -> None:
    net = Tied()
    assert [place.name for place in places(net) if place.parameter is net.up.weight] == ["up.weight", "down.weight"]
