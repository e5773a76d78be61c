from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from hasten.bench.stats.table import Row, Table

HEADER = "arm,seed,time,metric\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "runs.csv"
    path.write_text(text, encoding="utf-8")
    return path


def row(**changes: Any) -> dict[str, Any]:
    return {"arm": "base", "seed": 0, "time": 1.0, "metric": 0.5, **changes}


def test_rows_round_trip() -> None:
    table = Table.from_rows(
        [
            row(point=0, step=10, flops=1e9, memory=5.0, host="a", workload="digits"),
            row(point=1, step=20, time=2.5, metric=0.75, host="a", workload="digits"),
            row(point=0, step=10, time=1.5, arm="fast", seed="x1", host="a", workload="digits"),
        ]
    )
    assert Table.from_rows(table.to_rows()) == table
    assert Table.from_rows(table.rows) == table
    assert table.arms == ("base", "fast")
    assert table.workloads == ("digits",)
    assert table.runs("fast") == {"x1": (table.rows[2],)}


def test_points_are_numbered_by_step_or_time() -> None:
    by_time = Table.from_rows([row(time=4.0, metric=0.9), row(time=1.0, metric=0.1), row(time=2.0, metric=0.5)])
    assert [(r.point, r.metric) for r in by_time.rows] == [(0, 0.1), (1, 0.5), (2, 0.9)]
    by_step = Table.from_rows([row(step=20, time=4.0), row(step=10, time=1.0)])
    assert [(r.point, r.step) for r in by_step.rows] == [(0, 10.0), (1, 20.0)]
    kept = Table.from_rows([row(point=5, time=4.0), row(point=2, time=1.0)])
    assert [r.point for r in kept.rows] == [2, 5]


def test_csv_of_anybodys_logs(tmp_path: Path) -> None:
    text = "\ufeffarm, seed,time,metric,lr\nbase,0,1.5,2.25,0.1\nbase,0,3,1.5,0.1\nmine,run-a,2,nan,0.1\n"
    table = Table.from_csv(write(tmp_path, text), minimize=True)
    assert [(r.arm, r.seed, r.point, r.time) for r in table.rows[:2]] == [("base", 0, 0, 1.5), ("base", 0, 1, 3.0)]
    assert [r.metric for r in table.rows[:2]] == [-2.25, -1.5]
    assert math.isnan(table.rows[2].metric)
    assert table.rows[2].seed == "run-a"
    assert table.notes == ("columns of runs.csv not used: lr",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "arm,seed,wall_time,metric\nbase,0,1,2\n",
            r"columns arm, seed, time, metric in runs.csv, got .*wall_time.*mean",
        ),
        ("", "in runs.csv, got no header"),
        (HEADER, "at least one row"),
        (HEADER + "base,0,1,2\nbase,0,abc,2\n", r"runs.csv, line 3, column time, got 'abc'. Write a plain number"),
        (HEADER + "base,0,1,\n", r"runs.csv, line 2, column metric, got ''. Write nan"),
        (HEADER + "base,0,1\n", r"4 values in runs.csv, line 2"),
        (HEADER + "base,0,1,2,3\n", r"4 values in runs.csv, line 2"),
        (HEADER + ",0,1,2\n", r"a value in runs.csv, line 2, column arm"),
        (HEADER + "base,0,0,2\n", r"a time above 0 s in runs.csv, line 2, column time, got '0'.*before training"),
        (HEADER + "base,0,inf,2\n", r"a time above 0 s in runs.csv, line 2"),
        (
            HEADER + "base,0,1,2\nbase,0,1,3\n",
            r"one row per time in arm 'base', seed 0, got time 1 in runs.csv, line 2 and",
        ),
    ],
)
def test_bad_csv_names_file_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Table.from_csv(write(tmp_path, text))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(point=0), row(point=0, time=2.0)], "one row per point .* got point 0 in row 1 and row 2. Remove"),
        (
            [row(point=0, time=2.0), row(point=1, time=2.0)],
            "times that increase .* got 2 s in row 1, then 2 s in row 2",
        ),
        ([row(step=5, time=2.0), row(step=9, time=1.0)], "times that increase"),
        ([row(point=0), row(time=2.0)], "a point index in all rows"),
        ([row(point=0.5)], "a whole number from 0 in row 1, column point"),
        ([row(point=-1)], "a whole number from 0"),
        ([{"arm": "base", "seed": 0}], "arm, seed, time, metric in row 1, got no time, metric"),
        ([row(metric=None)], "a number in row 1, column metric"),
        ([row(metric=True)], "a number in row 1, column metric"),
        ([row(step="many")], "a number in row 1, column step"),
        ([], "at least one row"),
    ],
)
def test_bad_rows_are_refused(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Table.from_rows(rows)


def test_machines_do_not_mix_silently() -> None:
    rows = [row(host="a"), row(host="b", seed=1)]
    with pytest.raises(ValueError, match=r"runs of one machine, got a, b.*allow_mixed=True"):
        Table.from_rows(rows)
    with pytest.raises(ValueError, match="a and rows without a host"):
        Table.from_rows([row(host="a"), row(seed=1)])
    assert "several machines are mixed: a, b" in Table.from_rows(rows, allow_mixed=True).notes[0]
    assert Table.from_rows([row(host="a"), row(host="a", seed=1)]).notes == ()


def test_workloads_are_taken_apart() -> None:
    table = Table.from_rows([row(workload="one"), row(workload="two")])
    assert table.only("two").rows == (Row("base", 0, 0, 1.0, 0.5, "two"),)
    with pytest.raises(ValueError, match="Did you mean one"):
        table.only("on")
    with pytest.raises(ValueError, match="a table of one workload"):
        table.runs("base")
