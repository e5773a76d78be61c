"""One line per result: JSON for records, words for people."""

from __future__ import annotations

import json
import os
import platform
import sys
from typing import Any, TextIO

__all__ = ["emit", "record"]


def emit(as_json: bool, *, file: TextIO | None = None, **fields: Any) -> None:
    """Print a record: `claim, arm, value, unit, ratio, interval, n`, and what `record` adds.

    `runs`, where given, is every single value that `value` is the median of.
    """
    if not as_json:
        ratio = f"   ratio {fields['ratio']:.3f}" if fields.get("ratio") is not None else ""
        interval = f"   [{fields['interval'][0]:.3f}, {fields['interval'][1]:.3f}]" if fields.get("interval") else ""
        figure = f"{fields['value']:>10.4g} {fields['unit']}{ratio}{interval}"
        print(f"{fields['claim']:<24} {fields['arm']:<24} {figure}", file=file)
        return
    print(json.dumps(record(**fields)), file=file, flush=True)


def record(**fields: Any) -> dict[str, Any]:
    """A record with host, versions and command; those that are given stay."""
    found = {"ratio": None, "interval": None, **fields}
    for name, ask in (("host", host), ("versions", versions), ("command", command)):
        if name not in found:
            found[name] = ask()
    return found


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
