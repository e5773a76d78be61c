"""What this machine gives us: cores, load, and the folders for data.

Nothing is cached: affinity, load and environment variables are read at each call.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["cache_folder", "data_folder", "load_average", "logical_cores", "physical_cores"]


def logical_cores() -> int:
    """Cores that this process may use: its CPU affinity where the system has one, else all of the machine's."""
    return len(_affinity()) or os.cpu_count() or 1


def physical_cores() -> int | None:
    """Physical cores that this process may use (two hyper-threads share one); None where the system does not say.

    Timed runs want one process per physical core: two on one core slow each other down.
    """
    if sys.platform == "linux":
        cores = {_linux_core(cpu) for cpu in _affinity()}
        return None if None in cores or not cores else len(cores)
    if sys.platform == "darwin":
        found = subprocess.run(["sysctl", "-n", "hw.physicalcpu"], capture_output=True, text=True, check=False)
        return int(found.stdout) if found.returncode == 0 else None
    return None


def load_average() -> tuple[float, float, float] | None:
    """Running processes on average over 1, 5 and 15 minutes; None where the system does not say."""
    return os.getloadavg() if hasattr(os, "getloadavg") else None


def data_folder() -> Path | None:
    """The folder with data sets that are already there: `HASTEN_DATA`; None where it is unset."""
    named = os.environ.get("HASTEN_DATA", "")
    return Path(named).expanduser() if named else None


def cache_folder() -> Path:
    """The one folder downloads go to: `HASTEN_CACHE`, or `~/.cache/hasten`. It may not exist yet."""
    named = os.environ.get("HASTEN_CACHE", "")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "hasten"


def _affinity() -> frozenset[int]:
    """The CPUs this process may run on; empty where the system has no affinity (macOS, Windows)."""
    return frozenset(os.sched_getaffinity(0)) if sys.platform == "linux" else frozenset()


def _linux_core(cpu: int) -> str | None:
    """A name for the physical core behind a logical CPU: the list of the logical CPUs that share it."""
    file = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return None
