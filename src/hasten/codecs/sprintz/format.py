"""The bytes of a `tsz` file around its chunks' bodies: their heads and the trailer (docs/formats.md)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from .crc import crc32c
from .errors import CorruptError

__all__ = [
    "CHUNK_HEAD", "SYNC", "TRAILER", "ChunkHead", "Trailer", "body_crc", "pack_chunk_head", "pack_trailer",
    "parse_chunk_head", "parse_trailer",
]  # fmt: skip

SYNC = b"\xabTSC"
END = b"\xabTSZEND\n"
CHUNK_HEAD = struct.Struct("<4sIQIIHxxI")
TRAILER = struct.Struct("<QQII8s")
HAS_MASK = 1  # bit of a chunk's flags


@dataclass(frozen=True)
class ChunkHead:
    """What stands before a chunk's body."""

    number: int
    first_row: int
    nrows: int
    length: int
    has_mask: bool


def pack_chunk_head(head: ChunkHead, seed: int) -> bytes:
    """The head as bytes; `seed` is the CRC of the file's header, so that a chunk of another file never fits."""
    flags = HAS_MASK * head.has_mask
    fixed = CHUNK_HEAD.pack(SYNC, head.number, head.first_row, head.nrows, head.length, flags, 0)[:-4]
    return fixed + struct.pack("<I", crc32c(fixed, seed))


def parse_chunk_head(data: Any, seed: int, at: int) -> ChunkHead:
    """Read the head of the chunk at byte `at` of the file.

    Raises:
        CorruptError: Not a head of this file.
    """
    if len(data) < CHUNK_HEAD.size:
        raise CorruptError(at + len(data), "the file ends inside the head of a chunk")
    sync, number, first_row, nrows, length, flags, crc = CHUNK_HEAD.unpack(data)
    if sync != SYNC:
        raise CorruptError(at, "expected a chunk")
    if crc32c(data[:-4], seed) != crc:
        raise CorruptError(at + CHUNK_HEAD.size - 4, "the head of a chunk does not fit its checksum")
    return ChunkHead(number, first_row, nrows, length, bool(flags & HAS_MASK))


def body_crc(body: Any, checksum: bool) -> bytes:
    """What stands behind a body: its CRC, or zeros in a file without."""
    return struct.pack("<I", crc32c(body) if checksum else 0)


@dataclass(frozen=True)
class Trailer:
    """The last 32 bytes: where the index stands, and how much it lists."""

    index: int
    rows: int
    chunks: int


def pack_trailer(trailer: Trailer, seed: int) -> bytes:
    """The trailer as bytes; `seed` as for a chunk's head."""
    fixed = TRAILER.pack(trailer.index, trailer.rows, trailer.chunks, 0, END)
    return fixed[:20] + struct.pack("<I", crc32c(fixed[:20], seed)) + END


def parse_trailer(data: Any, seed: int, at: int) -> Trailer:
    """Read the trailer at byte `at` of the file.

    Raises:
        CorruptError: Not a trailer of this file.
    """
    if len(data) < TRAILER.size or bytes(data[-8:]) != END:
        raise CorruptError(at, "the file has no trailer: it was cut, or its writer was not closed")
    index, rows, chunks, crc, _ = TRAILER.unpack(data)
    if crc32c(data[:20], seed) != crc:
        raise CorruptError(at + 20, "the trailer does not fit its checksum")
    return Trailer(index, rows, chunks)
