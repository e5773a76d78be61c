"""WFDB records, as PhysioNet has them: a header (`.hea`) and files of samples in formats 16, 24, 32, 61, 80, 160, 212.

A row is a frame. A signal with several samples per frame becomes as many columns, `MCL1[0]` to `MCL1[3]`, so that no
sample is averaged away; signals with a skew are read as they stand in the file, or aligned if asked for. Samples that
the format declares invalid are missing values.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hasten._core.checks import near, refuse
from hasten.codecs.sprintz.header import MAX_COLUMNS

from .recording import Opened, Recording, distinct
from .wfdb_header import Header, Signal, parse_header

__all__ = ["open_file", "signed_16"]

# Format -> bits of a sample; dtype in memory; what stands for a sample that is not valid.
FORMATS = {
    16: (16, "i2", -(1 << 15)), 24: (24, "i4", -(1 << 23)), 32: (32, "i4", -(1 << 31)), 61: (16, "i2", -(1 << 15)),
    80: (8, "i1", -(1 << 7)), 160: (16, "i2", -(1 << 15)), 212: (12, "i2", -(1 << 11)),
}  # fmt: skip
PLAIN = {16: "<i2", 32: "<i4", 61: ">i2"}
STEP = 1 << 21  # samples that are examined at a time


@dataclass(frozen=True)
class Part:
    """A file of samples.

    `data` are its bytes from the first sample on, `width` the samples of a frame, `column` the first of its columns.
    """

    path: Path
    data: np.ndarray
    format: int
    width: int
    column: int
    signals: tuple[Signal, ...]

    @property
    def frames(self) -> int:
        """How many whole frames are there."""
        return len(self.data) * 8 // FORMATS[self.format][0] // self.width

    def read(self, first: int, stop: int) -> np.ndarray:
        """Some frames, (frames, width)."""
        return decode(self.data, self.format, first * self.width, stop * self.width).reshape(-1, self.width)


def decode(data: np.ndarray, form: int, first: int, stop: int) -> np.ndarray:
    """Samples `first` to `stop` of a file.

    Args:
        data: (bytes,) uint8.
        form: The format, one of `FORMATS`.
        first, stop: The samples; the bytes must be there.

    Returns:
        (samples,), int8, int16 or int32.

    >>> decode(np.array([0xE3, 0x33, 0xF3], np.uint8), 212, 0, 2).tolist()
    [995, 1011]
    """
    if form == 212:
        return _decode_212(data, first, stop)
    width = FORMATS[form][0] // 8
    some = data[first * width : stop * width]
    if form == 24:
        wide = np.zeros((stop - first, 4), np.uint8)
        wide[:, 1:] = some.reshape(-1, 3)
        return wide.view("<i4")[:, 0] >> 8
    if form == 80:
        return (some ^ np.uint8(0x80)).view(np.int8)  # they are 128 too large
    if form == 160:
        return (some.view("<u2").astype(np.uint16) ^ np.uint16(0x8000)).view(np.int16)
    found = some.view(PLAIN[form])
    return found.astype(found.dtype.newbyteorder("="))


def _decode_212(data: np.ndarray, first: int, stop: int) -> np.ndarray:
    """Two samples of 12 bits in three bytes: the low byte of the first, the high halves of both, the other low byte."""
    start, pairs = first // 2, -(-stop // 2) - first // 2
    some = data[3 * start : 3 * (start + pairs)]
    if len(some) < 3 * pairs:  # an odd number of samples may end with two bytes
        some = np.concatenate([some, np.zeros(3 * pairs - len(some), np.uint8)])
    low, middle, high = some.reshape(pairs, 3).astype(np.int16).T
    found = np.empty((pairs, 2), np.int16)
    found[:, 0] = low | (middle & 15) << 12 >> 4  # shifted up and down again, so that bit 11 becomes the sign
    found[:, 1] = high | middle >> 4 << 12 >> 4
    return found.reshape(-1)[first - 2 * start : stop - 2 * start]


def open_file(path: Path, *, check: bool = True, align: bool = False) -> Opened:
    """Open a WFDB record; its samples are decoded when they are read.

    Args:
        path: Of the header.
        check: Compare first values and checksums with the header, and the number of frames. False: take what is there.
        align: Shift signals with a skew, so that the samples of a row belong to one moment. The last rows of such a
            signal are then missing, and its first samples left out.

    Raises:
        ValueError: The header is broken, samples do not fit it, or the record is of a kind that is not read.
        FileNotFoundError: A file of samples is not there.
    """
    header = parse_header(path)
    parts = _parts(path, header)
    there = min(part.frames for part in parts)
    rows = there if header.rows is None else header.rows
    if rows > there:
        if check:
            part = next(part for part in parts if part.frames < rows)
            got = f"{part.frames} in {part.path}"
            raise refuse("wfdb", f"{rows} frames, as {path} says", got, "Read what is there with --no-check.")
        rows = there
    invalid = _examine(path, parts, rows, check)
    skews = [skew for part in parts for s in part.signals for skew in [s.skew if align else 0] * s.per_frame]
    like = _like(header, parts, invalid or any(skews), align)
    return Opened(like, rows, lambda first, stop: _block(like, parts, skews, rows, first, stop))


def _parts(path: Path, header: Header) -> list[Part]:
    """The files of a record."""
    groups: list[list[Signal]] = []
    for signal in header.signals:
        if groups and groups[-1][0].file == signal.file:
            groups[-1].append(signal)
        else:
            groups.append([signal])
    parts: list[Part] = []
    column = 0
    for group in groups:
        first = group[0]
        if first.format not in FORMATS:
            known = ", ".join(map(str, FORMATS))
            raise refuse("wfdb", f"samples in format {known}", f"{first.format} in {path}", "Convert it with xform.")
        if any((s.format, s.offset) != (first.format, first.offset) for s in group) or any(
            not s.per_frame for s in group
        ):
            raise refuse("wfdb", f"one format and offset for all of {first.file}", f"several in {path}", "")
        width = sum(s.per_frame for s in group)
        if column + width > MAX_COLUMNS:
            raise refuse("wfdb", "frames of up to 2^20 samples", f"{column + width} in {path}", "")
        data = _bytes(path.with_name(first.file), first.offset)
        parts.append(Part(path.with_name(first.file), data, first.format, width, column, tuple(group)))
        column += width
    return parts


def _bytes(path: Path, offset: int) -> np.ndarray:
    """The bytes of a file of samples."""
    if not path.is_file():
        others = [found.name for found in path.parent.glob(f"{path.stem}.*")]
        raise FileNotFoundError(f"wfdb: expected the samples in {path}, which is no file. {near(path.name, others)}")
    if path.stat().st_size <= offset:
        return np.empty(0, np.uint8)
    return np.memmap(path, np.uint8, "r", offset)


def _examine(path: Path, parts: list[Part], rows: int, check: bool) -> bool:
    """Compare samples with the header; whether some are invalid."""
    invalid = False
    for part in parts:
        sums = [0] * len(part.signals)
        edges = np.cumsum([0] + [s.per_frame for s in part.signals]).tolist()
        step = max(STEP // part.width, 1)
        for first in range(0, rows, step):
            frames = part.read(first, min(first + step, rows))
            invalid = invalid or bool((frames == FORMATS[part.format][2]).any())
            for k in range(len(sums)) if check else ():
                samples = frames[:, edges[k] : edges[k + 1]]
                if first == 0:
                    _compare(path, part, k, "first value", part.signals[k].first, int(samples[0, 0]))
                sums[k] += int(samples.sum(dtype=np.int64))
        for k, total in enumerate(sums) if check else ():
            _compare(path, part, k, "checksum", part.signals[k].checksum, signed_16(total))
    return invalid


def _compare(path: Path, part: Part, number: int, what: str, wanted: int | None, got: int) -> None:
    if what == "checksum" and wanted is not None:
        wanted = signed_16(wanted)
    if wanted is not None and wanted != got:
        signal = part.signals[number]
        expected = f"{what} {wanted} of signal {signal.name or number}, as {path} says"
        raise refuse("wfdb", expected, f"{got} in {part.path}", "Read it as it is with --no-check.")


def signed_16(total: int) -> int:
    """The sum of samples as the header has it: modulo 2^16, signed."""
    return (total + (1 << 15)) % (1 << 16) - (1 << 15)


def _like(header: Header, parts: list[Part], missing: bool, align: bool) -> Recording:
    """What the record holds, without rows."""
    signals = [signal for part in parts for signal in part.signals]
    each = [(signal, j) for signal in signals for j in range(signal.per_frame)]
    names = [f"{s.name}[{j}]" if s.per_frame > 1 and s.name else s.name for s, j in each]
    dtype = np.result_type(*(FORMATS[part.format][1] for part in parts))
    empty = np.empty((0, len(each)), dtype)
    said: dict[str, Any] = {"record": header.name, **header.other}
    said["signals"] = [
        {"name": s.name, "format": s.format, "samples_per_frame": s.per_frame, "skew": 0 if align else s.skew,
         "bits": s.bits, "zero": s.zero}
        for s in signals
    ]  # fmt: skip
    return Recording(
        np.ma.masked_array(empty, np.zeros(empty.shape, bool)) if missing else empty, distinct(names),
        tuple(s.units for s, _ in each), header.rate, tuple(s.gain for s, _ in each),
        tuple(s.baseline for s, _ in each), {"wfdb": said},
    )  # fmt: skip


def _block(like: Recording, parts: list[Part], skews: list[int], rows: int, first: int, stop: int) -> np.ndarray:
    """Rows `first` to `stop` of all files."""
    block = np.zeros((stop - first, like.columns), like.data.dtype)
    mask = np.zeros(block.shape, bool) if like.missing else None
    for part in parts:
        mine = skews[part.column : part.column + part.width]
        frames = part.read(first, min(stop + max(mine), rows))
        for column, skew in enumerate(mine, part.column):
            samples = frames[skew : skew + stop - first, column - part.column]
            block[: len(samples), column] = samples
            if mask is not None:
                mask[: len(samples), column] = samples == FORMATS[part.format][2]
                mask[len(samples) :, column] = True
    return block if mask is None else np.ma.masked_array(block, mask)
