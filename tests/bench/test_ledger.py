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
from hasten.bench.memory import _settle
from hasten.bench.train import Task, train
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


# Going back to a trunk ----------------------------------------------------------------------------------------------


def spend(ledger: Ledger, clock: Clock, phase: str, seconds: float) -> None:
    clock.advance(seconds)
    ledger.mark(phase)


def test_going_back_gives_the_trunk_its_clock_and_keeps_what_is_off_it(clock: Clock) -> None:
    ledger = Ledger(CPU)
    spend(ledger, clock, "forward", 4)
    ledger.flops, ledger.scored_samples = 10.0, 3
    trunk = ledger.state_dict()
    spend(ledger, clock, "forward", 20)
    ledger.flops, ledger.scored_samples = 60.0, 5
    with ledger.off("evaluation"):
        clock.advance(300)
    clock.advance(7)  # not marked yet, but spent on the branch
    ledger.rewind(trunk)
    assert (ledger.seconds, ledger.flops, ledger.scored_samples) == (4, 10.0, 3)
    assert ledger.excluded == {**dict.fromkeys(EXCLUDED, 0), "evaluation": 300, "branches": 27}
    spend(ledger, clock, "backward", 1)
    assert ledger.seconds == 5
    spend(ledger, clock, "forward", 2)
    ledger.rewind(trunk)  # a second branch
    assert ledger.seconds == 4
    assert ledger.excluded["branches"] == 27 + 3


def test_going_back_while_the_clock_stands_still(clock: Clock) -> None:
    """The way back itself is a checkpoint's time, and is counted once."""
    ledger = Ledger(CPU)
    spend(ledger, clock, "forward", 4)
    with ledger.off("checkpoint"):
        clock.advance(100)
        trunk = ledger.state_dict()
    spend(ledger, clock, "forward", 20)
    clock.advance(7)
    with ledger.off("checkpoint"):
        clock.advance(1000)
        ledger.rewind(trunk)
        clock.advance(10_000)
    clock.advance(1)
    ledger.mark("backward")
    assert ledger.seconds == 5
    assert (ledger.excluded["checkpoint"], ledger.excluded["branches"]) == (11_100, 27)
    assert ledger.seconds + sum(ledger.excluded.values()) == clock.now  # nothing is lost, nothing counted twice


def test_a_run_resumed_on_a_branch_goes_back_as_one_that_was_not(clock: Clock) -> None:
    def to_the_branch(ledger: Ledger) -> dict[str, Any]:
        spend(ledger, clock, "forward", 4)
        trunk = ledger.state_dict()
        spend(ledger, clock, "forward", 20)
        return trunk

    whole = Ledger(CPU)
    trunk = to_the_branch(whole)
    killed = whole.state_dict()
    resumed = Ledger(CPU)
    spend(resumed, clock, "setup", 60)
    resumed.load_state_dict(killed)
    whole.start()
    for ledger in (whole, resumed):
        ledger.start()
        spend(ledger, clock, "optimizer", 2)
        ledger.rewind(trunk)
    assert whole.state_dict() == resumed.state_dict()
    assert (whole.seconds, whole.excluded["branches"]) == (4, 22)


def test_checkpoints_of_older_versions_know_no_branches_and_no_energy(clock: Clock) -> None:
    state = Ledger(CPU).state_dict()
    del state["excluded"]["branches"], state["energy"]
    ledger = Ledger(CPU)
    ledger.load_state_dict(state)
    assert ledger.excluded["branches"] == 0
    assert ledger.energy is None


# Energy -------------------------------------------------------------------------------------------------------------


class Watts:
    """A meter of a machine that draws so many watts; nothing while `silent`."""

    name, silent = "a test", False

    def __init__(self, clock: Clock, watts: float = 10.0) -> None:
        self.clock, self.watts, self.last = clock, watts, clock.now

    def take(self) -> float | None:
        since, self.last = self.clock.now - self.last, self.clock.now
        return None if self.silent else self.watts * since


