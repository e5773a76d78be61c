from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from tests.bench.report.synthetic import study

from hasten.bench.report import VERSION, from_json, render, table, to_csv, to_json, validate
from hasten.bench.report.upgrade import upgrade

GOLDEN = Path(__file__).parents[2] / "golden" / "report-version-1.json"
NEW = {"calibration", "energy", "memory", "frontier", "interactions"}


def old() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def lost(before: Any, after: Any, place: str = "") -> list[str]:
    """Places whose value is gone or changed; keys may be added."""
    if isinstance(before, dict):
        missing = [f"{place}.{key}" for key in before if key not in after]
        return missing + [
            bad for key in before if key in after for bad in lost(before[key], after[key], f"{place}.{key}")
        ]
    if isinstance(before, list) and len(before) == len(after):
        return [bad for i, pair in enumerate(zip(before, after, strict=True)) for bad in lost(*pair, f"{place}[{i}]")]
    return [] if before == after and type(before) is type(after) else [place]


def added(before: Any, after: Any) -> set[str]:
    """Keys that are new, anywhere."""
    if isinstance(before, dict):
        return (after.keys() - before.keys()).union(*(added(before[key], after[key]) for key in before))
    if isinstance(before, list):
        return set().union(*(added(*pair) for pair in zip(before, after, strict=True)))
    return set()


def test_a_report_of_version_1_is_upgraded_without_loss() -> None:
    data = old()
    assert data["version"] == 1
    found = from_json(GOLDEN.read_text(encoding="utf-8"))
    assert lost(data, found) == [".analysis.version", ".version"]
    assert found["version"] == VERSION
    assert added(data, found) == NEW
    assert json.loads(to_json(data)) == found
    assert data == old()  # the reader's own copy is not touched


def test_what_version_1_did_not_know_is_unknown_now() -> None:
    found = validate(old())
    assert found["calibration"] is None
    analysis = found["analysis"]
    assert analysis is not None
    assert (analysis["frontier"], analysis["interactions"]) == (None, [])
    points = [point for run in found["runs"] for point in run["points"]]
    assert points
    assert {(point["memory"], point["energy"]) for point in points} == {(None, None)}
    assert {run["energy"] for run in found["runs"]} == {None}


def test_a_report_of_version_1_is_shown_everywhere() -> None:
    data = old()
    markup = render(data)
    assert data["study"]["title"] in markup
    assert "On the frontier" not in markup
    assert "Do the methods add up?" not in markup
    assert "What does the kind of curve change?" not in markup
    assert "Energy is not measured" not in markup  # nobody had looked
    assert data["study"]["baseline"] in table(data, width=80, color=False, unicode=False)
    lines = to_csv(data).splitlines()
    peaks = {str(run["memory"]) for run in data["runs"] if run["memory"] is not None}
    assert lines[0].split(",")[9] == "memory"
    assert {line.split(",")[9] for line in lines[1:]} - {""} <= peaks


def test_the_newest_version_is_left_alone() -> None:
    data = study()
    assert upgrade(data) is data


@pytest.mark.parametrize("version", [True, 1.0, "1", None, [1], 0, 99])
def test_other_versions_are_not_guessed_at(version: Any) -> None:
    data = old() | {"version": version}
    assert upgrade(data) is data
    with pytest.raises(ValueError, match="expected version 2"):
        validate(data)


@pytest.mark.parametrize(
    "broken",
    [
        {"runs": 3},
        {"runs": [3]},
        {"runs": [{"points": 3}]},
        {"runs": [{"points": [3]}]},
        {"analysis": []},
        {"runs": None},
    ],
)
def test_a_broken_report_is_left_to_the_validator(broken: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="^report: expected"):
        validate(copy.deepcopy(old()) | broken)
