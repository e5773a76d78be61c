from __future__ import annotations

from typing import Any

import pytest
from tests.bench.report.specs import layers, of_mark, rows
from tests.bench.report.synthetic import study

from hasten.bench.report.curves import ARROWS, FADED, schedule_chart, speedup_chart, tradeoff_chart


def test_the_thick_line_is_the_mean_curve_of_the_analysis_and_thin_lines_are_its_runs() -> None:
    data = study()
    thin, thick = of_mark(tradeoff_chart(data), "line")
    means = [
        (arm["name"], point["time"], point["metric"]) for arm in data["analysis"]["arms"] for point in arm["curve"]
    ]
    assert [(row["arm"], row["time"], row["metric"]) for row in rows(thick)] == means
    assert len(rows(thin)) == 19 * 4  # the failed run is in no curve
    assert thin["encoding"]["detail"]["field"] == "seed"


def test_bands_are_the_intervals_and_a_single_seed_has_none() -> None:
    data = study()
    (band,) = of_mark(tradeoff_chart(data), "area")
    point = data["analysis"]["arms"][1]["curve"][2]
    assert rows(band)[6]["low"] == point["low"] < point["metric"] < point["high"] == rows(band)[6]["high"]
    point.update(low=None, high=None)
    (band,) = of_mark(tradeoff_chart(data), "area")
    assert rows(band)[6]["low"] == rows(band)[6]["high"] == point["metric"]
    assert rows(band)[6]["interval"] == "one seed"


@pytest.mark.parametrize(("curve", "dash"), [("cyclic", [7, 4]), ("separate", [1, 0]), ("branch", [9, 3, 2, 3])])
def test_each_kind_of_curve_has_its_line(curve: str, dash: list[int]) -> None:
    _, thick = of_mark(tradeoff_chart(study(curve=curve)), "line")
    assert thick["mark"]["strokeDash"] == dash


def test_budgets_are_labelled_and_a_cross_hair_stands_at_the_baselines_last() -> None:
    data = study()
    chart = tradeoff_chart(data)
    (labels,) = of_mark(chart, "text")
    assert [row["label"] for row in rows(labels)] == ["1 ep", "3 ep", "7 ep", "15 ep"]
    hairs = of_mark(chart, "rule", strokeDash=[2, 3])
    last = data["analysis"]["arms"][0]["curve"][-1]
    assert [rows(hair) for hair in hairs] == [[{"label": "15 ep", "time": last["time"], "metric": last["metric"]}]] * 2
    assert ["x" in hair["encoding"] for hair in hairs] == [True, False]


def test_the_legend_toggles_arms_which_all_start_switched_on() -> None:
    chart = tradeoff_chart(study())
    (param,) = chart.to_dict()["params"]
    assert param["bind"] == "legend"
    assert param["select"]["fields"] == ["arm"]
    assert param["select"]["toggle"] == "true"
    assert [item["arm"] for item in param["value"]] == ["base", "blur", "ls", "mixup"]
    faded = [layer["encoding"]["opacity"] for layer in layers(chart) if "opacity" in layer["encoding"]]
    assert len(faded) == 4
    for opacity in faded:
        assert opacity["condition"]["param"] == "shown"
        assert opacity["condition"]["empty"] is False
        assert opacity["value"] == FADED < opacity["condition"]["value"]


def test_without_an_analysis_every_recorded_run_is_drawn() -> None:
    data = study()
    data["analysis"] = None
    line, dots = layers(tradeoff_chart(data))
    assert len(rows(line)) == 19 * 4 + 2 == len(rows(dots))
    data["runs"] = []
    assert tradeoff_chart(data) is None


def test_two_wide_bands_do_not_flatten_the_curves() -> None:
    data = study()
    for point in data["analysis"]["arms"][0]["curve"]:
        point.update(low=-50.0, high=50.0)
    thin, _ = of_mark(tradeoff_chart(data), "line")
    low, high = thin["encoding"]["y"]["scale"]["domain"]
    metrics = [row["metric"] for row in rows(thin)]
    assert high - low < 2.5 * (max(metrics) - min(metrics))


def test_speedup_lines_stop_where_seeds_are_censored_and_arrows_take_over() -> None:
    data = study()
    curve = data["analysis"]["arms"][1]["speedup_curve"]
    assert any(curve["censored"])
    chart = speedup_chart(data)
    (line,) = of_mark(chart, "line")
    drawn = [row for row in rows(line) if row["arm"] == "blur"]
    known = [(q, s) for q, s in zip(curve["quality"], curve["speedup"], strict=True) if s is not None]
    assert [(row["quality"], row["speedup"]) for row in drawn] == known
    for angle, bound in ((0, "at_least"), (180, "at_most")):
        (arrows,) = of_mark(chart, "point", shape="arrow", angle=angle)
        found = [(row["quality"], row["speedup"]) for row in rows(arrows) if row["arm"] == "blur"]
        assert len(found) <= ARROWS
        assert set(found) <= set(zip(curve["quality"], curve[bound], strict=True))
    assert rows(of_mark(chart, "point", shape="arrow", angle=0)[0])


def test_a_gap_in_a_speedup_curve_is_not_bridged() -> None:
    data = study()
    curve = data["analysis"]["arms"][2]["speedup_curve"]
    first = next(i for i, value in enumerate(curve["speedup"]) if value is not None)
    curve["speedup"][first + 3] = None
    (line,) = of_mark(speedup_chart(data), "line")
    segments = [row["segment"] for row in rows(line) if row["arm"] == "ls"]
    assert len(set(segments)) == 2
    assert segments == sorted(segments)


def test_a_line_at_one_a_log_axis_and_hard_targets_to_the_right() -> None:
    chart = speedup_chart(study())
    (line,) = of_mark(chart, "rule")
    assert rows(line) == [{"speedup": 1}]
    (drawn,) = of_mark(chart, "line")
    assert drawn["encoding"]["y"]["scale"]["type"] == "log"
    assert drawn["encoding"]["x"]["scale"]["reverse"] is False
    (drawn,) = of_mark(speedup_chart(study(minimize=True)), "line")
    assert drawn["encoding"]["x"]["scale"]["reverse"] is True
    assert "lower is better" in drawn["encoding"]["x"]["title"]


def test_no_speedup_chart_without_common_qualities() -> None:
    data = study()
    for arm in data["analysis"]["arms"]:
        arm["speedup_curve"] = None
    assert speedup_chart(data) is None


def test_schedules_are_drawn_once_if_shared_and_by_arm_if_not() -> None:
    data = study()
    ends, line = layers(schedule_chart(data))
    assert [row["step"] for row in rows(ends)] == [32, 96, 224, 480]
    assert "color" not in line["encoding"]
    shared: dict[str, Any] = data["study"]["schedule"]["all"]
    data["study"]["schedule"] = {"base": shared, "mixup": shared}
    _, line = layers(schedule_chart(data))
    assert line["encoding"]["color"]["field"] == "arm"
    assert {row["arm"] for row in rows(line)} == {"base", "mixup"}
    data["study"]["schedule"] = {}
    assert schedule_chart(data) is None
