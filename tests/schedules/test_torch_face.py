from __future__ import annotations

import io
import pickle
from types import SimpleNamespace

import pytest
import torch

from hasten.schedules import (
    LR,
    constant,
    cosine,
    cyclic,
    infinite,
    inverse_sqrt,
    linear,
    lr_scheduler,
    one_cycle,
    over,
    power,
    rewarm,
    rex,
    torch_face,
    warmup,
    wsd,
)


def two_groups() -> torch.optim.Optimizer:
    torch.manual_seed(0)
    a, b = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    return torch.optim.SGD([{"params": [a], "lr": 0.5}, {"params": [b], "lr": 0.1}], momentum=0.9)


def advance(optimizer, scheduler, updates: int) -> list[list[float]]:
    rates = []
    for _ in range(updates):
        rates.append([group["lr"] for group in optimizer.param_groups])
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = parameter.detach().clone()
        optimizer.step()
        scheduler.step()
    return rates


def test_every_group_follows_with_its_own_base_rate():
    optimizer, schedule = two_groups(), warmup(cosine(), 4)
    scheduler = lr_scheduler(optimizer, schedule, 20)
    assert isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler)
    rates = advance(optimizer, scheduler, 20)
    assert rates == [[0.5 * schedule(k, 20), 0.1 * schedule(k, 20)] for k in range(20)]
    assert scheduler.get_last_lr() == [0.0, 0.0]


EVERY_KIND = [
    warmup(cosine(0.1), 4), cyclic(3), one_cycle(), wsd(), rex(), warmup(inverse_sqrt(4), 4),
    power(8, warmup=3, decay=0.2), infinite(5, warmup=3, anneal_at=10, anneal=5),
    rewarm(linear(), 15, linear(), 3), over(linear(), 20),
]  # fmt: skip


@pytest.mark.parametrize("schedule", EVERY_KIND)
def test_resumed_from_its_state_the_tail_is_the_same(schedule):
    total = 30
    optimizer = two_groups()
    whole = advance(optimizer, lr_scheduler(optimizer, schedule, total), total)

    optimizer = two_groups()
    scheduler = lr_scheduler(optimizer, schedule, total)
    head = advance(optimizer, scheduler, 11)
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, file)

    file.seek(0)
    state = torch.load(file, weights_only=True)  # plain data: neither the schedule nor any code is in it
    optimizer = two_groups()
    scheduler = lr_scheduler(optimizer, schedule, total)
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    assert head + advance(optimizer, scheduler, total - 11) == whole


def test_resumed_by_number_the_tail_is_the_same():
    optimizer = two_groups()
    whole = advance(optimizer, lr_scheduler(optimizer, cosine(), 20), 20)
    again = two_groups()
    for group in again.param_groups:
        group["initial_lr"] = group["lr"]
    assert advance(again, lr_scheduler(again, cosine(), 20, last_epoch=6), 13) == whole[7:]


def test_the_state_does_not_bring_back_an_old_schedule():
    optimizer = two_groups()
    scheduler = lr_scheduler(optimizer, wsd(), 100)
    advance(optimizer, scheduler, 10)
    branch = lr_scheduler(optimizer, wsd(), 20)
    branch.load_state_dict(scheduler.state_dict())
    advance(optimizer, branch, 8)
    assert optimizer.param_groups[0]["lr"] == 0.5 * wsd()(18, 20)


def test_the_scheduler_can_be_pickled():
    optimizer = two_groups()
    scheduler = lr_scheduler(optimizer, warmup(cosine(), 4), 20)
    advance(optimizer, scheduler, 7)
    copy = pickle.loads(pickle.dumps(scheduler))
    assert advance(copy.optimizer, copy, 5) == advance(optimizer, scheduler, 5)


def test_an_anytime_schedule_needs_no_total():
    optimizer = two_groups()
    assert advance(optimizer, lr_scheduler(optimizer, cyclic(2, warmup=0)), 3)[2] == [0.5, 0.1]
    assert advance(optimizer, lr_scheduler(optimizer, constant()), 2)[1] == [0.5, 0.1]


def test_the_multiplier_is_a_plain_float():
    optimizer = two_groups()
    advance(optimizer, lr_scheduler(optimizer, cosine(), 20), 3)
    assert [type(group["lr"]) for group in optimizer.param_groups] == [float, float]


