from __future__ import annotations

import pytest
import torch
from tests.surgery import reference
from torch import nn

from hasten.surgery import NoEffectWarning, apply_channels_last


def test_four_dimensional_tensors_change_order_and_no_value() -> None:
    model, x = reference.tiny().eval(), reference.images()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = model(x)
    report = apply_channels_last(model)
    assert report.changed == tuple(name for name, value in model.named_parameters() if value.ndim == 4)
    assert all(model.get_parameter(name).is_contiguous(memory_format=torch.channels_last) for name in report.changed)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(model(x), expected)
    assert model.stem(x).is_contiguous(memory_format=torch.channels_last), "activations follow"


def test_parameters_stay_the_same_objects_and_undo_restores_the_strides() -> None:
    model = reference.tiny()
    parameters = list(model.parameters())
    strides = [parameter.stride() for parameter in parameters]
    report = apply_channels_last(model)
    assert all(new is old for new, old in zip(model.parameters(), parameters, strict=True))
    assert [parameter.stride() for parameter in model.parameters()] != strides
    with torch.no_grad():
        model.stem.weight.fill_(3.0)
    report.undo()
    assert [parameter.stride() for parameter in model.parameters()] == strides
    assert torch.equal(model.stem.weight, torch.full_like(model.stem.weight, 3.0))


def test_other_dimensions_are_left_and_nothing_warns() -> None:
    model = nn.Sequential(nn.Conv1d(2, 2, 3), nn.Linear(2, 2))
    with pytest.warns(NoEffectWarning, match="a parameter of 4 dimensions"):
        assert apply_channels_last(model, generator=torch.Generator()).changed == ()


def test_compiled_trains_to_the_same_gradients() -> None:
    one, two, x = reference.tiny(), reference.tiny(), reference.images(1)
    apply_channels_last(two)
    one.eval()(x).sum().backward()
    torch.compile(two.eval(), backend="aot_eager", fullgraph=True)(x).sum().backward()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
