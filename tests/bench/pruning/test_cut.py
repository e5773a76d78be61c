"""The seam to the room of pruning: masks on a model, and what a model takes."""

from __future__ import annotations

import copy
import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hasten.bench.pruning import cut as module
from hasten.bench.pruning.cut import cut, held, measured
from hasten.bench.run import NonFiniteError
from hasten.prune import masks_of


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))


@pytest.fixture
def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(16, 8), torch.randint(0, 3, (16,))) for _ in range(2)]


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUNDS", 6)


def loss(outputs: torch.Tensor, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return F.cross_entropy(outputs, batch[1], reduction="none")


@pytest.mark.parametrize("strategy", ["random", "global_magnitude", "snip", "global_activation", "wanda", "sparsegpt"])
def test_every_kind_of_strategy_prunes_to_the_ratio(model: nn.Module, batches: list, strategy: str) -> None:
    dense = copy.deepcopy(model)
    cut(model, strategy, 2.0, pattern="unstructured", batches=batches, loss=loss, seed=0)
    cost = measured(model, dense, batches[0][0])
    assert cost["compression"] == pytest.approx(2.0, rel=0.02)
    assert cost["speedup"] > 1.5
    assert held(model)
    moved = any(
        not torch.equal(now[mask], then[mask])
        for (now, then), mask in zip(
            [(dict(model.named_parameters())[n], dict(dense.named_parameters())[n]) for n in masks_of(model)],
            masks_of(model).values(),
            strict=True,
        )
    )
    assert moved == (strategy == "sparsegpt")  # which makes up for what it drops


def test_draws_depend_on_the_seed_and_are_nested_over_the_ratios(model: nn.Module, batches: list) -> None:
    def masks(seed: int, ratio: float) -> list[torch.Tensor]:
        twin = copy.deepcopy(model)
        cut(twin, "random", ratio, pattern="unstructured", batches=batches, loss=loss, seed=seed)
        return list(masks_of(twin).values())

    assert all(map(torch.equal, masks(0, 2.0), masks(0, 2.0)))
    assert not all(map(torch.equal, masks(0, 2.0), masks(1, 2.0)))
    assert all(bool((few <= many).all()) for few, many in zip(masks(0, 4.0), masks(0, 2.0), strict=True))


def test_removed_channels_are_really_gone(model: nn.Module, batches: list) -> None:
    dense = copy.deepcopy(model)
    cut(model, "channel_l2", 2.0, pattern="channel", batches=batches, loss=loss, seed=0)
    cost = measured(model, dense, batches[0][0], "channel")
    assert cost["removed"]
    assert cost["parameters"] == cost["nonzero"] < 499 / 2 + 1
    assert cost["macs"] == cost["macs_nonzero"]


def test_entries_that_came_back_are_noticed(model: nn.Module, batches: list) -> None:
    cut(model, "random", 2.0, pattern="unstructured", batches=batches, loss=loss, seed=0)
    with torch.no_grad():
        model[0].weight += 1
    assert not held(model)


def test_a_model_of_zeros_has_no_speedup(model: nn.Module, batches: list) -> None:
    dense = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    with pytest.raises(NonFiniteError, match="no weight is left that is multiplied with anything"):
        measured(model, dense, batches[0][0])


def test_processor_time_is_measured_where_one_thread_computes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert module._clock(torch.device("cpu")) is time.thread_time
    assert module._clock(torch.device("cuda")) is time.perf_counter
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert module._clock(torch.device("cpu")) is time.perf_counter
