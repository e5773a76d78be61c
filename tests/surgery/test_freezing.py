from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.surgery import reference
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

from hasten.surgery import LayerFreezing, freeze_layers, frozen_fraction, layers_of


def trained(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_the_fraction_is_a_ramp() -> None:
    assert [frozen_fraction(p) for p in (0.0, 0.5, 0.75, 1.0)] == [0, 0, 0.5, 1]
    assert frozen_fraction(0.6, start=0.2, level=0.5) == pytest.approx(0.25)


@given(n=st.integers(1, 12), start=st.floats(0, 0.99), level=st.floats(0, 1), steps=st.integers(1, 30))
def test_the_count_follows_the_formula_and_the_last_layer_always_trains(
    n: int, start: float, level: float, steps: int
) -> None:
    model = nn.Sequential(*[nn.Linear(1, 1) for _ in range(n)])
    freezing = LayerFreezing(model, start=start, level=level)
    for t in range(steps + 1):
        freezing.step(t, steps)
        due = max(0, int(level * (t / steps - start) / (1 - start) * (n - 1)))
        assert freezing.count == due
        assert freezing.names == tuple(str(index) for index in range(due))
        assert trained(model) == {f"{index}.{kind}" for index in range(due, n) for kind in ("weight", "bias")}
    assert trained(model)


def test_layers_are_leaves_and_holders_of_parameters_in_definition_order() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position = nn.Parameter(torch.zeros(4))
            self.project = nn.Linear(4, 4)

    model = nn.Module()
    model.scale = nn.Parameter(torch.ones(()))
    model.tokens, model.attention, model.head = Tokens(), nn.MultiheadAttention(4, 2), nn.Linear(4, 2)
    model.again = model.tokens.project  # used twice: due only where it is used last
    parametrize.register_parametrization(model.head, "weight", nn.Identity())
    assert list(layers_of(model)) == ["tokens", "attention", "attention.out_proj", "head", "again"]
    freeze_layers(model, 4)
    # A shared module keeps the name of its first place among the model's parameters.
    assert trained(model) == {"scale", "tokens.project.weight", "tokens.project.bias"}


def test_a_parametrised_layer_freezes_as_one() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    parametrize.register_parametrization(model[0], "weight", nn.Identity())
    assert freeze_layers(model, 1) == ("0",)
    assert trained(model) == {"1.weight", "1.bias"}


def test_shared_parameters_in_use_later_stay_trainable() -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 3), nn.Linear(3, 5, bias=False))
    model[2].weight = model[0].weight
    freeze_layers(model, 2)
    assert trained(model) == {"0.weight"}
    freeze_layers(model, 3)
    assert trained(model) == set()


def run_step(model: nn.Module, x: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        model(x).square().sum().backward()
    return counter.get_total_flops()


def test_the_backward_pass_of_the_frozen_prefix_is_gone() -> None:
    model, x = reference.tiny(), reference.images()
    outputs: dict[str, torch.Tensor] = {}
    for name in ("stem", "pool", "blocks"):
        model.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out}))
    full = run_step(model, x)
    assert outputs["pool"].grad_fn is not None
    freeze_layers(model, 2)
    stem_frozen = run_step(model, x)
    assert outputs["stem"].grad_fn is None
    assert outputs["pool"].grad_fn is None
    assert outputs["blocks"].grad_fn is not None
    freeze_layers(model, len(layers_of(model)) - 1)
    head_only = run_step(model, x)
    assert outputs["blocks"].grad_fn is None
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    forward = counter.get_total_flops()
    # Saved: the gradient of the stem's weight, and that of the input of the first convolution after it.
    assert full - stem_frozen == 2 * 4 * 9 * 9 * 16 * (3 * 9) + 2 * 4 * 5 * 5 * 16 * (16 * 9)
    assert head_only == forward + 2 * 4 * 24 * 5
    assert full > 2.5 * forward


def test_frozen_batch_norms_are_in_evaluation_mode_after_train_is_called_again() -> None:
    model, x = reference.tiny(), reference.images()
    freezing = LayerFreezing(model, start=0.0)
    index = list(layers_of(model)).index("blocks.0.branch.1")
    for t in range(2):
        model.train()
        freezing.step(index + 1 + t, len(layers_of(model)) - 1)
        assert not model.blocks[0].branch[1].training
        assert model.blocks[1].branch[1].training
        before = model.blocks[0].branch[1].running_mean.clone()
        model(x)
        assert torch.equal(model.blocks[0].branch[1].running_mean, before)


@pytest.mark.parametrize("make", [lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), torch.optim.AdamW])
def test_frozen_parameters_stay_in_the_optimizer_and_do_not_move(make: object) -> None:
    model, x = reference.tiny(), reference.images()
    optimizer = make(model.parameters())
    groups = [id(p) for group in optimizer.param_groups for p in group["params"]]
    freezing = LayerFreezing(model, optimizer, start=0.0, level=0.5)
    for t in range(4):
        model.train()
        freezing.step(t, 4)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
        moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
        assert moved == trained(model)
    assert len(freezing.names) == int(0.5 * 0.75 * (len(layers_of(model)) - 1))
    assert [id(p) for group in optimizer.param_groups for p in group["params"]] == groups


def test_the_count_never_goes_down() -> None:
    freezing = LayerFreezing(reference.tiny(), start=0.0)
    freezing.step(6, 10)
    count = freezing.count
    freezing.step(0, 10)
    assert freezing.count == count > 0


def test_state_round_trip_rebind_and_evaluation() -> None:
    model = reference.tiny()
    freezing = LayerFreezing(model, start=0.0)
    freezing.step(7, 10)
    fresh = reference.tiny()
    other = LayerFreezing(fresh, start=0.0)
    other.load_state_dict(copy.deepcopy(freezing.state_dict()))
    assert other.names == freezing.names
    assert trained(fresh) == trained(model)
    other.rebind(again := reference.tiny(), None)
    assert trained(again) == trained(model)
    assert other.evaluated(again) is again


def test_compiled_models_follow() -> None:
    model, x = reference.tiny(), reference.images()
    compiled = torch.compile(model, backend="aot_eager")
    compiled(x).sum().backward()
    model.zero_grad()
    freeze_layers(model, 4)
    compiled(x).sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == trained(model)


def test_bad_input_is_refused() -> None:
    model = reference.tiny()
    with pytest.raises(ValueError, match=r"start < 1, got 1\.0"):
        LayerFreezing(model, start=1.0)
    with pytest.raises(ValueError, match=r"level in \[0, 1\], got 1\.5"):
        LayerFreezing(model, level=1.5)
    with pytest.raises(ValueError, match=r"T > 0, got 0"):
        LayerFreezing(model).step(0, 0)
    with pytest.raises(ValueError, match=r"count of at most 18 layers, got 99"):
        freeze_layers(model, 99)


def test_a_group_norm_behind_frozen_layers_takes_channels_last_inputs() -> None:
    """torch's own kernel ends the process here: the input needs no gradient, the scale does."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 3))
    model.to(memory_format=torch.channels_last)
    for _ in range(2):
        freeze_layers(model, 1)
    assert len(model[1]._forward_pre_hooks) == 1
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    model(x).square().sum().backward()
    assert model[0].weight.grad is None
    assert model[1].weight.grad is not None
