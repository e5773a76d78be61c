"""Repeated stretches: a column through zstd, where that is clearly smaller than what its values suggest.

Predictors see a few values back, LZ sees a whole chunk: it wins where stretches come again exactly, as in switch-like
data, waveforms of a generator, padded or duplicated recordings. On measured signals, whose last bits never repeat, it
loses and is not used.

A record is `u8 7 | u8 shuffle | zstd frame`. The frame says how long its content is: the column's little-endian
integers; with shuffle 1 first the lowest byte of each, then the next byte of each, and so on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hasten._core.checks import missing_extra

from .errors import CorruptError

__all__ = ["LZ", "decode_zstd", "maybe_zstd"]

LZ = 7
GAIN = 0.9  # of the other record at most
SAMPLE_BYTES = 1 << 16
LEAST = 64  # bytes of a record that is worth a try


def maybe_zstd(values: np.ndarray, best_so_far: int, level: int) -> bytes | None:
    """The record of a column through zstd, if it takes less than 0.9 of `best_so_far` bytes.

    Args:
        values: (rows,), unsigned.
        best_so_far: Bytes of the record there is.
        level: Of zstd.

    Returns:
        None if it is not that small, or if the package zstandard is not installed.
    """
    zstd = _zstandard()
    if zstd is None or best_so_far < LEAST:
        return None
    pack = zstd.ZstdCompressor(level=level, write_checksum=False, write_content_size=True).compress
    best: bytes | None = None
    for shuffle in range(1 + (values.itemsize > 1)):
        data = _laid_out(values, shuffle)
        if len(data) > SAMPLE_BYTES:
            sample = _laid_out(values[: SAMPLE_BYTES // values.itemsize], shuffle)
            if len(pack(sample)) * len(data) > GAIN * best_so_far * len(sample):
                continue
        record = bytes([LZ, shuffle]) + pack(data)
        if len(record) < (GAIN * best_so_far if best is None else len(best)):
            best = record
    return best


def decode_zstd(record: memoryview, nrows: int, dtype: np.dtype, at: int) -> np.ndarray:
    """The values of such a record, (nrows,) of the unsigned `dtype`.

    Raises:
        CorruptError: Not a record of so many values. ImportError: The package zstandard is not installed.
    """
    size = nrows * dtype.itemsize
    if len(record) < 2:
        raise CorruptError(at + len(record), "a record ends inside its head")
    if record[1] > 1:
        raise CorruptError(at + 1, f"the unknown order {record[1]} of bytes")
    zstd = _zstandard()
    if zstd is None:
        raise missing_extra("decompress", "zstandard", "zstd")
    frame = record[2:]
    try:
        said = zstd.get_frame_parameters(frame)
        if said.content_size != size:
            raise CorruptError(at + 2, f"a zstd frame of another size than the {size} bytes of the values")
        data = zstd.ZstdDecompressor().decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstd.ZstdError as error:
        raise CorruptError(at + 2, f"a broken zstd frame ({error})") from None
    if len(data) != size:
        raise CorruptError(at + 2, f"a zstd frame of {len(data)} bytes, {size} expected")
    little = dtype.newbyteorder("<")
    if not record[1]:
        return np.frombuffer(data, little).astype(dtype, copy=False)
    whole = np.frombuffer(data, np.uint8).reshape(dtype.itemsize, nrows)
    return np.ascontiguousarray(whole.T).reshape(-1).view(little).astype(dtype, copy=False)


def _laid_out(values: np.ndarray, shuffle: int) -> bytes:
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    if not shuffle:
        return values.tobytes()
    return values.view(np.uint8).reshape(-1, values.itemsize).T.tobytes()


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError:
        return None
    return zstandard
