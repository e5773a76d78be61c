"""kill -9 at random moments, 32 times, 6 of them in the default run: the study completes, equal to the bit."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from tests.bench.robustness.tools import Drivers, alive, children, outcomes, wait_for

from hasten.bench.store import Store

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")

WORKERS = 2
# Cyclic runs; and branch runs, each with the baseline in the two other kinds of curve beside them.
FEW, CYCLIC, ALL_KINDS = {"seeds": 2}, {"seeds": 4}, {"seeds": 1, "curve": "branch", "calibrate": True}


@pytest.mark.parametrize(
    ("plan", "count", "kills"),
    [
        pytest.param(FEW, 4, 6, id="a few"),
        pytest.param(CYCLIC, 8, 20, id="cyclic", marks=pytest.mark.slow),
        pytest.param(ALL_KINDS, 6, 6, id="all kinds", marks=pytest.mark.slow),
    ],
)
def test_kills_change_no_bit(drivers, tmp_path, plan, count, kills):
    drivers.start(tmp_path / "undisturbed", plan=plan, workers=WORKERS)
    assert drivers.wait() == 0
    expected = outcomes(tmp_path / "undisturbed")
    assert expected["status"] == "complete"
    assert len(expected["weights"]) == count
    assert all(len(found) == 1 for found in expected["metrics"].values())

    generator, killed, folders = random.Random(20), {"driver": 0, "worker": 0}, []
    while sum(killed.values()) < kills:
        folder = tmp_path / f"killed-{len(folders)}"
        folders.append(folder)
        while sum(killed.values()) < kills and disturb(drivers, folder, generator, killed, plan) != "complete":
            pass
    for folder in folders:
        drivers.start(folder, plan=plan, workers=WORKERS)
        assert drivers.wait() == 0
        assert outcomes(folder) == expected
        check_flags(folder, count)
        assert list((folder / "checkpoints").iterdir()) == []
    print(f"killed {killed}, in {len(folders)} studies, of which attempts: {[attempts(folder) for folder in folders]}")
    assert sum(killed.values()) >= kills
    assert min(killed.values()) >= kills // 6
    assert any(run["data"].get("resumed") for folder in folders for run in runs(folder))


def disturb(drivers: Drivers, folder: Path, generator: random.Random, killed: dict[str, int], plan: dict) -> str:
    """One driver: up to two of its workers are killed, then itself. Or it completes before."""
    driver = drivers.start(folder, plan=plan, workers=WORKERS)
    for victim in ["worker"] * generator.randint(0, 2) + ["driver"]:
        if generator.random() < 0.6:  # while runs are going on; else perhaps while processes start
            since = time.time()
            wait_for(lambda: not alive(driver) or saved_since(folder, since))  # noqa: B023  (called here)
        time.sleep(generator.uniform(0.0, 0.5))
        workers = children(driver)
        pid = generator.choice(workers) if victim == "worker" and workers else driver
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:  # it came before us
            continue
        if pid == driver:
            break
        killed["worker"] += 1
    status = drivers.wait()
    wait_for(lambda: not any(map(alive, workers)))
    if status == 0:
        return "complete"
    assert status == -signal.SIGKILL
    killed["driver"] += 1
    return "killed"


def saved_since(folder: Path, when: float) -> bool:
    """Whether a run has written a checkpoint after this moment."""
    try:
        return any(path.stat().st_mtime > when for path in (folder / "checkpoints").glob("*.pt"))
    except OSError:  # it is gone already
        return False


def runs(folder: Path) -> list:
    store = Store(folder, read_only=True)
    found = store.runs()
    store.close()
    return found


def attempts(folder: Path) -> dict[str, int]:
    statuses = [run["status"] + " resumed" * bool(run["data"].get("resumed")) for run in runs(folder)]
    return {status: statuses.count(status) for status in sorted(set(statuses))}


def check_flags(folder: Path, count: int) -> None:
    """Every run is done once, and flagged where it went on from a checkpoint, which a first attempt never does."""
    done = [run for run in runs(folder) if run["status"] == "done"]
    assert len({run["key"].values()[:-1] for run in done}) == len(done) == count
    assert {run["status"] for run in runs(folder)} <= {"done", "interrupted"}
    for run in done:
        assert not (run["data"]["resumed"] and run["key"].attempt == 0)
        assert len(run["points"]) == (1 if run["key"].curve.startswith("separate") else 3)
