"""Where compressed bytes are read from: memory, or a file at given places (so that threads and forks may share it)."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from hasten._core.checks import refuse, refuse_type

from .errors import CorruptError

__all__ = ["Source", "as_path", "as_source"]


class Source:
    """Bytes in memory."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.size = len(data)

    def read(self, at: int, length: int) -> memoryview | bytes:
        """`length` bytes from byte `at` on.

        Raises:
            CorruptError: There are fewer.
        """
        data = self.some(at, length)
        if len(data) < length:
            raise CorruptError(at + len(data), "the file ends too early")
        return data

    def some(self, at: int, length: int) -> memoryview | bytes:
        """Up to `length` bytes from byte `at` on: fewer at the end."""
        return self._data[at : at + length]

    def close(self) -> None:
        """Let go of the bytes."""


class FileSource(Source):
    """A file. Not mapped into memory: a file that somebody cuts would then kill the process."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        self._lock = threading.Lock()
        self.size = os.fstat(self._file.fileno()).st_size

    def some(self, at: int, length: int) -> memoryview | bytes:
        wanted = max(0, min(length, self.size - at))
        first = self._once(at, wanted)
        if len(first) == wanted:
            return first
        parts, found = [first], len(first)
        while found < wanted:
            part = self._once(at + found, wanted - found)
            if not part:
                break
            parts.append(part)
            found += len(part)
        return b"".join(parts)

    def _once(self, at: int, length: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), length, at)
        with self._lock:
            self._file.seek(at)
            return self._file.read(length) or b""

    def close(self) -> None:
        self._file.close()


def as_path(call: str, data: Any) -> Path:
    """The path of a file that is there."""
    path = Path(data)
    if not path.is_file():
        raise FileNotFoundError(f"{call}: expected a tsz file, got {path}, which is no file. Check the path.")
    return path


def as_source(call: str, data: Any) -> Source:
    """The source of a path or of a buffer."""
    if isinstance(data, (str, os.PathLike)):
        return FileSource(as_path(call, data))
    try:
        view = memoryview(data)
    except TypeError:
        raise refuse_type(call, "a path or compressed bytes", type(data).__name__) from None
    if not view.c_contiguous:
        raise refuse(call, "contiguous bytes", f"a memoryview with strides {view.strides}", "Pass bytes(view).")
    return Source(memoryview(np.frombuffer(view, np.uint8).data))
