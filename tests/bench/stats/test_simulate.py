"""The controls: the same functions with more repetitions are in benchmarks/controls.py."""

from __future__ import annotations

import numpy as np
import pytest

from hasten.bench.stats.intervals import paired_t
from hasten.bench.stats.simulate import Law, bootstrap_coverage, coverage, draw, false_verdicts, planted

STUDIES = 20_000  # Monte-Carlo error of a 95 % coverage: 0.15 points


@pytest.mark.parametrize("seeds", [3, 5, 10, 20])
@pytest.mark.parametrize("kind", ["accuracy", "budget", "target"])
def test_nominal_95_percent_intervals_cover_95_percent(kind: str, seeds: int) -> None:
    result = coverage(kind, seeds=seeds, studies=STUDIES, generator=np.random.default_rng(seeds))
    assert result["answered"].share > 0.999
    assert 0.94 <= result["covered"].share <= 0.96
    assert abs(result["above"].share - result["below"].share) < 0.01


@pytest.mark.parametrize("seeds", [3, 5])
def test_selection_near_the_plateau_leans_as_documented_and_never_adds_errors(seeds: int) -> None:
    result = coverage("own target", seeds=seeds, studies=STUDIES, generator=np.random.default_rng(seeds))
    assert 0.94 <= result["covered"].share <= 0.96
    assert result["above"].share > result["below"].share
    assert result["answered"].share * result["above"].share < 0.025


@pytest.mark.parametrize(("seeds", "documented"), [(3, 0.73), (5, 0.84), (10, 0.89), (20, 0.93)])
def test_percentile_bootstrap_covers_as_documented(seeds: int, documented: float) -> None:
    found = bootstrap_coverage(seeds=seeds, studies=1500, generator=np.random.default_rng(seeds))
    assert found.share == pytest.approx(documented, abs=0.035)


@pytest.mark.parametrize(("seeds", "examples"), [(3, 0), (5, 600)])
def test_copies_of_the_baseline_pay_in_at_most_5_percent_of_studies(seeds: int, examples: int) -> None:
    generator = np.random.default_rng(seeds)
    result = false_verdicts(arms=2, seeds=seeds, studies=2000, generator=generator, law=Law(examples=examples))
    assert result["pays"].share <= 0.05
    assert result["costs"].share <= 0.05


def test_a_coarse_metric_makes_false_claims_without_its_resolution() -> None:
    base, arm = draw(Law(examples=100), [(0, 1), (0, 1)], studies=20_000, seeds=3, generator=np.random.default_rng(0))
    d = np.round(np.moveaxis(arm[1] - base[1], 1, 0), 12)
    level = 0.05 / 12  # three arms, four budgets
    assert (paired_t(d).p <= level).mean() > 4 * level
    assert (paired_t(d, resolution=0.01).p <= level).mean() <= level


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("kind", ["budget", "target"])
def test_twice_the_detectable_effect_is_found_in_90_percent_of_studies(kind: str, seeds: int) -> None:
    effect, found = planted(kind, arms=2, seeds=seeds, studies=300, generator=np.random.default_rng(seeds))
    assert effect > 0
    assert found.share >= 0.9
