"""Ctrl-C as a terminal sends it: to the whole group of the command in the foreground."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from tests.bench.inline import inline
from tests.bench.robustness.tools import alive, children, environment, hasten, outcomes, wait_for

from hasten.bench.store import Store, StoreError
from hasten.cli import main

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture
def words(tiny, tmp_path):
    arms = "base,smooth=label_smoothing(0.1)"
    found = ("compare", tiny, "--arms", arms, "--seeds", 2, "--workers", 2, "--out", tmp_path / "study")
    return [str(word) for word in found]


def start(words) -> subprocess.Popen:
    return subprocess.Popen(
        hasten(*words),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def statuses(folder) -> list[str]:
    try:
        store = Store(folder, read_only=True)
    except StoreError:  # it has not begun
        return []
    found = [run["status"] for run in store.runs()]
    store.close()
    return found


def test_once_finishes_the_points_and_twice_stops_at_once(words, tmp_path):
    folder, checkpoints = tmp_path / "study", tmp_path / "study" / "checkpoints"

    first = start(words)
    wait_for(lambda: statuses(folder).count("running") == 2)
    workers = children(first.pid)
    os.killpg(first.pid, signal.SIGINT)
    out, err = first.communicate(timeout=60)
    assert first.returncode == 130, err
    assert "finishing the points in progress; press Ctrl-C again to stop at once" in err
    assert "Traceback" not in err
    assert "base" in out  # the table
    assert (folder / "report.html").stat().st_size > 10_000
    assert not any(map(alive, workers))
    assert statuses(folder) == ["stopped", "stopped"]
    assert len(list(checkpoints.glob("*.pt"))) == 2

    second = start(words)
    wait_for(lambda: statuses(folder).count("running") == 2)
    workers = children(second.pid)
    os.killpg(second.pid, signal.SIGINT)
    wait_for(lambda: "press Ctrl-C again" in second.stderr.readline())
    os.killpg(second.pid, signal.SIGINT)
    _, err = second.communicate(timeout=60)
    assert second.returncode == 130, err
    assert "Traceback" not in err
    wait_for(lambda: not any(map(alive, workers)))
    assert set(statuses(folder)[2:]) <= {"interrupted", "stopped"}  # a point may have come between the two
    assert statuses(folder)[:2] == ["stopped", "stopped"]

    with inline():
        assert main(words) == 0
    found = outcomes(folder)
    assert len(found["weights"]) == 4
    assert all(len(values) == 1 for values in found["metrics"].values())
    store = Store(folder, read_only=True)
    done = [run for run in store.runs() if run["status"] == "done"]
    store.close()
    assert [run["key"].attempt for run in done if run["data"]["resumed"]] == [2, 2]
