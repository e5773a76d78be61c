from __future__ import annotations

import math

import numpy as np
import pytest

from hasten.bench.stats.intervals import paired_t
from hasten.bench.stats.power import binomial_noise, minimum_detectable, pilot_sd, plan, seeds_needed


def test_the_specifications_numbers() -> None:
    assert [round(minimum_detectable(0.8, n), 1) for n in (3, 5, 10)] == [2.5, 1.3, 0.8]
    assert round(100 * binomial_noise(0.85, 4096), 2) == 0.56


@pytest.mark.parametrize("n", [3, 5, 10, 20])
@pytest.mark.parametrize("questions", [1, 14])
def test_twice_the_effect_is_found_and_the_effect_itself_mostly(n: int, questions: int) -> None:
    generator = np.random.default_rng(n)
    effect = minimum_detectable(1.0, n, questions=questions)
    for size, least in ((1.0, 0.66), (2.0, 0.9)):
        found = paired_t(generator.normal(size * effect, 1.0, (n, 20_000))).p <= 0.05 / questions
        assert found.mean() >= least


def test_seeds_needed_is_the_inverse() -> None:
    for effect in (0.4, 1.0, 2.0):
        n = seeds_needed(effect, 0.8, questions=7)
        assert n is not None
        assert minimum_detectable(0.8, n, questions=7) <= effect
        assert n == 3 or minimum_detectable(0.8, n - 1, questions=7) > effect
    assert seeds_needed(0.001, 0.8, most=50) is None
    assert seeds_needed(1.0, 0.0) == 3


def test_plan_prints_both_levels() -> None:
    study = plan(seeds=3, arms=3, budgets=4, targets=3, sd_metric=0.008, sd_log_speedup=0.05)
    assert study.questions == 21
    assert study.metric_alone == pytest.approx(minimum_detectable(0.008, 3))
    assert study.metric_family == pytest.approx(minimum_detectable(0.008, 3, questions=21))
    assert study.speedup_family == pytest.approx(math.exp(minimum_detectable(0.05, 3, questions=21)))
    assert study.text() == (
        f"3 seeds, 21 questions: with 80 % power they detect a gain of {study.metric_family:.3g} (asked alone: "
        f"{study.metric_alone:.3g}) and a speedup of {study.speedup_family:.3g} (asked alone: "
        f"{study.speedup_alone:.3g}). Five seeds detect far smaller effects."
    )
    without = plan(seeds=5, arms=1, budgets=1, targets=0, sd_metric=0.0)
    assert without.metric_family == 0.0
    assert "speedup" not in without.text()


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="n >= 2"):
        minimum_detectable(0.8, 1)
    with pytest.raises(ValueError, match="sd >= 0"):
        minimum_detectable(-0.8, 3)
    with pytest.raises(ValueError, match="at least one question"):
        plan(seeds=3, arms=0, budgets=4, targets=3, sd_metric=0.1)
    with pytest.raises(ValueError, match="at least two differences"):
        pilot_sd([1.0])
    with pytest.raises(ValueError, match="effect > 0"):
        seeds_needed(0.0, 1.0)
    assert pilot_sd([1.0, 2.0, 4.0]) == pytest.approx(np.std([1, 2, 4], ddof=1))
