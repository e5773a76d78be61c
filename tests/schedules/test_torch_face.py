from __future__ import annotations

import io
import pickle

import pytest
import torch

from hasten.schedules import constant, cosine, cyclic, lr_scheduler, one_cycle, warmup, wsd


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


@pytest.mark.parametrize("schedule", [warmup(cosine(0.1), 4), cyclic(3), one_cycle(), wsd()])
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
    optimizer = two_groups()
    scheduler = lr_scheduler(optimizer, cosine(), 3)
    advance(optimizer, scheduler, 3)
    with pytest.raises(ValueError, match="t <= T = 3, got 4"):
        advance(optimizer, scheduler, 1)
