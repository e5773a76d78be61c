"""Published Sprintz streams ("v0"), byte for byte, and a frame around them that a reader needs no arguments for.

Sprintz (Blalock, Madden, Guttag, IMWUT 2018, arXiv:1808.02515) compresses a matrix of 8- or 16-bit integers, rows in
the order of time: forecast each value from its column's past, code the errors so that small ones have few bits, give
each column the bits that its worst error among 8 rows needs, and write only the length of a run without errors.
Two forecasts: `delta`, the value before; `fire`, an online learned multiple of the last difference on top of it.

- `compress` and `decompress`: the published stream and nothing else. It says neither of which integers nor with which
  forecast it was made, holds no checksum, and grows data that cannot be compressed by up to 6.5 %. Use it to exchange
  data with other implementations.
- `pack` and `unpack`: the stream in a frame of ours with sizes and checksums, by default behind a Huffman stage over
  its bytes (the published one is not reproduced: its frame is ambiguous).

Differences from the published code: a 16-bit stream of an odd number of bytes keeps its last byte; a matrix whose
remaining elements the format cannot count is refused, not cut short; the decoder checks every read. `docs/formats.md`
has the layouts. The compiled kernels are used where there are any; without them the same bytes come from NumPy, slowly.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from hasten._core.checks import near, refuse, refuse_type, whole
from hasten._core.dispatch import checksum
from hasten._native import ext

from . import _v0_huffman, _v0_python
from ._v0_frame import HEADER_BYTES, HUFFMAN, STORED, Header
from .errors import CorruptError

__all__ = ["bound", "compress", "decompress", "pack", "unpack"]

_CALL = "hasten.codecs.sprintz.v0."
_PREDICTORS = ("delta", "fire")
_MAX_COLUMNS = 65535
_MAX_ELEMENTS = 1 << 28
_SLACK = 8  # bytes beyond the end that the encoders want to write


def _streams() -> Any:
    return _v0_python if ext is None else ext


def _huffman() -> Any:
    return _v0_huffman if ext is None else ext


def bound(shape: tuple[int, ...], dtype: Any) -> int:
    """The most bytes that `compress` returns for an array of this shape and dtype.

    >>> bound((1000, 3), "int16")
    6194
    """
    call = f"{_CALL}bound"
    rows, columns = _rows_and_columns(call, tuple(shape))
    return _v0_python.sprintz_v0_bound(rows, columns, _dtype(call, dtype).itemsize) - _SLACK


def compress(x: Any, predictor: str = "delta") -> bytes:
    """A published Sprintz stream of `x`.

    Args:
        x: (rows,) or (rows, columns), rows in the order of time, of (u)int8 or (u)int16; 1 to 65535 columns. An array,
            or any buffer. Signed integers are coded as the unsigned ones of the same bits.
        predictor: "delta", or "fire": better on smooth 16-bit data, slower.

    Returns:
        The stream, at most `bound` bytes. Keep dtype, predictor and its length: it does not say them.

    Raises:
        TypeError: Another dtype. ValueError: Another shape, or a matrix that the format cannot hold: more than 65535
            elements would remain behind the last group of 16 rows, which takes at least 4096 columns.

    >>> compress(np.array([1, 2, 3, 4, 5], np.uint8)).hex(" ")
    '00 00 00 00 05 00 01 00 01 02 03 04 05'
    """
    call = f"{_CALL}compress"
    matrix, _ = _matrix(call, x)
    return _stream(call, matrix, _is_fire(call, predictor)).tobytes()


def decompress(
    buf: Any, dtype: Any, predictor: str = "delta", *, max_elements: int = _MAX_ELEMENTS, out: Any = None
) -> np.ndarray:
    """The matrix of a published Sprintz stream.

    Args:
        buf: Exactly the stream: any buffer of bytes.
        dtype: What it was made of: (u)int8 or (u)int16.
        predictor: What it was made with.
        max_elements: A stream that holds more (a few bytes can say "repeat") is refused before memory is taken.
        out: Where to write: a contiguous, writable array of the dtype and of shape (rows, columns), or (rows,) for one
            column, or a writable buffer of as many bytes.

    Returns:
        (rows, columns), in `out` if that is given.

    Raises:
        CorruptError: These bytes are no such stream, or hold more than `max_elements`. A stream has no checksum: bytes
            that changed may well decode to other data.
        TypeError, ValueError: `dtype`, `predictor` or `out` are none of these.

    >>> decompress(bytes.fromhex("00 00 00 00 04 00 02 00 01 02 03 04"), "uint8")
    array([[1, 2],
           [3, 4]], dtype=uint8)
    """
    call = f"{_CALL}decompress"
    data, kind, fire = _bytes(call, buf), _dtype(call, dtype), _is_fire(call, predictor)
    shape = _shape(data, kind.itemsize, whole(call, "max_elements", max_elements))
    target = _target(call, out, shape, kind)
    _decode(data, fire, target)
    return target


def pack(x: Any, predictor: str = "delta", *, huffman: bool = True) -> bytes:
    """A frame that holds `x`, and all that `unpack` must know.

    Args:
        x: As for `compress`.
        predictor: As for `compress`.
        huffman: Code the stream's bytes by how often they occur, where that makes them fewer.

    Returns:
        64 bytes, and the stream of `compress` or its Huffman code, whichever is shorter.

    Raises:
        TypeError, ValueError: As for `compress`.

    >>> wave = np.rint(100 * np.sin(np.arange(4000) / 20)).astype(np.int16)
    >>> len(pack(wave)), len(compress(wave)), wave.nbytes
    (1555, 1962, 8000)
    """
    call = f"{_CALL}pack"
    matrix, dtype = _matrix(call, x)
    fire = _is_fire(call, predictor)
    stream = _stream(call, matrix, fire)
    coded = _coded(stream) if huffman else stream
    coding, body = (HUFFMAN, coded) if coded.size < stream.size else (STORED, stream)
    header = Header(
        itemsize=dtype.itemsize,
        signed=int(dtype.kind == "i"),
        fire=int(fire),
        coding=coding,
        rows=matrix.shape[0],
        columns=matrix.shape[1],
        stream_bytes=stream.size,
        body_bytes=body.size,
        checksum=_elements_checksum(matrix),
    )
    return header.to_bytes() + body.tobytes()


def unpack(buf: Any, *, max_elements: int = _MAX_ELEMENTS, out: Any = None) -> np.ndarray:
    """The matrix of a frame.

    Args:
        buf: Exactly the frame: any buffer of bytes.
        max_elements: A frame that holds more is refused before memory is taken.
        out: As for `decompress`.

    Returns:
        (rows, columns), in `out` if that is given.

    Raises:
        CorruptError: These bytes are no such frame, changed since they were written, or hold more than `max_elements`.
            What was written to `out` until then is worthless. VersionError: A newer version of the frame.
        TypeError, ValueError: `out` does not fit.

    >>> unpack(pack(np.array([[1, -2], [3, -4]], np.int8)))
    array([[ 1, -2],
           [ 3, -4]], dtype=int8)
    """
    call = f"{_CALL}unpack"
    frame = _bytes(call, buf)
    header = Header.read(frame, whole(call, "max_elements", max_elements))
    stream, start = frame[HEADER_BYTES:], HEADER_BYTES
    if header.coding == HUFFMAN:
        stream, start = np.empty(header.stream_bytes, np.uint8), None
        _check(_huffman().sprintz_huffman_decode(frame[HEADER_BYTES:], stream), HEADER_BYTES)
    if _shape(stream, header.itemsize, header.rows * header.columns, start) != header.shape:
        raise CorruptError(16, "the stream in the frame has another shape than its header says")
    target = _target(call, out, header.shape, header.dtype)
    _decode(stream, header.fire == 1, target, start)
    if _elements_checksum(target) != header.checksum:
        raise CorruptError(48, "the data are not those that the checksum was made of")
    return target


# ---- the stream and its Huffman code


def _stream(call: str, matrix: np.ndarray, fire: bool) -> np.ndarray:  # (bytes,), uint8
    room = np.empty(_streams().sprintz_v0_bound(*matrix.shape, matrix.itemsize), np.uint8)
    length = _streams().sprintz_v0_encode(matrix, fire, room)
    if length == 0:
        what = "a matrix of which at most 65535 elements remain behind the last group of 16 rows"
        fix = "Pass fewer columns at once: below 4096 there is always room."
        raise refuse(call, what, f"shape {matrix.shape}", fix)
    return room[:length]


def _coded(stream: np.ndarray) -> np.ndarray:  # (bytes,), uint8
    room = np.empty(_huffman().sprintz_huffman_bound(stream.size), np.uint8)
    return room[: _huffman().sprintz_huffman_encode(stream, room)]


def _check(fault: tuple[int, str] | None, start: int | None) -> None:
    """Raise what a reader found; its bytes begin at `start` of the user's, or are none of them."""
    if fault is None:
        return
    offset, reason = fault
    if start is None:
        raise CorruptError(-1, f"at byte {offset} of the stream behind the Huffman code: {reason}")
    raise CorruptError(start + offset, reason)


