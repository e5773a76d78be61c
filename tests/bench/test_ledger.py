"""The clock: every second is in one phase or one excluded counter, and the phases are the training time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.contract import battery, images
from torch import Tensor, nn

from hasten.bench import ledger as ledgers
from hasten.bench.ledger import EXCLUDED, PHASES, Ledger, peak_memory, reset_peak_memory
from hasten.program import Program, bind, call

CPU = torch.device("cpu")


class Clock:
    """Time that passes only where somebody says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(ledgers, "time", SimpleNamespace(perf_counter=made))
    monkeypatch.setattr(SLOW, "clock", made)
    return made


SLOW = SimpleNamespace(clock=None)  # the parts below take this many seconds of it


class SlowForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        SLOW.clock.advance(3)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        SLOW.clock.advance(5)
        return grad


class SlowModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        SLOW.clock.advance(1000)
        self.head = nn.Linear(64, images.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return SlowForward.apply(self.head(x.flatten(1)))


class SlowSGD(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        SLOW.clock.advance(7)
        return super().step(closure)


class SlowData:
    def __len__(self) -> int:
        return images.SAMPLES

    def __getitem__(self, index: int) -> Any:
        SLOW.clock.advance(0.5)
        return torch.zeros(1, 8, 8), index % images.CLASSES


class SlowHook:
    def before_step(self, run: Any) -> None:
        SLOW.clock.advance(11)

    def after_step(self, run: Any) -> None:
        SLOW.clock.advance(13)


def slow_data(seed: int) -> SlowData:
    SLOW.clock.advance(20_000)
    return SlowData()


def slow_transform(batch: Any, *, generator: torch.Generator) -> Any:
    SLOW.clock.advance(17)
    return batch


def slow_metric(model: nn.Module, test: Any) -> float:
    SLOW.clock.advance(300_000)
    return 1.0


def slow_program() -> Program:
    program = battery.IMAGES.program.replace(
        model=call(SlowModel), data=bind(slow_data), optimizer=bind(SlowSGD, lr=0.1)
    )
    return program.append("batch", "slow", bind(slow_transform)).append("hooks", "slow", call(SlowHook))


def test_marks_charge_the_time_since_the_last_one(clock: Clock) -> None:
    ledger = Ledger(CPU)
    clock.advance(2)
    ledger.mark("loader")
    clock.advance(3)
    ledger.mark("forward")
    ledger.mark("backward")
    assert (ledger.phases["loader"], ledger.phases["forward"], ledger.seconds) == (2, 3, 5)
    assert set(ledger.phases) == set(PHASES)
    with pytest.raises(KeyError):
        ledger.mark("lunch")


def test_the_clock_stands_still_inside_off(clock: Clock) -> None:
    ledger = Ledger(CPU)
    clock.advance(1)

    def fails() -> None:
        with ledger.off("evaluation"):
            clock.advance(100)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()  # the time counts all the same
    clock.advance(2)
    ledger.mark("forward")
    assert ledger.excluded["evaluation"] == 100
    assert ledger.seconds == 3
    assert set(ledger.excluded) == set(EXCLUDED)


def test_a_restored_ledger_goes_on_and_drops_what_set_up_cost_this_time(clock: Clock) -> None:
    ledger = Ledger(CPU)
    clock.advance(4)
    ledger.mark("forward")
    ledger.flops, ledger.scored_samples = 10.0, 3
    state = ledger.state_dict()
    clock.advance(50)
    again = Ledger(CPU)
    clock.advance(60)
    again.mark("setup")
    clock.advance(70)
    again.load_state_dict(state)
    clock.advance(1)
    again.mark("backward")
    assert (again.seconds, again.flops, again.scored_samples) == (5, 10.0, 3)
    assert ledger.state_dict() == state  # a copy, not a view
    assert ledger.phases["backward"] == 0


def test_a_run_charges_every_second_where_it_belongs(clock: Clock) -> None:
    """Two cycles of three steps; the model runs once more on a copy to count FLOPs, and is timed for inference."""
    result = battery.run(slow_program(), cycles=((0, 3, 0), (3, 6, 1)), metric=slow_metric)
    steps = 6
    assert result.phases == {
        "setup": 1000,
        "loader": 0.5 * 8 * steps,
        "batch": 17 * steps,
        "forward": 3 * steps,
        "backward": 5 * steps,
        "optimizer": 7 * steps,
        "hooks": (11 + 13) * steps,
    }
    assert result.excluded == {
        "data": 20_000,
        "evaluation": 2 * 300_000 + 3 * 8,  # eight forward passes tell what inference costs
        "checkpoint": 0,
        "counting": 3 + 5,  # one real step on a copy
        "reporting": 0,
    }
    assert [point.seconds for point in result.points] == [1000 + 3 * 60, 1000 + 6 * 60]
    assert sum(result.phases.values()) == result.points[-1].seconds


def test_checkpoints_and_observers_are_off_the_clock(clock: Clock, tmp_path: Any, monkeypatch: Any) -> None:
    from hasten.bench import checkpoint as checkpoints

    real = checkpoints.save

    def save(path: Any, state: Any) -> None:
        clock.advance(1e6)
        real(path, state)

    monkeypatch.setattr(checkpoints, "save", save)
    result = battery.run(
        slow_program(), cycles=((0, 3, 0),), metric=slow_metric, checkpoint=tmp_path / "c.pt",
        observe=lambda event: clock.advance(1e9),
    )  # fmt: skip
    assert result.excluded["checkpoint"] == 3e6  # after each of two steps, and at the point
    assert result.excluded["reporting"] == 1e9
    assert result.points[0].seconds == 1000 + 3 * 60


def test_peak_memory_where_the_system_tells() -> None:
    reset_peak_memory(CPU)
    before = peak_memory(CPU)
    if before is None:
        pytest.skip("this system does not tell a process its peak memory")
    block = bytearray(64 << 20)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    after = peak_memory(CPU)
    assert after is not None
    assert after >= before + (32 << 20)
