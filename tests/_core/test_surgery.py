"""Replacing modules in place, with a report and a way back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hasten._core.surgery import NoEffectWarning, Report, parents_of, replace_modules


class Tanh(nn.Module):
    """What the tests put in place of a ReLU."""

    def forward(self, x):
        return x.tanh()


class Wrapped(nn.Module):
    """Keeps what it replaces inside: a careless search would go on into it for ever."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x) + 1


def relu_to_tanh(name, module):
    return Tanh() if isinstance(module, nn.ReLU) else None


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 3), nn.ReLU()))


def test_parents_of():
    found = [(name, attribute, type(child).__name__) for _, attribute, name, child in parents_of(network())]
    assert found == [
        ("0", "0", "Linear"),
        ("1", "1", "ReLU"),
        ("2", "2", "Sequential"),
        ("2.0", "0", "Linear"),
        ("2.1", "1", "ReLU"),
    ]
    relu = nn.ReLU()
    assert [name for _, _, name, _ in parents_of(nn.Sequential(relu, relu))] == ["0", "1"], "every place"


def test_replace_and_undo():
    model = network()
    old = [model[1], model[2][1]]
    report = replace_modules(model, relu_to_tanh, surgery="tanh")
    assert isinstance(model[1], Tanh)
    assert isinstance(model[2][1], Tanh)
    assert (report.surgery, report.changed, len(report)) == ("tanh", ("1", "2.1"), 2)
    report.undo()
    assert [model[1], model[2][1]] == old
    report.undo()
    assert [model[1], model[2][1]] == old, "a second undo does nothing"


def test_parameters_stay_the_same_objects():
    model = network()
    before = list(model.parameters())
    replace_modules(model, lambda _, m: Wrapped(m) if isinstance(m, nn.Linear) else None, surgery="wrap")
    assert all(a is b for a, b in zip(model.parameters(), before, strict=True))
    assert model(torch.zeros(1, 2)).shape == (1, 3)


def test_wrapping_ends_and_undoes():
    model = nn.Sequential(nn.Linear(2, 2))
    inner = model[0]
    report = replace_modules(model, lambda _, m: Wrapped(m) if isinstance(m, nn.Linear) else None, surgery="wrap")
    assert report.changed == ("0",)
    assert isinstance(model[0], Wrapped)
    assert model[0].inner is inner
    report.undo()
    assert model[0] is inner


def test_a_shared_module_is_made_once_and_replaced_everywhere():
    relu = nn.ReLU()
    model = nn.Sequential(relu, nn.Linear(2, 2), relu)
    made = []

    def make(name, module):
        if isinstance(module, nn.ReLU):
            made.append(name)
            return Tanh()
        return None

    report = replace_modules(model, make, surgery="tanh")
    assert made == ["0"]
    assert model[0] is model[2]
    assert isinstance(model[0], Tanh)
    assert report.changed == ("0",)
    report.undo()
    assert model[0] is model[2] is relu


def test_a_replaced_block_is_not_searched():
    model = nn.Sequential(nn.Sequential(nn.ReLU()), nn.ReLU())
    asked = []

    def make(name, module):
        asked.append(name)
        return Tanh()

    assert replace_modules(model, make, surgery="tanh").changed == ("0", "1")
    assert asked == ["0", "1"]


def test_a_module_shared_with_a_replaced_block_is_still_replaced():
    relu = nn.ReLU()
    model = nn.Sequential(nn.Sequential(relu), relu)
    report = replace_modules(model, lambda name, _: Tanh() if name in ("0", "1") else None, surgery="tanh")
    assert report.changed == ("0", "1")
    assert isinstance(model[1], Tanh)


def test_training_mode_follows():
    model = network()
    model[2].eval()
    replace_modules(model, relu_to_tanh, surgery="tanh")
    assert model[1].training
    assert not model[2][1].training


def test_the_root_is_never_replaced():
    assert replace_modules(nn.ReLU(), relu_to_tanh, surgery="tanh").changed == ()


def test_undo_goes_backwards():
    done = []
    Report("x", _undo=[lambda: done.append(1), lambda: done.append(2)]).undo()
    assert done == [2, 1]


def test_nothing_matched_warns():
    report = replace_modules(nn.Sequential(nn.Linear(2, 2)), relu_to_tanh, surgery="tanh")
    with pytest.warns(NoEffectWarning, match="^tanh: nothing changed: expected ReLU layers, the model has none"):
        assert report.warn_if_empty("ReLU layers") is report


def test_something_matched_does_not_warn():
    report = replace_modules(network(), relu_to_tanh, surgery="tanh")
    assert report.warn_if_empty("ReLU layers") is report
