"""From a store to plain data: which attempts count, what differs, what a report may say, and nothing imported."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract import images
from tests.contract.battery import IMAGES

from hasten import methods
from hasten.bench import results
from hasten.bench.plan import make_plan
from hasten.bench.results import (
    analysis_of,
    calibration_of,
    data_from_logs,
    describe,
    differences,
    inference_ratios,
    rows_of,
    study_data,
)
from hasten.bench.store import RunKey, Store
from hasten.program import Program, Scheduled, bind, call
from hasten.schedules import constant, cosine

BASE = IMAGES.program


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "study")
    yield opened
    opened.close()


def run(
    arm: str = "base", seed: int = 0, *, metrics: tuple[float, ...] = (0.5, 0.7), status: str = "done", first: int = 0,
    attempt: int = 0, environment: str = "here", pace: float = 1.0, ms: float = 1.0, flops: float = 100.0, **data: Any,
) -> dict[str, Any]:  # fmt: skip
    """A run as `Store.runs()` gives it."""
    key = RunKey(arm, f"print-{arm}", environment, seed, "cyclic:3,6", first, attempt)
    points = [
        {
            "point": first + k, "step": 3 * (first + k + 1), "epoch": 0.5 * (k + 1), "metric": metric, "memory": None,
            "seconds": pace * (first + k + 1), "train_loss": 1.0, "flops": 1e6 * (k + 1),
        }
        for k, metric in enumerate(metrics)
    ]  # fmt: skip
    inference = {"ms": ms, "flops": flops, "parameters": 10}
    return {"key": key, "status": status, "points": points, "data": {"inference": inference, **data}}


def put(store: Store, runs: list[dict[str, Any]]) -> None:
    for item in runs:
        store.put_run(item["key"], item["status"], item["data"])
        for point in item["points"]:
            store.add_point(item["key"], point)


def test_a_plan_as_plain_data() -> None:
    plan = make_plan(IMAGES, {"base": [], "soft": [methods.label_smoothing(), methods.sam()]}, seeds=[3, 4], points=2)
    found = describe(plan)
    json.dumps(found, allow_nan=False)
    assert {
        "title": "images: base, soft", "curve": "cyclic", "baseline": "base", "seeds": [3, 4], "ends": [3, 6],
        "duration": "6step", "metric": "metric", "minimize": False,
    }.items() <= found.items()  # fmt: skip
    soft = found["arms"][1]
    assert soft["methods"] == ["label_smoothing(smoothing=0.1)", "sam(epsilon=1e-12, interval=1, rho=0.05)"]
    assert soft["differences"][0].startswith("optimizer: _sam_over(base=SGD(")
    assert soft["differences"][1] == "losses: + label_smoothing"
    assert Program.from_json(soft["program"], trust=True) == plan.arms["soft"]
    assert soft["fingerprint"] == plan.arms["soft"].fingerprint()


def test_differences_in_every_slot() -> None:
    base = BASE.then(methods.mixup(0.2))
    assert differences(base, base) == []
    assert differences(base, BASE) == ["batch: - mixup", "losses: - mixup"]
    assert differences(base, BASE.then(methods.mixup(0.4))) == ["batch: mixup otherwise"]
    assert differences(base, base.replace(batch_size=4, precision="bf16")) == ["batch_size: 4", "precision: bf16"]


def test_the_drawn_schedule_is_what_training_uses() -> None:
    plan = make_plan(IMAGES, {"base": []}, seeds=1, points=2)
    drawn = describe(plan)["schedule"]
    assert drawn["all"]["step"] == [0, 1, 2, 3, 4, 5]
    assert drawn["all"]["multiplier"] == pytest.approx([0.0, 1.0, 0.5, 1.0, 0.75, 0.25], abs=1e-12)
    separate = make_plan(IMAGES, {"base": []}, seeds=1, points=2, curve="separate")
    assert describe(separate)["schedule"]["all"]["multiplier"][:2] == [0.0, 1.0]
    assert len(describe(separate)["schedule"]["all"]["step"]) == 6  # the longest run alone


def test_schedules_by_every_clock_are_drawn_where_the_clock_is_known() -> None:
    def over(unit: str) -> Program:
        return BASE.replace(schedule=call(Scheduled, schedule=cosine(), unit=unit))

    arms: dict[str, Any] = {unit: over(unit) for unit in ("step", "epoch", "sample", "progress")}
    arms["seconds"] = BASE.replace(schedule=call(Scheduled, schedule=constant(), unit="seconds"))
    drawn = describe(make_plan(IMAGES, arms, seeds=1, points=2, baseline="step"))["schedule"]
    assert set(drawn) == {"step", "epoch", "sample", "progress"}
    for unit in drawn:
        assert drawn[unit]["multiplier"] == pytest.approx(drawn["step"]["multiplier"], abs=1e-12)


def test_long_schedules_are_thinned() -> None:
    plan = make_plan(IMAGES, {"base": []}, seeds=1, points=4, duration="5000step")
    drawn = describe(plan)["schedule"]["all"]
    assert len(drawn["step"]) == results.SCHEDULE_POINTS
    assert drawn["step"][-1] == 4999


def test_rows_of_the_attempts_that_count() -> None:
    runs = [
        run(seed=0, drifted=True, calibration={"ratio": 1.3}), run(seed=0, attempt=1, metrics=(0.5, 0.8)),
        run(seed=1, status="interrupted", metrics=(0.1,)), run("soft", 0),
    ]  # fmt: skip
    rows = rows_of(runs, workload="w", minimize=False)
    assert [(row["arm"], row["seed"], row["point"], row["metric"]) for row in rows] == [
        ("base", 0, 0, 0.5), ("base", 0, 1, 0.8), ("soft", 0, 0, 0.5), ("soft", 0, 1, 0.7),
    ]  # fmt: skip
    assert {row["workload"] for row in rows} == {"w"}
    assert [row["time"] for row in rows[:2]] == [1.0, 2.0]
    assert [row["metric"] for row in rows_of(runs[3:], workload="w", minimize=True)] == [-0.5, -0.7]


def test_separate_runs_of_a_seed_become_one_curve() -> None:
    runs = [run(metrics=(0.9,), first=1), run("soft", metrics=(0.4,)), run(metrics=(0.3,), first=0)]
    rows = rows_of(runs, workload="w", minimize=False)
    assert [(row["arm"], row["metric"]) for row in rows] == [("base", 0.3), ("base", 0.9), ("soft", 0.4)]
    assert [row["point"] for row in rows] == [0, 1, 0]


def test_a_failed_run_is_a_row_without_a_metric_after_what_it_reached() -> None:
    for metrics, point in (((0.5,), 1), ((), 0)):
        rows = rows_of([run(metrics=metrics, status="failed", error="nan")], workload="w", minimize=False)
        assert rows[-1]["point"] == point
        assert math.isnan(rows[-1]["metric"])
        times = [row["time"] for row in rows]
        assert times == sorted(set(times))
        assert times[0] > 0


def test_inference_by_flops_and_by_time_only_where_it_surely_rose() -> None:
    def ratios(ms: tuple[float, ...], flops: float, base_flops: float = 100.0) -> dict[str, float]:
        runs = [run(seed=s, flops=base_flops) for s in range(len(ms))]
        return inference_ratios(runs + [run("a", s, ms=value, flops=flops) for s, value in enumerate(ms)], "base")

    assert ratios((1.0, 1.0, 1.0), 150.0) == {"a": 1.5}
    assert ratios((5.0, 0.3, 1.0), 100.0) == {"a": 1.0}  # noise that its own interval does not separate from 1
    assert ratios((2.0, 2.1, 1.9), 100.0)["a"] == pytest.approx((2.0 * 2.1 * 1.9) ** (1 / 3))
    assert ratios((2.0, 2.0), 100.0) == {"a": 1.0}  # two seeds make no interval
    assert ratios((0.5, 0.5, 0.5), 100.0) == {"a": 1.0}
    assert ratios((1.0, 1.0, 1.0), 7.0, base_flops=0.0) == {"a": 1.0}


def test_inference_needs_a_pair_that_came_to_its_end() -> None:
    assert inference_ratios([run(seed=0), run("a", 1)], "base") == {}
    assert inference_ratios([run(), run("a", metrics=(0.5,))], "base") == {}
    assert inference_ratios([run(), run("a", status="stopped")], "base") == {}
    empty = run("a")
    empty["data"]["inference"] = {}
    assert inference_ratios([run(), empty], "base") == {}
    assert inference_ratios([], "base") == {}


def study(**more: Any) -> dict[str, Any]:
    arms = [{"name": "base", "methods": []}, {"name": "soft", "methods": ["label_smoothing(smoothing=0.1)"]}]
    return {
        "workload": "w", "minimize": False, "baseline": "base", "budgets": ["0.5 ep", "1 ep"], "arms": arms, **more,
    }  # fmt: skip


def pair(seeds: int = 4) -> list[dict[str, Any]]:
    base = [run(seed=s, metrics=(0.5 + 0.01 * s, 0.7 + 0.01 * s)) for s in range(seeds)]
    return base + [run("soft", s, metrics=(0.6 + 0.011 * s, 0.8 + 0.012 * s)) for s in range(seeds)]


def test_no_analysis_is_said_in_words() -> None:
    assert analysis_of([], study()) == "no run has ended yet"
    assert isinstance(analysis_of([run("soft")], study()), str)  # no baseline
    found = analysis_of(pair(), study())
    assert not isinstance(found, str)
    assert [arm["name"] for arm in found.to_json()["arms"]] == ["base", "soft"]


def test_a_whole_study_from_the_store_alone(store: Store) -> None:
    plan = make_plan(IMAGES, {"base": [], "soft": [methods.label_smoothing()]}, seeds=4, points=2)
    store.put("plan", describe(plan))
    store.put("environment", {"torch": "2"})
    store.put("environment_digest", "here")
    store.put("machine", {"cores": 2})
    store.put("notes", ["mind the gap"])
    store.put("status", "complete")
    put(
        store,
        [*pair(), run(seed=9, environment="elsewhere"), run("soft", 0, status="interrupted", attempt=1, metrics=())],
    )
    data = study_data(store)
    json.dumps(data, allow_nan=False)
    assert data["version"] == 2
    assert (data["study"]["status"], data["study"]["command"]) == ("complete", "hasten.compare(...)")
    assert data["environment"] == {"torch": "2", "cores": 2}
    assert data["notes"][0] == "mind the gap"
    assert data["notes"][1] == "Runs of another environment (versions, threads, device) are kept, not used: 1."
    assert len(data["runs"]) == 9
    assert [item["counts"] for item in data["runs"]] == [True] * 8 + [False]
    assert all("program" not in arm for arm in data["study"]["arms"])
    assert data["analysis"]["baseline"] == "base"


def test_a_study_that_has_just_begun(store: Store) -> None:
    plan = make_plan(IMAGES, {"base": []}, seeds=1, points=2)
    store.put("plan", describe(plan))
    store.put("environment", {})
    store.put("environment_digest", "here")
    put(store, [run(status="running", metrics=())])
    data = study_data(store)
    assert data["analysis"] is None
    assert "no run has ended yet" in data["notes"]
    assert data["runs"][0]["seconds"] == 0.0


def test_flags_and_errors_of_runs_are_kept(store: Store) -> None:
    store.put("plan", describe(make_plan(IMAGES, {"base": []}, seeds=1, points=2)))
    store.put("environment", {})
    store.put("environment_digest", "here")
    put(store, [run(status="failed", metrics=(0.5,), error="became nan", resumed=True, drifted=True)])
    (found,) = study_data(store)["runs"]
    assert (found["flags"], found["error"], found["status"]) == (["drifted", "resumed"], "became nan", "failed")


CSV = "arm,seed,time,metric\n" + "".join(
    f"{arm},{seed},{time},{level + 0.001 * seed + 0.1 * time}\n"
    for arm, level in (("a", 0.1), ("b", 0.2))
    for seed in range(4)
    for time in (1.0, 2.0)
)


def test_somebodys_own_logs(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(CSV)
    data = data_from_logs(path)
    json.dumps(data, allow_nan=False)
    assert (data["study"]["title"], data["study"]["baseline"]) == ("runs.csv", "a")
    assert [arm["name"] for arm in data["study"]["arms"]] == ["a", "b"]
    assert data["study"]["seeds"] == [0, 1, 2, 3]
    assert data_from_logs(path, baseline="b")["study"]["baseline"] == "b"
    assert data_from_logs(path, minimize=True)["study"]["minimize"] is True
    with pytest.raises(ValueError, match="c"):
        data_from_logs(path, baseline="c")
    path.write_text("arm,seed,time\na,0,1\n")
    with pytest.raises(ValueError, match="metric"):
        data_from_logs(path)


def test_reading_a_study_imports_nothing_that_it_names(tmp_path: Path) -> None:
    """Its program names a module that would leave a trace."""
    (tmp_path / "bomb.py").write_text("raise SystemExit('imported')\n")
    store = Store(tmp_path / "study")
    plan = describe(make_plan(IMAGES, {"base": []}, seeds=1, points=2))
    plan["arms"][0]["program"] = BASE.replace(loss=bind(images.loss)).to_json().replace("tests.contract.images", "bomb")
    store.put("plan", plan)
    store.put("environment", {})
    store.put("environment_digest", "here")
    put(store, [run()])
    store.close()
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from hasten.bench.study import open_study\n"
        "study = open_study(Path(sys.argv[1]) / 'study'); assert study.rows()[0]['metric'] == 0.5\n"
        "assert 'bomb' not in sys.modules and 'tests' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=120)


def _attempt(curve: str, seed: int, *points: tuple[int, float, float], attempt: int = 0, **data: Any) -> dict[str, Any]:
    """A run of the baseline with its (point, metric, seconds)."""
    first = points[0][0] if points else 1
    reached = [{"point": point, "metric": metric, "seconds": seconds} for point, metric, seconds in points]
    status = data.pop("status", "done")
    return {
        "key": RunKey("base", "f", "e", seed, curve, first, attempt),
        "status": status,
        "data": data,
        "points": reached,
    }


def test_a_calibration_leaves_out_what_failed_or_drifted_and_counts_every_branch() -> None:
    study = {"baseline": "base", "ends": [1, 2], "budgets": ["1 ep", "2 ep"]}
    curves = [{"label": kind, "kind": kind, "steps": steps} for kind, steps in
              (("cyclic", 2), ("separate", 3), ("branch", 3))]  # fmt: skip
    runs = [
        _attempt("cyclic", 0, (0, 0.5, 1.0), (1, 0.6, 2.0)),
        _attempt("cyclic", 1, (0, 0.5, 1.0), status="failed"),
        _attempt("separate", 0, (0, 0.5, 1.0)),
        _attempt("separate", 0, (1, 0.7, 2.0)),
        _attempt("separate", 1, (0, 0.5, 100.0)),
        _attempt("separate", 1, status="failed"),
        _attempt("separate", 2, (0, 0.7, 50.0), drifted=True),
        _attempt("separate", 2, (0, 0.7, 1.0), attempt=1),
        _attempt("separate", 2, (1, 0.8, 4.0)),
        _attempt("branch", 0, (0, 0.4, 1.0), (1, 0.75, 2.0), excluded={"branches": 0.5}),
    ]
    found = calibration_of(runs, study, curves)
    separate, cyclic, branch = found["kinds"]
    assert [kind["kind"] for kind in found["kinds"]] == ["separate", "cyclic", "branch"]
    assert separate["seconds"] == 4.0  # of seeds 0 and 2: 3 and 5, the drifted attempt not counted
    assert [level["metric"] for level in separate["levels"]] == pytest.approx([0.6, 0.75])
    assert [level["n"] for level in cyclic["levels"]] == [1, 1]
    assert [level["bias"] for level in cyclic["levels"]] == pytest.approx([0.0, -0.1])
    assert branch["seconds"] == 2.5  # with what the clock of its last point does not show
    assert calibration_of([run for run in runs if run["key"].curve != "separate"], study, curves) is None
