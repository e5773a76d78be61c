from __future__ import annotations

from typing import Any

import pytest
from tests.bench.report.specs import layers, of_mark, rows
from tests.bench.report.synthetic import study

from hasten.bench.report.rows import costs_chart, dots_chart, time_chart
from hasten.bench.report.words import VERDICTS


def made(result: tuple[Any, ...] | None) -> Any:
    assert result is not None
    return result[0]


@pytest.mark.parametrize(
    ("kind", "field", "count"), [("budget", "budgets", 4), ("target", "targets", 3), ("accuracy", "accuracy", 4)]
)
def test_one_row_per_question_under_a_heading_per_arm(kind: str, field: str, count: int) -> None:
    data = study()
    result = dots_chart(data, kind)
    assert result is not None
    assert result[1] == 3 * (count + 1)
    domain = layers(result[0])[1]["encoding"]["y"]["scale"]["domain"]
    assert [key.split("|")[1] for key in domain if key.startswith("h")] == ["blur", "ls", "mixup"]
    drawn = {row["row"]: row for layer in layers(result[0])[1:] for row in rows(layer)}
    effects = [effect for arm in data["analysis"]["arms"] for effect in arm[field]]
    assert len(drawn) == len(effects) == 3 * count
    assert [drawn[key]["value"] for key in domain if key in drawn] == [effect["value"] for effect in effects]


def test_colour_and_shape_tell_the_verdict_not_the_interval() -> None:
    data = study()
    effect = data["analysis"]["arms"][1]["budgets"][2]
    assert effect["low"] > 0  # the interval excludes zero, the corrected test does not
    assert effect["verdict"] == "not proven"
    (points,) = [layer for layer in of_mark(made(dots_chart(data, "budget")), "point") if "shape" in layer["encoding"]]
    assert next(row for row in rows(points) if row["value"] == effect["value"])["verdict"] == "not proven"
    scale = points["encoding"]["color"]["scale"]
    assert scale["domain"] == ["pays", "costs", "not proven"]
    assert scale["range"] == [VERDICTS[word].color for word in scale["domain"]]
    assert len(set(points["encoding"]["shape"]["scale"]["range"])) == 3


def test_bounds_are_arrows_and_what_is_unknown_says_so() -> None:
    chart = made(dots_chart(study(), "target"))
    (right,) = of_mark(chart, "point", shape="arrow", angle=90)
    assert [(row["arm"], row["text"][0]) for row in rows(right)] == [("blur", "≥"), ("mixup", "≥")]
    (left,) = of_mark(chart, "point", shape="arrow", angle=270)
    assert rows(left) == []
    (unknown,) = of_mark(chart, "text")
    assert [row["arm"] for row in rows(unknown)] == ["ls"]
    exact = next(layer for layer in of_mark(chart, "point") if "shape" in layer["encoding"])
    assert len(rows(exact)) == 6


def test_lines_stand_at_no_effect() -> None:
    for kind, neutral in (("budget", 0.0), ("accuracy", 0.0), ("target", 1.0)):
        chart = made(dots_chart(study(), kind))
        assert rows(layers(chart)[0]) == [{"value": neutral}]
        low, high = layers(chart)[0]["encoding"]["x"]["scale"]["domain"]
        assert low < neutral < high


def test_a_wide_interval_does_not_flatten_the_effects() -> None:
    data = study()
    data["analysis"]["arms"][1]["budgets"][0].update(low=-90.0, high=90.0)
    low, high = layers(made(dots_chart(data, "budget")))[0]["encoding"]["x"]["scale"]["domain"]
    assert -1 < low < high < 1


def test_there_is_no_chart_without_effects() -> None:
    data = study()
    for arm in data["analysis"]["arms"]:
        arm["targets"] = []
    assert dots_chart(data, "target") is None
    data["analysis"] = None
    assert dots_chart(data, "budget") is None


def test_phases_add_up_to_the_mean_time_and_the_rest_is_off_the_clock() -> None:
    data = study()
    chart, height = time_chart(data) or (None, 0)
    (layer,) = layers(chart)
    assert height == 8
    runs = [run for run in data["runs"] if run["arm"] == "mixup" and run["status"] == "done"]
    assert len(runs) == 4
    on = [row for row in rows(layer) if row["arm"] == "mixup" and row["clock"] == "on"]
    assert sum(row["seconds"] for row in on) == pytest.approx(sum(run["seconds"] for run in runs) / 4)
    (off,) = [row for row in rows(layer) if row["arm"] == "mixup" and row["clock"] == "off"]
    assert off["seconds"] == pytest.approx(1.24)
    assert "evaluation 900 ms" in off["detail"]
    assert [row["order"] for row in on] == sorted(row["order"] for row in on)


def test_a_phase_of_a_new_name_is_drawn_too() -> None:
    data = study()
    for run in data["runs"]:
        run["phases"]["compile"] = 1.0
    (layer,) = layers(made(time_chart(data)))
    assert "compile" in layer["encoding"]["color"]["scale"]["domain"]


def test_costs_are_factors_and_equal_ones_are_only_named() -> None:
    chart, height, equal = costs_chart(study()) or (None, 0, "")
    assert equal == "parameters"
    assert height == 4 * (1 + 3)  # no bar for the time of a prediction, which has no interval here
    (bars,) = of_mark(chart, "bar")
    blur = {row["cost"]: row["value"] for row in rows(bars) if row["arm"] == "blur"}
    assert blur == pytest.approx(
        {"inference FLOPs": 1.12, "training FLOPs": 1.12, "peak memory": 1.12, "training energy": 1.16405168}
    )
    assert {row["value"] for row in rows(bars) if row["arm"] == "ls" and "energy" not in row["cost"]} == {1.0}


def test_no_time_or_costs_without_runs() -> None:
    data = study()
    data["runs"] = []
    assert time_chart(data) is None
    assert costs_chart(data) is None
