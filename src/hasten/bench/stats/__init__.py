"""The statistics of `hasten compare`, on plain tables: nothing here trains, and nothing imports torch.

`Table.from_csv` or `Table.from_rows` reads runs, `analyse` compares every arm with the baseline, `Analysis.to_json`
is what the report and the command line show. `power.plan` says beforehand what a study can find.

`non_dominated`, `hypervolume` and `contributions` are the geometry of tradeoffs on any axes. `iqm`,
`probability_of_improvement`, the performance profiles and `aggregate_interval` bring several studies together.
"""

from __future__ import annotations

from .aggregate import (
    aggregate_interval,
    geometric_mean_speedup,
    iqm,
    performance_profile,
    performance_ratios,
    probability_of_improvement,
    profile_score,
)
from .designs import Design, design_of
from .pareto import contributions, hypervolume, non_dominated
from .power import Plan, minimum_detectable, plan, seeds_needed
from .schema import Analysis
from .summary import analyse
from .table import Row, Table

__all__ = ["Analysis", "Design", "Plan", "Row", "Table", "aggregate_interval", "analyse", "contributions", "design_of",
           "geometric_mean_speedup", "hypervolume", "iqm", "minimum_detectable", "non_dominated",
           "performance_profile", "performance_ratios", "plan", "probability_of_improvement", "profile_score",
           "seeds_needed"]  # fmt: skip
