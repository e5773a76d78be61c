"""A processor of another family: kernels are compiled for it here and run by an emulator, where these are installed.

The program is driver.cpp, built by CMakeLists.txt with the options of the real module.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
ISAS = ("scalar", "neon")  # of the emulated machine; a request has their number
NUMBERS = range(len(ISAS))


def tool(name: str) -> str:
    """Where a program is: on the path, or next to Python."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def call(*command: object, seconds: int = 900) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=seconds)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def build(folder: Path) -> list[str]:
    """The command that runs the program, which is built in `folder`."""
    cmake, ninja, compiler, emulator = map(tool, ("cmake", "ninja", COMPILER, EMULATOR))
    how = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_CXX_COMPILER": compiler,
        "CMAKE_EXE_LINKER_FLAGS": "-static",
        "CMAKE_MAKE_PROGRAM": ninja,
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": "aarch64",
        "HASTEN_DRIVER": "ON",
    }
    call(cmake, "-S", ROOT, "-B", folder, "-G", "Ninja", *(f"-D{key}={value}" for key, value in how.items()))
    call(cmake, "--build", folder)
    return [emulator, str(folder / "hasten_driver")]


@dataclass(frozen=True)
class Machine:
    """`command` runs the program; requests and answers are files in `folder`."""

    command: list[str]
    folder: Path

    def __call__(self, requests: Sequence[bytes]) -> list[bytes]:
        """What the emulated machine answers."""
        asked, answered = self.folder / "requests", self.folder / "answers"
        asked.write_bytes(b"".join(requests))
        call(*self.command, asked, answered)
        answers = list(parts(answered.read_bytes()))
        assert len(answers) == len(requests)
        return answers


def parts(data: bytes) -> Iterator[bytes]:
    """u32 bytes | these, again and again."""
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


def sized(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data
