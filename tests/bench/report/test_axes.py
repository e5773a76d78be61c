from __future__ import annotations

import math

import pytest
from tests.bench.report.specs import compiled, layers, of_mark, rows
from tests.bench.report.synthetic import study

from hasten.bench.report.axes import axis_chart, axis_rows, memory_chart, memory_rows
from hasten.bench.report.charts import figures


def test_the_quality_is_that_of_the_analysis_and_the_cost_the_mean_of_the_finished_runs() -> None:
    data = study()
    found = {(row["arm"], row["budget"]): row for row in axis_rows(data, "flops")}
    assert len(found) == 16
    blur = data["analysis"]["arms"][1]["curve"][2]
    row = found["blur", "7 ep"]
    assert (row["metric"], row["low"], row["high"]) == (blur["metric"], blur["low"], blur["high"])
    assert row["cost"] == pytest.approx(2.5e9 * 7 * 1.12)
    assert row["cost_text"] == "19.6 G"
    joules = [run["points"][2]["energy"] for run in data["runs"]
              if run["arm"] == "mixup" and run["status"] == "done"]  # fmt: skip
    assert len(joules) == 4
    mean = math.exp(sum(map(math.log, joules)) / 4)
    (row,) = [row for row in axis_rows(data, "energy") if (row["arm"], row["budget"]) == ("mixup", "7 ep")]
    assert row["cost"] == pytest.approx(mean)


def test_repeated_and_failed_runs_do_not_count() -> None:
    data = study()
    for run in data["runs"]:
        if not run["counts"] or run["status"] == "failed":
            for point in run["points"]:
                point["flops"] = 1e30
    assert max(row["cost"] for row in axis_rows(data, "flops")) < 1e12


def test_a_chart_has_lines_bands_and_marks_on_a_logarithmic_axis() -> None:
    chart = axis_chart(study(), "energy")
    (line,), (band,), (marks,) = (of_mark(chart, kind) for kind in ("line", "area", "point"))
    assert len(rows(line)) == 16
    assert line["encoding"]["x"]["scale"]["type"] == "log"
    assert band["encoding"]["y2"]["field"] == "high"
    assert {"color", "shape"} <= marks["encoding"].keys()
    assert all(compiled(chart.to_dict())["marks"])


@pytest.mark.parametrize(("curve", "dash"), [("cyclic", [7, 4]), ("separate", [1, 0]), ("branch", [9, 3, 2, 3])])
def test_lines_are_drawn_as_in_the_first_chart(curve: str, dash: list[int]) -> None:
    (line,) = of_mark(axis_chart(study(curve=curve), "flops"), "line")
    assert line["mark"]["strokeDash"] == dash


def test_what_was_not_measured_has_no_chart() -> None:
    data = study()
    for run in data["runs"]:
        run["memory"] = None
        for point in run["points"]:
            point.update(energy=None, flops=None, memory=None)
    assert axis_chart(data, "energy") is None
    assert axis_chart(data, "flops") is None
    assert memory_chart(data) is None
    assert not [figure for figure in figures(data) if figure.section == "axes"]
    data["analysis"] = None
    assert axis_rows(data, "flops") == []
    assert memory_rows(data) == []


def test_memory_is_that_of_the_last_budget_or_of_the_whole_run_where_points_do_not_say() -> None:
    data = study()
    found = {row["arm"]: row["cost"] for row in memory_rows(data)}
    assert found["base"] == pytest.approx(3.1e8 / 2**20)
    assert found["blur"] == pytest.approx(3.1e8 * 1.12 / 2**20)
    for run in data["runs"]:
        for point in run["points"]:
            point["memory"] = None
    assert {row["arm"]: row["cost"] for row in memory_rows(data)} == pytest.approx(found)


def test_much_memory_is_counted_in_gibibytes() -> None:
    data = study()
    for run in data["runs"]:
        for point in run["points"]:
            point["memory"] = 12 * 2**30
    chart = memory_chart(data)
    (marks,) = of_mark(chart, "point")
    assert marks["encoding"]["x"]["title"] == "peak memory, GiB"
    assert {row["cost"] for row in rows(marks)} == {12.0}
    assert {row["cost_text"] for row in rows(marks)} == {"12 GiB"}


def test_a_wide_band_does_not_flatten_the_curves() -> None:
    data = study()
    for point in data["analysis"]["arms"][0]["curve"]:
        point.update(low=-50.0, high=50.0)
    low, high = layers(axis_chart(data, "flops"))[0]["encoding"]["y"]["scale"]["domain"]
    assert high - low < 2.5
