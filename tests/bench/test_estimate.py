"""What a plan will cost: steps and runs counted right, whatever the machine's speed is."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.contract import images
from tests.contract.battery import IMAGES, TEXT

from hasten import methods
from hasten.bench import estimate as module
from hasten.bench.estimate import estimate
from hasten.bench.plan import make_plan
from hasten.program import bind


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every step takes two seconds, or five with SAM; the first one of a run a hundred. Returns what ran."""
    ran: list[str] = []
    clock = SimpleNamespace(now=0.0)
    real = module.Run.step

    def step(run: Any, tick: Any, batches: Any) -> float:
        ran.append("sam" if run._needs_closure else "plain")
        clock.now += 100 if tick.step == 0 else 5 if run._needs_closure else 2
        return real(run, tick, batches)

    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock.now, clock=clock))
    monkeypatch.setattr(module.Run, "step", step)
    return ran


def test_the_baseline_counts_for_every_run(steps: list[str]) -> None:
    plan = make_plan(IMAGES, {"base": [], "sam": [methods.sam()]}, seeds=3, points=2)
    assert estimate(plan).seconds == 2 * 3 * 6 * 2
    assert steps == ["plain"] * 6
    separate = make_plan(IMAGES, {"base": []}, seeds=1, points=2, curve="separate")
    assert estimate(separate).seconds == 2 * (3 + 6)


def test_every_evaluation_counts(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(model: Any, test: Any) -> float:
        assert not model.training
        module.time.clock.now += 7
        return 0.5

    plan = make_plan(IMAGES, {"base": [], "soft": [methods.label_smoothing()]}, seeds=3, points=2)
    workload = dataclasses.replace(plan.workload, metric=SimpleNamespace(build=lambda: slow))
    timed = dataclasses.replace(plan, workload=workload)
    assert estimate(timed).seconds == 2 * 3 * (6 * 2 + 2 * 7)


def test_runs_shorter_than_the_trial_are_tried_as_far_as_they_go(steps: list[str]) -> None:
    plan = make_plan(IMAGES, {"base": []}, seeds=1, points=1, duration="3step")
    assert estimate(plan).seconds == 3 * 2
    assert len(steps) == 3
    steps.clear()
    one = make_plan(IMAGES, {"base": IMAGES.program.replace(schedule=plain())}, seeds=1, points=1, duration="2step")
    assert estimate(one, steps=0).seconds == 2 * 100  # nothing but the first step to go by
    assert len(steps) == 1


def plain() -> Any:
    from hasten.program import Scheduled, call
    from hasten.schedules import constant

    return call(Scheduled, schedule=constant(), unit="step")


def test_schedules_over_tokens_can_be_tried() -> None:
    from hasten.program import Scheduled, call
    from hasten.schedules import cosine

    program = TEXT.program.replace(schedule=call(Scheduled, schedule=cosine(), unit="token"))
    assert estimate(make_plan(TEXT, {"base": program}, seeds=1, points=1)).seconds > 0


def test_a_checkpoint_holds_more_than_the_weights() -> None:
    plan = make_plan(IMAGES, {"base": []}, seeds=1, points=1)
    assert estimate(plan).checkpoint_bytes > 4 * sum(p.numel() for p in images.model().parameters())


def dies(outputs: Any, batch: Any) -> Any:
    raise SystemExit("an arm must not be run here")


def test_an_arm_that_breaks_is_left_to_the_study() -> None:
    arms = {"base": [], "bad": IMAGES.program.replace(loss=bind(dies))}
    assert estimate(make_plan(IMAGES, arms, seeds=1, points=1)).seconds > 0


def scalar(outputs: Any, batch: Any) -> Any:
    return images.loss(outputs, batch).mean()


def test_it_leaves_threads_and_generators_as_they_were() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    plan = make_plan(IMAGES, {"base": []}, seeds=1, points=1)
    estimate(plan)
    bad = make_plan(IMAGES, {"base": IMAGES.program.replace(loss=bind(scalar))}, seeds=1, points=1)
    assert estimate(bad) is None
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_compiled_arms_are_not_compiled_for_an_estimate() -> None:
    program = IMAGES.program.replace(compile="inductor")
    torch._dynamo.utils.counters.clear()
    assert estimate(make_plan(IMAGES, {"base": program}, seeds=1, points=1)).seconds > 0
    assert not torch._dynamo.utils.counters["stats"]
