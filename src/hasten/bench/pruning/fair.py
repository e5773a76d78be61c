"""The statistics of a pruning study, on plain numbers: nothing here trains, and nothing imports torch.

Every arm is a curve per seed: quality (higher is better) against what was saved, on three axes.

    compression    parameters of the whole model / those that are left
    speedup        multiply-adds of the dense model / those with a nonzero weight
    latency        measured time of the dense model / that of this one

A pruned arm begins at the unpruned model that was trained on for as long (1 on every axis). Between its points a curve
is a line over the logarithm of the axis; beyond its last point it is not known. Strategies are compared in pairs of
seeds, which share start weights and data order, by paired t tests:

    effects   each strategy against random pruning at every ratio
    orders    at some places of each axis, arms from best to worst; arms that cannot be told apart share a group
    pairs     the mean difference of two curves over the range that both cover, on each axis
    flips     one is better than the other on one axis, and worse on the other. Both tests of a pair must reject, so the
              larger p counts

Holm corrects within families, each of which is wrong anywhere with a chance of at most 5 %. At one place, or for the
mean over an axis, a family is what a reader asks at once: the strategies against random pruning, the strategies against
the narrower dense model, the strategies against each other. Flips are one family over all pairs of strategies and axes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..stats.intervals import paired_t, resolution_of, t_quantile
from ..stats.multiplicity import holm
from ..stats.ties import cut
from ..stats.verdicts import MIN_SEEDS

__all__ = ["ALPHA", "AXES", "UNSURE", "Curve", "Difference", "difference", "effects", "flips", "interval", "mean_gap",
           "orders", "pairs", "ranking"]  # fmt: skip

AXES = ("compression", "speedup", "latency")
ALPHA = 0.05
UNSURE = "not distinguishable"
NARROW = math.log(1.1)  # a shared range below ten percent says nothing about an axis
REACH = math.log(1.01)  # exact counts miss the asked ratio by a part of one entry

Curve = Mapping[int, Sequence[tuple[float, float]]]  # seed -> (what was saved, quality), in any order
Curves = Mapping[str, Curve]


@dataclass(frozen=True)
class Difference:
    """A paired difference over seeds: above 0 the first is better.

    Args:
        value: its mean.
        low, high: the 95 % interval; None of one seed.
        p: of the two-sided test; 1 below three seeds.
        n: seeds.
    """

    value: float
    low: float | None
    high: float | None
    p: float
    n: int

    def plain(self) -> dict[str, Any]:
        """As data."""
        return asdict(self)


def difference(values: Sequence[float], resolution: float = 0.0) -> Difference:
    """The mean of paired differences with its interval and its test.

    >>> difference([1.0, 2.0, 3.0]).n, round(difference([1.0, 2.0, 3.0]).p, 3), difference([1.0, 3.0]).p
    (3, 0.074, 1.0)
    """
    found = paired_t(values, alpha=ALPHA, resolution=resolution)
    single = found.n == 1
    p = float(found.p) if found.n >= MIN_SEEDS else 1.0
    return Difference(float(found.mean), None if single else float(found.low), None if single else float(found.high),
                      p, found.n)  # fmt: skip


def interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean over seeds and its 95 % t interval, which one seed does not have."""
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if len(array) < 2:
        return mean, None, None
    half = float(t_quantile(1 - ALPHA / 2, len(array) - 1)) * float(array.std(ddof=1)) / math.sqrt(len(array))
    return mean, mean - half, mean + half


def effects(levels: Mapping[str, Mapping[int, Mapping[int, float]]], baseline: str) -> list[dict[str, Any]]:
    """Every arm against the baseline at every place where they have seeds in common; a place is a family.

    Args:
        levels: arm -> place on the curve -> seed -> quality.
        baseline: the arm that the others are compared with.

    Returns:
        {"arm", "point", the fields of `Difference`, "p_holm", "verdict"}; the verdict is "better", "worse" or "not
        distinguishable".
    """
    found: list[dict[str, Any]] = []
    step = resolution_of([q for places in levels.values() for seeds in places.values() for q in seeds.values()])
    for point in dict.fromkeys(point for places in levels.values() for point in places):
        base = levels.get(baseline, {}).get(point, {})
        others = {arm: places[point] for arm, places in levels.items() if arm != baseline and point in places}
        rows = [{"arm": arm, "point": point, **_paired(seeds, base, step).plain()} for arm, seeds in others.items()
                if seeds.keys() & base.keys()]  # fmt: skip
        found += _adjusted(rows)
    return found