@pytest.fixture
def meter(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Watts:
    made = Watts(clock)
    monkeypatch.setattr(ledgers, "open_meter", lambda device: made)
    return made


def test_energy_is_measured_only_where_it_is_asked_for_and_told(meter: Watts, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Ledger(CPU).energy is None
    assert Ledger(CPU, energy=True).energy == 0
    monkeypatch.setattr(ledgers, "open_meter", lambda device: None)
    ledger = Ledger(CPU, energy=True)
    with ledger.off("evaluation"):
        pass
    assert ledger.energy is None


def test_energy_is_charged_while_the_clock_runs(clock: Clock, meter: Watts) -> None:
    ledger = Ledger(CPU, energy=True)
    spend(ledger, clock, "setup", 3)
    clock.advance(1000)  # between set-up and start: on no clock
    ledger.start()
    spend(ledger, clock, "forward", 2)
    assert ledger.energy == 30  # up to the last stop
    with ledger.off("evaluation"):
        assert ledger.energy == 10 * 5
        clock.advance(100)
        assert ledger.state_dict()["energy"] == 50
    spend(ledger, clock, "forward", 1)
    with ledger.off("reporting"):
        clock.advance(100)
    assert ledger.energy == 10 * ledger.seconds == 60


def test_a_gap_in_a_measurement_leaves_it_unknown(clock: Clock, meter: Watts) -> None:
    ledger = Ledger(CPU, energy=True)
    meter.silent = True
    with ledger.off("evaluation"):  # the reading at its end tells nothing, and nothing is asked of it
        meter.silent = False
    assert ledger.energy is None
    clock.advance(1)
    with ledger.off("reporting"):
        assert ledger.energy is None  # what was lost stays lost
    whole = Ledger(CPU, energy=True)
    with whole.off("evaluation"):
        meter.silent = True
    meter.silent = False
    assert whole.energy == 0


def test_the_energy_of_a_resumed_run_goes_on(clock: Clock, meter: Watts) -> None:
    ledger = Ledger(CPU, energy=True)
    spend(ledger, clock, "forward", 4)
    with ledger.off("checkpoint"):
        state = ledger.state_dict()
    again = Ledger(CPU, energy=True)
    spend(again, clock, "setup", 60)
    again.load_state_dict(state)
    spend(again, clock, "forward", 1)
    with again.off("reporting"):
        assert again.energy == 10 * 5
    blind = Ledger(CPU)
    blind.load_state_dict(state)
    assert blind.energy is None  # half of a run is no number
    unknown = Ledger(CPU, energy=True)
    unknown.load_state_dict(blind.state_dict())
    with unknown.off("reporting"):
        assert unknown.energy is None


@pytest.mark.parametrize("stopped", [False, True])
def test_going_back_gives_the_trunk_its_energy(clock: Clock, meter: Watts, stopped: bool) -> None:
    ledger = Ledger(CPU, energy=True)
    spend(ledger, clock, "forward", 4)
    with ledger.off("checkpoint"):
        trunk = ledger.state_dict()
    spend(ledger, clock, "forward", 20)
    meter.silent = True
    with ledger.off("evaluation"):
        assert ledger.energy is None  # lost on the branch
    meter.silent = False
    if stopped:
        with ledger.off("checkpoint"):
            ledger.rewind(trunk)
            clock.advance(1000)
    else:
        clock.advance(1000)
        ledger.rewind(trunk)
    assert ledger.energy == 40
    spend(ledger, clock, "forward", 1)
    with ledger.off("reporting"):
        assert ledger.energy == 10 * ledger.seconds == 50


@pytest.mark.parametrize("forks", [(), (2, 4)])
def test_points_of_a_run_carry_the_energy_of_their_clock(clock: Clock, meter: Watts, forks: tuple[int, ...]) -> None:
    cycles = ((0, 3, 0), (0, 6, 1)) if forks else ((0, 3, 0), (3, 6, 1))
    task = Task(slow_program(), 0, cycles, battery.IMAGES.test.build(), slow_metric, forks=forks, energy=True)
    first, second = train(task).points
    assert [first.seconds, second.seconds] == [1000 + 3 * 60, 1000 + 6 * 60]
    assert (first.energy, second.energy) == (10 * first.seconds, 10 * second.seconds)


# A whole run --------------------------------------------------------------------------------------------------------


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
        "branches": 0,
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
    _settle(CPU)  # what tests before this one have freed would be taken again without a page of the system's
    reset_peak_memory(CPU)
    before = peak_memory(CPU)
    if before is None:
        pytest.skip("this system does not tell a process its peak memory")
    block = bytearray(64 << 20)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    after = peak_memory(CPU)
    assert after is not None
    assert after >= before + (32 << 20)