def _shape(stream: np.ndarray, itemsize: int, max_elements: int, start: int | None = 0) -> tuple[int, int]:
    columns, elements, fault = _streams().sprintz_v0_scan(stream, itemsize, min(max_elements, sys.maxsize))
    _check(fault, start)
    return elements // columns, columns


def _decode(stream: np.ndarray, fire: bool, target: np.ndarray, start: int | None = 0) -> None:
    flat = target.reshape(-1).view(f"u{target.itemsize}")
    elements, fault = _streams().sprintz_v0_decode(stream, fire, flat)
    _check(fault, start)
    if elements != flat.size:
        raise CorruptError(-1, "the stream changed while it was read")


def _elements_checksum(matrix: np.ndarray) -> int:
    return checksum(matrix.astype(matrix.dtype.newbyteorder("<"), copy=False))


# ---- what users pass


def _is_fire(call: str, predictor: str) -> bool:
    if predictor not in _PREDICTORS:
        raise refuse(call, "predictor 'delta' or 'fire'", repr(predictor), near(str(predictor), _PREDICTORS))
    return predictor == "fire"


def _dtype(call: str, dtype: Any) -> np.dtype:
    """`dtype` in native byte order."""
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = None
    if kind is None or kind.kind not in "iu" or kind.itemsize > 2:
        fix = "Use hasten.codecs.sprintz.compress and decompress for other types."
        raise refuse_type(call, "uint8, int8, uint16 or int16", str(dtype), fix)
    return kind.newbyteorder("=")


