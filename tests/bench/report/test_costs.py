from __future__ import annotations

import pytest
from tests.bench.report.synthetic import study

from hasten.bench.report.costs import SHOW, arm_means, cost_ratios, phase_means


def test_means_are_over_finished_runs_that_count() -> None:
    data = study()
    runs = [run for run in data["runs"] if run["arm"] == "base" and run["counts"]]
    means = arm_means(data, "base")
    assert means["train time"] == pytest.approx(sum(run["seconds"] for run in runs) / 5)
    assert means["parameters"] == 16_314
    assert set(means) == set(SHOW)
    assert SHOW["inference time"](1.9) == "1.9 ms"
    assert SHOW["inference time"](None) == "\u2013"


def test_what_was_not_measured_is_left_out() -> None:
    data = study()
    for run in data["runs"]:
        run["memory"] = run["energy"] = None
        run["inference"] = {"flops": 5.0} if run["arm"] == "base" else {}
    assert arm_means(data, "base")["inference FLOPs"] == 5.0
    assert "peak memory" not in arm_means(data, "base")
    assert cost_ratios(data, "blur") == {"training FLOPs": pytest.approx(1.12)}


def test_a_phase_that_some_runs_lack_counts_as_zero_there() -> None:
    data = study()
    runs = [run for run in data["runs"] if run["arm"] == "ls"]
    runs[0]["phases"]["compile"] = 10.0
    phases, excluded = phase_means(data, "ls")
    assert phases["compile"] == pytest.approx(2.0)
    assert excluded["evaluation"] == pytest.approx(0.9)
