"""Masks: what they are, how a model wears them, and what they survive."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.prune.nets import MnistNet, Tied, inputs, small
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from hasten.prune import Masks, apply, finalize, find, fraction_to_keep, keep_largest, load, masks_of

MODES = ("inplace", "parametrize")


def by_magnitude(model: nn.Module, keep: float = 0.3) -> Masks:
    parameters = find(model).parameters
    scores = [p.detach().abs() for p in parameters.values()]
    kept = keep_largest(scores, round(keep * sum(score.numel() for score in scores)))
    return Masks(dict(zip(parameters, kept, strict=True)), strategy="global_magnitude", asked={"sparsity": 1 - keep})


def weights(model: nn.Module, masks: Masks) -> dict[str, Tensor]:
    return {name: place[0].parameter for name, place in masks.check(model).items()}


# What they are ------------------------------------------------------------------------------------------------------


def test_counts_and_text() -> None:
    masks = Masks({"a": torch.tensor([True, False]), "b": torch.ones(2, 3, dtype=torch.bool)}, strategy="mine",
                  asked={"compression": 1.1}, achieved=8 / 7)  # fmt: skip
    assert (masks.nonzeros, masks.total, masks.density(), masks.density("a")) == (7, 8, 0.875, 0.5)
    assert "total" in str(masks)
    assert str(masks).endswith("mine, unstructured, asked for compression 1.1, whole model 1.143 times smaller")
    assert repr(masks) == "<Masks of 2 parameters, 7 of 8 entries kept>"
    assert Masks({}).density() == 1.0


def test_equality_is_that_of_the_masks() -> None:
    a, b = torch.tensor([True, False]), torch.tensor([True, True])
    assert Masks({"x": a}) == Masks({"x": a.clone()}, strategy="other") == {"x": a}
    assert Masks({"x": a}) != Masks({"x": b})
    assert Masks({"x": a}) != Masks({"y": a})
    assert Masks({"x": a}) != 3
    assert (Masks({"x": a}) & {"x": b}) == {"x": a}
    with pytest.raises(ValueError, match="masks of the same parameters"):
        Masks({"x": a}) & {"y": a}
    with pytest.raises(TypeError, match="expected bool tensors, got x: Tensor"):
        Masks({"x": a.float()})


@given(st.lists(st.lists(st.booleans(), max_size=20), max_size=3))
def test_packed_masks_come_back(entries: list[list[bool]]) -> None:
    masks = Masks(
        {str(i): torch.tensor(one, dtype=torch.bool) for i, one in enumerate(entries)}, asked={"sparsity": 0.5}
    )
    file = io.BytesIO()
    torch.save(masks.packed(), file)
    file.seek(0)
    again = Masks.from_packed(torch.load(file, weights_only=True))
    assert again == masks
    assert again.asked == masks.asked
    assert sum(bits.numel() for bits in masks.packed()["bits"].values()) == sum((len(one) + 7) // 8 for one in entries)


def test_packed_masks_that_do_not_fit_are_refused() -> None:
    packed = Masks({"a": torch.ones(9, dtype=torch.bool)}).packed()
    with pytest.raises(ValueError, match="expected 2 bytes for a"):
        Masks.from_packed({**packed, "bits": {"a": torch.zeros(1, dtype=torch.uint8)}})
    with pytest.raises(ValueError, match="expected version 1, got 7"):
        Masks.from_packed({**packed, "version": 7})


def test_the_same_masks_as_torch() -> None:
    """Of `global_unstructured` and `l1_unstructured`, where no two magnitudes are equal."""
    torch.manual_seed(0)
    net = MnistNet()
    targets = find(net)
    keep = round(fraction_to_keep(targets.total, targets.prunable, compression=8) * targets.prunable)
    scores = {name: p.detach().abs() for name, p in targets.parameters.items()}
    masks = dict(zip(scores, keep_largest(list(scores.values()), keep), strict=True))
    theirs = copy.deepcopy(net)
    places = [(theirs.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in targets.names]
    torch_prune.global_unstructured(places, torch_prune.L1Unstructured, amount=targets.prunable - keep)
    for name in targets.names:
        assert torch.equal(masks[name], dict(theirs.named_buffers())[f"{name}_mask"].bool())
    layer = nn.Linear(30, 20)
    mask = keep_largest([layer.weight.abs()], 200)[0]
    torch_prune.l1_unstructured(layer, "weight", amount=400)
    assert torch.equal(mask, layer.weight_mask.bool())


# How a model wears them ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_masked_model_computes_with_masked_weights(mode: str) -> None:
    net = small()
    masks = by_magnitude(net)
    by_hand = copy.deepcopy(net)
    for name, weight in weights(by_hand, masks).items():
        weight.data.mul_(masks[name])
    assert apply(net, masks, mode) is net
    assert torch.equal(net.eval()(inputs()), by_hand.eval()(inputs()))
    assert masks_of(net) == masks
    assert find(net).names == tuple(masks_of(net)) == find(by_hand).names
    total = sum(p.numel() for p in by_hand.parameters())
    assert masks_of(net).achieved == total / (total - masks.total + masks.nonzeros)


@pytest.mark.parametrize("mode", MODES)
def test_finalize_changes_no_bit_of_the_output(mode: str) -> None:
    net = small()
    names = list(net.state_dict())
    expected = apply(net, by_magnitude(net), mode).eval()(inputs())
    assert finalize(net) is net
    assert torch.equal(net(inputs()), expected)
    assert sorted(net.state_dict()) == sorted(names)
    assert len(masks_of(net)) == 0
    assert torch.equal(finalize(net)(inputs()), expected)


@pytest.mark.parametrize("mode", MODES)
def test_applying_twice_is_applying_once(mode: str) -> None:
    net = small()
    masks = by_magnitude(net)
    before = {name: value.clone() for name, value in apply(net, masks, mode).state_dict().items()}
    after = apply(net, masks, mode).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("mode", MODES)
def test_masks_are_replaced_and_never_shared(mode: str) -> None:
    net = small()
    first, second = by_magnitude(net, 0.6), by_magnitude(net, 0.2)
    apply(net, first, mode)
    apply(net, second, mode)
    assert masks_of(net) == second
    assert first == by_magnitude(small(), 0.6)


def test_parametrized_masters_keep_their_values_and_get_no_gradient() -> None:
    net = small()
    masks = by_magnitude(net)
    original = net[4].weight.detach().clone()
    apply(net, masks, "parametrize")
    net(inputs()).square().sum().backward()
    master = net[4].parametrizations.weight.original
    assert torch.equal(master, original)
    assert (master.grad[~masks["4.weight"]] == 0).all()
    assert (master.grad[masks["4.weight"]] != 0).any()


@pytest.mark.parametrize("mode", MODES)
def test_a_tied_weight_is_masked_once_for_both_layers(mode: str) -> None:
    torch.manual_seed(0)
    net = Tied()
    masks = by_magnitude(net)
    by_hand = copy.deepcopy(net)
    for name, weight in weights(by_hand, masks).items():
        weight.data.mul_(masks[name])
    apply(net, masks, mode)
    x = torch.randn(3, 4)
    assert torch.equal(net(x), by_hand(x))
    assert list(masks_of(net)) == ["up.weight", "up.bias", "down.bias"]
    finalize(net)
    assert net.up.weight is net.down.weight
    assert torch.equal(net(x), by_hand(x))


def test_nothing_is_changed_by_masks_that_do_not_fit() -> None:
    net = small()
    masks = dict(by_magnitude(net))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    for wrong, words in (
        ({**masks, "4.weigth": masks["4.weight"]}, r"names of parameters, got '4\.weigth'\. Did you mean 4\.weight"),
        ({**masks, "4.weight": masks["4.weight"].T}, r"a mask of shape \(8, 16\) for 4\.weight"),
    ):
        with pytest.raises(ValueError, match=words):
            apply(net, wrong)
    with pytest.raises(ValueError, match='mode "inplace" or "parametrize"'):
        apply(net, masks, "hooks")
    net[4].register_buffer("weight_mask", torch.ones(1))
    with pytest.raises(ValueError, match="weight_mask of 4 free for the mask"):
        apply(net, masks)
    del net[4].weight_mask
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_what_is_no_module_is_refused() -> None:
    for call in (finalize, masks_of, lambda it: apply(it, {})):
        with pytest.raises(TypeError, match=r"prune: expected a torch\.nn\.Module, got 3"):
            call(3)


def test_modes_are_not_mixed() -> None:
    net = small()
    masks = by_magnitude(net)
    apply(net, masks)
    with pytest.raises(ValueError, match=r"expected mode='inplace', as 0\.weight is masked already"):
        apply(net, masks, "parametrize")


# What they survive --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_deepcopy(mode: str) -> None:
    net = small()
    masks = by_magnitude(net)
    apply(net, masks, mode)
    twin = copy.deepcopy(net)
    assert masks_of(twin) == masks
    apply(net, by_magnitude(small(), 0.1), mode)
    assert masks_of(twin) == masks


def test_masks_of_a_copy_come_and_go_without_the_original() -> None:
    """torch lets a parametrized module and its deep copy share a class."""
    net = small()
    masks = by_magnitude(net)
    first, *others = masks
    apply(net, {first: masks[first]}, "parametrize")
    expected = net.eval()(inputs())
    twin = copy.deepcopy(net)
    apply(twin, {name: masks[name] for name in others}, "parametrize")
    assert torch.equal(net(inputs()), expected)
    covered = twin.eval()(inputs())
    again = copy.deepcopy(twin)
    assert torch.equal(finalize(twin)(inputs()), covered)
    assert torch.equal(again(inputs()), covered)
    assert torch.equal(net(inputs()), expected)


def test_pickle() -> None:
    net = small()
    masks = by_magnitude(net)
    again = pickle.loads(pickle.dumps(apply(net, masks)))
    assert masks_of(again) == masks
    assert torch.equal(again.eval()(inputs()), net.eval()(inputs()))
    assert pickle.loads(pickle.dumps(masks)) == masks


@pytest.mark.parametrize("mode", MODES)
def test_state_dict_into_a_model_with_and_without_masks(mode: str) -> None:
    net = small()
    masks = by_magnitude(net)
    expected = apply(net, masks, mode).eval()(inputs())
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    for other in (small(5), apply(small(5), by_magnitude(small(5), 0.5), mode)):
        assert load(other, state) is other
        assert masks_of(other) == masks
        assert torch.equal(other.eval()(inputs()), expected)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        small(5).load_state_dict(state)
    load(small(), small().state_dict())  # without masks, it is load_state_dict


def test_load_masks_what_a_file_left_unmasked() -> None:
    net = small()
    state = {**apply(net, by_magnitude(net)).state_dict(), "4.weight": torch.ones(8, 16)}
    assert torch.equal(load(small(), state)[4].weight, masks_of(net)["4.weight"].float())


def test_safetensors(tmp_path: Path) -> None:
    net = small()
    apply(net, by_magnitude(net))
    safetensors.torch.save_file(net.state_dict(), tmp_path / "net.safetensors")
    again = load(small(5), safetensors.torch.load_file(tmp_path / "net.safetensors"))
    assert masks_of(again) == masks_of(net)
    assert torch.equal(again.eval()(inputs()), net.eval()(inputs()))


@pytest.mark.parametrize("mode", MODES)
def test_compiled_models(mode: str) -> None:
    net = small()
    masks = by_magnitude(net)
    compiled = torch.compile(net, backend="aot_eager")
    apply(compiled, masks, mode)
    assert masks_of(compiled) == masks_of(net) == masks
    torch.testing.assert_close(compiled.eval()(inputs()), net.eval()(inputs()))
    loss = compiled(inputs()).square().sum()
    loss.backward()
    torch._dynamo.reset()


def test_other_precisions_keep_their_masks() -> None:
    net = small()
    masks = by_magnitude(net)
    apply(net, masks).to(torch.bfloat16)
    assert masks_of(net) == masks
    assert all(mask.dtype == torch.bool for mask in masks_of(net).values())
