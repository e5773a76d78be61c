"""The benchmark of training from compressed files runs, and its lines are records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "codec_training.py"
FIELDS = {"claim", "arm", "value", "unit", "ratio", "interval", "n", "host", "versions", "command"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_tiny_run():
    sizes = "--rows 4000 --window 64 --batch 8 --samples 16 --rounds 2 --json --train"
    site = ["-S"] if sys.flags.no_site else []
    done = subprocess.run(
        [sys.executable, *site, SCRIPT, *sizes.split()], capture_output=True, text=True, timeout=120, check=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(set(line) >= FIELDS for line in lines)
    arms = ["memory-mapped npy", "tsz", "tsz, 256 rows a chunk", "npz in memory"]
    conditions = [(cache, workers) for cache in ("warm", "cold") for workers in (0, 2)]
    assert [(line["cache"], line["workers"], line["arm"]) for line in lines] == [
        (*condition, arm) for condition in conditions for arm in arms
    ]
    for line in lines:
        assert line["n"] == len(line["runs"]) == 2
        assert line["value"] > 0
        assert line["unit"] == "samples/s"
        assert line["ratio"] == 1 or line["arm"] != arms[0]
        assert line["cached"] is None or (0 <= line["cached"] <= 1 and line["cache"] == "cold")
    sizes_of = {line["arm"]: line["file_bytes"] for line in lines}
    assert sizes_of["tsz"] < sizes_of["tsz, 256 rows a chunk"] < sizes_of["memory-mapped npy"]
