from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hasten.bench.stats.intervals import (
    bootstrap_percentile,
    no_loss_p,
    paired_t,
    resolution_of,
    sign_flip,
    t_probability,
    t_quantile,
    wilcoxon,
)

values = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=3, max_size=9)


def test_quantiles_are_scipys() -> None:
    for degrees in (1, 2, 4, 9, 19, 200):
        assert t_quantile(0.975, degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-10)
        assert t_probability(-2.5, degrees) == pytest.approx(stats.t.cdf(-2.5, degrees), rel=1e-10)


@settings(max_examples=50, deadline=None)
@given(values, values)
def test_paired_t_is_scipys_ttest_rel(one: list[float], two: list[float]) -> None:
    n = min(len(one), len(two))
    d = np.array(one[:n]) - np.array(two[:n])
    if d.std(ddof=1) < 1e-6:
        return
    ours, theirs = paired_t(d, alpha=0.1), stats.ttest_rel(one[:n], two[:n])
    assert ours.p == pytest.approx(theirs.pvalue, abs=1e-9)
    interval = theirs.confidence_interval(0.9)
    assert (ours.low, ours.high) == (pytest.approx(interval.low, abs=1e-8), pytest.approx(interval.high, abs=1e-8))


def test_paired_t_works_per_column() -> None:
    d = np.array([[1.0, 4.0], [2.0, -1.0], [4.0, 0.5]])
    both = paired_t(d)
    for k in range(2):
        assert both.p[k] == pytest.approx(float(paired_t(d[:, k]).p))
        assert both.low[k] == pytest.approx(float(paired_t(d[:, k]).low))


def test_identical_runs_are_a_tie_and_constant_differences_are_exact() -> None:
    tie = paired_t([0.0, 0.0, 0.0], resolution=0.1)
    assert (bool(tie.tie), float(tie.p), float(tie.low), float(tie.high)) == (True, 1.0, 0.0, 0.0)
    constant = paired_t([math.log(2.0)] * 5)
    assert not constant.tie
    assert (float(constant.p), float(constant.low), float(constant.high)) == (0.0, math.log(2.0), math.log(2.0))
    rounded = paired_t([math.log(2.0 * t) - math.log(t) for t in (1.0, 3.7, 11.3)])  # equal up to the last bits
    assert rounded.p == 0.0
    assert rounded.high - rounded.low == 0.0


def test_equal_differences_of_a_coarse_metric_prove_nothing() -> None:
    lucky = paired_t([0.01, 0.01, 0.01], resolution=0.01)
    assert lucky.p == pytest.approx(2 * stats.t.cdf(-math.sqrt(6) * math.sqrt(3), 2))
    assert lucky.p > 0.05


def test_one_difference_says_nothing() -> None:
    one = paired_t([0.3])
    assert (float(one.p), float(one.low), float(one.high)) == (1.0, -math.inf, math.inf)


def test_bad_differences_are_refused() -> None:
    with pytest.raises(ValueError, match="finite differences"):
        paired_t([1.0, math.nan])
    with pytest.raises(ValueError, match="at least one difference"):
        paired_t([])
    with pytest.raises(ValueError, match="alpha in"):
        paired_t([1.0, 2.0], alpha=2.0)


@settings(max_examples=30, deadline=None)
@given(values)
def test_no_loss_agrees_with_the_interval(d: list[float]) -> None:
    result = paired_t(d)
    margin = 1.0
    if abs(float(result.low) + margin) > 1e-6:
        assert (float(no_loss_p(result, margin)) <= 0.025) == (float(result.low) >= -margin)


def test_no_loss_of_exact_differences() -> None:
    assert no_loss_p(paired_t([0.0, 0.0, 0.0]), 0.002) == 0.0
    assert no_loss_p(paired_t([-0.01, -0.01, -0.01]), 0.002) == 1.0
    with pytest.raises(ValueError, match="margin >= 0"):
        no_loss_p(paired_t([0.0, 1.0]), -1.0)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-50, 50).map(float), min_size=3, max_size=7))
def test_sign_flip_is_scipys_permutation_test(d: list[float]) -> None:
    theirs = stats.permutation_test((np.array(d),), np.mean, permutation_type="samples", n_resamples=np.inf)
    ours = sign_flip(d)
    # scipy doubles the smaller tail; for a symmetric null that is P(|mean| >= |observed|), capped at 1
    assert ours.p == pytest.approx(min(1.0, theirs.pvalue), abs=1e-12)
    assert ours.exact
    assert ours.smallest == 2.0 ** (1 - len(d))


