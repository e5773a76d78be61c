"""Where a study can be run from: a script without a main guard, a thread, a system without process groups."""

from __future__ import annotations

import subprocess
import sys

from tests.bench.robustness.tools import environment

SCRIPT = """
import os, sys, threading
import hasten
found = []
def work():
    workload, *folders = sys.argv[1:]
    arms = {"base": [], "again": []}
    for out in folders:
        study = hasten.compare(workload, arms, seeds=1, duration="20step", out=out, workers=1, quiet=True)
        found.append(study.status)
        if hasattr(os, "killpg"):
            del os.killpg
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(found)
"""


def test_a_script_without_a_main_guard_a_thread_and_a_system_without_process_groups(tiny, tmp_path):
    """The second study is on such a system, as Windows is one: processes are killed one by one."""
    process = subprocess.run(
        [sys.executable, "-", *map(str, (tiny, tmp_path / "first", tmp_path / "second"))],
        input=SCRIPT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout == "['complete', 'complete']\n"