def test_what_cannot_work_is_refused():
    with pytest.raises(ValueError, match=r"lr_scheduler: expected total for Cosine.*Pass the number of updates"):
        lr_scheduler(two_groups(), cosine())
    with pytest.raises(TypeError, match="lr_scheduler: expected a schedule"):
        lr_scheduler(two_groups(), lambda t: 1.0, 20)
    with pytest.raises(ValueError, match="T > 0"):
        lr_scheduler(two_groups(), cosine(), 0)
    with pytest.raises(ValueError, match="lr_scheduler: expected the unit 'seconds' for a schedule over a time span"):
        lr_scheduler(two_groups(), over(cosine(), "10min"))
    optimizer = two_groups()
    scheduler = lr_scheduler(optimizer, cosine(), 3)
    advance(optimizer, scheduler, 3)
    with pytest.raises(ValueError, match="t <= T = 3, got 4"):
        advance(optimizer, scheduler, 1)


# LR -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still; `clock.now += 1` is a second."""
    fake = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(torch_face, "time", SimpleNamespace(perf_counter=lambda: fake.now))
    return fake


def rates_of(optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize("schedule", EVERY_KIND)
def test_on_the_clock_of_updates_it_is_the_scheduler(schedule):
    total = 30
    one, two = two_groups(), two_groups()
    expected = advance(one, lr_scheduler(one, schedule, total), total)
    rate = LR(two, schedule, total=total)
    assert advance(two, rate, total) == expected
    assert rate.logged == [(k, schedule(k, total)) for k in range(total + 1)]
    assert (rate.updates, rate.t, rate.multiplier) == (total, total, schedule(total, total))


@pytest.mark.parametrize("clock", ["sample", "token"])
def test_samples_and_tokens_are_counted_as_they_come(clock):
    optimizer, schedule = two_groups(), power(100, -0.5)
    rate = LR(optimizer, schedule, clock=clock)
    for amount, seen in [(150, 150), (50, 200), (0, 200), (200, 400)]:
        rate.step(amount)
        assert rate.t == seen
        assert rates_of(optimizer) == [0.5 * schedule(seen), 0.1 * schedule(seen)]
    assert rate.logged == [(0, 1.0), (1, schedule(150)), (2, schedule(200)), (3, schedule(200)), (4, 0.5)]


def test_seconds_pass_between_the_calls(clock):
    optimizer = two_groups()
    rate = LR(optimizer, over(cosine(), "10s"), clock="seconds")
    assert rates_of(optimizer) == [0.5, 0.1]
    clock.now += 5
    assert rates_of(optimizer) == [0.5, 0.1]
    rate.step()
    assert rates_of(optimizer) == [0.25, 0.05]
    clock.now += 2.5
    rate.step()
    assert rate.multiplier == cosine()(7.5, 10)
    clock.now += 100
    rate.step()
    assert rates_of(optimizer) == [0.0, 0.0]
    assert rate.logged == [(0, 1.0), (1, 0.5), (2, cosine()(7.5, 10)), (3, 0.0)]


def test_seconds_go_on_where_they_were_whatever_happened_in_between(clock):
    optimizer, schedule = two_groups(), over(warmup(linear(), 2), "10s")
    rate = LR(optimizer, schedule, clock="seconds")
    clock.now += 4
    rate.step()
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "rate": rate.state_dict()}, file)

    clock.now = -77.0  # another process, whose clock began elsewhere
    file.seek(0)
    state = torch.load(file, weights_only=True)  # plain data: neither the schedule nor any code is in it
    optimizer = two_groups()
    rate = LR(optimizer, schedule, clock="seconds")
    clock.now += 500  # building the model, reading the state
    optimizer.load_state_dict(state["optimizer"])
    rate.load_state_dict(state["rate"])
    assert (rate.updates, rate.t, rates_of(optimizer)) == (1, 4.0, [0.375, pytest.approx(0.075)])
    clock.now += 2
    rate.step()
    assert (rate.updates, rate.t, rates_of(optimizer)) == (2, 6.0, [0.25, 0.05])
    assert rate.logged == [(0, 0.0), (1, 0.75), (2, 0.5)]


@pytest.mark.parametrize("optimizer_first", [True, False])
def test_states_load_in_either_order_and_the_tail_is_the_same(optimizer_first):
    def made():
        optimizer = two_groups()
        return optimizer, LR(optimizer, warmup(cosine(), 4), clock="sample", total=80)

    def advanced(optimizer, rate, updates):
        found = []
        for _ in range(updates):
            found.append(rates_of(optimizer))
            rate.step(4)
        return found

    whole = advanced(*made(), 20)
    optimizer, rate = made()
    head = advanced(optimizer, rate, 7)
    saved = optimizer.state_dict(), rate.state_dict()
    optimizer, rate = made()
    for load in (True, False) if optimizer_first else (False, True):
        optimizer.load_state_dict(saved[0]) if load else rate.load_state_dict(saved[1])
    assert head + advanced(optimizer, rate, 13) == whole
    assert len(rate.logged) == 21


