"""The training clock and the ledger of what a run costs.

The clock runs through everything that training needs: waiting for data, transforms, forward, backward, optimizer,
hooks, and surgery and compilation, because a method that needs them shall pay for them. It stands still during
evaluation, checkpoints and counting, and each of those has its own counter, so nothing is left out unnamed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["EXCLUDED", "PHASES", "Ledger", "reset_peak_memory", "peak_memory"]

PHASES = ("setup", "loader", "batch", "forward", "backward", "optimizer", "hooks")
EXCLUDED = ("data", "evaluation", "checkpoint", "counting", "reporting")


class Ledger:
    """Seconds by phase, FLOPs and extra passes of one run. The sum of the phases is the training clock.

    On a GPU the phases are host times (kernels run later); the device is synchronised at every point, so totals hold.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.phases = dict.fromkeys(PHASES, 0.0)
        self.excluded = dict.fromkeys(EXCLUDED, 0.0)
        self.flops = 0.0
        self.scored_samples = 0
        self._last = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Time on the training clock up to the last mark."""
        return sum(self.phases.values())

    def start(self) -> None:
        """Start measuring from now."""
        self._last = time.perf_counter()

    def mark(self, phase: str) -> None:
        """Charge the time since the last mark to `phase`."""
        now = time.perf_counter()
        self.phases[phase] += now - self._last
        self._last = now

    @contextlib.contextmanager
    def off(self, what: str) -> Iterator[None]:
        """Stop the clock and charge the time inside to the excluded counter `what`."""
        self.synchronize()
        self.mark("hooks")
        try:
            yield
        finally:
            self.synchronize()
            now = time.perf_counter()
            self.excluded[what] += now - self._last
            self._last = now

    def synchronize(self) -> None:
        """Wait for the device, so that time is charged where it was spent."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def state_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {
            "phases": dict(self.phases),
            "excluded": dict(self.excluded),
            "flops": self.flops,
            "scored_samples": self.scored_samples,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the counters of a checkpoint; what this process spent so far (set-up) is dropped with it."""
        self.phases.update(state["phases"])
        self.excluded.update(state["excluded"])
        self.flops, self.scored_samples = state["flops"], state["scored_samples"]
        self.start()


def reset_peak_memory(device: torch.device) -> None:
    """Start a new peak-memory measurement, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:  # Linux: 5 resets the peak RSS
        file.write("5")


def peak_memory(device: torch.device) -> int | None:
    """Peak bytes since the reset: allocated on a GPU, resident set of the process on Linux, None elsewhere."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None
