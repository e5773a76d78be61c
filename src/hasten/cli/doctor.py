"""`hasten doctor`: what is installed, what this machine offers, and what would make things better."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path

from hasten import __version__
from hasten._core import dispatch, machine

__all__ = ["doctor", "facts"]

_EXTRA = re.compile(r"""([A-Za-z0-9._-]+).*;.*\bextra == ['"]([^'"]+)['"]""")


def facts() -> dict[str, str]:
    """What `hasten doctor` prints, name -> line, in that order. A line that needs attention starts with "!"."""
    return {
        "hasten": f"{__version__} in {Path(__file__).parents[1]}",
        "python": f"{platform.python_version()} ({platform.python_implementation()}), {platform.platform()}",
        **_torch_facts(),
        "numpy": _version("numpy"),
        **_native_facts(),
        **_machine_facts(),
        "energy": _energy(),
        **_folder_facts(),
        **{f"extra {name}": line for name, line in _extras().items()},
    }


def doctor() -> int:
    """Print `facts()`. Returns 0, or 1 where something is set in a way that will fail."""
    found = facts()
    width = max(map(len, found))
    for name, line in found.items():
        print(f"{name:<{width}}  {line}")
    return 1 if any(line.startswith("! error:") for line in found.values()) else 0


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _torch_facts() -> dict[str, str]:
    try:
        import torch
    except ImportError as error:
        return {"torch": f"! error: {error}. Install it from pytorch.org.", "cuda": "unknown"}
    threads = f"{torch.__version__}, {torch.get_num_threads()} threads"
    if not torch.cuda.is_available():
        built = f"torch was built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is a CPU build"
        return {"torch": threads, "cuda": f"none ({built})"}
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"torch": threads, "cuda": f"{torch.version.cuda}: {', '.join(names)}"}


def _native_facts() -> dict[str, str]:
    try:
        chosen = dispatch.isa()
    except ValueError as error:
        chosen = f"! error: {error}"
    if not dispatch.native_available():
        line = f"! NO COMPILED KERNELS, slower reference code runs: {dispatch.native_reason()}"
        return {"native": line, "isa": chosen}
    if os.environ.get("HASTEN_ISA") and not chosen.startswith("!"):
        chosen += " (forced by HASTEN_ISA)"
    return {"native": "yes", "isa": chosen, "isas": " ".join(dispatch.isas())}


def _machine_facts() -> dict[str, str]:
    physical, load = machine.physical_cores(), machine.load_average()
    cores = f"{'unknown' if physical is None else physical} physical, {machine.logical_cores()} logical"
    return {"cores": cores, "load": "unknown" if load is None else " ".join(f"{value:.2f}" for value in load)}


def _energy() -> str:
    """What can be measured of the energy of a study that trains one run at a time, and else why not."""
    from hasten.bench.energy import find_meter

    devices = ["cpu"]
    try:
        import torch

        devices += ["cuda"] if torch.cuda.is_available() else []
    except ImportError:
        pass  # said above
    found = {device: find_meter(device) for device in devices}
    lines = [f"{device}: {'' if meter else 'not measured, '}{why}" for device, (meter, why) in found.items()]
    return "; ".join(lines)


def _folder_facts() -> dict[str, str]:
    data, cache = machine.data_folder(), machine.cache_folder()
    if data is None:
        line = "HASTEN_DATA is not set: workloads on downloaded data are not available offline"
    elif not data.is_dir():
        line = f"! error: HASTEN_DATA={data} is not a folder. Unset it, or name the folder with the data sets."
    else:
        line = f"{data} (HASTEN_DATA)"
    return {"data": line, "cache": f"{cache}{'' if cache.is_dir() else ' (not there yet)'}"}


def _extras() -> dict[str, str]:
    """Extra -> installed with versions, or the command that installs what is missing."""
    try:
        requirements = importlib.metadata.requires("hasten") or []
    except importlib.metadata.PackageNotFoundError:
        return {"-": "unknown: hasten runs from a source tree; pip install -e . makes it a package"}
    wanted: dict[str, list[str]] = {}
    for requirement in requirements:
        match = _EXTRA.match(requirement)
        if match:
            wanted.setdefault(match[2], []).append(match[1])
    return {extra: _extra_line(extra, packages) for extra, packages in wanted.items()}


def _extra_line(extra: str, packages: list[str]) -> str:
    versions = {package: _version(package) for package in packages}
    missing = [package for package, version in versions.items() if not version]
    if missing:
        return f"! without {', '.join(missing)}. Install: pip install 'hasten[{extra}]'"
    return ", ".join(f"{package} {version}" for package, version in versions.items())
