"""The input of every comparison: one row per (workload, arm, seed, point) with a time and a metric.

Nothing here knows how the numbers came about: a study of hasten and a CSV file of somebody's own training logs are
the same table. The metric is higher-is-better throughout; a workload that minimizes stores its negative, and the texts
and the JSON of `analyse(..., minimize=True)` print the original sign.

What is refused (an error naming the row) and what is kept with a note:

| input | |
|---|---|
| a missing column, a value that is no number, a time that is not above 0 | refused |
| the same arm, seed and point twice; a time that does not increase along a run | refused |
| runs of several machines | refused, unless `allow_mixed=True` (then a note) |
| a metric that is NaN or infinite | kept: a failed run; `analyse` leaves the whole run out of pairs and says so |
| columns nobody reads | a note |
"""

from __future__ import annotations

import csv
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..._core.checks import check, near, refuse

__all__ = ["Row", "Seed", "Table"]

Seed = int | str


@dataclass(frozen=True, slots=True)
class Row:
    """One evaluation of one run.

    Args:
        arm: name of the arm.
        seed: runs of two arms with the same seed are a pair.
        point: index of the evaluation within the run, from 0.
        time: seconds on the training clock, above 0, increasing along the run.
        metric: higher is better; NaN or infinite = the run failed.
        workload: "" if the log has only one.
        step: optimizer steps done; None = unknown, points are then matched by index.
        flops: total floating-point operations so far, or None.
        memory: peak bytes, or None.
        host: identity of the machine, or None.
    """

    arm: str
    seed: Seed
    point: int
    time: float
    metric: float
    workload: str = ""
    step: float | None = None
    flops: float | None = None
    memory: float | None = None
    host: str | None = None


_NEEDED = ("arm", "seed", "time", "metric")
_KNOWN = tuple(f.name for f in fields(Row))


