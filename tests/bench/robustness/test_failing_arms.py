"""What goes wrong in one arm ends that arm, or that run, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.bench.robustness.tools import environment, hasten

from hasten.bench.store import Store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX systems")


@pytest.mark.slow  # CI runs it after the others
def test_every_kind_of_failure_in_one_study(tiny, tmp_path):
    """An exception, exhausted memory, the kernel's kill for memory, and a loss that is not finite."""
    kinds = ("raising", "hungry", "killed")
    arms = ",".join(["base", "lost=not_finite()", *(f"{kind}=breaks('{kind}')" for kind in kinds)])
    folder, exported = tmp_path / "study", tmp_path / "study.json"
    command = hasten(
        "compare", tiny, "--arms", arms, "--seeds", 2, "--duration", "30step", "--workers", 1, "--out", folder
    )
    process = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr

    store = Store(folder, read_only=True)
    runs = {}
    for run in store.runs():
        runs.setdefault(run["key"].arm, []).append((run["key"].seed, run["status"], run["data"].get("error", "")))
    store.close()
    assert sorted(runs["base"]) == [(0, "done", ""), (1, "done", "")]
    assert sorted(runs["lost"])[0] == (0, "done", "")
    assert sorted(runs["lost"])[1][:2] == (1, "failed")
    assert "the training loss became nan at step 0" in sorted(runs["lost"])[1][2]
    for kind, error in [
        ("raising", "RuntimeError: this loss always raises"),
        ("hungry", "RuntimeError"),
        ("killed", "its process died 3 times (killed, as the system does when memory runs out). Use fewer workers"),
    ]:
        failed = [found for _, status, found in runs[kind] if status == "failed"]
        assert failed, kind
        assert all(found.startswith(error) for found in failed)
        assert {status for _, status, _ in runs[kind]} <= {"failed", "interrupted"}
        assert f"{kind}, seed" in process.stderr
        page = (folder / "report.html").read_text()
        assert error.split("(")[0].replace("'", "&#x27;") in page, kind
    assert "can't allocate memory" in runs["hungry"][0][2] or "not enough memory" in runs["hungry"][0][2]

    report = hasten("report", folder, "--json", exported)
    assert subprocess.run(report, env=environment(), capture_output=True, timeout=60).returncode == 0
    notes = json.loads(exported.read_text())["notes"]
    assert sum("This arm ends here; the others go on" in note for note in notes) == len(kinds)
