"""The compiled kernels, where there are any.

`ext` is the compiled module, or None in an installation without one (`HASTEN_NO_NATIVE=1`, or no C++ compiler at
install time); `REASON` then says why. Ask `hasten._core.dispatch`, which also chooses the instruction set.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["REASON", "ext"]

ext: ModuleType | None
try:
    ext = importlib.import_module("hasten._native._ext")
except ModuleNotFoundError:
    ext = None
    REASON = (
        "this installation has no compiled module: it was installed with HASTEN_NO_NATIVE=1, or no C++17 compiler "
        "worked at that time. Install a compiler, then install hasten again with pip's -v to see the build."
    )
except ImportError as error:
    ext = None
    REASON = f"the compiled module does not load: {error}"
else:
    REASON = ""
