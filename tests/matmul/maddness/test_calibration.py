"""Samples of what layers are given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hasten.matmul.maddness.calibration import Reservoir, batches_of, collect, trace_calls
from hasten.matmul.maddness.patches import geometry_of, patch_rows


def offer(reservoir: Reservoir, rows: Tensor) -> None:
    reservoir.offer(len(rows), lambda index: rows[index])


def test_all_rows_are_kept_in_order_while_there_is_room():
    reservoir = Reservoir(10, torch.Generator().manual_seed(0))
    offer(reservoir, torch.arange(4.0)[:, None])
    offer(reservoir, torch.zeros(0, 1))
    offer(reservoir, torch.arange(4.0, 10.0)[:, None])
    assert torch.equal(reservoir.rows, torch.arange(10.0)[:, None])


def test_each_row_has_the_same_chance_wherever_it_comes():
    counts = torch.zeros(40)
    for seed in range(600):
        reservoir = Reservoir(10, torch.Generator().manual_seed(seed))
        for part in torch.arange(40)[:, None].split([3, 20, 1, 16]):
            offer(reservoir, part)
        kept = reservoir.rows.long().flatten()
        assert len(kept) == len(kept.unique()) == 10
        assert reservoir.seen == 40
        counts[kept] += 1
    assert (counts - 150).abs().max() < 5 * (600 * 0.25 * 0.75) ** 0.5


def test_only_rows_that_are_kept_are_made():
    made = []

    def take(index: Tensor) -> Tensor:
        made.append(len(index))
        return index[:, None].float()

    reservoir = Reservoir(5, torch.Generator().manual_seed(0))
    for _ in range(20):
        reservoir.offer(100, take)
    assert made[0] == 5
    assert sum(made) < 60
    assert len(reservoir.rows) == 5


class Twice(nn.Module):
    """Calls a layer twice in a pass, and another never."""

    def __init__(self) -> None:
        super().__init__()
        self.never, self.fc, self.conv = nn.Linear(4, 4), nn.Linear(4, 4), nn.Conv2d(2, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).mean((2, 3))
        return self.fc(input=torch.relu(self.fc(x)))


def test_all_calls_are_seen_and_the_order_is_that_of_the_first_calls():
    torch.manual_seed(0)
    model, x = Twice().eval(), torch.randn(3, 2, 5, 5)
    layers = {"never": model.never, "fc": model.fc, "conv": model.conv}
    found = collect("test", model, [x, x], layers)
    assert list(found) == ["conv", "fc"]
    hidden = model.conv(x).mean((2, 3))
    both = torch.cat([hidden, torch.relu(model.fc(hidden))])
    assert torch.equal(found["fc"], torch.cat([both, both]))
    assert torch.equal(found["conv"][:27], patch_rows(x, torch.arange(27), geometry_of(model.conv)))
    assert not model.fc._forward_pre_hooks
    calls = trace_calls("test", model, x, layers)
    assert list(calls) == ["conv", "fc"]
    assert calls["fc"] == [((3, 4), torch.float32)] * 2
    assert calls["conv"] == [((3, 2, 5, 5), torch.float32)]


def test_the_sample_depends_on_the_seed_and_the_name_only():
    torch.manual_seed(0)
    model, batches = Twice().eval(), [torch.randn(3, 2, 5, 5) for _ in range(4)]
    layers = {"fc": model.fc, "conv": model.conv}

    def rows(seed: int, names: tuple[str, ...]) -> Tensor:
        found = collect("test", model, batches, {n: layers[n] for n in names}, max_rows=7, seed=seed)
        return found["fc"]

    assert torch.equal(rows(0, ("fc",)), rows(0, ("conv", "fc")))
    assert not torch.equal(rows(0, ("fc",)), rows(1, ("fc",)))
    assert rows(0, ("fc",)).shape == (7, 4)


def test_batches_in_all_forms():
    x = torch.zeros(2, 3)
    for calibration in (x, [x], [(x, x)], [{"inputs": x}], iter([x])):
        assert [b is x for b in batches_of("f", calibration)] == [True]


@pytest.mark.parametrize("calibration", [[], iter([]), ()])
def test_no_batches(calibration):
    with pytest.raises(ValueError, match="at least one batch"):
        list(batches_of("f", calibration))


@pytest.mark.parametrize("calibration", [None, 3, {"inputs": torch.zeros(2)}, "data", np.zeros((4, 2))])
def test_other_things_than_batches(calibration):
    with pytest.raises(TypeError, match="an iterable of batches"):
        list(batches_of("f", calibration))


def test_a_model_in_training_mode_is_refused():
    model = Twice().eval()
    model.fc.train()
    with pytest.raises(ValueError, match="'fc' in training mode"):
        collect("test", model, [torch.zeros(1, 2, 5, 5)], {"fc": model.fc})


def test_activations_that_are_not_finite_are_refused_and_hooks_are_taken_off():
    model = Twice().eval()
    with torch.no_grad():
        assert model.conv.bias is not None
        model.conv.bias[0] = float("inf")
    with pytest.raises(ValueError, match="finite inputs of 'fc', got NaN or infinity"):
        collect("test", model, [torch.zeros(1, 2, 5, 5)], {"fc": model.fc, "conv": model.conv})
    assert not model.fc._forward_pre_hooks
    assert not model.conv._forward_pre_hooks
