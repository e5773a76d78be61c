from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hasten.bench.stats import curves, effects
from hasten.bench.stats.curves import Bounds, Curves, stack
from hasten.bench.stats.intervals import paired_t, sign_flip
from hasten.bench.stats.power import minimum_detectable
from hasten.bench.stats.schema import Effect
from hasten.bench.stats.verdicts import Readings, read

INF = math.inf
TIMES, METRICS = [1.0, 2.0, 4.0], [70.0, 72.0, 74.0]


def readings(*columns: list[float], upper: list[list[float]] | None = None, **options: Any) -> Readings:
    lower = np.array(columns, dtype=float).T
    return read(Bounds(lower, lower if upper is None else np.array(upper, dtype=float).T), alpha=0.05, **options)


def built(kind: str, given: Readings, p_holm: NDArray[np.float64] | None = None, **options: Any) -> list[Effect]:
    count = len(given.bound)
    defaults: dict[str, Any] = {"labels": [f"q{k}" for k in range(count)], "reasons": [""] * count, "alpha": 0.05,
                                "questions": 10, "generator": np.random.default_rng(0)}  # fmt: skip
    words = ["not proven"] * count
    return list(
        effects.build_effects(kind, given, words, given.p if p_holm is None else p_holm, **{**defaults, **options})
    )


def three(shift: float = 0.0, speedup: float = 1.0) -> Curves:
    """Three seeds whose metrics differ by 0.1 each."""
    return stack([[t / speedup for t in TIMES]] * 3, [[m + shift + 0.1 * seed for m in METRICS] for seed in range(3)])


def test_a_gain_keeps_the_unit_of_the_metric() -> None:
    values = [0.1, 0.2, 0.4]
    (effect,) = built("budget", readings(values), np.array([0.5]), reasons=["read elsewhere"])
    stats = paired_t(values)
    assert (effect.kind, effect.index, effect.label, effect.n, effect.bound) == ("budget", 0, "q0", 3, "")
    assert (effect.value, effect.low, effect.high) == (float(stats.mean), float(stats.low), float(stats.high))
    assert (effect.minimum, effect.maximum, effect.per_seed) == (0.1, 0.4, (0.1, 0.2, 0.4))
    assert (effect.p, effect.p_holm, effect.reason) == (float(stats.p), 0.5, "read elsewhere")
    assert (effect.p_sign_flip, effect.p_sign_flip_smallest) == (sign_flip(values).p, 0.25)
    assert effect.p_wilcoxon is None
    sd = float(np.std(values, ddof=1))
    assert effect.mde == pytest.approx(minimum_detectable(sd, 3))
    assert effect.mde_family == pytest.approx(minimum_detectable(sd, 3, questions=10))


def test_a_speedup_is_a_factor() -> None:
    (effect,) = built("target", readings([math.log(s) for s in (1.0, 2.0, 4.0)]))
    assert effect.value == pytest.approx(2.0)
    assert effect.per_seed == pytest.approx((1.0, 2.0, 4.0))
    assert effect.low is not None
    assert effect.high is not None
    assert effect.low * effect.high == pytest.approx(4.0)  # symmetric in the logarithm
    assert effect.mde is not None
    assert effect.mde > 1


def test_a_speedup_too_large_for_a_number_is_unknown() -> None:
    (effect,) = built("target", readings([0.0, 900.0, 900.0]))
    assert (effect.high, effect.maximum, effect.per_seed) == (None, None, (1.0, None, None))
    assert effect.value == pytest.approx(math.exp(600.0))


def test_bounds() -> None:
    at_least = readings([0.1, 0.2, 0.3], upper=[[0.1, 0.2, INF]])
    (gain,), (speedup,) = built("budget", at_least), built("target", at_least)
    assert (gain.bound, gain.value, gain.high) == (">=", pytest.approx(0.2), None)
    assert gain.low is not None  # the safe side of a gain
    assert (speedup.bound, speedup.low, speedup.high) == (">=", None, None)
    assert speedup.value == pytest.approx(math.exp(0.2))
    assert gain.per_seed == (0.1, 0.2, None)
    assert (gain.minimum, gain.p_sign_flip, gain.mde) == (None, None, None)
    (at_most,) = built("budget", readings([0.1, 0.2, -INF], upper=[[0.1, 0.2, 0.3]]))
    assert (at_most.bound, at_most.low) == ("<=", None)
    assert at_most.high is not None
    (nothing,) = built("budget", readings([-INF, 0.2, 0.3], upper=[[0.1, 0.2, INF]]))
    assert (nothing.bound, nothing.value, nothing.low, nothing.high, nothing.p) == ("?", None, None, None, None)


def test_a_bound_that_decides_shows_its_p() -> None:
    given = readings([0.5, 0.51, 0.52], upper=[[0.5, 0.51, INF]], bounds_decide=True)
    assert built("budget", given)[0].p == pytest.approx(float(paired_t([0.5, 0.51, 0.52]).p))
    assert built("budget", readings([0.5, 0.51, 0.52], upper=[[0.5, 0.51, INF]]))[0].p is None


def test_few_pairs_say_so_and_a_reason_goes_first() -> None:
    one, two = built("budget", readings([0.1, 0.2], [0.1, 0.3]), reasons=["", "a bound"])
    assert one.reason == "n = 2: a verdict needs 3 pairs"
    assert two.reason == "a bound"
    (alone,) = built("budget", readings([0.1]))
    assert (alone.value, alone.low, alone.high, alone.p, alone.mde, alone.p_sign_flip) == (0.1, *[None] * 5)


