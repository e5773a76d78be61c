"""Chunks of a file, checked: one whose place is known, and all of them one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from .crc import crc32c
from .errors import CorruptError
from .format import CHUNK_HEAD, SYNC, TRAILER, ChunkHead, parse_chunk_head, parse_trailer
from .header import HEADER, Header, parse_header
from .source import Source
from .stats import entry_dtype

__all__ = ["INDEX_MAGIC", "Index", "find_sync", "pack_index", "read_chunk", "read_header", "read_index", "scan"]

INDEX_MAGIC = b"\xabTSI"
WINDOW = (1 << 12, 1 << 20)  # bytes looked through at once for the sync of a chunk: at first, and at most


def read_header(source: Source) -> Header:
    """The header of a file.

    Raises:
        CorruptError: There is none. VersionError: It is one of a later format.
    """
    found = parse_header(source.some(0, HEADER.size), source.size)
    if isinstance(found, int):
        whole = bytes(source.read(0, found))
        found = _parsed(whole) if found < 1024 else parse_header(whole, found)
        assert isinstance(found, Header)
        found = replace(found, meta=deepcopy(found.meta))  # whoever asked may change it
    return found


@lru_cache(maxsize=64)
def _parsed(whole: bytes) -> Header | int:
    """Small files of one kind have the same header."""
    return parse_header(whole, len(whole))


def read_chunk(source: Source, header: Header, at: int, limit: int, length: int | None = None) -> tuple[ChunkHead, Any]:
    """The head and the body of the chunk at byte `at`, both checked.

    Args:
        source: The file.
        header: Its header.
        at: Where the chunk begins.
        limit: Bytes that its rows may take after decoding.
        length: Bytes of its body, where known, to read it all at once.

    Raises:
        CorruptError: There is no good chunk.
    """
    block = memoryview(source.some(at, CHUNK_HEAD.size + (0 if length is None else length + 4)))
    head = parse_chunk_head(block[: CHUNK_HEAD.size], header.crc, at)
    if not 1 <= head.nrows <= header.chunk_rows:
        raise CorruptError(at + 16, f"a chunk of {head.nrows} rows in a file of {header.chunk_rows} rows a chunk")
    if head.nrows * header.row_bytes > limit:
        raise CorruptError(at + 16, f"a chunk of {head.nrows * header.row_bytes} bytes, more than the {limit} allowed")
    if length not in (None, head.length):
        raise CorruptError(at + 20, "the chunk and the index give different lengths")
    if at + CHUNK_HEAD.size + head.length + 4 > source.size:
        raise CorruptError(source.size, "the file ends inside a chunk")
    if length is None:
        rest = memoryview(source.read(at + CHUNK_HEAD.size, head.length + 4))
    elif len(block) == CHUNK_HEAD.size + length + 4:
        rest = block[CHUNK_HEAD.size :]
    else:
        raise CorruptError(at + len(block), "the file ends inside a chunk")
    body = rest[:-4]
    if header.checksum and crc32c(body) != int.from_bytes(rest[-4:], "little"):
        raise CorruptError(at + CHUNK_HEAD.size, f"chunk {head.number} does not fit its checksum")
    return head, body


def scan(source: Source, header: Header, limit: int) -> Iterator[tuple[int, ChunkHead]]:
    """The chunks from the first on, each with its place, up to the end or the first that is not good."""
    at, number, row = header.size, 0, 0
    while at < source.size:
        try:
            head, _ = read_chunk(source, header, at, limit)
        except CorruptError:
            return
        if (head.number, head.first_row) != (number, row):
            return
        yield at, head
        at, number, row = at + CHUNK_HEAD.size + head.length + 4, number + 1, row + head.nrows


def find_sync(source: Source, at: int) -> int:
    """Where the next sync of a chunk stands at or after byte `at`; the size of the file if there is none."""
    size = WINDOW[0]
    while at < source.size:
        found = bytes(source.some(at, size + len(SYNC) - 1)).find(SYNC)
        if found >= 0:
            return at + found
        at, size = at + size, min(2 * size, WINDOW[1])
    return source.size


@dataclass(frozen=True)
class Index:
    """Where chunks and their rows are.

    Attributes:
        offsets: (chunks,) int64, where each begins. rows: (chunks + 1,) int64, the first row of each, then the number
            of all. lengths: (chunks,) int64, bytes of the bodies.
        entries: (chunks,) what the file's index says of each (`stats.entry_dtype`); None if it was lost.
    """

    offsets: np.ndarray
    rows: np.ndarray
    lengths: np.ndarray
    entries: np.ndarray | None

    @property
    def end(self) -> int:
        """Where the chunks end. Undefined without any."""
        return int(self.offsets[-1] + self.lengths[-1]) + CHUNK_HEAD.size + 4

    @staticmethod
    def of(chunks: list[tuple[int, ChunkHead]]) -> Index:
        """The index of scanned chunks."""
        rows = np.cumsum([0, *(head.nrows for _, head in chunks)], dtype=np.int64)
        lengths = np.array([head.length for _, head in chunks], np.int64)
        return Index(np.array([at for at, _ in chunks], np.int64), rows, lengths, None)


def read_index(source: Source, header: Header, limit: int) -> Index:
    """The index at the end of a file whose chunks take at most `limit` bytes after decoding.

    Raises:
        CorruptError: There is none, or it does not fit the file.
    """
    at = source.size - TRAILER.size
    if at < header.size:
        raise CorruptError(source.size, "the file has no trailer: it was cut, or its writer was not closed")
    trailer = parse_trailer(source.read(at, TRAILER.size), header.crc, at)
    dtype = entry_dtype(header)
    if trailer.index < header.size or trailer.index + 8 + trailer.chunks * dtype.itemsize + 4 != at:
        raise CorruptError(at, "the index is not where the trailer says")
    block = memoryview(source.read(trailer.index, at - trailer.index))
    if bytes(block[:4]) != INDEX_MAGIC or crc32c(block[:-4], header.crc) != int.from_bytes(block[-4:], "little"):
        raise CorruptError(trailer.index, "the index does not fit its checksum")
    entries = np.frombuffer(block[8:-4], dtype)
    counts, lengths = entries["nrows"].astype(np.int64), entries["length"].astype(np.int64)
    rows, ends = np.zeros(len(entries) + 1, np.int64), np.full(len(entries) + 1, header.size, np.int64)
    np.add.accumulate(counts, out=rows[1:])
    np.add.accumulate(lengths + (CHUNK_HEAD.size + 4), out=ends[1:])
    ends[1:] += header.size
    most = int(counts.max()) if len(counts) else 1
    if len(counts) and not (counts.min() >= 1 and most <= header.chunk_rows):
        raise CorruptError(trailer.index, "the index has chunks of impossible size")
    if len(counts) and most * header.row_bytes > limit:
        raise CorruptError(trailer.index, f"the index has chunks of more than the {limit} bytes allowed")
    if rows[-1] != trailer.rows or ends[-1] != trailer.index:
        raise CorruptError(trailer.index, "the index does not fit the chunks")
    return Index(ends[:-1], rows, lengths, entries)


def pack_index(header: Header, entries: bytes) -> bytes:
    """The index from the entries of all chunks."""
    count = len(entries) // entry_dtype(header).itemsize
    block = INDEX_MAGIC + count.to_bytes(4, "little") + entries
    return block + crc32c(block, header.crc).to_bytes(4, "little")
