"""Sprintz: lossless compression of integer time series (essay to come)."""

from __future__ import annotations

from .errors import BoundError, CorruptError, VersionError
from .oneshot import bound, compress, decompress
from .reader import Reader
from .reader import open_file as open  # noqa: A004
from .writer import Writer

__all__ = ["BoundError", "CorruptError", "Reader", "VersionError", "Writer", "bound", "compress", "decompress", "open"]
