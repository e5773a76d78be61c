"""Measured times: what runs when, what is reported, and nothing that depends on how fast the machine is."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from hasten._core.timing import SECONDS
from hasten.prune.count import Comparison, Latency, compare_latency, latency


class Clocked(nn.Module):
    """Each call takes so many seconds of a clock that stands still otherwise."""

    now = 0.0

    def __init__(self, *seconds: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seconds = seconds
        self.calls: list[tuple[bool, bool, bool, int]] = []

    def forward(self, x: Tensor) -> Tensor:
        Clocked.now += self.seconds[len(self.calls) % len(self.seconds)]
        self.calls.append((self.training, torch.is_grad_enabled(), gc.isenabled(), torch.get_num_threads()))
        return x


@pytest.fixture(autouse=True)
def still() -> Iterator[None]:
    Clocked.now = 0.0
    yield
    torch.set_num_threads(1)


def clock() -> float:
    return Clocked.now


X = torch.ones(2, 3)


def test_median_and_interval_are_order_statistics() -> None:
    model = Clocked(9.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)  # two calls warm up
    found = latency(model, X, rounds=9, clock=clock)
    assert found.rounds == (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)
    assert (found.median, found.low, found.high) == (5.0, 2.0, 8.0)
    assert (found.device, found.threads) == ("cpu", 1)


def test_short_calls_are_repeated() -> None:
    model = Clocked(SECONDS / 4)
    found = latency(model, X, rounds=6, clock=clock)
    assert found.median == pytest.approx(SECONDS / 4)
    assert len(model.calls) == 2 + 6 * 4


def test_evaluation_without_gradients_or_collections_on_the_threads_asked_for() -> None:
    model = Clocked(1.0)
    assert gc.isenabled()
    assert latency(model, X, rounds=6, threads=2, clock=clock).threads == 2
    assert set(model.calls) == {(False, False, False, 2)}
    assert model.training
    assert gc.isenabled()
    assert torch.get_num_threads() == 1


def test_a_comparison_is_the_median_of_the_rounds() -> None:
    """The machine slows down fourfold meanwhile: both medians move, the ratio of each round does not."""
    slow = [1.0, 1.0, *(1.0 + i for i in range(8))]
    model, baseline = Clocked(*(0.5 * s for s in slow)), Clocked(*slow)
    found = compare_latency(model, baseline, X, rounds=8, clock=clock)
    assert (found.ratio, found.low, found.high) == (0.5, 0.5, 0.5)
    assert found.faster
    assert (found.model.median, found.baseline.median) == (2.25, 4.5)
    assert str(found) == "0.5x the time of the baseline [0.5, 0.5]: faster"


def test_words_for_a_difference() -> None:
    one = Latency(1.0, 1.0, 1.0, "cpu", 1)
    assert str(Comparison(1.0, 0.9, 1.1, one, one)).endswith("[0.9, 1.1]: no difference measured")
    assert not Comparison(1.0, 0.9, 1.0, one, one).faster
    assert str(Comparison(2.0, 1.5, 3.0, one, one)).endswith(": slower")


def test_units() -> None:
    assert str(Latency(1.5, 1.0, 2.0, "cpu", 1)) == "1.5 s [1, 2] on cpu, 1 thread"
    assert str(Latency(0.0015, 0.001, 0.002, "cpu", 2)) == "1.5 ms [1, 2] on cpu, 2 threads"
    assert str(Latency(1.5e-5, 1e-5, 2e-5, "cpu", 2)) == "15 us [10, 20] on cpu, 2 threads"


def test_real_models_with_inputs_of_all_kinds() -> None:
    assert latency(nn.Bilinear(2, 3, 4), (torch.ones(5, 2), torch.ones(5, 3)), rounds=6).median > 0
    found = compare_latency(nn.Linear(3, 4), nn.Linear(3, 5), {"input": X}, rounds=6)
    assert 0 < found.low <= found.ratio <= found.high


def test_state_comes_back_after_an_error() -> None:
    model = nn.Linear(3, 4)
    with pytest.raises(RuntimeError):
        latency(model, torch.ones(2, 5), rounds=6, threads=2)
    assert model.training
    assert gc.isenabled()
    assert torch.get_num_threads() == 1


def test_bad_input() -> None:
    layer = nn.Linear(3, 4)
    with pytest.raises(ValueError, match="latency: expected a whole number of at least 6 for rounds, got 5"):
        latency(layer, X, rounds=5)
    with pytest.raises(ValueError, match="compare_latency: expected a whole number of at least 1 for threads, got 0"):
        compare_latency(layer, layer, X, threads=0)
    with pytest.raises(TypeError, match="compare_latency: expected a torch.nn.Module"):
        compare_latency(layer, torch.relu, X)  # type: ignore[arg-type]


@pytest.mark.gpu
def test_a_gpu_is_waited_for_and_named() -> None:
    found = latency(nn.Linear(64, 64).cuda(), torch.ones(8, 64, device="cuda"), rounds=6)
    assert found.device.startswith("cuda:0 (")
    assert found.median > 1e-6
