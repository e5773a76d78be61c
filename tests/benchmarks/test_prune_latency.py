"""The benchmark of pruned models runs, and its lines are records."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "prune_latency.py"
FIELDS = {"claim", "arm", "value", "unit", "ratio", "interval", "n", "host", "versions", "command"}


def test_tiny_run() -> None:
    sizes = "--depth 8 --width 8 --image 8 --batch 1 2 --removed 0.5 --rounds 2 --json"
    site = ["-S"] if sys.flags.no_site else []
    done = subprocess.run(
        [sys.executable, *site, SCRIPT, *sizes.split()], capture_output=True, text=True, timeout=120, check=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(set(line) >= FIELDS for line in lines)
    arms = ["dense", "masked, 50 % removed", "cut, 50 % removed"]
    assert [(line["batch"], line["arm"]) for line in lines] == [(batch, arm) for batch in (1, 2) for arm in arms]
    for line in lines:
        assert line["n"] == len(line["runs"]) == 2
        assert line["value"] > 0
        assert line["ratio"] == 1 or line["arm"] != "dense"
        cut = line["arm"].startswith("cut")
        assert line["parameters"] == (5214 if cut else 19954)
        assert (0.2 < line["macs_ratio"] < 0.4) if cut else line["macs_ratio"] == 1
