"""Ranking for display: arms that are not separated share a group and are never ranked inside it.

Two arms are separated when their paired difference passes Holm's test over all pairs. A ranking needs more than that:
with the arms in order of their means, a cut is made only where every arm above is separated from every arm below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .intervals import paired_t
from .multiplicity import holm
from .verdicts import MIN_SEEDS

__all__ = ["cut", "tie_groups"]


def tie_groups(
    metrics: Mapping[str, Mapping[int | str, float]], *, alpha: float = 0.05, resolution: float = 0.0
) -> tuple[tuple[str, ...], ...]:
    """Groups of arms at one budget, best group first.

    Args:
        metrics: arm -> seed -> metric (higher is better), finished runs only.
        alpha: error rate over all pairs.
        resolution: the step in which the metric counts, see `intervals.paired_t`.

    Returns:
        A partition of the arms. Pairs with fewer than three common seeds are never separated.

    >>> tie_groups({"a": {0: 0.7, 1: 0.71, 2: 0.72}, "b": {0: 0.8, 1: 0.81, 2: 0.82}, "c": {0: 0.8, 1: 0.82, 2: 0.81}})
    (('b', 'c'), ('a',))
    """
    order = sorted(metrics, key=lambda arm: -float(np.mean(list(metrics[arm].values()))))
    pairs = [(i, j) for i in range(len(order)) for j in range(i + 1, len(order))]
    p = [_p(metrics[order[i]], metrics[order[j]], resolution) for i, j in pairs]
    separated = {pair for pair, q in zip(pairs, holm(p), strict=True) if q <= alpha}
    return cut(order, separated)


def _p(one: Mapping[int | str, float], two: Mapping[int | str, float], resolution: float) -> float:
    seeds = [seed for seed in one if seed in two]
    if len(seeds) < MIN_SEEDS:
        return 1.0
    return float(paired_t([one[s] - two[s] for s in seeds], resolution=resolution).p)


def cut(order: Sequence[str], separated: set[tuple[int, int]]) -> tuple[tuple[str, ...], ...]:
    """Arms in order, cut where every arm above is separated from every arm below; pairs are (earlier, later) places.

    >>> cut("abc", {(0, 2), (1, 2)})
    (('a', 'b'), ('c',))
    """
    groups: list[list[str]] = []
    for k, arm in enumerate(order):
        if k == 0 or all((i, j) in separated for i in range(k) for j in range(k, len(order))):
            groups.append([])
        groups[-1].append(arm)
    return tuple(tuple(group) for group in groups)
