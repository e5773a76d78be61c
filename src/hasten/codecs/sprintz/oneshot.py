"""Whole arrays in memory: `compress` and `decompress`."""

from __future__ import annotations

from typing import Any

import numpy as np

from hasten._core.checks import refuse, whole

from .blocks import encode_block
from .chunk import Options
from .decode import in_threads
from .encode import chunk_bound, encode_chunk, finish_header, make_options
from .errors import CorruptError
from .format import Trailer, pack_trailer
from .header import MAX_CHUNK_BYTES
from .reader import Reader
from .scan import pack_index
from .source import as_source
from .table import as_array, as_table, describe_dtype

__all__ = ["bound", "compress", "decompress"]


def compress(
    x: Any, *, profile: str = "auto", predictor: str = "auto", entropy: str = "auto", cross: str | bool = "auto",
    chunk_rows: int | None = None, max_error: Any = None, checksum: bool = True, threads: int = 1,
    framing: bool = True, names: Any = None, units: Any = None, rate: float | None = None,
    meta: dict[str, Any] | None = None,
) -> bytes:  # fmt: skip
    """Compress an array; the bytes are those of a `tsz` file.

    They are the same for every number of threads and with every instruction set. Without the compiled module only
    differences are packed, as in profile "fast"; profile "max" depends on the package zstandard and its version.

    Args:
        x: (rows,) or (rows, columns), or a structured array of shape (rows,). (u)int8 to 64, float32, float64, bool,
            datetime64 or timedelta64, any strides and byte order. Missing values: a masked array.
        profile: How much is tried for fewer bytes. "fast": differences of neighbours, packed; decodes at several GB/s.
            "balanced", which "auto" is: also linear prediction, few values as their ranks, multiples of a unit, and
            codes of bits. "max": also predictors that learn, prediction from other columns, contexts, and zstd for what
            repeats itself (if it is installed; who reads that needs it too); encodes some ten times slower.
        predictor: What a value is expected to be, in each column and chunk: "none", "delta" (the value before),
            "delta2" (on the line through two), "lpc" (a sum of up to 16), "nlms1", "nlms2" or "nlms4" (the last
            differences, with weights that learn), "fire" (a learned share of the last difference). "auto": the best
            on a sample. Where "lpc" finds no weights, and "fire" more than 16 bits, it is delta.
        entropy: "none": differences are packed at the width of the largest of 32. "rice": in unary and bits. "classes":
            Huffman codes of how large they are, and bits. "auto": whatever is smallest.
        cross: False: no column is predicted from others. "auto": in profile "max", where it helps.
        chunk_rows: Rows that are compressed together and decoded together, a multiple of 32; None: about 64 KiB of
            each column, 128 KiB of a single one. Larger chunks are a little smaller, and faster to read as a whole.
        max_error: None: every value comes back bit for bit. A number: floats may come back off by less than that,
            each of them, whatever the data; NaN and infinities come back bit for bit, a zero may lose its sign, and
            columns of other dtypes are lossless. A list: a number or None for each column. Chunks that would not be
            smaller are lossless.
        checksum: Whether chunks carry one.
        threads: How many encode at once, a chunk each.
        framing: False: a block without dtype, shape, index and anything else of a file, see `encode_block`.
        names: Of the columns. units: Of the columns, texts or None. rate: Samples per second. meta: A dict of your
            own, stored as JSON.

    Raises:
        TypeError: A dtype that cannot be stored. ValueError: Something else that cannot be.

    >>> x = np.arange(3000, dtype=np.int16)
    >>> bool((decompress(compress(x)) == x).all())
    True
    """
    whole("compress", "threads", threads, low=1)
    if not framing:
        if not checksum or any(value is not None for value in (names, units, rate, meta)):
            raise refuse("compress", "no checksum, names, units, rate or meta for a block", "some", "Leave them away.")
        return encode_block(
            x, profile=profile, predictor=predictor, entropy=entropy, cross=cross, chunk_rows=chunk_rows,
            max_error=max_error, threads=threads,
        )  # fmt: skip
    x = as_array("compress", x)
    missing = isinstance(x, np.ma.MaskedArray)
    header, packed = finish_header(
        "compress", _described(x.dtype, x.shape),
        options=make_options("compress", profile, predictor, entropy, cross, max_error), chunk_rows=chunk_rows,
        checksum=checksum, missing=missing, names=names, units=units, rate=rate, meta=meta,
    )  # fmt: skip
    table, step = as_table("compress", x, header), header.chunk_rows

    def work(number: int) -> tuple[tuple[bytes, ...], bytes]:
        first = number * step
        return encode_chunk(header, number, first, table.rows(first, first + step))

    numbers = range(-(-len(table) // step))
    done = in_threads(work, numbers, threads)
    chunks = [packed, *(piece for pieces, _ in done for piece in pieces)]
    trailer = Trailer(sum(map(len, chunks)), len(table), len(done))
    chunks += [pack_index(header, b"".join(entry for _, entry in done)), pack_trailer(trailer, header.crc)]
    return b"".join(chunks)


def decompress(
    buf: Any, *, out: Any = None, rows: slice | None = None, columns: Any = None, threads: int = 1,
    max_bytes: int = 1 << 31, max_chunk_bytes: int = MAX_CHUNK_BYTES,
) -> np.ndarray:  # fmt: skip
    """The array that was compressed, or some rows and columns of it.

    Args:
        buf: What `compress` gave, or the bytes of a `tsz` file. They must be whole: `open` reads cut files.
        out: A NumPy array, torch CPU tensor or any writable buffer of the shape and dtype of the result. If an error is
            raised, anything may be in it.
        rows: A slice, as of a list; None for all.
        columns: Numbers or names; None for all.
        threads: How many decode at once, a chunk each.
        max_bytes: Refuse a result that is larger. max_chunk_bytes: Refuse chunks that are larger.

    Returns:
        (rows,), (rows, columns) or a structured array, in native byte order; a masked array if one was compressed.
        `out`, if it was given and is an array, else an array over it.

    Raises:
        CorruptError: The bytes are damaged. VersionError: They are of a later format. ValueError, TypeError: The
            result is larger than `max_bytes`, or `out` does not fit it.
    """
    reader = Reader(as_source("decompress", buf), max_chunk_bytes)
    if reader.index_error is not None:
        raise CorruptError(reader.index_error.offset, reader.index_error.reason)
    return reader.read(rows, columns, out=out, threads=threads, max_bytes=max_bytes)


def bound(shape: tuple[int, ...], dtype: Any, *, chunk_rows: int | None = None, missing: bool = False) -> int:
    """The most bytes that `compress` gives for such an array without names, units, meta and a list of errors.

    Args:
        shape: (rows,) or (rows, columns).
        dtype: Of the array.
        chunk_rows: As of `compress`.
        missing: Whether it is a masked array.

    >>> bound((1000,), "int16") < 2500
    True
    """
    options = Options(max_error=None)
    header, packed = finish_header(
        "bound", _described(np.dtype(dtype), shape), options=options, chunk_rows=chunk_rows, missing=missing
    )
    full, rest = divmod(shape[0], header.chunk_rows)
    chunks = full * chunk_bound(header, header.chunk_rows) + (chunk_bound(header, rest) if rest else 0)
    return len(packed) + OPTION_BYTES + chunks + 12 + 32


OPTION_BYTES = 160  # what options that are not the defaults add to the header


def _described(dtype: np.dtype, shape: tuple[int, ...]) -> dict[str, Any]:
    found = describe_dtype("compress", dtype, len(shape))
    return {"ncols": shape[1] if len(shape) == 2 else 1, **found}
