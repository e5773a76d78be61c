from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import OneCycleLR

from hasten.schedules import one_cycle, warmup, wsd


def torch_one_cycle(updates: int, **options) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = OneCycleLR(optimizer, max_lr=1.0, total_steps=updates, cycle_momentum=False, **options)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(updates - 1):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


@pytest.mark.parametrize(("kind", "theirs"), [("cosine", "cos"), ("linear", "linear")])
@pytest.mark.parametrize("updates", [2, 3, 10, 100, 137])
@pytest.mark.parametrize("peak_at", [0.15, 0.3, 0.72])
def test_one_cycle_is_torchs(kind, theirs, updates, peak_at):
    expected = torch_one_cycle(updates, pct_start=peak_at, anneal_strategy=theirs)
    ours = one_cycle(peak_at, kind=kind)(np.arange(updates), updates)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


def test_one_cycle_with_other_ends():
    expected = torch_one_cycle(50, div_factor=10.0, final_div_factor=100.0)
    ours = one_cycle(start=0.1, end=0.001)(np.arange(50), 50)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


def test_one_cycle_stays_at_its_end():
    schedule = one_cycle()
    assert schedule(29, 100) == 1.0
    assert schedule(99, 100) == schedule(100, 100) == 4e-6
    assert schedule(0, 1) == 4e-6


@given(T=st.integers(10, 500), peak_at=st.floats(0.2, 0.8), kind=st.sampled_from(["cosine", "linear"]))
def test_one_cycle_rises_then_falls(T, peak_at, kind):
    values = one_cycle(peak_at, kind=kind)(np.arange(T), T)
    peak = int(np.argmax(values))
    assert (np.diff(values[: peak + 1]) >= 0).all()
    assert (np.diff(values[peak:]) <= 0).all()
    assert abs(peak - (peak_at * T - 1)) <= 1


def test_wsd_halfway_down():
    assert wsd()(90, 100) == pytest.approx(1 - np.sqrt(0.5), abs=1e-12)
    assert f"{wsd()(90, 100):.4f}" == "0.2929"
    assert wsd(kind="linear")(90, 100) == pytest.approx(0.5, abs=1e-12)
    assert wsd(kind="cosine")(85, 100) == pytest.approx((2 + np.sqrt(2)) / 4, abs=1e-12)


@pytest.mark.parametrize("kind", ["linear", "1-sqrt", "cosine"])
@given(decay=st.floats(0.01, 1), T=st.integers(1, 10_000))
def test_wsd_is_one_up_to_the_branch_and_zero_at_the_end(kind, decay, T):
    schedule = wsd(decay, kind=kind)
    assert schedule(T, T) == 0.0
    branch = (1 - decay) * T
    assert (schedule(np.linspace(0, branch, 7), T) == 1.0).all()  # exact, although the branch is rounded
    assert (np.diff(schedule(np.linspace(branch, T, 101), T)) <= 0).all()


@given(decay=st.floats(0.05, 0.9), short=st.integers(100, 1000), more=st.integers(0, 5000), head=st.integers(0, 50))
def test_a_longer_run_has_the_same_past_before_the_branch(decay, short, more, head):
    schedule = warmup(wsd(decay), head)
    branch = head + int((1 - decay) * (short - head))
    past = np.arange(branch)
    assert np.array_equal(schedule(past, short), schedule(past, short + more))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: wsd(0.0), r"wsd: expected decay > 0, got 0\.0\. Use constant\(\)"),
        (lambda: wsd(1.2), r"decay in \[0, 1\]"),
        (
            lambda: wsd(kind="sqrt"),
            r"wsd: expected kind among 'linear', '1-sqrt', 'cosine', got 'sqrt'\. Did you mean 1-sqrt",
        ),
        (lambda: wsd(kind=3), "kind among"),
        (lambda: one_cycle(0.0), "one_cycle: expected 0 < peak_at < 1"),
        (lambda: one_cycle(1.0), "0 < peak_at < 1"),
        (lambda: one_cycle(start=2.0), r"start in \[0, 1\]"),
        (lambda: one_cycle(kind="cos"), "Did you mean cosine"),
    ],
)
def test_bad_arguments_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
