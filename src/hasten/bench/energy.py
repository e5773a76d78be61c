"""Joules from the machine's own counters, or nothing: an estimate is never put in their place.

Two counters are known. RAPL counts what the processor packages draw (cores, caches, memory controller; not the memory
modules, the fans or the power supply); Linux shows it under /sys/class/powercap, since 5.10 to root only. NVML counts
what an NVIDIA board draws, since the Volta generation. Both count everything that runs on the part, and its idle
power: they tell what a run costs only while the machine does nothing else.
"""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Any, Protocol

__all__ = ["POWERCAP", "BoardMeter", "Meter", "PackageMeter", "counted", "find_meter", "open_meter", "why_absent"]

POWERCAP = Path("/sys/class/powercap")

# More than any processor package draws (the largest are specified at 500 W): a counter that could have wrapped once
# within the time between two readings at this power could have wrapped unseen, and then tells nothing.
PACKAGE_WATTS = 1000.0

NVML_ERRORS = {1: "NVML is not initialised", 3: "this board does not count its energy", 4: "no permission",
               6: "NVML does not know this device", 9: "the driver is not loaded"}  # fmt: skip


class Meter(Protocol):
    """A counter of energy."""

    name: str  # what is counted, for people

    def take(self) -> float | None:
        """Joules since the last call (or since it was opened); None if the counter cannot tell."""
        ...


def counted(
    before: int,  # microjoules
    now: int,  # microjoules
    span: int,  # the largest value of the counter, which then starts again at 0
) -> int:
    """Microjoules between two readings of a counter that has wrapped around at most once.

    >>> counted(10, 25, 100), counted(90, 5, 100)
    (15, 15)
    """
    return now - before if now >= before else now - before + span


class PackageMeter:
    """The processor packages of this machine, through RAPL.

    Args:
        packages: folders of /sys/class/powercap, one for each package.

    Raises:
        OSError, ValueError: a counter cannot be read.
    """

    def __init__(self, packages: tuple[Path, ...]) -> None:
        self.name = f"{len(packages)} processor package{'s' if len(packages) > 1 else ''} through RAPL"
        self._counters = tuple(package / "energy_uj" for package in packages)
        self._spans = tuple(_number(package / "max_energy_range_uj") for package in packages)
        self._patience = min(self._spans) * 1e-6 / PACKAGE_WATTS  # seconds in which no counter can wrap unseen
        self._last: tuple[int, ...] | None = tuple(map(_number, self._counters))
        self._time = time.monotonic()

    def take(self) -> float | None:
        """Joules since the last call; None after too long a time, or where a counter has gone."""
        before, since = self._last, self._time
        self._time = time.monotonic()
        try:
            self._last = tuple(map(_number, self._counters))
        except (OSError, ValueError):
            self._last = None
        if before is None or self._last is None or self._time - since > self._patience:
            return None
        return 1e-6 * sum(map(counted, before, self._last, self._spans))


class BoardMeter:
    """One NVIDIA board, through NVML.

    Args:
        library: NVML, initialised.
        handle: the device.

    Raises:
        OSError: the board does not tell.
    """

    name = "one board through NVML"

    def __init__(self, library: Any, handle: Any) -> None:
        self._library, self._handle = library, handle
        self._last: int | None = self._read()

    def take(self) -> float | None:
        """Joules since the last call; None where the board has stopped telling, or has started its count again."""
        before = self._last
        try:
            self._last = self._read()
        except OSError:
            self._last = None
        if before is None or self._last is None or self._last < before:
            return None
        return 1e-3 * (self._last - before)

    def _read(self) -> int:
        millijoules = ctypes.c_ulonglong()
        _call(self._library, "nvmlDeviceGetTotalEnergyConsumption", self._handle, ctypes.byref(millijoules))
        return millijoules.value


def open_meter(device: Any, *, root: Path = POWERCAP, library: Any = None) -> Meter | None:
    """The meter of a device, or None where nothing tells.

    Args:
        device: "cpu" or "cuda" (a `torch.device` serves, with its index).
        root: where the system shows its power domains.
        library: NVML as a `ctypes` library; None loads it.
    """
    return find_meter(device, root=root, library=library)[0]


def find_meter(device: Any, *, root: Path = POWERCAP, library: Any = None) -> tuple[Meter | None, str]:
    """The meter of a device and its name; or None and why there is none. Arguments as `open_meter`."""
    kind = str(device).partition(":")[0]
    try:
        if kind == "cuda":
            meter: Meter = _board(device, library)
        elif kind == "cpu":
            meter = PackageMeter(_packages(root))
        else:
            return None, f"no counter is known for the device {kind!r}"
    except PermissionError as error:
        return None, f"only root may read {error.filename}"
    except (OSError, ValueError) as error:
        return None, str(error)
    return meter, meter.name


def why_absent(device: Any, workers: int) -> str | None:
    """The sentence for a report without energy; None where it is measured.

    Args:
        device: where the study trains.
        workers: how many runs train at a time.
    """
    if workers > 1:
        why = f"its counters are the machine's, and {workers} runs at a time cannot be told apart"
        return f"Energy is not measured: {why}. Use --workers 1 to measure it."
    meter, why = find_meter(device)
    return None if meter is not None else f"Energy is not measured: {why}."


def _number(file: Path) -> int:
    return int(file.read_bytes())


def _packages(root: Path) -> tuple[Path, ...]:
    """The folder of each package; not its parts (cores, memory), nor a second view of it (MMIO, the whole board)."""
    domains = [folder for folder in root.glob("intel-rapl:*") if folder.name.count(":") == 1]  # AMD's, too
    found = tuple(folder for folder in sorted(domains) if (folder / "name").read_text().startswith("package"))
    if not found:
        raise OSError(f"the system shows no processor's counter in {root}")
    return found


def _board(device: Any, library: Any) -> BoardMeter:
    nvml = ctypes.CDLL("libnvidia-ml.so.1") if library is None else library
    _call(nvml, "nvmlInit_v2")
    handle = ctypes.c_void_p()
    # By its name, because NVML counts all boards and torch those of CUDA_VISIBLE_DEVICES, perhaps in another order.
    _call(nvml, "nvmlDeviceGetHandleByUUID", _uuid(device).encode(), ctypes.byref(handle))
    return BoardMeter(nvml, handle)


def _uuid(device: Any) -> str:
    import torch

    try:
        found = str(torch.cuda.get_device_properties(torch.device(device)).uuid)
    except (AssertionError, AttributeError, RuntimeError) as error:  # a CPU build of torch, no uuid, no such device
        raise OSError(f"torch does not tell which board this is ({error})") from error
    return found if found.startswith(("GPU-", "MIG-")) else f"GPU-{found}"


def _call(library: Any, name: str, *arguments: Any) -> None:
    """Call a function of NVML, whose result is an error code."""
    try:
        code = getattr(library, name)(*arguments)
    except AttributeError as error:
        raise OSError(f"this version of NVML has no {name}") from error
    if code:
        raise OSError(NVML_ERRORS.get(code, f"NVML's error {code} in {name}"))
