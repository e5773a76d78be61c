"""Looking into batches: pairs and dicts, plain and mixed targets."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hasten._core import batch as batches
from hasten._core.batch import MixedTargets

X = torch.arange(6.0).reshape(3, 2)  # (batch, features)
Y = torch.tensor([0, 1, 2])  # (batch,)


def equal(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[name], b[name]) for name in a)
    if isinstance(a, tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("inputs", ["inputs", "input_ids", "pixel_values", "x"])
@pytest.mark.parametrize("targets", ["targets", "labels", "label", "y"])
def test_dicts_under_the_usual_names(inputs, targets):
    batch = {inputs: X, targets: Y, "id": "a"}
    assert batches.get_inputs(batch) is X
    assert batches.get_targets(batch) is Y
    new = batches.replace_parts(batch, inputs=X + 1)
    assert equal(new, {inputs: X + 1, targets: Y, "id": "a"})
    assert batch[inputs] is X, "the old one is untouched"
    assert equal(batches.replace_parts(batch, targets=Y + 1), {inputs: X, targets: Y + 1, "id": "a"})


@pytest.mark.parametrize("kind", [tuple, list])
def test_pairs(kind):
    batch = kind((X, Y))
    assert batches.get_inputs(batch) is X
    assert batches.get_targets(batch) is Y
    assert equal(batches.replace_parts(batch, inputs=X + 1), (X + 1, Y))
    assert equal(batches.replace_parts(batch, targets=Y + 1), (X, Y + 1))
    assert batches.batch_size(batch) == 3


@pytest.mark.parametrize("bad", [(X,), (X, Y, Y), X, None, "ab"])
def test_other_batches_are_refused(bad):
    for look in (batches.get_inputs, batches.get_targets, batches.replace_parts):
        with pytest.raises(TypeError, match=r"^batch: expected \(inputs, targets\) or a dict, got .*Return one of the"):
            look(bad)


def test_dicts_without_a_known_name_are_refused():
    with pytest.raises(ValueError, match=r"a dict with inputs under one of inputs, .*, got the keys \['a', 'y'\]"):
        batches.get_inputs({"a": X, "y": Y})
    with pytest.raises(ValueError, match="a dict with targets under one of"):
        batches.get_targets({"x": X})


@pytest.mark.parametrize("inputs", [None, torch.tensor(1.0), [1, 2]])
def test_batch_size_needs_a_batch_dimension(inputs):
    with pytest.raises(TypeError, match="inputs that are a tensor with a batch dimension"):
        batches.batch_size((inputs, Y))


def test_map_keeps_the_structure():
    mixed = MixedTargets(Y, Y + 1, torch.ones(3))
    batch = {"x": [X, (X, "text")], "y": mixed, "n": 3}
    doubled = batches.map_tensors(lambda tensor: tensor * 2, batch)
    expected = {"x": (X * 2, (X * 2, "text")), "y": MixedTargets(Y * 2, Y * 2 + 2, torch.full((3,), 2.0)), "n": 3}
    assert equal(doubled, expected)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_take_indexes_every_tensor(rows):
    index = torch.tensor(rows)
    mixed = MixedTargets(Y, Y + 1, torch.rand(3, generator=torch.Generator().manual_seed(0)))
    inputs, targets = batches.take((X, mixed), index)
    assert torch.equal(inputs, X[index])
    assert equal(targets, MixedTargets(Y[index], Y[index] + 1, mixed.weight[index]))
    assert batches.batch_size((inputs, targets)) == len(rows)


def test_take_a_slice_is_a_view():
    part = batches.take({"x": X, "y": Y}, slice(1, 3))
    assert equal(part, {"x": X[1:], "y": Y[1:]})
    assert part["x"].data_ptr() == X[1:].data_ptr()


def test_to_device():
    inputs, targets = batches.to_device((X, Y), "meta")
    assert inputs.device.type == targets.device.type == "meta"
    assert batches.to_device((X, Y), "cpu")[0] is X
