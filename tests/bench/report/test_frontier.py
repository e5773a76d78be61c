from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bench.report.specs import compiled, of_mark, rows
from tests.bench.report.synthetic import study
from tests.bench.report.test_tables import cells

from hasten.bench.report import frontier
from hasten.bench.report.frontier import frontier_chart, frontier_reading, frontier_sentence, frontier_table, staircase
from hasten.bench.report.words import chance


@pytest.mark.parametrize("minimize", [False, True])
def test_every_point_is_drawn_and_those_on_the_frontier_are_filled(minimize: bool) -> None:
    data = study(minimize=minimize)
    points = data["analysis"]["frontier"]["points"]
    chart = frontier_chart(data)
    (inside,), (best,) = (of_mark(chart, "point", filled=filled) for filled in (False, True))
    assert len(rows(inside)) + len(rows(best)) == len(points) == 16
    assert {(row["arm"], row["label"]) for row in rows(best)} == {
        (point["arm"], point["label"]) for point in points if point["on_frontier"]
    }
    assert best["encoding"]["size"]["field"] == "share"
    assert compiled(chart.to_dict())["marks"]


@pytest.mark.parametrize("minimize", [False, True])
def test_the_line_is_a_staircase_through_the_best_means_up_to_the_slowest(minimize: bool) -> None:
    data = study(minimize=minimize)
    points = data["analysis"]["frontier"]["points"]
    (line,) = of_mark(frontier_chart(data), "line")
    assert line["mark"]["interpolate"] == "step-after"
    metrics = [row["metric"] for row in rows(line)]
    assert metrics == sorted(metrics, reverse=minimize)
    assert rows(line)[0]["time"] == min(point["time"] for point in points)
    assert rows(line)[-1]["time"] == max(point["time"] for point in points)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1), st.booleans())
def test_the_staircase_is_the_best_quality_for_every_time(pairs: list[tuple[int, int]], minimize: bool) -> None:
    points = [{"time": time, "metric": metric} for time, metric in pairs]
    steps = staircase(points, minimize)
    best = min if minimize else max
    for time, _ in pairs:
        reached = [point["metric"] for point in steps if point["time"] <= time]
        assert best(reached) == reached[-1] == best(metric for at, metric in pairs if at <= time)


def test_labels_that_would_overlap_are_left_out_the_surest_stay() -> None:
    rows_ = [
        {"time": 1.0, "metric": 0.1, "on": True, "share": 0.6},
        {"time": 1.01, "metric": 0.11, "on": True, "share": 0.9},
        {"time": 9.0, "metric": 0.9, "on": True, "share": 0.7},
        {"time": 8.0, "metric": 0.2, "on": False, "share": 0.1},
    ]
    assert [row["share"] for row in frontier._labelled(rows_)] == [0.9, 0.7]


def test_the_table_has_probabilities_by_point_hypervolumes_and_contributions() -> None:
    data = study()
    markup = frontier_table(data)
    head, *found = cells(markup)
    assert head == ["arm", "any point", "1 ep", "3 ep", "7 ep", "15 ep", "hypervolume", "interval", "only through it"]
    assert [row[0] for row in found] == ["base", "blur", "ls", "mixup"]
    blur = next(arm for arm in data["analysis"]["frontier"]["arms"] if arm["arm"] == "blur")
    last = next(point for point in data["analysis"]["frontier"]["points"]
                if (point["arm"], point["label"]) == ("blur", "15 ep"))  # fmt: skip
    assert found[1][1] == chance(blur["probability"])
    assert found[1][5] == chance(last["probability"])
    assert float(found[1][6]) == pytest.approx(blur["hypervolume"], abs=0.006)
    assert f"<strong>{chance(last['probability'])}</strong>".replace(">", "&gt;") in (markup or "").replace(">", "&gt;")
    assert f'data-sort="{blur["contribution"]}"' in (markup or "")


def test_the_sentence_says_where_each_arm_is_on_the_frontier_and_who_is_not() -> None:
    data = study()
    points = data["analysis"]["frontier"]["points"]
    for point in points:
        point["on_frontier"] = point["arm"] == "blur" or (point["arm"], point["label"]) in (
            ("base", "1 ep"), ("base", "3 ep"))  # fmt: skip
    assert frontier_sentence(data) == (
        "On the frontier of the means: base at 1 ep and 3 ep; blur at every point. Nowhere on it: ls and mixup."
    )


def test_the_reading_gives_the_scale_and_the_tolerance() -> None:
    data = study()
    said = frontier_reading(data)
    assert "no verdict rests on it" in said
    assert f"accuracy {data['analysis']['frontier']['reference_metric']:.4g}" in said
    assert "the noise" not in said
    data["analysis"]["frontier"]["epsilon"] = 0.002
    assert "better by 0.002, the noise of the accuracy" in frontier_reading(data)


def test_one_seed_has_points_and_no_probabilities() -> None:
    data = study(seeds=1)
    _, *found = cells(frontier_table(data))
    assert {row[1] for row in found} == {"\u2013"}
    assert {row[7] for row in found} == {"\u2013"}
    (labels,) = of_mark(frontier_chart(data), "text")
    assert {row["sure"] for row in rows(labels)} == {""}


@pytest.mark.parametrize("missing", ["frontier", "analysis"])
def test_without_a_frontier_nothing_is_said(missing: str) -> None:
    data = study()
    if missing == "analysis":
        data["analysis"] = None
    else:
        data["analysis"]["frontier"] = None
    assert frontier_chart(data) is None
    assert frontier_table(data) is None
    assert frontier_sentence(data) == frontier_reading(data) == ""


def test_an_arm_that_lacks_a_point_has_a_dash_there() -> None:
    data = copy.deepcopy(study())
    points = data["analysis"]["frontier"]["points"]
    points.remove(next(point for point in points if (point["arm"], point["label"]) == ("ls", "7 ep")))
    _, *found = cells(frontier_table(data))
    assert found[2][4] == "\u2013"
