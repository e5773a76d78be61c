"""The benchmark of a converted network runs on made-up images, and its lines are records."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "maddness_convert.py"
FIELDS = {"claim", "arm", "value", "unit", "ratio", "interval", "n", "host", "versions", "command"}


def lines(*options: str) -> list[dict[str, object]]:
    site = ["-S"] if sys.flags.no_site else []
    done = subprocess.run(
        [sys.executable, *site, SCRIPT, "--smoke", "--json", *options],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(set(line) >= FIELDS for line in found)
    return found


@pytest.mark.slow
def test_converts_and_times(tmp_path):
    weights = str(tmp_path / "weights.pt")
    arms = {line["arm"]: line for line in lines("--weights", weights)}
    assert list(arms) == ["dense", "planner, not fine-tuned", "planner", "forced, not fine-tuned", "forced"]
    assert arms["dense"]["value"] > 0.5  # ten classes
    assert arms["dense"]["lost"] == 0
    assert len(arms["planner"]["reasons"]) == 10  # every layer is spoken of
    assert arms["forced"]["layers"] == len(arms["forced"]["tables"]) == 6
    assert arms["forced"]["value"] > 0.5
    for line in arms.values():
        assert line["n"] == 600
        assert line["interval"][0] <= line["value"] <= line["interval"][1]
        assert line["lost_interval"][0] <= line["lost"] <= line["lost_interval"][1]
        assert line["lost"] == pytest.approx(100 * (arms["dense"]["value"] - line["value"]), abs=1e-3)

    again = lines("--weights", weights, "--more", "--arms", "forced")
    assert [line["arm"] for line in again] == ["dense", "forced"]
    assert again[0]["value"] == arms["dense"]["value"]
    assert again[1]["tables"] == arms["forced"]["tables"]

    timed = lines("--weights", weights, "--time", "--seconds", "0.05")
    names = ["dense", "planner", "forced", "dense, bfloat16"]
    assert [(line["batch"], line["arm"]) for line in timed] == [(size, name) for size in (128, 1) for name in names]
    for line in timed:
        assert line["n"] == len(line["runs"]) >= 7
        assert line["interval"][0] <= line["ms"] <= line["interval"][1]
        assert line["ratio"] == 1 or line["arm"] != "dense"


def test_time_asks_for_weights():
    site = ["-S"] if sys.flags.no_site else []
    done = subprocess.run([sys.executable, *site, SCRIPT, "--time"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "expected --weights with a file that holds networks" in done.stderr
