from __future__ import annotations

import pytest
from tests.bench.report.specs import compiled, of_mark, rows
from tests.bench.report.synthetic import calibrated, study
from tests.bench.report.test_tables import cells

from hasten.bench.report.calibration import (
    bias_decimals,
    calibration_chart,
    calibration_reading,
    calibration_table,
    kind_costs,
)
from hasten.bench.report.data import validate
from hasten.bench.report.words import signed


def test_the_made_up_calibration_is_a_valid_report() -> None:
    data = calibrated()
    assert validate(data) is data


def test_each_kind_has_its_levels_differences_and_costs() -> None:
    data = calibrated()
    head, separate, cyclic, branch = cells(calibration_table(data))
    assert head == ["kind", "1 ep", "3 ep", "7 ep", "15 ep", "steps", "training time"]
    assert separate[0] == "separate runs"
    assert "(" not in separate[1]  # no difference from themselves
    found = data["calibration"]["kinds"][2]["levels"][1]
    assert signed(found["bias"], 3) in branch[2]
    assert f"({signed(found['bias_low'], 3)} … {signed(found['bias_high'], 3)})" in branch[2]
    assert [row[5:] for row in (separate, cyclic, branch)] == [
        ["832", "10.8 s"], ["4800.58\u00d7", "6.2 s0.57\u00d7"], ["5490.66\u00d7", "7.1 s0.66\u00d7"]]  # fmt: skip


def test_costs_are_relative_to_separate_runs_and_may_be_unknown() -> None:
    data = calibrated()
    data["calibration"]["kinds"][1]["seconds"] = None
    costs = list(kind_costs(data))
    assert [steps for _, steps, _ in costs] == pytest.approx([1.0, 480 / 832, 549 / 832])
    assert costs[1][2] is None
    assert costs[2][2] == pytest.approx(7.1 / 10.8)
    assert cells(calibration_table(data))[2][6] == "\u2013"


def test_the_chart_shows_differences_around_zero_with_intervals_by_colour_and_shape() -> None:
    data = calibrated()
    chart = calibration_chart(data)
    (marks,) = of_mark(chart, "point")
    assert [(row["kind"], row["budget"]) for row in rows(marks)] == [
        (kind, label) for kind in ("cyclic curve", "branch curve") for label in ("1 ep", "3 ep", "7 ep", "15 ep")
    ]
    biases = [found["bias"] for kind in data["calibration"]["kinds"][1:] for found in kind["levels"]]
    assert [row["value"] for row in rows(marks)] == biases
    assert len(set(marks["encoding"]["shape"]["scale"]["range"])) == 2
    low, high = marks["encoding"]["y"]["scale"]["domain"]
    assert low < 0 < high
    assert compiled(chart.to_dict())["marks"]


def test_one_seed_has_differences_without_intervals_and_a_wide_one_does_not_flatten_the_rest() -> None:
    data = calibrated()
    for kind in data["calibration"]["kinds"]:
        for found in kind["levels"]:
            found.update(low=None, high=None, bias_low=None, bias_high=None)
    assert "…" not in (calibration_table(data) or "")
    (marks,) = of_mark(calibration_chart(data), "point")
    assert {row["interval"] for row in rows(marks)} == {"\u2013"}
    data = calibrated()
    data["calibration"]["kinds"][1]["levels"][0].update(bias_low=-90.0, bias_high=90.0)
    (marks,) = of_mark(calibration_chart(data), "point")
    assert max(map(abs, marks["encoding"]["y"]["scale"]["domain"])) < 1


def test_the_reading_explains_the_kinds_that_were_measured() -> None:
    data = calibrated()
    assert any("another recipe" in text for text in calibration_reading(data))
    data["calibration"]["kinds"].pop()
    said = calibration_reading(data)
    assert not any("another recipe" in text for text in said)
    assert any("A cyclic point" in text for text in said)


def test_the_reading_says_where_seeds_are_missing() -> None:
    data = calibrated()
    assert not any("left out" in text for text in calibration_reading(data))
    data["calibration"]["kinds"][2]["levels"][1]["n"] = 2
    (said,) = (text for text in calibration_reading(data) if "left out" in text)
    assert f"no more than 2 of {len(data['study']['seeds'])} seeds" in said


def test_no_calibration_no_chart_and_separate_runs_alone_have_none() -> None:
    assert calibration_table(study()) is None
    assert calibration_chart(study()) is None
    data = calibrated()
    del data["calibration"]["kinds"][1:]
    assert calibration_chart(data) is None
    assert len(cells(calibration_table(data))) == 2


def test_decimals_follow_the_narrowest_interval() -> None:
    data = calibrated()
    assert bias_decimals(data) == 3
    data["calibration"]["kinds"][1]["levels"][3].update(bias_low=0.00101, bias_high=0.00109)
    assert bias_decimals(data) == 5