def test_smallest_sign_flip_p() -> None:
    assert sign_flip([1.0, 2.0, 4.0]).p == 0.25
    assert sign_flip([1.0, 2.0, 4.0, 8.0, 16.0]).p == 0.0625
    assert sign_flip([0.0, 0.0]).p == 1.0


def test_sign_flip_of_twenty_is_enumerated_and_of_more_is_drawn() -> None:
    d = np.linspace(-1, 1.4, 20)
    exact = sign_flip(d)
    assert exact.exact
    more = np.append(d, 0.0)  # a zero difference changes no pattern's sum
    drawn = sign_flip(more, generator=np.random.default_rng(0))
    assert not drawn.exact
    assert drawn.p == pytest.approx(exact.p, abs=0.003)
    with pytest.raises(ValueError, match="Pass generator="):
        sign_flip(more)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=6, max_size=10, unique=True), st.integers(0, 1023))
def test_wilcoxon_is_scipys(sizes: list[int], signs: int) -> None:
    d = [size * (1 if signs >> i & 1 else -1) for i, size in enumerate(sizes)]
    ours = wilcoxon([float(x) for x in d])
    assert ours is not None
    assert ours.p == pytest.approx(stats.wilcoxon(d, method="exact").pvalue, abs=1e-12)


def test_wilcoxon_with_ties_is_an_exact_permutation_of_midranks() -> None:
    d = np.array([1.0, 1.0, -1.0, 2.0, 3.0, 3.0, 0.0])
    ranks = stats.rankdata(np.abs(d[d != 0])) * np.sign(d[d != 0])
    theirs = stats.permutation_test((ranks,), np.sum, permutation_type="samples", n_resamples=np.inf)
    ours = wilcoxon(d)
    assert ours is not None
    assert ours.p == pytest.approx(theirs.pvalue)
    assert wilcoxon([1.0] * 5) is None


def test_percentile_bootstrap_is_scipys() -> None:
    generator = np.random.default_rng(0)
    one, two = generator.normal(1.0, 1.0, 12), generator.normal(0.0, 1.0, 12)
    low, high = bootstrap_percentile(
        lambda i: one[i].mean(axis=1) / np.abs(two[i]).mean(axis=1),
        12,
        generator=np.random.default_rng(1),
        draws=40_000,
    )
    theirs = stats.bootstrap(
        (one, two), lambda a, b, axis: a.mean(axis=axis) / np.abs(b).mean(axis=axis), paired=True, method="percentile",
        n_resamples=40_000, rng=np.random.default_rng(2), vectorized=True,
    ).confidence_interval  # fmt: skip
    width = theirs.high - theirs.low
    assert (low, high) == (pytest.approx(theirs.low, abs=0.03 * width), pytest.approx(theirs.high, abs=0.03 * width))


def test_bootstrap_keeps_infinite_draws() -> None:
    generator = np.random.default_rng(0)
    sample = np.array([0.0, 1.0, 2.0, np.inf])
    low, high = bootstrap_percentile(lambda i: sample[i].mean(axis=1), 4, generator=generator, draws=500)
    assert low < 2.0
    assert high == np.inf
    with pytest.raises(ValueError, match="n >= 2"):
        bootstrap_percentile(lambda i: sample[i].mean(axis=1), 1, generator=generator)


def test_resolution_finds_the_test_set_size() -> None:
    counts = np.random.default_rng(0).integers(400, 560, 60)
    assert resolution_of(counts / 600) == pytest.approx(1 / 600, rel=1e-6)
    assert resolution_of((counts / 600).astype(np.float32)) == pytest.approx(1 / 600, rel=1e-3)
    assert resolution_of(np.random.default_rng(0).normal(size=60)) == 0.0
    assert resolution_of([0.5, 0.5]) == 0.0
    assert resolution_of([]) == 0.0


def test_without_scipy_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match=r"needs scipy.*hasten\[bench\]"):
        paired_t([1.0, 2.0, 3.0])


def test_importing_the_statistics_loads_neither_torch_nor_scipy() -> None:
    code = "import sys, hasten.bench.stats; print([m for m in ('torch', 'scipy') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
