"""Made-up studies with a known truth, as the rows of a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Rows = list[dict[str, Any]]
Change = Callable[[float, float], tuple[float, float]]  # (time, metric) of the baseline -> those of an arm
LENGTHS = (3, 7, 15, 31)


def study(arms: dict[str, Change], seeds: int = 5, noise: float = 0.0, start: int = 0) -> Rows:
    """Rows of a baseline curve with seed effects, and of arms given as (time, metric) -> (time, metric)."""
    rows = []
    for seed in range(seeds):
        generator = np.random.default_rng(start + seed)
        shared, pace = generator.normal(0, 0.006), math.exp(generator.normal(0, 0.05))
        base = [(n * pace, 0.83 - 0.33 / n + shared + generator.normal(0, 0.002)) for n in LENGTHS]
        for name, change in arms.items():
            for point, (time, metric) in enumerate(base):
                t, m = change(time, metric)
                own = generator.normal(0, noise) if noise else 0.0
                rows.append({"arm": name, "seed": seed, "point": point, "step": 32 * LENGTHS[point], "time": t,
                             "metric": m + own})  # fmt: skip
    return rows


def same(time: float, metric: float) -> tuple[float, float]:
    return time, metric
