"""What `WindowDataset` keeps in each process: files that this process opened itself, and the chunks decoded last."""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path

import numpy as np

from .source import FileSource, Source

__all__ = ["ChunkCache", "FilePool", "PooledSource"]

OPEN_FILES = 64  # at once in one process; systems allow 256 and more


class _OfAProcess:
    """What a forked process begins anew, before it has a second thread: it shares no descriptor with its parent, and no
    lock, which a thread may hold that was not forked."""

    def __init__(self) -> None:
        self._begin()
        _ALL.add(self)

    def _begin(self) -> None:
        raise NotImplementedError


_ALL: weakref.WeakSet[_OfAProcess] = weakref.WeakSet()


def _begin_all() -> None:
    for one in list(_ALL):
        one._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all)


class FilePool(_OfAProcess):
    """Open files, those used last."""

    def _begin(self) -> None:
        self._files = functools.lru_cache(OPEN_FILES)(_OwnFile)

    def file(self, path: Path) -> FileSource:
        """The open file; it is closed when neither the pool nor a read holds it."""
        return self._files(path)


class _OwnFile(FileSource):
    def __del__(self) -> None:
        if hasattr(self, "_file"):  # it could be opened
            self.close()


class PooledSource(Source):
    """A file that is opened where and when it is read."""

    def __init__(self, pool: FilePool, path: Path) -> None:
        self._pool, self._path = pool, path
        self.size = pool.file(path).size

    def some(self, at: int, length: int) -> memoryview | bytes:
        """As of a file; rows that were added behind it since are not seen."""
        return self._pool.file(self._path).some(at, max(0, min(length, self.size - at)))


class ChunkCache(_OfAProcess):
    """Decoded chunks, at most `size` of them: the one used longest ago goes first.

    Attributes:
        decoded: How many were made in this process.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        super().__init__()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._blocks: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self.decoded = 0

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The chunk of this name, made if it is not there. May be called by several threads."""
        with self._lock:
            if key in self._blocks:
                self._blocks.move_to_end(key)
                return self._blocks[key]
        block = make()
        with self._lock:
            self.decoded += 1
            self._blocks[key] = block
            self._blocks.move_to_end(key)
            if len(self._blocks) > self._size:
                self._blocks.popitem(last=False)
        return block
