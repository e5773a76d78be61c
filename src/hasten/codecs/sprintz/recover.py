"""What of a file can be kept: its chunks up to the first that is not good, and what lies behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .decode import decode_body
from .disk import Disk
from .errors import CorruptError
from .format import CHUNK_HEAD, ChunkHead, Trailer, pack_trailer, parse_chunk_head
from .header import MAX_CHUNK_BYTES, Header
from .reader import Reader
from .scan import find_sync, pack_index, read_chunk
from .source import FileSource, Source
from .stats import chunk_entry
from .table import Table

__all__ = ["Kept", "keep", "later_chunks", "read_table", "write_index"]


@dataclass
class Kept:
    """Chunks that are in a file.

    Attributes:
        end: Where they end. rows: Of all of them. entries: Of each, for the index. clean: Whether the file's index and
            trailer are those of these chunks.
    """

    end: int
    rows: int
    entries: list[bytes] = field(default_factory=list)
    clean: bool = False


def keep(path: Path) -> tuple[Header, Kept]:
    """The header of a file, and the chunks that a writer can go on from.

    Raises:
        CorruptError: There is no header, or good chunks lie behind a bad one: then going on would lose them.
    """
    source = FileSource(path)
    try:
        reader = Reader(source)
        header, index = reader.header, reader.index
        end = index.end if len(index.offsets) else header.size
        if index.entries is not None:
            return header, Kept(end, len(reader), [entry.tobytes() for entry in index.entries], clean=True)
        for at, head in later_chunks(source, header, end, MAX_CHUNK_BYTES):
            fix = "use hasten.codecs.sprintz.repair"
            raise CorruptError(end, f"no chunk here, but chunk {head.number} at byte {at} is good: {fix}")
        entries = [_entry(reader, number) for number in range(len(index.lengths))]
        return header, Kept(end, len(reader), entries)
    finally:
        source.close()


def _entry(reader: Reader, number: int) -> bytes:
    """What the index would say of a chunk."""
    body, has_mask = reader.body(number)
    nrows = int(reader.index.rows[number + 1] - reader.index.rows[number])
    at = int(reader.index.offsets[number]) + CHUNK_HEAD.size
    return chunk_entry(reader.header, read_table(reader.header, body, has_mask, nrows, at), len(body))


def read_table(header: Header, body: Any, has_mask: bool, nrows: int, at: int) -> Table:
    """The rows of a chunk, whose body begins at byte `at`, as an encoder has them.

    Raises:
        CorruptError: The body does not decode.
    """
    table = Table.empty(header, nrows)
    masks = [mask for part in table.masks if part is not None for mask in part.T] if has_mask else []
    if header.ncols:
        decode_body(body, at, nrows, header.stored(), table.columns(), masks or None)
    return table


def write_index(disk: Disk, header: Header, kept: Kept) -> None:
    """Write index and trailer behind the chunks of a file that ends there, durably."""
    trailer = pack_trailer(Trailer(kept.end, kept.rows, len(kept.entries)), header.crc)
    disk.write(kept.end, pack_index(header, b"".join(kept.entries)) + trailer)
    disk.sync()


def later_chunks(source: Source, header: Header, at: int, limit: int) -> Iterator[tuple[int, ChunkHead]]:
    """Good chunks at byte `at` or behind it, each with its place."""
    patience = 4 * source.size  # bytes of bad bodies: a file made to waste time is not looked through for ever
    while (at := find_sync(source, at)) < source.size:
        try:
            head = parse_chunk_head(source.some(at, CHUNK_HEAD.size), header.crc, at)
        except CorruptError:
            at += 1
            continue
        behind = at + CHUNK_HEAD.size + head.length + 4
        try:
            read_chunk(source, header, at, limit, head.length)
        except CorruptError:
            patience -= head.length
            at = at + CHUNK_HEAD.size if patience > 0 else behind  # bytes may be missing: the next may stand inside
        else:
            yield at, head
            at = behind
