"""The header of a `tsz` file: what holds for all its rows (docs/formats.md)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .chunk import Options
from .crc import crc32c
from .dtypes import dtype_from_code, dtype_to_code, stored_dtype
from .errors import CorruptError, VersionError
from .tlv import pack_tlvs, parse_tlvs

__all__ = [
    "HEADER",
    "MAX_CHUNK_BYTES",
    "MAX_COLUMNS",
    "MAX_ROWS",
    "Header",
    "header_crc",
    "pack_header",
    "parse_header",
]

MAGIC = b"\x89TSZ\r\n\x1a\n"  # as PNG's: not text, and broken by a transfer that changes line ends
MAJOR, MINOR = 1, 0
HEADER = struct.Struct("<8sHHIBBBxIIII24xI")

MAX_CHUNK_BYTES = 1 << 28  # of a chunk's rows before compression; a reader may allow more or less
MAX_COLUMNS = 1 << 20
MAX_ROWS = (1 << 31) - 1  # of a chunk: sums of 32-bit integers then fit 64 bits
FLAT, RECORDS, MISSING, CHECKSUM = 1, 2, 4, 8  # bits of the flags


@dataclass(frozen=True)
class Header:
    """What a file says of all its rows.

    `dtypes` holds one dtype where all columns share it, else one per column. `layout` is "flat" for (rows,) arrays,
    "matrix" for (rows, columns) and "records" for structured ones. `gaps` are pairs of a row and how many were lost
    before it (0: unknown). `size` and `crc` are those of the packed header.
    """

    dtypes: tuple[np.dtype, ...]
    ncols: int
    chunk_rows: int
    layout: str = "matrix"
    missing: bool = False
    checksum: bool = True
    names: tuple[str, ...] | None = None
    units: tuple[str | None, ...] | None = None
    rate: float | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    options: Options = field(default_factory=Options)
    gaps: tuple[tuple[int, int], ...] = ()
    size: int = 0
    crc: int = 0

    def column(self, index: int) -> np.dtype:
        """The dtype of a column."""
        return self.dtypes[index if len(self.dtypes) > 1 else 0]

    def stored(self) -> list[np.dtype]:
        """The dtype that the codec sees of each column."""
        each = [stored_dtype(dtype) for dtype in self.dtypes]
        return each if len(each) > 1 else each * self.ncols

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the decoded array."""
        if self.layout != "records":
            return self.dtypes[0]
        assert self.names is not None
        return np.dtype([(name, self.column(j)) for j, name in enumerate(self.names)])

    @property
    def row_bytes(self) -> int:
        """The size of a decoded row."""
        each = sum(dtype.itemsize for dtype in self.dtypes)
        return each if len(self.dtypes) > 1 else each * self.ncols


def pack_header(header: Header) -> bytes:
    """The header as bytes; `parse_header` gives it back with `size` and `crc` filled in."""
    flags = FLAT * (header.layout == "flat") | RECORDS * (header.layout == "records")
    flags |= MISSING * header.missing | CHECKSUM * header.checksum
    code = dtype_to_code(header.dtypes[0]) if len(header.dtypes) == 1 else (0, 0, 0, 0)
    tlvs = pack_tlvs(header)
    fixed = HEADER.pack(MAGIC, MAJOR, MINOR, flags, *code, header.ncols, len(tlvs), header.chunk_rows, 0)[:-4]
    return fixed + struct.pack("<I", crc32c(tlvs, crc32c(fixed))) + tlvs


def header_crc(packed: bytes) -> int:
    """The checksum in a packed header."""
    return int.from_bytes(packed[HEADER.size - 4 : HEADER.size], "little")


def parse_header(data: Any, size: int) -> Header | int:
    """Read a header.

    Args:
        data: The first bytes of the file, 64 or more.
        size: Bytes of the whole file.

    Returns:
        The header, or how many bytes must be handed in for it.

    Raises:
        CorruptError: Not a header. VersionError: One of a later format.
    """
    view = memoryview(data)
    if bytes(view[:8]) != MAGIC[: len(view[:8])] or len(view) == 0:
        raise CorruptError(0, "this is not a tsz file")
    if len(view) < HEADER.size:
        raise CorruptError(len(view), "the file ends inside its header")
    _, major, _, flags, *code, ncols, tlv_len, chunk_rows, crc = HEADER.unpack(view[: HEADER.size])
    if major != MAJOR:
        raise VersionError(8, f"the format has version {major}; this version of hasten reads {MAJOR}")
    whole = HEADER.size + tlv_len
    if whole > size:
        raise CorruptError(28, "the header is longer than the file")
    if len(view) < whole:
        return whole
    tlvs = view[HEADER.size : whole]
    if crc32c(tlvs, crc32c(view[: HEADER.size - 4])) != crc:
        raise CorruptError(60, "the header does not fit its checksum")
    if ncols > MAX_COLUMNS or not 1 <= chunk_rows <= MAX_ROWS or flags & (FLAT | RECORDS) == FLAT | RECORDS:
        raise CorruptError(12, "the header's numbers are out of range")
    layout = "flat" if flags & FLAT else "records" if flags & RECORDS else "matrix"
    found = parse_tlvs(tlvs, HEADER.size, ncols)
    if layout == "flat" and ncols != 1:
        raise CorruptError(24, "an array of one dimension has one column")
    if layout == "records" and (not found["names"] or "" in found["names"]):
        raise CorruptError(12, "records without names")
    if "dtypes" not in found:
        dtype = dtype_from_code(*code)
        if dtype is None:
            raise CorruptError(16, "unknown dtype")
        found["dtypes"] = (dtype,)
    elif layout != "records":
        raise CorruptError(16, "the columns of a matrix share one dtype")
    return Header(
        ncols=ncols, chunk_rows=chunk_rows, layout=layout, missing=bool(flags & MISSING),
        checksum=bool(flags & CHECKSUM), size=whole, crc=crc, **found,
    )  # fmt: skip