def test_no_loss_is_corrected_over_all_questions() -> None:
    safe, lost = readings([0.001, -0.001, 0.0]), readings([-0.1, -0.2, -0.15])
    assert effects.no_losses([safe], 0.005, alpha=0.05) == [[True]]
    assert effects.no_losses([safe, *[lost] * 4], 0.005, alpha=0.05) == [[False]] + [[False]] * 4
    assert effects.no_losses([safe, lost], 0.02, alpha=0.05) == [[True], [False]]
    assert effects.no_losses([safe], None, alpha=0.05) == [[None]]


def test_no_loss_takes_the_safe_bound_only() -> None:
    lower = readings([0.1, 0.11, 0.12], upper=[[0.1, 0.11, INF]])
    upper = readings([0.1, 0.11, -INF], upper=[[0.1, 0.11, 0.12]])
    two = readings([0.1, 0.11])
    assert effects.no_losses([lower, upper, two], 0.005, alpha=0.05) == [[True], [None], [None]]


def test_reasons_of_budgets() -> None:
    base, short, late = three(), three(speedup=2.0), three(speedup=0.5)
    points = [0, 1, 2]
    for arm, expected in (
        (short, ["", "", "a run of the arm ends before this time: at least this gain"]),
        (late, ["a run of the arm starts after this time: at most this gain", "", ""]),
        (three(speedup=1 / 1.2), ["read at 1.2 s, where both arms have runs", "", ""]),
        (three(speedup=1 / 1.02), ["", "", ""]),
    ):
        gains = read(curves.gain(base, arm, curves.equal_times(base, arm, points)), alpha=0.05)
        assert effects.budget_reasons(gains, base, arm, points) == expected


def test_reasons_of_targets() -> None:
    base, arm = three(), three(shift=1.0)
    qualities, labels = [69.0, 71.5, 73.95, 74.15], ["69", "71.5", "73.95", "74.15"]
    given = read(curves.log_speedup(base, arm, qualities), alpha=0.05)
    assert effects.target_reasons(given, base, arm, qualities, labels) == [
        "3 of 3 baseline runs are above 69 at their first point, 3 of 3 arm runs are above 69 at their first point",
        "",
        "close to where the curves end: the estimate leans towards the arm",
        "2 of 3 baseline runs never reach 74.15",
    ]


def test_sensitivity_is_the_slope() -> None:
    base = stack([TIMES], [METRICS])  # two units of the metric for every doubling
    assert effects.sensitivities(base, [71.0], 0.5) == [pytest.approx(2**0.25)]
    assert effects.sensitivities(base, [73.9], 0.5) == [None]
    assert effects.sensitivities(base, [71.0], None) == effects.sensitivities(base, [71.0], 0.0) == [None]


def mean_curves(base: Curves, arm: Curves, qualities: list[float], **options: Any) -> list[Any]:
    defaults: dict[str, Any] = {"fractions": [], "first": None, "alpha": 0.05, "generator": np.random.default_rng(0)}
    return effects.mean_curves(base, arm, qualities, **{**defaults, **options})


def test_mean_curves_answer_where_single_seeds_are_censored() -> None:
    base, arm = three(), three(speedup=2.0)
    last = float(base.best[:, -1].mean())
    assert not bool(curves.log_speedup(base, arm, [last]).exact.all())
    (found,) = mean_curves(base, arm, [last - 1e-9])
    assert found.speedup == pytest.approx(2.0)
    # the target is fixed, so some resamples of the baseline never arrive there
    assert found.high is None
    (moved,) = mean_curves(base, arm, [last], fractions=[1.0])
    assert (moved.speedup, moved.low, moved.high) == (pytest.approx(2.0),) * 3


def test_mean_curves_need_two_runs_of_one_length() -> None:
    one = stack([TIMES], [METRICS])
    ragged = stack([TIMES, TIMES[:2], TIMES], [METRICS, METRICS[:2], METRICS])
    for base, arm in ((one, one), (ragged, three()), (three(), ragged)):
        assert [(m.speedup, m.low, m.high) for m in mean_curves(base, arm, [71.0, 72.0])] == [(None, None, None)] * 2


def test_the_speedup_curve_spans_both_arms() -> None:
    found = effects.speedup_curve(three(), three(shift=1.0), sign=1.0, alpha=0.05)
    assert found is not None
    assert (found.quality[0], found.quality[-1]) == (pytest.approx(70.1), pytest.approx(75.1))
    assert len(found.quality) == effects.GRID
    middle = found.quality.index(min(found.quality, key=lambda q: abs(q - 72.6)))
    assert found.speedup[middle] == pytest.approx(math.sqrt(2))
    assert found.censored[0] == found.censored[-1] == 3
    assert (found.speedup[-1], found.at_most[-1]) == (None, None)
    assert found.at_least[-3] is not None
    flipped = effects.speedup_curve(three(), three(shift=1.0), sign=-1.0, alpha=0.05)
    assert flipped is not None
    assert flipped.quality == tuple(-q for q in found.quality)
    flat = stack([TIMES] * 2, [[1.0] * 3] * 2)
    assert effects.speedup_curve(flat, flat, sign=1.0, alpha=0.05) is None


def test_the_overall_speedup_integrates_the_common_range() -> None:
    found = effects.overall_speedup(three(), three(shift=1.0), sign=1.0, alpha=0.05)
    assert found is not None
    assert (found.quality_low, found.quality_high, found.n) == (pytest.approx(71.2), pytest.approx(74.0), 3)
    assert (found.speedup, found.low, found.high) == (pytest.approx(math.sqrt(2)),) * 3
    assert effects.overall_speedup(three(), three(shift=10.0), sign=1.0, alpha=0.05) is None
