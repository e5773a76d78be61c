"""Writing WFDB records: samples in format 16 or 32, and the header once they are known."""

from __future__ import annotations

import re
from typing import Any, BinaryIO

import numpy as np

from hasten._core.checks import refuse, refuse_type

from .recording import Recording
from .sink import Plain
from .wfdb import signed_16
from .wfdb_header import NAME, Header, Signal, format_header

__all__ = ["Sink"]

FORMATS = {"i1": 16, "u1": 16, "i2": 16, "u2": 32, "i4": 32}


class Sink(Plain):
    """Writes the samples of a record; `header` is the text of its header, after `close`.

    Args:
        file: For the samples.
        like: What the rows are, integers of up to 32 bits. What a record said that was read before, it says again.
        rows: How many will come.
        name: Of the record; its samples are in `name.dat`.
    """

    call = "wfdb"

    def __init__(self, file: BinaryIO, like: Recording, rows: int, name: str) -> None:
        super().__init__(file, like, rows)
        dtype = like.data.dtype
        form = FORMATS.get(f"{dtype.kind}{dtype.itemsize}")
        if form is None:
            fix = "Convert it to counts: numpy.round(x * gain).astype('int16')."
            raise refuse_type("wfdb", "samples of (u)int8, (u)int16 or int32", f"dtype {dtype}", fix)
        if NAME.fullmatch(name) is None:
            what = "a record's name of letters, digits, - and _"
            raise refuse("wfdb", what, repr(name), "Choose another name for the file.")
        self._name, self._format = name, form
        self._stored = np.dtype("<i2" if form == 16 else "<i4")
        self._invalid = np.iinfo(self._stored).min
        self._said = _said(like)
        self._sums = [0] * like.columns
        self._first: list[int] | None = None

    def append(self, block: np.ndarray) -> None:
        """Add rows."""
        data = np.ma.getdata(block).reshape(len(block), -1).astype(self._stored)
        mask = np.ma.getmaskarray(block).reshape(data.shape)
        if bool(((data == self._invalid) & ~mask).any()):
            what = f"samples above {self._invalid}, which means that one is missing"
            raise refuse("wfdb", what, f"{self._invalid}", "Write NPY instead.")
        data[mask] = self._invalid
        if len(data):
            self._first = data[0].tolist() if self._first is None else self._first
            sums = data.sum(axis=0, dtype=np.int64).tolist()
            self._sums = [old + new for old, new in zip(self._sums, sums, strict=True)]
        self._file.write(data.tobytes())
        self._done += len(data)

    @property
    def header(self) -> str:
        """The text of the header."""
        signals, column = [], 0
        first = self._first or [0] * self.like.columns
        for said in self._said["signals"]:
            count = said["samples_per_frame"]
            signals.append(self._signal(said, column, first[column], sum(self._sums[column : column + count])))
            column += count
        other = {key: value for key, value in self._said.items() if key != "signals"}
        return format_header(Header(self._name, tuple(signals), self.like.rate or 0, self._rows, other))

    def _signal(self, said: dict[str, Any], column: int, first: int, total: int) -> Signal:
        like = self.like
        gain = None if like.gain is None else like.gain[column]
        baseline = None if like.baseline is None else like.baseline[column]
        units = (like.units or [None] * like.columns)[column]
        return Signal(
            f"{self._name}.dat", self._format, said["samples_per_frame"], said["skew"], 0, gain,
            None if baseline is None else round(baseline), re.sub(r"\s+", "_", units or ""), said["bits"],
            said["zero"], first, signed_16(total), " ".join(said["name"].split()),
        )  # fmt: skip


TEXTS = {"time": r"[\d:.]+", "date": r"\d+/\d+/\d+", "counter": r"[\d.]+", "base": r"-?[\d.]+"}


def _said(like: Recording) -> dict[str, Any]:
    """What the recording's metadata say of a WFDB record, as far as it makes sense; else what its columns say."""
    meta = like.meta.get("wfdb")
    meta = meta if isinstance(meta, dict) else {}
    names = like.names or [""] * like.columns
    said: dict[str, Any] = {
        "signals": [
            {"name": name, "samples_per_frame": 1, "skew": 0, "bits": like.data.dtype.itemsize * 8, "zero": 0}
            for name in names
        ]
    }
    given = meta.get("signals")
    if isinstance(given, list) and all(map(_makes_sense, given)):
        counts = [signal["samples_per_frame"] for signal in given]
        said["signals"] = given if sum(counts) == like.columns else said["signals"]
    for key, pattern in TEXTS.items():
        if isinstance(meta.get(key), str) and re.fullmatch(pattern, meta[key]):
            said[key] = meta[key]
    comments = meta.get("comments")
    if isinstance(comments, list):
        said["comments"] = [" ".join(comment.split()) for comment in comments if isinstance(comment, str)]
    return said


def _makes_sense(signal: Any) -> bool:
    if not isinstance(signal, dict) or not isinstance(signal.get("name"), str):
        return False
    counts: list[Any] = [signal.get("samples_per_frame"), signal.get("skew"), signal.get("zero")]
    if any(isinstance(count, bool) or not isinstance(count, int) for count in counts):
        return False
    bits = signal.get("bits")
    return counts[0] >= 1 and counts[1] >= 0 and (bits is None or (isinstance(bits, int) and bits >= 0))
