"""CPU seconds of fresh processes: what importing hasten adds to torch, and how long the command line takes to answer.

python benchmarks/import_time.py --json
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

from _record import emit

PIECES = {
    "import torch": "import torch",
    "import hasten": "import torch, hasten",
    "import hasten.program": "import torch, hasten.program",
    "from hasten.methods import blurpool": "import torch; from hasten.methods import blurpool",
    "hasten.compare ready": "import torch, hasten; hasten.compare",
    "hasten --help": "from hasten.cli import main; main(['--help'])",
    "hasten methods": "from hasten.cli import main; main(['methods'])",
}


def cpu_seconds(code: str) -> float:
    """User and system time of a fresh interpreter that runs `code`."""
    before = os.times()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return (after.children_user - before.children_user) + (after.children_system - before.children_system)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in PIECES}
    for code in PIECES.values():
        cpu_seconds(code)  # files into the cache
    for _ in range(options.runs):
        for name, code in PIECES.items():
            found[name].append(cpu_seconds(code))
    torch = statistics.median(found["import torch"])
    for name, times in found.items():
        over = statistics.median(times) - torch if "hasten -" not in name and "hasten m" not in name else None
        emit(
            options.json,
            claim="import time",
            arm=name,
            value=statistics.median(times),
            unit="CPU s",
            over_torch=over,
            interval=[min(times), max(times)],
            n=len(times),
            runs=times,
        )


if __name__ == "__main__":
    main()
