"""What a measurement depends on besides the program: versions, kernels, threads and device, as a digest."""

from __future__ import annotations

import hashlib
import os
import platform
from typing import Any

from hasten._core.call import canonical

__all__ = ["calibrate", "digest", "environment", "machine", "warm_up"]


def environment(device: str = "cpu", threads: int = 1) -> dict[str, Any]:
    """The versions and settings that can change bits or speed; runs of different environments are never mixed."""
    import numpy as np
    import torch

    import hasten
    from hasten._core.dispatch import isa

    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "hasten": hasten.__version__,
        "isa": isa(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
        "device": device,
    }
    if device == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
        found["cuda"] = str(torch.version.cuda)
    return found


def machine() -> dict[str, Any]:
    """Facts about the machine for the report; not part of the digest."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load at start": None if load is None else round(load, 2),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def digest(found: dict[str, Any]) -> str:
    """16 hex digits of an environment."""
    return hashlib.sha256(canonical(found).encode()).hexdigest()[:16]


def warm_up() -> None:
    """Pay once what the first step of a process costs (late imports of torch, thread pools, kernel look-up).

    Otherwise the first run of every process would be charged about a second that no method has caused.

    And what the C library learns: glibc takes memory for a tensor of some megabytes from the system anew each time, at
    the price of a page fault for every 4 KiB, until a block of that size has been freed once. From then on it keeps
    such blocks. The first run met twice the time for the calibration kernel by that.
    """
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    with torch.random.fork_rng(devices=[]):
        model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    for kind in (torch.optim.SGD, torch.optim.AdamW):
        optimizer = kind(model.parameters(), lr=0.0)
        with FlopCounterMode(display=False):
            nn.functional.cross_entropy(model(torch.ones(4, 1, 8, 8)), torch.zeros(4, dtype=torch.long)).backward()
        optimizer.step()
    torch.empty(30 << 20, dtype=torch.uint8)  # freed at once; glibc learns from blocks of up to 32 MiB


def calibrate(repeats: int = 7) -> float:
    """Seconds of a fixed piece of work (the best of `repeats`): how fast the machine is right now.

    A 3x3 convolution and a matrix product, about 5 ms each: what small training runs are made of. The best of several
    short tries is what a disturbed machine gets back to between disturbances; if even the best one is slow, the
    machine has drifted.
    """
    import time

    import torch
    import torch.nn.functional as F

    images = torch.ones(32, 16, 32, 32)
    weight = torch.full((32, 16, 3, 3), 0.01)
    square = torch.full((384, 384), 0.01)
    best = float("inf")
    with torch.no_grad():
        for _ in range(repeats):
            start = time.perf_counter()
            F.conv2d(images, weight, padding=1)
            square @ square
            best = min(best, time.perf_counter() - start)
    return best
