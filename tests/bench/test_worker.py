from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.bench.robustness.tools import alive, environment, wait_for

from hasten.bench import worker as module
from hasten.bench.driver import Settings, command, write_sources
from hasten.bench.pool import Pool
from hasten.bench.run import NonFiniteError
from hasten.bench.workloads import load, module_of


@pytest.fixture
def methods(tiny):
    return module_of(load(tiny))


@pytest.fixture
def task(tmp_path, tiny_plan, methods) -> Callable[..., dict[str, Any]]:
    """`task("raising", seed)`: the command to run the tiny workload with this loss ("plain" is its own)."""
    how = ["raising", "leaving", "hungry_python", "printing", "forking", "full_disk"]
    arms = {"plain": [], "not_finite": [methods.not_finite()], **{name: [methods.breaks(name)] for name in how}}
    plan = tiny_plan(arms, duration="30step")
    stored = write_sources(plan, tmp_path / "sources")

    def make(arm: str = "plain", seed: int = 0) -> dict[str, Any]:
        job = next(job for job in plan.jobs() if (job.arm, job.seed) == (arm, seed))
        paths = tmp_path / f"{arm}.pt", tmp_path / f"{arm}.log"
        return command(plan, job, Settings(checkpoint_seconds=0.01), stored, *paths)

    return make


def started(folder: Path) -> Iterator[Pool]:
    with Pool(1, folder) as pool:
        assert until(pool, "ready") == {"event": "ready"}
        yield pool


@pytest.fixture
def pool(tmp_path):
    """A worker of the test's own."""
    yield from started(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A worker for tests that leave it as it was: one process runs one task after the other."""
    yield from started(tmp_path_factory.mktemp("shared"))


def until(pool: Pool, *kinds: str) -> dict[str, Any]:
    """The next event of one of these kinds; a death ends the waiting."""
    while True:
        heard = pool.next_event(60)
        assert heard is not None
        if heard[1]["event"] in (*kinds, "died"):
            return heard[1]


def test_prints_do_not_reach_the_protocol_and_reads_find_nothing(shared, task, tmp_path):
    pool, worker = shared, shared.workers[0]
    worker.send(task())
    points = [until(pool, "point") for _ in range(3)]
    assert [point["step"] for point in points] == [end for _, end, _ in task()["cycles"]]
    plain = until(pool, "done", "broken")
    assert plain["event"] == "done"
    assert (plain["resumed"], plain["stopped"]) == (False, False)
    assert min(plain["calibration"].values()) > 0

    worker.send(task("printing"))
    printed = until(pool, "done", "broken")
    assert printed["weights"] == plain["weights"]
    log = (tmp_path / "printing.log").read_text()
    assert '{"event": "died", "code": 0}' in log
    assert log.count("no end of line") >= 30  # once a step; counting FLOPs calls the loss too


def test_a_loss_that_is_not_finite_has_failed(shared, task):
    shared.workers[0].send(task("not_finite", 1))
    failed = until(shared, "done", "failed", "broken")
    assert failed["event"] == "failed"
    assert "the training loss became nan at step 0" in failed["error"]


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(pool, task, tmp_path):
    worker = pool.workers[0]
    worker.send(task())
    whole = until(pool, "done", "broken")
    (tmp_path / "plain.pt").unlink()
    worker.send({"do": "stop"})
    worker.send(task())
    assert until(pool, "done", "broken")["stopped"] is True
    pool.replace(worker)
    pool.workers[0].send(task())
    while (resumed := until(pool, "done", "broken"))["event"] == "died":  # of the first worker
        pass
    assert (resumed["resumed"], resumed["stopped"]) == (True, False)
    assert resumed["weights"] == whole["weights"]


@pytest.mark.parametrize(
    ("arm", "error"),
    [
        ("raising", "RuntimeError: this loss always raises"),
        ("leaving", "SystemExit: 7"),
        ("hungry_python", "MemoryError: out of memory"),
    ],
)
def test_code_that_raises_is_broken(shared, task, tmp_path, arm, error):
    shared.workers[0].send(task(arm))
    event = until(shared, "broken", "done", "failed")
    assert event == {"event": "broken", "error": error, "log": str(tmp_path / f"{arm}.log")}
    assert "Traceback" in (tmp_path / f"{arm}.log").read_text()


def test_a_full_disk_is_nobodys_fault(shared, task):
    shared.workers[0].send(task("full_disk"))
    assert until(shared, "full") == {"event": "full", "error": "[Errno 28] No space left on device: '/somewhere'"}
    shared.workers[0].send(task())
    assert until(shared, "done")["event"] == "done"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_crash_is_noticed_whatever_processes_it_leaves_and_they_end(pool, task, tmp_path):
    pool.workers[0].send(task("forking"))
    assert until(pool) == {"event": "died", "code": -signal.SIGABRT}
    log = (tmp_path / "forking.log").read_text()
    assert "Fatal Python error: Aborted" in log
    left = int(log.split("left behind: ")[1].split()[0])
    wait_for(lambda: not alive(left))


@pytest.mark.parametrize("rest", ["", '{"do": "ru', "\xff\xfe"])
def test_it_ends_when_its_driver_is_gone_even_in_the_middle_of_a_line(tmp_path, rest):
    process = subprocess.Popen(
        [sys.executable, "-m", "hasten.bench.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env=environment(),
    )
    process.stdin.write(rest.encode("latin-1"))
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()


def test_it_ignores_ctrl_c(shared, task):
    os.kill(shared.workers[0].process.pid, signal.SIGINT)
    shared.workers[0].send(task())
    assert until(shared, "done")["event"] == "done"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NonFiniteError("became nan"), {"event": "failed", "error": "became nan"}),
        (OSError(errno.ENOSPC, "No space"), {"event": "full", "error": "[Errno 28] No space"}),
        (MemoryError(), {"event": "broken", "error": "MemoryError: out of memory", "log": "x.log"}),
        (KeyboardInterrupt(), {"event": "broken", "error": "KeyboardInterrupt: no message", "log": "x.log"}),
        (FileNotFoundError(2, "No such file", "d"), None),
    ],
)
def test_what_each_error_means(error, expected):
    ending = module._ending(error, "x.log")
    if expected is None:
        expected = {"event": "broken", "error": "FileNotFoundError: [Errno 2] No such file: 'd'", "log": "x.log"}
    assert ending == expected


def test_it_can_be_imported_without_what_windows_lacks():
    code = "import os, signal; del os.killpg, os.getsid, signal.SIGKILL; import hasten.bench.worker"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment(), timeout=60)
