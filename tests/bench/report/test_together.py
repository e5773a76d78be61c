from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats
from tests.bench.report.synthetic import study

from hasten.bench.report.data import prepare
from hasten.bench.report.together import (
    differing_facts,
    labels_of,
    log_speedups,
    machine_of,
    runs_in_common,
    shared_arms,
)


def other(workload: str = "letters", *, seeds: int = 4, **options: Any) -> dict[str, Any]:
    """A second study with the same arms, other numbers and another name."""
    found = study(seeds=seeds, **options)
    found["study"]["workload"] = workload
    return found


def logs_of(data: dict[str, Any], arm: str) -> np.ndarray:
    report = prepare(data)
    return log_speedups(report, next(one for one in report["analysis"]["arms"] if one["name"] == arm))


@pytest.mark.parametrize("minimize", [False, True])
@pytest.mark.parametrize("arm", ["blur", "ls", "mixup"])
def test_speedups_of_seed_pairs_are_those_behind_the_overall_speedup(arm: str, minimize: bool) -> None:
    data = study(minimize=minimize)
    overall = next(one for one in data["analysis"]["arms"] if one["name"] == arm)["overall"]
    logs = logs_of(data, arm)
    assert len(logs) == overall["n"]
    assert math.exp(logs.mean()) == pytest.approx(overall["speedup"], rel=1e-12)
    interval = stats.ttest_1samp(logs, 0.0).confidence_interval(0.95)
    assert np.exp(interval) == pytest.approx((overall["low"], overall["high"]), rel=1e-9)


def test_means_of_an_arm_in_two_studies() -> None:
    one, two = study(), other()
    shared = shared_arms([prepare(one), prepare(two)])
    assert [found.names for found in shared] == [("blur",), ("ls",), ("mixup",)]
    blur = shared[0]
    a, b = logs_of(one, "blur"), logs_of(two, "blur")
    assert (blur.methods, blur.studies, blur.pairs) == (("blurpool(min_channels=16)",), (0, 1), len(a) + len(b))
    assert sum(blur.verdicts.values()) == 2
    assert blur.speedups == pytest.approx((math.exp(a.mean()), math.exp(b.mean())))
    assert blur.mean == pytest.approx(math.sqrt(math.exp(a.mean()) * math.exp(b.mean())))
    # Half the sum of two means: Welch's interval of the difference between a and -b, halved.
    welch = stats.ttest_ind(a, -b, equal_var=False).confidence_interval(0.95)
    assert np.log([blur.low, blur.high]) == pytest.approx(np.asarray(welch) / 2, rel=1e-9)
    pooled = np.sort(np.concatenate([a, b]))
    assert blur.iqm == pytest.approx(math.exp(pooled[2:-2].mean()))  # 9 pairs: 2 on each side are left out
    assert blur.chance == pytest.approx(((a > 0).mean() + (b > 0).mean()) / 2)


def test_from_five_studies_on_their_own_spread_counts() -> None:
    studies = [other(f"w{n}", seeds=3 + n) for n in range(5)]
    ls = shared_arms([prepare(data) for data in studies])[1]
    means = [logs_of(data, "ls").mean() for data in studies]
    interval = stats.ttest_1samp(means, 0.0).confidence_interval(0.95)
    assert np.log([ls.low, ls.high]) == pytest.approx(interval, rel=1e-9)


def test_one_seed_gives_no_interval_and_equal_seeds_one_of_no_width() -> None:
    single = shared_arms([prepare(study(seeds=1)), prepare(other(seeds=1))])
    assert all(found.low is None and found.mean is not None for found in single)
    control = {"base": "base", "same": "base"}
    data = [study(control), other(arms=control)]
    for one in data:
        one["study"]["arms"][1]["methods"] = ["identity()"]
        base, same = one["analysis"]["arms"]
        same["runs"] = base["runs"]
        same["overall"] = {**same["overall"], "speedup": 1.0, "low": 1.0, "high": 1.0} if same["overall"] else None
        quality = [point["metric"] for point in base["curve"]]
        same["overall"] = {"speedup": 1.0, "low": 1.0, "high": 1.0, "quality_low": quality[1],
                           "quality_high": quality[2], "n": 5}  # fmt: skip
    (found,) = shared_arms([prepare(one) for one in data])
    assert (found.mean, found.low, found.high, found.chance) == (1.0, 1.0, 1.0, 0.5)


