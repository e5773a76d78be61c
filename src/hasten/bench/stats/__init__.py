"""The statistics of `hasten compare`, on plain tables: nothing here trains, and nothing imports torch.

`Table.from_csv` or `Table.from_rows` reads runs, `analyse` compares every arm with the baseline, `Analysis.to_json`
is what the report and the command line show. `power.plan` says beforehand what a study can find.
"""

from __future__ import annotations

from .power import Plan, minimum_detectable, plan, seeds_needed
from .schema import Analysis
from .summary import analyse
from .table import Row, Table

__all__ = ["Analysis", "Plan", "Row", "Table", "analyse", "minimum_detectable", "plan", "seeds_needed"]
