"""From rows to chunks: the same chunk from the same rows, whoever asks."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from hasten._core.checks import near, positive, refuse, refuse_type

from . import chunk, records
from .chunk import Options
from .crc import crc32c
from .format import CHUNK_HEAD, ChunkHead, pack_chunk_head
from .header import MAX_CHUNK_BYTES, MAX_COLUMNS, MAX_ROWS, Header, header_crc, pack_header
from .stats import chunk_entry
from .table import Table
from .tlv import pack_json

__all__ = ["default_chunk_rows", "encode_body", "encode_chunk", "finish_header", "make_options"]

BLOCK = 32  # rows that the encodings take at once; a chunk is a multiple of it
COLUMN_BYTES = 1 << 16  # of a column in a chunk, before compression
CHUNK_BYTES = 1 << 17  # of a chunk at least: below, the work around it would show
WIDE_BYTES = 1 << 25  # of all columns, unless that leaves fewer rows than the next number
LEAST_ROWS = 1024

PROFILES = ("auto", *records.PROFILES)
PREDICTORS = ("auto", *records.PREDICTORS)
ENTROPIES = ("auto", *records.ENTROPIES)


def make_options(call: str, profile: str, predictor: str, entropy: str, cross: str | bool, max_error: Any) -> Options:
    """The options of an encoder, checked."""
    for name, value, known in (
        ("profile", profile, PROFILES), ("predictor", predictor, PREDICTORS), ("entropy", entropy, ENTROPIES),
    ):  # fmt: skip
        if value not in known:
            raise refuse(call, f"{name} one of {', '.join(known)}", repr(value), near(str(value), known))
    if cross is not False and not (isinstance(cross, str) and cross == "auto"):  # 0 == False, and is none
        raise refuse(call, 'cross "auto" or False', repr(cross), "")
    return Options(profile, predictor, entropy, cross, _max_error(call, max_error))


def _max_error(call: str, asked: Any) -> Any:
    """The error that is allowed: None, a float, or a tuple with one of these for each column."""
    asked = _plain(asked)
    if not isinstance(asked, (list, tuple)):
        return None if asked is None else positive(call, "max_error", asked)
    errors = tuple(None if error is None else positive(call, "max_error", _plain(error)) for error in asked)
    return errors if any(error is not None for error in errors) else None


def _plain(number: Any) -> Any:
    return number.tolist() if isinstance(number, (np.ndarray, np.generic)) else number


def default_chunk_rows(row_bytes: int, ncols: int) -> int:
    """About 64 KiB of each column, 128 KiB of a single one.

    At most 32 MiB in all but at least 1024 rows, and never more than 256 MiB.
    """
    rows = max(COLUMN_BYTES * ncols, CHUNK_BYTES) // row_bytes if row_bytes else COLUMN_BYTES
    if row_bytes:
        rows = min(max(min(rows, WIDE_BYTES // row_bytes), LEAST_ROWS), MAX_CHUNK_BYTES // row_bytes)
    return max(rows // BLOCK, 1) * BLOCK


def finish_header(
    call: str, found: dict[str, Any], *, options: Options, chunk_rows: int | None = None, checksum: bool = True,
    missing: bool = False, names: Any = None, units: Any = None, rate: float | None = None,
    meta: dict[str, Any] | None = None, gaps: tuple[tuple[int, int], ...] = (),
) -> tuple[Header, bytes]:  # fmt: skip
    """The header of a new file, checked, and its bytes.

    Args:
        call: Who asks, for error messages.
        found: The fields `dtypes`, `layout`, `ncols` and, of records, `names`.
        options, chunk_rows, checksum, missing, names, units, rate, meta: As of `compress`.
        gaps: As of `Header`.
    """
    fields = {"checksum": bool(checksum), "missing": bool(missing), "options": options, "gaps": gaps, **found}
    if names is units is rate is meta is None and isinstance(chunk_rows, (int, type(None))):
        return _plain_header(call, chunk_rows, **fields)
    header = _checked_header(call, chunk_rows, **fields)
    if header.layout == "records" and names is not None:
        raise refuse(call, "names only for arrays without fields", repr(names), "The fields of the dtype are named.")
    names = header.names if names is None else _texts(call, "names", names, header.ncols)
    if names is not None and len(set(names)) < len(names):
        raise refuse(call, "names that differ", repr(names), "")
    return _sealed(replace(
        header, names=names, units=_texts(call, "units", units, header.ncols, (str, type(None))),
        rate=None if rate is None else positive(call, "rate", rate), meta=_meta(call, meta),
    ))  # fmt: skip


@lru_cache(maxsize=64, typed=True)
def _plain_header(call: str, chunk_rows: int | None, **fields: Any) -> tuple[Header, bytes]:
    """The header of what has no names of its own; many small arrays of one kind share it."""
    return _sealed(_checked_header(call, chunk_rows, **fields))


def _sealed(header: Header) -> tuple[Header, bytes]:
    packed = pack_header(header)
    return replace(header, size=len(packed), crc=header_crc(packed)), packed


def _checked_header(call: str, chunk_rows: int | None, **fields: Any) -> Header:
    if fields["ncols"] > MAX_COLUMNS:
        raise refuse(call, "at most 2^20 columns", f"{fields['ncols']}", "Write several files.")
    header = Header(chunk_rows=1, **fields)
    _check_error(call, header)
    if chunk_rows is None:
        chunk_rows = default_chunk_rows(header.row_bytes, header.ncols)
    if isinstance(chunk_rows, bool) or not isinstance(chunk_rows, int) or chunk_rows % BLOCK or chunk_rows < BLOCK:
        raise refuse(call, f"chunk_rows a multiple of {BLOCK}", repr(chunk_rows), "Pass chunk_rows=8192, say.")
    if chunk_rows > MAX_ROWS or chunk_rows * header.row_bytes > MAX_CHUNK_BYTES:
        most = f"chunks of at most {MAX_CHUNK_BYTES} bytes"
        raise refuse(call, most, f"{chunk_rows} rows of {header.row_bytes} bytes", "Pass fewer chunk_rows=.")
    return replace(header, chunk_rows=chunk_rows)


def _check_error(call: str, header: Header) -> None:
    """Refuse an error for what has none."""
    errors: Any = header.options.max_error
    if errors is None:
        return
    if not any(dtype.kind == "f" for dtype in header.dtypes):
        raise refuse(call, "max_error only for floats", f"columns of dtype {header.dtype}", "Leave max_error= away.")
    if isinstance(errors, float):
        return
    if len(errors) != header.ncols:
        fix = "Pass one number, or a list with one for each column."
        raise refuse(call, f"max_error for {header.ncols} columns", f"{len(errors)} numbers", fix)
    for j, error in enumerate(errors):
        if error is not None and header.column(j).kind != "f":
            what = f"{error!r} for column {j} of dtype {header.column(j)}"
            raise refuse(call, "max_error only for floats", what, "Pass None for that column.")


def _texts(call: str, what: str, values: Any, ncols: int, types: tuple[type, ...] = (str,)) -> tuple[Any, ...] | None:
    if values is None:
        return None
    values = (values,) if isinstance(values, str) else tuple(values)
    if len(values) != ncols or not all(isinstance(value, types) for value in values):
        raise refuse(call, f"{what} for {ncols} columns", repr(values), "Pass a list with one text per column.")
    return values


def _meta(call: str, meta: dict[str, Any] | None) -> dict[str, Any]:
    if meta is None:
        return {}
    if not isinstance(meta, dict):
        raise refuse_type(call, "meta a dict", type(meta).__name__, "Pass meta={'device': 'A7'}, say.")
    try:
        pack_json(meta)
    except (TypeError, ValueError) as error:
        raise refuse_type(call, "meta that JSON can hold", repr(meta), f"{error}.") from None
    return meta


def encode_body(options: Options, table: Table) -> bytes:
    """The body of a chunk."""
    columns = table.columns()
    return chunk.encode(columns, options, table.column_masks()) if columns else b""


def encode_chunk(header: Header, number: int, first_row: int, table: Table) -> tuple[tuple[bytes, ...], bytes]:
    """A chunk as pieces of bytes, and its entry in the index."""
    body = encode_body(header.options, table)
    head = pack_chunk_head(ChunkHead(number, first_row, len(table), len(body), table.has_mask()), header.crc)
    crc = crc32c(body) if header.checksum else 0
    if header.options.max_error is not None:
        table = _as_decoded(header, body, table)
    return (head, body, crc.to_bytes(4, "little")), chunk_entry(header, table, len(body))


def _as_decoded(header: Header, body: bytes, table: Table) -> Table:
    """The rows as a reader will see them, since the index speaks of those."""
    seen = Table([np.empty(p.shape, p.dtype) for p in table.parts], table.masks)
    chunk.decode(body, len(table), header.stored(), seen.columns())
    return seen


def chunk_bound(header: Header, nrows: int) -> int:
    """The most bytes that a chunk and its entry in the index take: 0.5 %, 64 bytes, and 16 for each column."""
    raw = nrows * header.row_bytes
    masks = header.ncols * math.ceil(nrows / 8) if header.missing else 0
    return raw + masks + raw // 200 + 64 + (16 + 40) * header.ncols + CHUNK_HEAD.size
