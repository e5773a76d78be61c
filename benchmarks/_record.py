"""One line per result: JSON for records, words for people."""

from __future__ import annotations

import json
import os
import platform
import sys
from typing import Any

__all__ = ["emit"]


def emit(as_json: bool, **fields: Any) -> None:
    """Print a record: `claim, arm, value, unit, ratio, interval, n`, plus host, versions and command.

    `runs`, where given, is every single value that `value` is the median of.
    """
    if not as_json:
        ratio = f"   ratio {fields['ratio']:.3f}" if fields.get("ratio") is not None else ""
        interval = f"   [{fields['interval'][0]:.3f}, {fields['interval'][1]:.3f}]" if fields.get("interval") else ""
        print(f"{fields['claim']:<24} {fields['arm']:<24} {fields['value']:>10.4g} {fields['unit']}{ratio}{interval}")
        return
    record = {"ratio": None, "interval": None, **fields, "host": host(), "versions": versions(), "command": command()}
    print(json.dumps(record))


def host() -> dict[str, Any]:
    """The machine, by what it is, not by its name."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"system": platform.system(), "processor": _processor(), "cores": os.cpu_count(), "load": load}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def versions() -> dict[str, str]:
    """Versions of what the figure depends on."""
    import numpy
    import torch

    import hasten

    found = {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__}
    return {**found, "hasten": hasten.__version__}


def command() -> str:
    """How to get the figure again."""
    return " ".join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]])
