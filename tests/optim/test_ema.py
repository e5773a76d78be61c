from __future__ import annotations

import copy
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.optim import reference
from torch import nn

from hasten.optim import EMA


def set_to(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


def train(model: nn.Module, ema: EMA, steps: range, T: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for t in steps:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(t))
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        ema.step(t, T)


def test_after_one_half_life_of_constant_weights_the_average_is_the_midpoint() -> None:
    for half_life, interval in ((8, 1), (8, 4), (0.5, 1)):
        model = nn.Linear(2, 1)
        ema = EMA(model, half_life=half_life, update_interval=interval)
        steps = 8
        for k in range(steps + 1):
            set_to(model, 1.0 if k else 0.0)
            ema.step(k * half_life / steps, 100)  # in any unit of time
        assert ema.evaluated(model).weight.tolist() == [pytest.approx([0.5, 0.5])]


@given(
    values=st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=20),
    half_life=st.floats(0.5, 50),
    interval=st.integers(1, 4),
)
def test_equals_the_slow_reference(values: list[float], half_life: float, interval: int) -> None:
    model = nn.Linear(1, 1, bias=False)
    ema = EMA(model, half_life=half_life, update_interval=interval)
    for t, value in enumerate(values):
        set_to(model, value)
        ema.step(t, 100)
    taken = [torch.tensor([value]) for value in values[::interval]]
    expected = reference.ema(taken, 2 ** (-interval / half_life))
    torch.testing.assert_close(ema.averages["weight"].double().flatten(), expected, rtol=1e-5, atol=1e-5)


def test_float_buffers_are_averaged_counters_and_frozen_parameters_are_the_models() -> None:
    model = reference.network()
    model[0].bias.requires_grad_(False)
    ema = EMA(model, half_life=4)
    means = []
    for t in range(5):
        train(model, ema, range(t, t + 1), 10)
        means.append(model[1].running_mean.clone())
    assert "0.bias" not in ema.averages
    assert "1.num_batches_tracked" not in ema.averages
    with torch.no_grad():
        model[0].bias.fill_(9.0)
    averaged = ema.evaluated(model)
    torch.testing.assert_close(averaged[1].running_mean.double(), reference.ema(means, 2**-0.25))
    assert int(averaged[1].num_batches_tracked) == 5
    assert averaged[0].bias.tolist() == [9.0] * 6


def test_a_parameter_frozen_on_the_way_is_still_approached() -> None:
    model = nn.Linear(1, 1, bias=False)
    ema = EMA(model, half_life=1)
    set_to(model, 0.0)
    ema.step(0)
    set_to(model, 1.0)
    model.weight.requires_grad_(False)
    for t in range(1, 4):
        ema.step(t)
    assert ema.evaluated(model).weight.item() == pytest.approx(0.875)


def test_non_persistent_buffers_are_not_averaged() -> None:
    model = nn.Linear(1, 1)
    model.register_buffer("mask", torch.zeros(3), persistent=False)
    ema = EMA(model, half_life=1)
    ema.step(0)
    model.mask = torch.ones(5)  # may even change its shape
    ema.step(1)
    assert ema.evaluated(model).mask.tolist() == [1] * 5


