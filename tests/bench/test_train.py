"""The loop: cycles and points, resuming to the bit from any state, and what ends a run."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.contract import images, text
from tests.contract.battery import IMAGES, SMALL, TEXT, Crash, bits, killed_after, run
from torch import Tensor, nn

from hasten.bench import checkpoint as checkpoints
from hasten.bench import train as trains
from hasten.bench.run import NonFiniteError
from hasten.bench.source import BatchSource
from hasten.bench.train import Task, tokens_per_sample, total_steps, train, weights_digest
from hasten.data.order import shuffled
from hasten.program import bind

BASE = IMAGES.program
TWO = ((0, 4, 0), (4, 10, 1))


def test_points_come_at_the_ends_of_cycles() -> None:
    events: list[dict[str, Any]] = []
    result = run(BASE, cycles=TWO, observe=events.append)
    assert [(p.point, p.step, p.epoch) for p in result.points] == [(0, 4, 4 / 6), (1, 10, 10 / 6)]
    assert [event["event"] for event in events] == ["point", "point"]
    assert events[1]["metric"] == result.points[1].metric
    assert (result.resumed, result.stopped) == (False, False)
    assert result.parameters == sum(p.numel() for p in images.model().parameters())
    assert result.points[0].memory is None or result.points[0].memory > 1e6
    assert result.inference["flops"] > 0


def test_the_train_loss_is_the_mean_of_its_cycle() -> None:
    short = run(BASE, cycles=((0, 4, 0),)).points[0].train_loss
    losses: list[float] = []
    real = trains.Run.step

    def step(self: Any, tick: Any, batches: Any) -> float:
        losses.append(real(self, tick, batches))
        return losses[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trains.Run, "step", step)
        result = run(BASE, cycles=TWO)
    assert result.points[0].train_loss == short == sum(losses[:4]) / 4
    assert result.points[1].train_loss == pytest.approx(sum(losses[4:]) / 6, rel=1e-12)


def test_the_clock_of_each_step() -> None:
    ticks: list[Any] = []
    real = trains.Run.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trains.Run, "step", lambda self, tick, batches: ticks.append(tick) or real(self, tick, batches))
        run(TEXT.program, TEXT, cycles=TWO)
    assert [t.step for t in ticks] == list(range(10))
    assert [(t.start, t.end) for t in ticks] == [(0, 4)] * 4 + [(4, 10)] * 6
    assert [t.progress for t in ticks[4:6]] == [0.0, 1 / 6]
    assert (ticks[7].epoch, ticks[7].in_epoch, ticks[7].sample) == (1, 1, 56)
    assert ticks[7].token == 56 * text.CONTEXT
    seconds = [t.seconds for t in ticks]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0  # set-up is on the clock


def test_cycles_start_at_zero() -> None:
    for cycles in ((), ((1, 2, 0),)):
        with pytest.raises(ValueError, match="train: expected cycles that start at step 0"):
            run(BASE, cycles=cycles)


def test_stopping_waits_for_the_point_and_resumes(tmp_path: Path) -> None:
    file = tmp_path / "c.pt"
    asked: list[int] = []
    stopped = run(BASE, cycles=TWO, checkpoint=file, should_stop=lambda: asked.append(1) or True)
    assert (stopped.stopped, len(stopped.points)) == (True, 1)
    assert len(asked) == 1
    rest = run(BASE, cycles=TWO, checkpoint=file)
    assert (rest.resumed, rest.stopped) == (True, False)
    assert bits(rest) == bits(run(BASE, cycles=TWO))
    last = run(BASE, cycles=((0, 4, 0),), should_stop=lambda: True)
    assert not last.stopped  # nothing was left to stop


def test_a_resumed_run_tells_its_points_again(tmp_path: Path) -> None:
    with killed_after(6):
        run(BASE, cycles=TWO, checkpoint=tmp_path / "c.pt")
    events: list[dict[str, Any]] = []
    result = run(BASE, cycles=TWO, checkpoint=tmp_path / "c.pt", observe=events.append)
    assert [event["point"] for event in events] == [0, 1]
    assert [event["metric"] for event in events] == [p.metric for p in result.points]


def test_the_clock_goes_on_where_it_stopped(tmp_path: Path) -> None:
    file = tmp_path / "c.pt"
    with killed_after(3):
        run(BASE, cycles=TWO, checkpoint=file)
    saved = checkpoints.load(file)
    assert saved is not None
    before = sum(saved["run"]["ledger"]["phases"].values())
    result = run(BASE, cycles=TWO, checkpoint=file)
    assert result.points[0].seconds > before > 0


def test_checkpoints_are_rare_between_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    monkeypatch.setattr(checkpoints, "save", lambda path, state: saved.append(state["step"]))
    task = Task(BASE, 0, TWO, IMAGES.test.build(), IMAGES.metric.build())
    train(task, checkpoint=tmp_path / "c.pt", checkpoint_seconds=1e9)
    assert saved == [4, 10]
    saved.clear()
    train(task, checkpoint=tmp_path / "c.pt", checkpoint_seconds=0.0)
    assert saved == list(range(1, 11))  # once at a cycle's end: the point's own
    train(task)
    assert len(saved) == 10


@pytest.mark.parametrize("other", ["program", "seed", "cycles", "environment"])
def test_a_checkpoint_of_another_run_is_not_used(other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "c.pt"
    with killed_after(5):
        run(BASE, cycles=TWO, checkpoint=file)
    program = BASE.then(SMALL["label_smoothing"]) if other == "program" else BASE
    cycles = ((0, 4, 0), (4, 9, 1)) if other == "cycles" else TWO
    seed = int(other == "seed")
    if other == "environment":
        monkeypatch.setattr(trains, "environment", lambda device: {"torch": "another"})
    straight = run(program, cycles=cycles, seed=seed)
    again = run(program, cycles=cycles, seed=seed, checkpoint=file)
    assert not again.resumed
    assert bits(again) == bits(straight)


def test_a_full_disk_does_not_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, state: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save", full)
    events: list[dict[str, Any]] = []
    result = run(BASE, cycles=TWO, checkpoint=tmp_path / "c.pt", observe=events.append)
    assert bits(result) == bits(run(BASE, cycles=TWO))
    assert "cannot write checkpoints (No space left on device)" in str(events)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_is_not_finite_ends_the_run(value: float, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=f"the metric became {value} at step 4"):
        run(BASE, cycles=TWO, metric=lambda model, test: value, checkpoint=tmp_path / "c.pt")


@pytest.mark.parametrize("value", [None, "high", torch.zeros(2), [1.0]])
def test_a_metric_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="metric: expected one number, got .*End it with `return value`"):
        run(BASE, metric=lambda model, test: value)


@pytest.mark.parametrize("value", [1, True, torch.tensor(1.0), torch.tensor([1.0]), torch.tensor(1.0).numpy()])
def test_numbers_of_any_kind_are_a_metric(value: Any) -> None:
    assert run(BASE, metric=lambda model, test: value).points[0].metric == 1.0


def test_an_error_of_the_metric_passes_unchanged() -> None:
    def broken(model: nn.Module, test: Any) -> float:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        run(BASE, metric=broken)


def test_what_the_metric_draws_is_seeded_and_moves_nothing() -> None:
    def noisy(model: nn.Module, test: Any) -> float:
        return float(torch.rand(()))

    one, two = run(BASE, cycles=TWO, metric=noisy), run(BASE, cycles=TWO, metric=noisy)
    assert [p.metric for p in one.points] == [p.metric for p in two.points]
    assert one.points[0].metric != one.points[1].metric
    assert one.weights == run(BASE, cycles=TWO).weights


def test_duration_in_every_unit() -> None:
    def steps(duration: str, workload: Any, data: Any) -> int:
        source = BatchSource(data, shuffled, batch_size=8, seed=0, device=torch.device("cpu"))
        return total_steps(workload.program.replace(duration=duration), source)

    assert steps("2ep", IMAGES, images.train_data(0)) == 12
    assert steps("5step", IMAGES, images.train_data(0)) == 5
    assert steps("100sample", IMAGES, images.train_data(0)) == 13  # 12.5, rounded once
    assert steps("0.01ep", IMAGES, images.train_data(0)) == 1
    assert steps(f"{8 * 6 * 3}tok", TEXT, text.sample(48, 0)) == 3
    with pytest.raises(ValueError, match=r"duration: expected a unit this workload counts, got 'token'\. Use 'ep' or"):
        steps("100tok", IMAGES, images.train_data(0))


def test_what_counts_as_tokens() -> None:
    def tokens(inputs: Tensor) -> int:
        data = (inputs, torch.zeros(len(inputs)))
        return tokens_per_sample(BatchSource(data, shuffled, batch_size=1, seed=0, device=torch.device("cpu")))

    assert tokens(torch.zeros(4, 7, dtype=torch.long)) == 7
    assert tokens(torch.zeros(4, 7)) == 0
    assert tokens(torch.zeros(4, 1, 7, 7, dtype=torch.uint8)) == 0
    rows = BatchSource(images.Augmented(), shuffled, batch_size=1, seed=0, device=torch.device("cpu"))
    assert tokens_per_sample(rows) == 0


def test_a_crash_is_not_swallowed(tmp_path: Path) -> None:
    def crash(event: Any) -> None:
        raise Crash

    with pytest.raises(Crash):
        run(BASE, observe=crash)


def test_weights_digest_sees_every_bit_name_and_buffer() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    digest = weights_digest(model)
    assert len(digest) == 16
    assert weights_digest(copy.deepcopy(model)) == digest
    for change in ("0.weight", "1.running_mean", "1.num_batches_tracked"):
        other = copy.deepcopy(model)
        other.state_dict()[change].view(-1)[0] += 1
        assert weights_digest(other) != digest
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].bias.fill_(-0.0)
        model[0].bias.fill_(0.0)
    assert weights_digest(other) != weights_digest(model)  # minus zero is another zero
    assert weights_digest(nn.ModuleDict({"a": model})) != weights_digest(nn.ModuleDict({"b": model}))
    assert weights_digest(model.to(memory_format=torch.channels_last)) == weights_digest(model)


def test_data_are_built_under_their_own_seed() -> None:
    one = run(BASE.replace(data=bind(random_data)), seed=0)
    two = run(BASE.replace(data=bind(random_data)), seed=0)
    assert bits(one) == bits(two)


def random_data(seed: int) -> Any:
    inputs, targets = images.train_data(seed)
    return inputs + torch.rand_like(inputs), targets
