"""hasten: make deep learning cheaper, and prove it.

Speedups for PyTorch that each work alone in your own loop (`hasten.optim`, `hasten.schedules`, `hasten.losses`,
`hasten.surgery`, `hasten.data`), methods that apply them to a training program (`hasten.methods`), and a bench that
says which of them pay on your workload (`hasten.compare`).
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

__all__ = ["Program", "__version__", "compare", "prune_curve"]

try:
    __version__ = importlib.metadata.version("hasten")
except importlib.metadata.PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

# Loaded at first use, so that `import hasten` and `hasten --help` load neither torch nor the bench.
_LAZY = {"Program": "hasten.program", "compare": "hasten.bench.study", "prune_curve": "hasten.bench.pruning"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'hasten' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
