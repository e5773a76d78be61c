"""What a prediction costs: FLOPs by hand, a time above 0, and nothing at all where the data cannot be batched."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hasten.bench.inference import inference_cost

CPU = torch.device("cpu")


def test_cost_per_sample() -> None:
    net = nn.Linear(5, 7)
    found = inference_cost(net, (torch.randn(300, 5), torch.zeros(300)), CPU, samples=64)
    assert found["flops"] == 2 * 5 * 7
    assert found["parameters"] == 5 * 7 + 7
    assert found["ms"] > 0


def test_it_uses_the_first_samples_only() -> None:
    seen = []
    net = nn.Identity()
    net.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    inference_cost(net, {"x": torch.randn(10, 5), "y": torch.zeros(10)}, CPU, samples=4)
    assert set(seen) == {(4, 5)}
    assert len(seen) == 8  # one to count, seven to time: the median of an odd number is one of them


@pytest.mark.parametrize(
    "test",
    [
        None,
        "a path",
        object(),
        (torch.zeros(2),) * 3,
        {"a": 1},
        ([1, 2], [3]),
        (torch.tensor(1.0), 1),
        (torch.zeros(0, 5), 1),
    ],
)
def test_data_that_cannot_be_batched_has_no_cost(test: Any) -> None:
    assert inference_cost(nn.Linear(5, 7), test, CPU) == {}


def test_inputs_that_only_the_metric_prepares_have_no_cost() -> None:
    """A metric may scale or cast; the trained model must not be lost because this measure does not know how."""
    net = nn.Sequential(nn.Linear(5, 7).double(), nn.Dropout(), nn.BatchNorm1d(7))
    net[2].eval()
    assert inference_cost(net, (torch.zeros(4, 5), torch.zeros(4)), CPU) == {}
    assert [module.training for module in net] == [True, True, False]


def test_every_module_keeps_its_mode_and_its_statistics() -> None:
    net = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.BatchNorm1d(7))
    net[2].eval()
    inference_cost(net, (torch.randn(4, 5), torch.zeros(4)), CPU)
    assert [module.training for module in net.modules()] == [True, True, True, False]
    assert int(net[1].num_batches_tracked) == 0