def _paired(one: Mapping[int, float], other: Mapping[int, float], step: float) -> Difference:
    """The difference over the seeds that both have; `step` is the metric's."""
    return difference([one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())], step)


def _adjusted(family: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tests of a family with corrected p and verdict."""
    adjusted = holm([one["p"] for one in family])
    return [{**one, "p_holm": float(p), "verdict": _verdict(one["value"], p)}
            for one, p in zip(family, adjusted, strict=True)]  # fmt: skip


def _by_family(found: list[dict[str, Any]], controls: Sequence[str]) -> list[dict[str, Any]]:
    """Tests of pairs ("one", "other"), corrected in families: those with each control, and the others."""
    families: dict[str, list[dict[str, Any]]] = {}
    for pair in found:
        families.setdefault(_family(pair, controls), []).append(pair)
    return [pair for family in families.values() for pair in _adjusted(family)]


def _family(pair: Mapping[str, Any], controls: Sequence[str]) -> str:
    return next((name for name in controls if name in (pair["one"], pair["other"])), "")


def _verdict(value: float, p: float) -> str:
    return UNSURE if p > ALPHA or not value else "better" if value > 0 else "worse"


# Curves ---------------------------------------------------------------------------------------------------------------


def _knots(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Logarithms of what was saved, rising, and qualities; points at one place are averaged."""
    places: dict[float, list[float]] = {}
    for x, y in sorted(points):
        places.setdefault(math.log(x), []).append(y)
    return list(places), [sum(ys) / len(ys) for ys in places.values()]


def _reach(curve: Curve) -> tuple[float, float]:
    """The range of log x that every seed covers."""
    ends = [(min(x), max(x)) for x, _ in map(_knots, curve.values())]
    return max(low for low, _ in ends), min(high for _, high in ends)


def _at(curve: Curve, x: float) -> dict[int, float] | None:
    """Quality of every seed where so much is saved; None where some seed does not come so far."""
    low, high = _reach(curve)
    if not low - REACH <= math.log(x) <= high + REACH:
        return None
    return {seed: float(np.interp(math.log(x), *_knots(points))) for seed, points in curve.items()}


def mean_gap(one: Curve, other: Curve) -> tuple[Difference, float] | None:
    """The mean difference of two curves over the range of log x that both cover, and how far that reaches.

    None without a common seed, or where the curves share hardly any range.

    >>> line = {0: [(1.0, 0.9), (4.0, 0.7)], 1: [(1.0, 0.9), (4.0, 0.7)]}
    >>> gap, reach = mean_gap(line, {seed: [(1.0, 0.9), (16.0, 0.5)] for seed in line})
    >>> round(gap.value, 6), round(reach, 6)
    (0.0, 4.0)
    """
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        return None
    sides = [{seed: curve[seed] for seed in seeds} for curve in (one, other)]
    (low_1, high_1), (low_2, high_2) = map(_reach, sides)
    low, high = max(low_1, low_2), min(high_1, high_2)
    if high - low < NARROW:
        return None
    gaps = [_area(one[seed], low, high) - _area(other[seed], low, high) for seed in seeds]
    return difference(gaps, _step(one, other)), math.exp(high)


def _step(*curves: Curve) -> float:
    """The metric's step, below which seeds agree by luck; from the points, since values between them are on none."""
    return resolution_of([quality for curve in curves for points in curve.values() for _, quality in points])


def _area(points: Sequence[tuple[float, float]], low: float, high: float) -> float:
    """Mean quality of one curve between two places of log x."""
    xs, ys = _knots(points)
    grid = np.array(sorted({low, high, *(x for x in xs if low < x < high)}))
    level = np.interp(grid, xs, ys)
    return float(np.sum(np.diff(grid) * (level[1:] + level[:-1]) / 2)) / (high - low)


def orders(curves: Curves, places: Sequence[float], controls: Sequence[str] = ()) -> list[dict[str, Any]]:
    """At each place the arms that come so far, best group first; fewer than two arms make no order."""
    found, step = [], _step(*curves.values())
    for x in places:
        levels = {arm: at for arm, curve in curves.items() if curve and (at := _at(curve, x)) is not None}
        if len(levels) > 1:
            found.append({"at": x, "groups": _groups(levels, controls, step)})
    return found


def _groups(levels: Mapping[str, Mapping[int, float]], controls: Sequence[str], step: float) -> list[list[str]]:
    """Arms from best to worst by their means, cut where all above are separated from all below."""
    order = sorted(levels, key=lambda arm: -sum(levels[arm].values()) / len(levels[arm]))
    tests = [
        {"one": one, "other": other, **_paired(levels[one], levels[other], step).plain()}
        for one, other in itertools.combinations(order, 2)
        if levels[one].keys() & levels[other].keys()
    ]
    return _cut(order, _by_family(tests, controls))


def _cut(order: Sequence[str], tests: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    sure = {(order.index(one["one"]), order.index(one["other"])) for one in tests if one["verdict"] != UNSURE}
    return [list(group) for group in cut(order, {(min(pair), max(pair)) for pair in sure})]


def pairs(axes: Mapping[str, Curves], controls: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Every two arms with their mean difference on each axis.

    Args:
        axes: axis -> arm -> curve.
        controls: arms whose pairs are families of their own.

    Returns:
        {"one", "other", "family" (a control, or ""), axis: {the fields of `Difference`, "reach", "p_holm", "verdict"}},
        None for an axis on which they share no range.
    """
    names = list(axes[AXES[0]])
    found: list[dict[str, Any]] = [{"one": a, "other": b} for a, b in itertools.combinations(names, 2)]
    for pair in found:
        pair["family"] = _family(pair, controls)
    for axis, curves in axes.items():
        tests = []
        for pair in found:
            gap = mean_gap(curves.get(pair["one"], {}), curves.get(pair["other"], {}))
            if gap is not None:
                tests.append({"one": pair["one"], "other": pair["other"], **gap[0].plain(), "reach": gap[1]})
        known = {(test.pop("one"), test.pop("other")): test for test in _by_family(tests, controls)}
        for pair in found:
            pair[axis] = known.get((pair["one"], pair["other"]))
    return found


def ranking(found: Sequence[Mapping[str, Any]], names: Sequence[str], axis: str = AXES[0]) -> list[list[str]]:
    """Arms from best to worst by their mean differences on an axis, those that cannot be told apart in one group.

    Args:
        found: of `pairs`.
        names: the arms to rank; one without a difference to all others is left out.
        axis: on which.
    """
    gaps = {(p["one"], p["other"]): p[axis] for p in found if p[axis] is not None}
    value = {
        **{pair: gap["value"] for pair, gap in gaps.items()},
        **{(b, a): -g["value"] for (a, b), g in gaps.items()},
    }
    known = [name for name in names if all((name, other) in value for other in names if other != name)]
    order = sorted(known, key=lambda name: -sum(value[name, other] for other in known if other != name))
    tests = [{"one": a, "other": b, **gap} for (a, b), gap in gaps.items() if a in known and b in known]
    return _cut(order, tests)


def flips(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The pairs of strategies whose order is another one on another axis than on that of compression.

    Args:
        found: of `pairs`.

    Returns:
        {"better", "worse" (at equal compression), "axis", "p_holm", "resolved"}, the surest first.
    """
    among = [pair for pair in found if not pair["family"] and pair[AXES[0]] is not None]
    asked = [(pair, axis) for pair in among for axis in AXES[1:] if pair.get(axis) is not None]
    p = [max(pair[AXES[0]]["p"], pair[axis]["p"]) if _opposite(pair, axis) else 1.0 for pair, axis in asked]
    rows = []
    for (pair, axis), adjusted in zip(asked, holm(p), strict=True):
        if _opposite(pair, axis):
            first = pair[AXES[0]]["value"] > 0
            better, worse = (pair["one"], pair["other"]) if first else (pair["other"], pair["one"])
            rows.append({"better": better, "worse": worse, "axis": axis, "p_holm": float(adjusted),
                         "resolved": bool(adjusted <= ALPHA)})  # fmt: skip
    return sorted(rows, key=lambda row: row["p_holm"])


def _opposite(pair: Mapping[str, Any], axis: str) -> bool:
    return pair[AXES[0]]["value"] * pair[axis]["value"] < 0
