"""Where a study can be run from: a script without a main guard, a thread, a system without process groups."""

from __future__ import annotations

import subprocess
import sys

from tests.bench.robustness.tools import environment

SCRIPT = """
import sys, threading
import hasten
found = []
def work():
    workload, out = sys.argv[1:]
    arms = {"base": [], "again": []}
    study = hasten.compare(workload, arms, seeds=1, duration="20step", out=out, workers=1, quiet=True)
    found.append(study.status)
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(found)
"""


def run(code: str, *arguments: object) -> str:
    process = subprocess.run(
        [sys.executable, "-", *map(str, arguments)],
        input=code,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_a_script_without_a_main_guard_and_a_thread(tiny, tmp_path):
    assert run(SCRIPT, tiny, tmp_path / "study") == "['complete']\n"


def test_a_system_without_process_groups(tiny, tmp_path):
    """As Windows is one: processes are killed one by one."""
    assert run(f"import os; del os.killpg\n{SCRIPT}", tiny, tmp_path / "study") == "['complete']\n"