def _rows_and_columns(call: str, shape: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = shape if len(shape) == 2 else (*shape, 1) if len(shape) == 1 else (0, 0)
    if not 1 <= columns <= _MAX_COLUMNS:
        fix = "Reshape it so that rows are in the order of time."
        raise refuse(call, "shape (rows,) or (rows, columns) with 1 to 65535 columns", f"shape {shape}", fix)
    return rows, columns


def _array(call: str, x: Any) -> np.ndarray:
    """An array or a buffer as an array, without a copy."""
    if isinstance(x, np.ma.MaskedArray):
        raise refuse_type(call, "an array without a mask", "a masked array", "Pass x.filled(value).")
    if isinstance(x, np.ndarray):
        return x
    try:
        return np.asarray(x if hasattr(x, "__array__") else memoryview(x))
    except (TypeError, ValueError):
        raise refuse_type(call, "an array or a buffer", type(x).__name__, "Pass numpy.asarray(x, dtype).") from None


def _matrix(call: str, x: Any) -> tuple[np.ndarray, np.dtype]:
    """(rows, columns) of unsigned integers, aligned, contiguous and in native byte order; and the dtype before that."""
    array = _array(call, x)
    dtype = _dtype(call, array.dtype)
    shape = _rows_and_columns(call, array.shape)
    fit = np.require(array, dtype, ("C_CONTIGUOUS", "ALIGNED"))
    return fit.reshape(shape).view(f"u{dtype.itemsize}"), dtype


def _bytes(call: str, buf: Any) -> np.ndarray:  # (bytes,), uint8
    array = _array(call, buf)
    if array.dtype.hasobject:
        raise refuse_type(call, "a buffer of bytes", array, "Pass the bytes that the encoder returned.")
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _target(call: str, out: Any, shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    """Where to decode to: new memory, or `out` as an array of this shape and dtype."""
    if out is None:
        return np.empty(shape, dtype)
    array = _array(call, out)
    if (
        not isinstance(out, np.ndarray)
        and array.dtype == np.uint8
        and array.shape == (math.prod(shape) * dtype.itemsize,)
    ):
        array = array.view(dtype).reshape(shape)  # the bytes of a plain buffer
    if array.dtype != dtype or array.shape not in (shape, shape[:1] if shape[1] == 1 else shape):
        raise refuse(call, f"out of shape {shape} and dtype {dtype}", out, f"Pass numpy.empty({shape}, '{dtype}').")
    if not (array.flags.writeable and array.flags.c_contiguous and array.flags.aligned):
        raise refuse(
            call, "out that is writable, contiguous and aligned", "one that is not", "Leave out= away and copy."
        )
    return array.reshape(shape)