def _number(call: str, where: str, name: str, value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        fix = "Write nan for a run that failed." if name == "metric" else "Write a plain number, with a decimal point."
        raise refuse(call, f"a number in {where}, column {name}", repr(value), fix) from None


def _optional(call: str, where: str, name: str, value: Any) -> float | None:
    return None if value is None or value == "" else _number(call, where, name, value)


def _seed(value: Any) -> Seed:
    text = str(value).strip()
    return int(text) if text.lstrip("-").isdecimal() else text


def _text(call: str, where: str, name: str, value: Any) -> str:
    text = "" if value is None else str(value).strip()
    check(text != "", call, f"a value in {where}, column {name}", value, f"Fill in {name}, or leave the row out.")
    return text


def _row(call: str, where: str, raw: Mapping[str, Any]) -> Row:
    """One checked row; point is -1 where the input has none."""
    missing = [name for name in _NEEDED if name not in raw]
    if missing:
        raise refuse(call, f"{', '.join(_NEEDED)} in {where}", f"no {', '.join(missing)}", "Add the missing values.")
    time = _number(call, where, "time", raw["time"])
    if not (math.isfinite(time) and time > 0):
        fix = "Leave out the evaluation before training; its metric can be given as chance=."
        raise refuse(call, f"a time above 0 s in {where}, column time", repr(raw["time"]), fix)
    point = _optional(call, where, "point", raw.get("point"))
    if point is not None and (point < 0 or point != int(point)):
        raise refuse(call, f"a whole number from 0 in {where}, column point", repr(raw["point"]), "Count 0, 1, 2.")
    host = raw.get("host")
    return Row(
        arm=_text(call, where, "arm", raw["arm"]),
        seed=_seed(_text(call, where, "seed", raw["seed"])),
        point=-1 if point is None else int(point),
        time=time,
        metric=_number(call, where, "metric", raw["metric"]),
        workload=str(raw.get("workload") or ""),
        step=_optional(call, where, "step", raw.get("step")),
        flops=_optional(call, where, "flops", raw.get("flops")),
        memory=_optional(call, where, "memory", raw.get("memory")),
        host=None if host is None or host == "" else str(host),
    )


def _ordered_run(call: str, run: list[tuple[str, Row]]) -> list[Row]:
    """The rows of one run in order of their points: numbered by step, else by time, where they have no index."""
    name = f"arm {run[0][1].arm!r}, seed {run[0][1].seed!r}"
    given = [row.point >= 0 for _, row in run]
    check(all(given) or not any(given), call, f"a point index in all rows of {name} or in none", given, "Fill them in.")
    steps = all(row.step is not None for _, row in run)
    key = "point" if all(given) else "step" if steps else "time"
    run = sorted(run, key=lambda item: getattr(item[1], key))
    for (where_a, a), (where_b, b) in itertools.pairwise(run):
        if getattr(a, key) == getattr(b, key):
            raise refuse(call, f"one row per {key} in {name}", f"{key} {getattr(a, key):g} in {where_a} and {where_b}",
                         "Remove the duplicate, or give the second run another seed.")  # fmt: skip
        if b.time <= a.time:
            times = f"{a.time:g} s in {where_a}, then {b.time:g} s in {where_b}"
            raise refuse(call, f"times that increase along {name}", times,
                         "Log the training clock since the start of the run.")  # fmt: skip
    return [replace(row, point=i) for i, (_, row) in enumerate(run)] if key != "point" else [row for _, row in run]


def _notes_on_hosts(call: str, rows: Sequence[Row], allow_mixed: bool) -> list[str]:
    hosts = sorted({row.host for row in rows if row.host is not None})
    unknown = any(row.host is None for row in rows)
    if len(hosts) + (unknown and bool(hosts)) < 2:
        return []
    names = ", ".join(hosts) + (" and rows without a host" if unknown else "")
    if not allow_mixed:
        raise refuse(call, "runs of one machine", names,
                     "Times of different machines do not compare: keep one, or pass allow_mixed=True.")  # fmt: skip
    return [f"runs of several machines are mixed: {names}; times compare only where both runs of a seed share one"]


@dataclass(frozen=True)
class Table:
    """Checked rows, grouped by run and ordered by point, and the `notes` collected on the way.

    Build it with `from_rows` or `from_csv`.

    >>> table = Table.from_rows([{"arm": "base", "seed": 0, "time": 1.0, "metric": 0.7},
    ...                          {"arm": "base", "seed": 0, "time": 2.0, "metric": 0.8}])
    >>> [row.point for row in table.rows], table.arms
    ([0, 1], ('base',))
    """

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any] | Row], *, allow_mixed: bool = False) -> Table:
        """A table from dicts (or `Row`s) with at least arm, seed, time and metric.

        Args:
            rows: metric is higher-is-better. Without a point index, points are numbered by step, else by time.
            allow_mixed: accept runs of several hosts.

        Raises:
            ValueError: see the top of this file; the message names the row, counted from 1.
        """
        named = [(f"row {i}", asdict(r) if isinstance(r, Row) else r) for i, r in enumerate(rows, 1)]
        return cls._checked("Table.from_rows", named, allow_mixed)

    @classmethod
    def from_csv(cls, path: str | Path, *, minimize: bool = False, allow_mixed: bool = False) -> Table:
        """A table from anybody's logs: a CSV file with a header line.

        Columns arm, seed, time (seconds since the start of training) and metric are needed; workload, point, step,
        flops, memory and host are read if present.

        Args:
            path: the file, comma-separated, UTF-8.
            minimize: True when the file's metric is better when lower (a loss): the table stores its negative. Pass
                the same to `analyse`.
            allow_mixed: accept runs of several hosts.

        Raises:
            ValueError: the message names file, line and column, and the fix.
        """
        call, name = "Table.from_csv", Path(path).name
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = [c.strip() for c in reader.fieldnames or []]
            missing = [c for c in _NEEDED if c not in columns]
            if missing:
                hint = f"{near(missing[0], columns)} Name the columns in a header line, separated by commas."
                raise refuse(call, f"columns {', '.join(_NEEDED)} in {name}", ", ".join(columns) or "no header", hint)
            reader.fieldnames = columns
            named: list[tuple[str, Mapping[str, Any]]] = []
            for raw in reader:
                where = f"{name}, line {reader.line_num}"
                complete = None not in raw and None not in raw.values()
                check(complete, call, f"{len(columns)} values in {where}", raw, "Write as many as the header has.")
                named.append((where, raw))
        table = cls._checked(call, named, allow_mixed)
        unused = [c for c in columns if c not in _KNOWN]
        notes = table.notes + ((f"columns of {name} not used: {', '.join(unused)}",) if unused else ())
        rows = tuple(replace(row, metric=-row.metric) for row in table.rows) if minimize else table.rows
        return cls(rows, notes)

    @classmethod
    def _checked(cls, call: str, named: list[tuple[str, Mapping[str, Any]]], allow_mixed: bool) -> Table:
        if not named:
            raise refuse(call, "at least one row", "none", "Pass one row per evaluation.")
        runs: dict[tuple[str, str, Seed], list[tuple[str, Row]]] = {}
        for where, raw in named:
            row = _row(call, where, raw)
            runs.setdefault((row.workload, row.arm, row.seed), []).append((where, row))
        rows = [row for run in runs.values() for row in _ordered_run(call, run)]
        return cls(tuple(rows), tuple(_notes_on_hosts(call, rows, allow_mixed)))

    def to_rows(self) -> list[dict[str, Any]]:
        """The rows as plain dicts; `Table.from_rows` of them is the same table."""
        return [asdict(row) for row in self.rows]

    @property
    def workloads(self) -> tuple[str, ...]:
        """Names of the workloads, in order of appearance."""
        return tuple(Counter(row.workload for row in self.rows))

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms, in order of appearance."""
        return tuple(Counter(row.arm for row in self.rows))

    def only(self, workload: str) -> Table:
        """The rows of one workload."""
        rows = tuple(row for row in self.rows if row.workload == workload)
        check(len(rows) > 0, "Table.only", "a workload of the table", workload, near(workload, self.workloads))
        return Table(rows, self.notes)

    def runs(self, arm: str) -> dict[Seed, tuple[Row, ...]]:
        """The runs of one arm, by seed; of a table with one workload."""
        if len(self.workloads) != 1:
            names = ", ".join(self.workloads)
            raise refuse("Table.runs", "a table of one workload", names, "Take one with table.only(workload).")
        result: dict[Seed, list[Row]] = {}
        for row in self.rows:
            if row.arm == arm:
                result.setdefault(row.seed, []).append(row)
        return {seed: tuple(rows) for seed, rows in result.items()}
