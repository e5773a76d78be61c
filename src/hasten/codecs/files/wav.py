"""WAV: sound, or anything else with a whole number of samples per second; PCM of 8 to 32 bits and floats.

Read and written by hand: the `wave` module of the standard library refuses floats and, before Python 3.12, the
"extensible" headers that most files of 24 bits have.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hasten._core.checks import refuse, refuse_type

from .recording import Opened, Recording
from .sink import Plain

__all__ = ["Sink", "open_file"]

FORMAT = struct.Struct("<HHIIHH")  # tag, channels, rate, bytes per second, bytes per frame, bits
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
DTYPES = {(PCM, 1): "u1", (PCM, 2): "<i2", (PCM, 3): "<i4", (PCM, 4): "<i4", (FLOAT, 4): "<f4", (FLOAT, 8): "<f8"}
LEAST_BITS = {1: 1, 2: 9, 4: 17}  # of PCM whose values have so many bytes in memory
MAX_BYTES = (1 << 32) - 256  # of sound: sizes are 32-bit numbers


def open_file(path: Path, *, check: bool = True) -> Opened:
    """Open a WAV file; its samples are mapped into memory, those of 24 bits become int32.

    Args:
        path: Of the file.
        check: False: take the samples that are there where the header promises more.

    Raises:
        ValueError: Not a WAV file, one that was cut, or sound that is compressed.
    """
    with open(path, "rb") as file:
        size = path.stat().st_size
        tag, channels, rate, bits, start, length = _chunks(path, file, size)
    width = -(-bits // 8)
    if (tag, width) not in DTYPES:
        got = f"format {tag:#x} with {bits} bits in {path}"
        raise refuse("wav", "PCM of 8 to 32 bits, or floats of 32 or 64", got, "Decode it to PCM first.")
    frame = width * channels
    there = min(length, size - start)
    if there % frame or there < length:
        if check:
            got = f"{there} bytes of the {length} that its header promises in {path}"
            raise refuse("wav", f"samples in whole frames of {frame} bytes", got, "Read what is there with --no-check.")
        there -= there % frame
    rows = there // frame
    like = _like(np.dtype(DTYPES[tag, width]), channels, rate, bits)
    if not rows:
        return Opened(like, 0, lambda first, stop: like.data)
    if width == 3:
        packed = np.memmap(path, np.uint8, "r", start, (rows, channels, 3))
        return Opened(like, rows, lambda first, stop: _from_24(packed[first:stop]))
    data = np.memmap(path, DTYPES[tag, width], "r", start, (rows, channels))
    return Opened(like, rows, lambda first, stop: data[first:stop])


def _like(dtype: np.dtype, channels: int, rate: int, bits: int) -> Recording:
    return Recording(np.empty((0, channels), dtype), rate=float(rate), meta={"wav": {"bits": bits}})


def _chunks(path: Path, file: BinaryIO, size: int) -> tuple[int, int, int, int, int, int]:
    """Tag, channels, rate and bits of the sound; where its samples begin, and how many bytes they take."""
    head = file.read(12)
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
        raise refuse("wav", "a WAV file", f"{path}, which does not begin like one", "Check the path.")
    at, found = 12, None
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"fmt " and min(length, size - at - 8) >= FORMAT.size:
            found = _format(path, file.read(min(length, 40)))
        if name == b"data" and found is not None:
            return *found, at + 8, length
        at += 8 + length + length % 2
    lacks = "no samples" if found else "no format"
    raise refuse("wav", "a WAV file with a format and samples", f"{path} with {lacks}", "Export it again.")


def _format(path: Path, data: bytes) -> tuple[int, int, int, int]:
    tag, channels, rate, _, frame, bits = FORMAT.unpack(data[: FORMAT.size])
    if tag == EXTENSIBLE and len(data) == 40:
        tag = int.from_bytes(data[24:26], "little")
    if not channels or not rate or not bits or frame != channels * -(-bits // 8):
        got = f"{channels} channels of {bits} bits at {rate} Hz in frames of {frame} bytes in {path}"
        raise refuse("wav", "a format that can be", got, "Export it again.")
    return tag, channels, rate, bits


def _from_24(packed: np.ndarray) -> np.ndarray:
    """(rows, channels, 3) bytes as int32."""
    wide = np.zeros((*packed.shape[:2], 4), np.uint8)
    wide[..., 1:] = packed
    return wide.view("<i4")[..., 0] >> 8


class Sink(Plain):
    """Writes a WAV file: uint8, int16, int32 as PCM, float32 and float64 as they are.

    Integers that came from a WAV file of 24 bits become one again.
    """

    call = "wav"

    def __init__(self, file: BinaryIO, like: Recording, rows: int) -> None:
        super().__init__(file, like, rows)
        dtype = like.data.dtype
        key = next((key for key, name in DTYPES.items() if key[1] != 3 and np.dtype(name) == dtype), None)
        if key is None:
            what = "samples of uint8, int16, int32, float32 or float64"
            raise refuse_type("wav", what, f"dtype {dtype}", "Convert it: x.astype('int16').")
        tag, width = key
        said = _bits(like.meta) if tag == PCM else 0
        self._bits = said if LEAST_BITS.get(width, 64) <= said <= 8 * width else 8 * width
        self._width = -(-self._bits // 8)
        rate = _rate(like)
        frame = self._width * like.columns
        self._size = rows * frame
        if self._size > MAX_BYTES or frame > 65535:
            raise refuse("wav", "at most 4 GiB of sound", f"{self._size} bytes", "Write NPY instead.")
        described = FORMAT.pack(tag, like.columns, rate, rate * frame, frame, self._bits)
        chunks = [_chunk(b"fmt ", described + (b"\x00\x00" if tag == FLOAT else b""))]
        if tag == FLOAT:
            chunks.append(_chunk(b"fact", struct.pack("<I", rows)))
        head = b"WAVE" + b"".join(chunks) + struct.pack("<4sI", b"data", self._size)
        file.write(struct.pack("<4sI", b"RIFF", len(head) + self._size + self._size % 2) + head)

    def _pack(self, block: np.ndarray) -> bytes:
        data = np.ascontiguousarray(block, block.dtype.newbyteorder("<")).reshape(len(block), -1)
        if self._width == data.dtype.itemsize:
            return data.tobytes()
        if data.size and (data.min() < -(1 << 23) or data.max() >= 1 << 23):
            got = f"{data.min()} to {data.max()}"
            raise refuse("wav", "samples of 24 bits, as in the file they came from", got, "Write NPY instead.")
        return data.view(np.uint8).reshape(*data.shape, 4)[..., :3].tobytes()

    def close(self) -> None:
        """Write the byte that makes the size even."""
        super().close()
        self._file.write(b"\x00" * (self._size % 2))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack("<4sI", name, len(data)) + data


def _bits(meta: dict[str, Any]) -> int:
    """Bits of a sample in the file that the samples came from; 0: not known."""
    said = meta.get("wav")
    bits = said.get("bits") if isinstance(said, dict) else None
    return bits if isinstance(bits, int) and 1 <= bits <= 32 else 0


def _rate(like: Recording) -> int:
    rate = like.rate
    if rate is None or rate % 1 or not 1 <= rate < 1 << 32:
        got = "none" if rate is None else f"{rate:g}"
        raise refuse("wav", "a whole number of samples per second", got, "Pass --rate 44100, say.")
    return int(rate)
