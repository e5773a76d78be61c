"""The header of a packed stream: 64 bytes that say what follows, and prove it (layout: `docs/formats.md`)."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from hasten._core.dispatch import checksum

from ._v0_python import sprintz_v0_bound
from .errors import CorruptError, VersionError

__all__ = ["HEADER_BYTES", "HUFFMAN", "STORED", "Header"]

_MAGIC, _VERSION = b"\x93SPZ\r\n\x1a\n", 1
STORED, HUFFMAN = 0, 1
_BLOCK, _SHORTEST_BLOCK = 131072, 6  # of the Huffman stage: bytes it stands for at most, bytes it takes at least

# magic, version, the fields of Header; then the checksum of all that
_FIELDS, _CHECK = struct.Struct("<8s5B3xQI4xQQQ"), struct.Struct("<Q")
HEADER_BYTES = _FIELDS.size + _CHECK.size


class Header(NamedTuple):
    """The fields after magic and version, in their order."""

    itemsize: int
    signed: int  # 0 or 1
    fire: int  # 0 or 1
    coding: int
    rows: int
    columns: int
    stream_bytes: int
    body_bytes: int
    checksum: int  # of the elements, as little-endian bytes

    @property
    def dtype(self) -> np.dtype:
        """Of the elements."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.itemsize}")

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.rows, self.columns

    def to_bytes(self) -> bytes:
        """The header with its own checksum."""
        fields = _FIELDS.pack(_MAGIC, _VERSION, *self)
        return fields + _CHECK.pack(checksum(fields))

    @classmethod
    def read(cls, frame: np.ndarray, max_elements: int) -> Header:
        """The header of a frame, checked; nothing that it says is larger than `max_elements` allows."""
        head = frame[:HEADER_BYTES].tobytes()
        if not head.startswith(_MAGIC):
            raise CorruptError(0, "this is no frame of a Sprintz stream")
        if head[8:9] not in (b"", bytes([_VERSION])):
            raise VersionError(8, f"a frame of version {head[8]}; this version of hasten reads version {_VERSION}")
        if len(head) < HEADER_BYTES:
            raise CorruptError(len(head), "the frame ends inside its header")
        if _CHECK.unpack(head[_FIELDS.size :])[0] != checksum(head[: _FIELDS.size]):
            raise CorruptError(_FIELDS.size, "the header is not the one that its checksum was made of")
        header = cls._make(_FIELDS.unpack(head[: _FIELDS.size])[2:])
        header._check(frame.size - HEADER_BYTES, max_elements)
        return header

    def _check(self, body_bytes: int, max_elements: int) -> None:
        if self.itemsize not in (1, 2) or self.signed > 1 or self.fire > 1 or self.coding not in (STORED, HUFFMAN):
            raise CorruptError(9, "elements, predictor or coding of an unknown kind")
        if not 1 <= self.columns <= 65535:
            raise CorruptError(24, "the number of columns is not in 1 to 65535")
        if self.rows * self.columns > max_elements:
            raise CorruptError(16, "the frame holds more elements than are allowed")
        if self.body_bytes > body_bytes:
            raise CorruptError(HEADER_BYTES + body_bytes, "the frame ends inside its body")
        if self.body_bytes < body_bytes:
            raise CorruptError(HEADER_BYTES + self.body_bytes, "the frame ends here, and more bytes follow")
        blocks = -(-self.stream_bytes // _BLOCK)
        fits = self.stream_bytes == self.body_bytes if self.coding == STORED else blocks * _SHORTEST_BLOCK <= body_bytes
        if not fits or self.stream_bytes > sprintz_v0_bound(self.rows, self.columns, self.itemsize):
            raise CorruptError(32, "the length of the stream fits neither the body nor the data")
