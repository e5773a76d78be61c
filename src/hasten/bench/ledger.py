"""The training clock and the ledger of what a run costs.

The clock runs through everything that training needs: waiting for data, transforms, forward, backward, optimizer,
hooks, and surgery and compilation, because a method that needs them shall pay for them. It stands still during
evaluation, checkpoints and counting, and each of those has its own counter, so nothing is left out unnamed. Energy is
charged for the same times, where the machine tells it (`hasten.bench.energy`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import torch

from .energy import open_meter

__all__ = ["EXCLUDED", "PHASES", "Ledger", "reset_peak_memory", "peak_memory"]

PHASES = ("setup", "loader", "batch", "forward", "backward", "optimizer", "hooks")
EXCLUDED = ("data", "evaluation", "checkpoint", "counting", "reporting", "branches")


class Ledger:
    """Seconds by phase, FLOPs, extra passes and energy of one run. The sum of the phases is the training clock.

    On a GPU the phases are host times (kernels run later); the device is synchronised at every point, so totals hold.

    Args:
        device: where the run trains.
        energy: measure energy. Only for a run that has the machine to itself: counters see all that runs on a part.

    Attributes:
        energy: joules on the training clock, up to the last time it stopped; None where it was not measured, or not
            all the time. An unknown part is never made up.
    """

    def __init__(self, device: torch.device, *, energy: bool = False) -> None:
        self.device = device
        self.phases = dict.fromkeys(PHASES, 0.0)
        self.excluded = dict.fromkeys(EXCLUDED, 0.0)
        self.flops = 0.0
        self.scored_samples = 0
        self._meter = open_meter(device) if energy else None
        self.energy: float | None = None if self._meter is None else 0.0
        self._stopped = False
        self._last = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Time on the training clock up to the last mark."""
        return sum(self.phases.values())

    def start(self) -> None:
        """Start measuring from now."""
        self._skip_energy()
        self._last = time.perf_counter()

    def mark(self, phase: str) -> None:
        """Charge the time since the last mark to `phase`."""
        now = time.perf_counter()
        self.phases[phase] += now - self._last
        self._last = now
        if phase == "setup":  # what follows until `start` is not on the clock, and its energy is not either
            self._charge_energy()

    @contextlib.contextmanager
    def off(self, what: str) -> Iterator[None]:
        """Stop the clock and charge the time inside to the excluded counter `what`."""
        self._stop()
        try:
            yield
        finally:
            self.synchronize()
            self._skip_energy()
            now = time.perf_counter()
            self.excluded[what] += now - self._last
            self._last, self._stopped = now, False

    def synchronize(self) -> None:
        """Wait for the device, so that time is charged where it was spent."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _stop(self) -> None:
        self.synchronize()
        self.mark("hooks")
        self._charge_energy()
        self._stopped = True

    def _charge_energy(self) -> None:
        if self._meter is not None:
            joules = self._meter.take()
            self.energy = None if joules is None or self.energy is None else self.energy + joules

    def _skip_energy(self) -> None:
        if self._meter is not None:
            self._meter.take()

    def state_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {
            "phases": dict(self.phases),
            "excluded": dict(self.excluded),
            "flops": self.flops,
            "scored_samples": self.scored_samples,
            "energy": self.energy,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the counters of a checkpoint; what this process spent so far (set-up) is dropped with it."""
        self.excluded.update(state["excluded"])
        self._restore(state)
        self.start()

    def rewind(self, state: dict[str, Any]) -> None:
        """Go back to an earlier state of this run: the clock is that of then, what it showed since is in "branches".

        Other time off the clock stays where it was charged: an evaluation at the end of a branch was an evaluation.
        May be called while the clock stands still.
        """
        running = not self._stopped
        if running:
            self._stop()
        spent = self.seconds - sum(state["phases"].values())
        assert spent >= 0, "a state of this run's past"
        self.excluded["branches"] += spent
        self._restore(state)
        if running:
            self._stopped = False
            self.start()

    def _restore(self, state: dict[str, Any]) -> None:
        self.phases.update(state["phases"])
        self.flops, self.scored_samples = state["flops"], state["scored_samples"]
        # Checkpoints of older versions have no energy; nor can the rest be measured if the machine does not tell now.
        self.energy = None if self._meter is None else state.get("energy")


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