def test_evaluated_is_a_copy_and_training_never_sees_it() -> None:
    model = reference.network()
    ema = EMA(model, half_life=3)
    plain = ema.evaluated(model)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), model.parameters(), strict=True))
    train(model, ema, range(5), 10)
    before = copy.deepcopy(model.state_dict())
    averaged = ema.evaluated(model)
    assert not torch.equal(averaged[0].weight, model[0].weight)
    set_to(averaged, 7.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model[0].weight.grad is not None
    assert averaged.training == model.training


def test_averaging_begins_at_start() -> None:
    model = nn.Linear(1, 1, bias=False)
    ema = EMA(model, half_life=2, start=0.5)
    for t in range(8):
        set_to(model, float(t))
        ema.step(t, 8)
        if t <= 4:
            assert ema.evaluated(model).weight.item() == t
    expected = reference.ema([torch.tensor([float(t)]) for t in range(4, 8)], 2**-0.5)
    assert ema.evaluated(model).weight.item() == pytest.approx(expected.item())
    ema.step(1, 8)
    assert ema.averages == {}, "the clock started again: averaging waits for its start in the new cycle too"


def test_a_clock_that_starts_again_goes_on_averaging() -> None:
    model = nn.Linear(1, 1, bias=False)
    ema = EMA(model, half_life=2)
    for t in (0, 1, 2, 1, 2):
        set_to(model, float(t))
        ema.step(t, 2)
    values = [torch.tensor([float(t)]) for t in (0, 1, 2, 1, 2)]
    assert ema.averages["weight"].item() == pytest.approx(reference.ema(values, 2**-0.5).item())


def test_bfloat16_weights_have_float32_averages() -> None:
    model = nn.Linear(1, 1, bias=False).bfloat16()
    ema = EMA(model, half_life=1000)
    set_to(model, 1.0)
    ema.step(0)
    set_to(model, 2.0)
    for t in range(1, 101):
        ema.step(t)
    assert ema.averages["weight"].dtype == torch.float32
    assert ema.averages["weight"].item() == pytest.approx(2 - 2**-0.1, rel=1e-4)
    assert ema.evaluated(model).weight.dtype == torch.bfloat16


def test_tied_weights_stay_tied() -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    model[1].weight = model[0].weight
    ema = EMA(model, half_life=1)
    ema.step(0)
    set_to(model, 1.0)
    ema.step(1)
    averaged = ema.evaluated(model)
    assert averaged[0].weight is averaged[1].weight
    assert list(ema.averages) == ["0.weight"]


def test_state_round_trip_is_exact_and_resuming_equals_going_on() -> None:
    torch.manual_seed(0)
    model = reference.network()
    ema = EMA(model, half_life=3, start=0.2, update_interval=2)
    train(model, ema, range(6), 12)
    file = io.BytesIO()
    torch.save({"ema": ema.state_dict(), "model": model.state_dict()}, file)
    file.seek(0)
    stored = torch.load(file, weights_only=True)
    other_model = reference.network()
    other_model.load_state_dict(stored["model"])
    other = EMA(other_model, half_life=3, start=0.2, update_interval=2)
    other.load_state_dict(stored["ema"])
    train(model, ema, range(6, 12), 12)
    train(other_model, other, range(6, 12), 12)
    one, two = ema.state_dict(), other.state_dict()
    assert one["calls"] == two["calls"] == 12
    assert one["last"] == two["last"]
    assert all(torch.equal(one["averages"][name], two["averages"][name]) for name in one["averages"])
    assert len(one["averages"]) == 8


def test_compiled_models_and_rebinding() -> None:
    model = reference.network()
    compiled = torch.compile(model, backend="aot_eager")
    ema = EMA(compiled, half_life=2)
    train(compiled, ema, range(3), 10)
    assert "0.weight" in ema.averages
    averaged = ema.evaluated(compiled)
    assert type(averaged) is nn.Sequential
    assert averaged(torch.ones(2, 4)).shape == (2, 2)
    ema.rebind(again := reference.network(), None)
    ema.step(3, 10)
    assert ema.model is again


def test_bad_input_is_refused() -> None:
    model = nn.Linear(2, 2)
    for options, text in (
        ({"half_life": 0}, "half_life > 0, got 0"),
        ({"half_life": 1, "start": 1.0}, "start < 1"),
        ({"half_life": 1, "start": -0.1}, r"start in \[0, 1\]"),
        ({"half_life": 1, "update_interval": 0}, "at least 1 for update_interval"),
    ):
        with pytest.raises(ValueError, match=text):
            EMA(model, **options)
    with pytest.raises(ValueError, match="T > 0"):
        EMA(model, half_life=1, start=0.5).step(1)
    ema = EMA(model, half_life=1)
    ema.step(0)
    with pytest.raises(ValueError, match=r"weight of shape \(2, 2\) in the model, got shape \(3, 2\)"):
        ema.rebind(nn.Linear(2, 3))
    with pytest.raises(ValueError, match="got no such tensor"):
        ema.evaluated(nn.ReLU())
