"""A disk without room, as `ulimit -f` makes one for a command: what is finished stays, and it says what to do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.bench.robustness.tools import environment, hasten, outcomes

from hasten.bench.store import FILE, Store
from hasten.bench.study import open_study

resource = pytest.importorskip("resource", reason="limits of POSIX systems")


def compare(
    workload: Path, folder: Path, *more: object, limit: int | None = None, arms: str = "base,again=base"
) -> subprocess.CompletedProcess:
    """Run the study with no file larger than `limit` bytes."""
    code = "pass" if limit is None else f"import resource as r; r.setrlimit(r.RLIMIT_FSIZE, ({limit}, {limit}))"
    options = ("--arms", arms, "--duration", "20step", "--workers", 1, "--out", folder, *more)
    command = hasten("compare", workload, *options, code=code)
    quiet = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    return subprocess.run(command, env=environment(), timeout=120, **quiet)


def runs(folder: Path) -> list[dict]:
    store = Store(folder, read_only=True)
    found = store.runs()
    store.close()
    return found


def test_a_store_without_room_stops_the_study_and_the_same_command_goes_on(drivers, tmp_path):
    folder = tmp_path / "study"

    def study(seeds: int, limit: int = 0) -> int:
        drivers.start(folder, plan={"seeds": seeds, "duration": "20step"}, limit=limit, workers=1)
        return drivers.wait()

    assert study(1) == 0
    assert study(3, limit=(folder / FILE).stat().st_size) == 1
    line = drivers.log.read_text().strip().splitlines()[-1]
    assert line.startswith(f"hasten.bench.store.StoreError: {folder / FILE}: ")
    assert "The disk is full" in line
    before = runs(folder)
    assert before[0]["status"] == "done"
    assert 0 < [run["status"] for run in before].count("done") < 6

    assert study(3) == 0
    after = {run["key"]: run for run in runs(folder)}
    for run in before:
        assert after[run["key"]]["points"] == run["points"]
        assert after[run["key"]]["data"].get("weights") == run["data"].get("weights")
    found = outcomes(folder)
    assert len(found["weights"]) == 6
    assert all(len(values) == 1 for values in found["metrics"].values())


def test_checkpoints_without_room_are_done_without(drivers, tiny, tmp_path):
    """Each takes 3 MB, everything else less than 2."""
    (tmp_path / "wide.py").write_text(tiny.read_text().replace("WIDTH = 16", "WIDTH = 30_000"))
    folder = tmp_path / "study"
    plan = {"seeds": 1, "duration": "20step"}
    drivers.start(folder, plan=plan, workload=tmp_path / "wide.py", limit=2_000_000, workers=1)
    assert drivers.wait() == 0
    assert drivers.log.read_text().count("cannot write checkpoints (File too large)") == 1
    assert [run["status"] for run in runs(folder)] == ["done"] * 2
    assert list((folder / "checkpoints").iterdir()) == []
    assert "cannot write checkpoints (File too large)" in open_study(folder).report().read_text()


def test_user_code_that_meets_a_full_disk_does_not_end_its_arm(tiny, tmp_path):
    """It prints more than its log can take."""
    process = compare(tiny, tmp_path / "study", "--seeds", 1, limit=300_000, arms="base,talks=breaks('printing')")
    assert process.returncode == 1
    line = process.stderr.strip().splitlines()[-1]
    assert line == (
        "hasten: talks, seed 0: [Errno 27] File too large. "
        "The disk is full: free some space and run the same command again, nothing finished is lost."
    )
    assert [run["status"] for run in runs(tmp_path / "study")] == ["done", "interrupted"]