def renamed(data: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    data["study"]["arms"] = [
        {**arm, "name": new if arm["name"] == old else arm["name"]} for arm in data["study"]["arms"]
    ]
    for arm in data["analysis"]["arms"]:
        arm["name"] = new if arm["name"] == old else arm["name"]
    for run in data["runs"]:
        run["arm"] = new if run["arm"] == old else run["arm"]
    return data


def test_arms_are_the_same_by_their_methods_not_by_their_names() -> None:
    two = renamed(renamed(other(), "blur", "soft"), "ls", "blur")
    shared = shared_arms([prepare(study()), prepare(two)])
    assert [found.names for found in shared] == [("blur", "soft"), ("ls", "blur"), ("mixup",)]


def with_methods(data: dict[str, Any], arm: str, methods: list[str]) -> dict[str, Any]:
    for one in data["study"]["arms"]:
        if one["name"] == arm:
            one["methods"] = methods
    return data


def test_what_is_not_the_same_is_not_averaged() -> None:
    def names(data: dict[str, Any]) -> list[tuple[str, ...]]:
        return [found.names for found in shared_arms([prepare(study()), prepare(data)])]

    assert names(other()) == [("blur",), ("ls",), ("mixup",)]
    assert names(with_methods(other(), "blur", ["blurpool(min_channels=8)"])) == [("ls",), ("mixup",)]
    assert names(with_methods(other(), "base", ["ema()"])) == []  # another baseline
    assert names(other(curve="branch")) == []
    assert names(other(curve="separate")) == names(other())
    logs = other()
    for arm in logs["study"]["arms"]:
        arm.update(fingerprint="", methods=[])
    assert names(logs) == []
    empty = other()
    empty["analysis"] = None
    assert names(empty) == []


def test_a_study_without_a_speedup_is_left_out_of_the_means() -> None:
    data = [study(), other(), other("third", seeds=3)]
    data[2]["analysis"]["arms"][1]["overall"] = None
    blur = shared_arms([prepare(one) for one in data])[0]
    assert blur.studies == (0, 1, 2)
    assert blur.speedups[2] is None
    assert blur.mean == pytest.approx(math.exp((logs_of(data[0], "blur").mean() + logs_of(data[1], "blur").mean()) / 2))
    data[1]["analysis"]["arms"][1]["overall"] = None
    blur = shared_arms([prepare(one) for one in data])[0]
    assert (blur.mean, blur.low, blur.iqm, blur.chance) == (None, None, None, None)


def test_labels() -> None:
    data = [study(), other(), other("digits"), other("")]
    data[3]["study"]["title"] = "runs.csv"
    assert labels_of([prepare(one) for one in data]) == ["digits (1)", "letters", "digits (2)", "runs.csv"]


def test_facts_that_differ() -> None:
    one, two = study(), other()
    two["environment"].update({"torch": "2.6.0", "load at start": 7.0})
    del two["environment"]["isa"]
    reports = [prepare(one), prepare(two)]
    assert differing_facts(reports) == {"torch": ["2.13.0", "2.6.0"], "isa": ["avx2", "unknown"]}
    assert machine_of(reports[0]) == machine_of(reports[1])
    two["environment"]["processor"] = "another processor"
    assert machine_of(reports[0]) != machine_of(prepare(two))
    assert shared_arms([reports[0], prepare(two)])[0].machines == 2


def test_why_energy_was_not_measured_is_no_other_setting() -> None:
    """The sentence names the number of workers, which a user may choose anew for every study."""
    one, two = other(), other("letters")
    for report, count in ((one, 2), (two, 3)):
        report["environment"]["energy"] = f"Energy is not measured: {count} runs at a time cannot be told apart."
    assert "energy" not in differing_facts([prepare(one), prepare(two)])


def test_measurements_that_two_studies_share() -> None:
    one, two = study(), study()
    two["runs"] = two["runs"][:8]
    two["study"]["workload"] = "half of them"
    shared = sum(run["counts"] for run in two["runs"])
    assert runs_in_common([prepare(one), prepare(two)]) == [(0, 1, shared)]
    for run in two["runs"]:
        run["seconds"] += 1e-9  # measured again
    assert runs_in_common([prepare(one), prepare(two)]) == []
