from __future__ import annotations

import pytest

from hasten.bench.budget import Budget
from hasten.bench.plan import Job


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def jobs(seed: int, count: int = 2) -> list[Job]:
    return [Job(f"arm {number}", seed, (0,), "cyclic") for number in range(count)]


def finish(budget: Budget, clock: Clock, job: Job, seconds: float) -> None:
    budget.started(job)
    clock.now += seconds
    budget.ended(job)


def test_without_a_budget_everything_fits(clock):
    budget = Budget(None, 1, clock=clock)
    finish(budget, clock, jobs(0)[0], 1e9)
    assert budget.fits(jobs(1), active=0)


def test_the_first_run_always_starts_and_past_the_budget_nothing_does(clock):
    budget = Budget(10.0, 1, clock=clock)
    clock.now = 11.0
    assert budget.fits(jobs(0), active=0)
    budget.started(jobs(0)[0])
    assert not budget.fits(jobs(0)[1:], active=1)


def test_a_seed_that_has_begun_goes_on_within_the_budget(clock):
    budget = Budget(10.0, 1, clock=clock)
    finish(budget, clock, jobs(0)[0], 9.0)
    assert budget.fits(jobs(0)[1:], active=0)
    assert not budget.fits(jobs(1), active=0)


@pytest.mark.parametrize(("seconds", "fits"), [(31.9, False), (32.0, True)])
def test_another_seed_must_be_expected_to_fit_with_a_tenth_to_spare(clock, seconds, fits):
    budget = Budget(seconds, 1, clock=clock)
    for job in jobs(0):
        finish(
            budget, clock, job, 5.0
        )  # spent 10; two more runs of 5 s: 10 + 1.1 * 10; and one that is active: 1.1 * 5
    assert budget.fits(jobs(1), active=0) is (seconds >= 21)
    assert budget.fits([*jobs(1), *jobs(2)], active=2) is fits


def test_workers_share_the_work(clock):
    for workers, fits in ((1, False), (2, True)):
        budget = Budget(20.0, workers, clock=clock)
        clock.now = budget.begun
        for job in jobs(0):
            finish(budget, clock, job, 5.0)
        assert budget.fits(jobs(1), active=0) is fits


def test_while_no_run_has_ended_there_is_nothing_to_expect(clock):
    budget = Budget(10.0, 2, clock=clock)
    budget.started(jobs(0)[0])
    assert budget.fits(jobs(1), active=1)
