"""Sprintz: lossless compression of integer time series (essay to come)."""

from __future__ import annotations

from .blocks import decode_block, encode_block
from .errors import BoundError, CorruptError, VersionError
from .info import Info, info
from .oneshot import bound, compress, decompress
from .queries import Crossings
from .reader import Reader
from .reader import open_file as open  # noqa: A004
from .repair import Fault, Repair, repair, verify
from .writer import Writer

__all__ = [
    "BoundError", "CorruptError", "Crossings", "Fault", "Info", "Reader", "Repair", "VersionError", "Writer", "bound",
    "compress", "decode_block", "decompress", "encode_block", "info", "open", "repair", "verify",
]  # fmt: skip