def test_a_pause_does_not_count(clock):
    rate = LR(two_groups(), over(linear(), 10), clock="seconds")
    clock.now += 1
    with rate.paused():
        clock.now += 50
        with rate.paused():
            clock.now += 50
        clock.now += 50
        rate.step()
        assert rate.t == 1.0
    clock.now += 2
    rate.step()
    assert rate.t == 3.0


def test_a_pause_ends_with_an_error_too(clock):
    rate = LR(two_groups(), over(linear(), 10), clock="seconds")
    clock.now += 3
    with pytest.raises(KeyError), rate.paused():
        clock.now += {}["no such key"]
    clock.now += 1
    rate.step()
    assert rate.t == 4.0


def test_a_state_loaded_in_a_pause_stays_paused(clock):
    rate = LR(two_groups(), constant(), clock="seconds")
    clock.now += 1
    rate.step()
    state = rate.state_dict()
    with rate.paused():
        rate.load_state_dict(state)
        clock.now += 50
    clock.now += 1
    rate.step()
    assert rate.t == 2.0


def test_a_pause_changes_nothing_where_no_time_counts():
    rate = LR(two_groups(), linear(), total=4)
    rate.step()
    with rate.paused():
        rate.step()
    assert rate.t == 2.0


def test_the_log_stays_small_over_a_long_run():
    rate = LR(two_groups(), cosine(), total=5000)
    for _ in range(5000):
        rate.step()
    steps = [step for step, _ in rate.logged]
    assert steps == list(range(0, 5001, 16))
    assert all(value == cosine()(step, 5000) for step, value in rate.logged)


def test_groups_that_come_later_take_part():
    optimizer = two_groups()
    rate = LR(optimizer, linear(), total=4)
    rate.step()
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.8})
    rate.step()
    assert rates_of(optimizer) == [0.25, 0.05, 0.4]


def test_a_learning_rate_in_a_tensor_stays_that_tensor():
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.Adam([parameter], lr=torch.tensor(0.5), capturable=False, foreach=False)
    held = optimizer.param_groups[0]["lr"]
    rate = LR(optimizer, linear(), total=4)
    rate.step()
    assert optimizer.param_groups[0]["lr"] is held
    assert (float(held), optimizer.param_groups[0]["initial_lr"]) == (0.375, 0.5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda o: LR(o, cosine()), r"LR: expected total for Cosine.*Pass the length of the run in steps, total="),
        (lambda o: LR(o, cosine(), "token"), "in tokens, total="),
        (
            lambda o: LR(o, cosine(), clock="seconds"),
            r"LR: expected a schedule that needs no T.*over\(schedule, '10min'\)",
        ),
        (lambda o: LR(o, constant(), "seconds", total=600), r"LR: expected no total for seconds, got 600\. Use over\("),
        (lambda o: LR(o, over(cosine(), "10min")), "LR: expected the unit 'seconds' for a schedule over a time span"),
        (lambda o: LR(o, cosine(), "second"), "LR: expected clock among .* got 'second'. Did you mean seconds"),
        (lambda o: LR(o, cosine(), total=0), "LR: expected total > 0"),
        (lambda o: LR(o, cosine(), total=9).step(3), r"LR\.step: expected no amount on the clock 'step', got 3"),
        (lambda o: LR(o, constant(), "seconds").step(3), "no amount on the clock 'seconds'"),
        (lambda o: LR(o, constant(), "token").step(), r"LR\.step: expected the tokens of the update, got None\. Pass"),
        (lambda o: LR(o, constant(), "token").step(-1), r"LR\.step: expected amount >= 0, got -1"),
        (lambda o: LR(o, cosine(), "sample", total=9).step(10), "t <= T = 9, got 10"),
        (
            lambda o: LR(o, constant()).load_state_dict(LR(o, constant(), "seconds").state_dict()),
            r"LR\.load_state_dict: expected a state of the clock 'step', got 'seconds'\. Build it with the clock",
        ),
    ],
)
def test_what_does_not_fit_the_clock_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build(two_groups())


def test_what_is_no_schedule_is_refused():
    with pytest.raises(TypeError, match="LR: expected a schedule for schedule"):
        LR(two_groups(), lambda t: 1.0, total=20)


def test_an_update_beyond_the_end_is_refused_and_moves_nothing() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rate = LR(optimizer, linear(), clock="sample", total=10)
    rate.step(8)
    before = rate.state_dict(), optimizer.param_groups[0]["lr"]
    with pytest.raises(ValueError, match="t <= T = 10"):
        rate.step(5)
    assert (rate.state_dict(), optimizer.param_groups[0]["lr"]) == before
