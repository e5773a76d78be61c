"""Series to compress: measured ones, as their converters gave them, and made ones that favour one codec or another."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hasten.codecs import files

__all__ = ["MADE", "NATIVE", "load"]

Parts = list[np.ndarray]  # (rows, columns) or (rows,) each

NATIVE = ("mitbih", "ptb", "mimic")  # sets of integers from a converter, about which claims are made


def _mitbih(folder: Path) -> Parts:
    return [_record(folder / "mitbih_record100" / "100.hea")]


def _ptb(folder: Path) -> Parts:
    return [_record(folder / "wfdb_samples" / "s0010_re.hea")[:, :12]]  # the leads; three more are made of them


def _mimic(folder: Path) -> Parts:
    frames = _record(folder / "wfdb_samples" / "03700181.hea")  # four samples of an ECG, one of two slower signals
    return [np.ascontiguousarray(frames[:, :4]).reshape(-1), frames[:, 4].copy(), frames[:, 5].copy()]


def _record(path: Path) -> np.ndarray:
    return np.ma.getdata(files.read(path).data).astype(np.int16)


def _etth1(folder: Path) -> Parts:
    with open(folder / "ett_hourly" / "ETTh1.csv", newline="") as file:
        rows = [[float(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]]
    return [np.array(rows)]


def _etth1_16(folder: Path) -> Parts:
    return [_quantised(_etth1(folder)[0], 16)]


def _ecg5000(folder: Path) -> Parts:
    table = np.loadtxt(folder / "ecg5000_train" / "ECG5000_TRAIN.txt")
    return [_quantised(table[:, 1:].reshape(-1, 1), 16)[:, 0]]


def _acsf1(folder: Path) -> Parts:
    lines = (folder / "ucr_aeon" / "ACSF1_TRAIN.ts").read_text().splitlines()
    rows = [line.rsplit(":", 1)[0] for line in lines if line and line[0] not in "#@"]
    series = [[float(cell) for cell in row.split(",")] for row in rows]
    return [_quantised(np.concatenate(series)[:, None], 16)[:, 0]]


def _quantised(x: np.ndarray, bits: int) -> np.ndarray:
    """Columns on a scale of so many bits from their lowest value to their highest, rounded down."""
    low, high = x.min(axis=0), x.max(axis=0)
    return np.minimum((x - low) / (high - low) * 2**bits, 2**bits - 1).astype(f"u{bits // 8}")


def _walk(_: Path) -> Parts:
    steps = np.random.default_rng(0).integers(-200, 201, 1 << 22)
    return [np.cumsum(steps).astype(np.int16)]


def _noise(_: Path) -> Parts:
    return [np.random.default_rng(1).integers(0, 256, (1 << 17, 32), dtype=np.uint8)]


def _sines(_: Path) -> Parts:
    generator = np.random.default_rng(2)
    t, periods, phases = np.arange(1 << 16)[:, None], generator.uniform(20, 500, 64), generator.uniform(0, 6, 64)
    return [(15000 * np.sin(t / periods + phases) + generator.normal(0, 30, (1 << 16, 64))).astype(np.int16)]


def _repeating(_: Path) -> Parts:
    return [np.tile(np.random.default_rng(3).integers(-3000, 3000, 1000), 500).astype(np.int16)]


def _switches(_: Path) -> Parts:
    flips = np.random.default_rng(4).random((1 << 17, 8)) < 0.002
    return [(np.cumsum(flips, axis=0) % 2).astype(np.uint8)]


def _clock(_: Path) -> Parts:
    jitter = np.random.default_rng(5).integers(-40, 41, 1 << 18)
    return [1_700_000_000_000_000 + np.arange(1 << 18) * 2_500 + jitter]


SETS: dict[str, Callable[[Path], Parts]] = {
    "mitbih": _mitbih, "ptb": _ptb, "mimic": _mimic, "etth1": _etth1, "etth1_16": _etth1_16, "ecg5000_16": _ecg5000,
    "acsf1_16": _acsf1, "walk": _walk, "noise": _noise, "sines": _sines, "repeating": _repeating,
    "switches": _switches, "clock": _clock,
}  # fmt: skip
MADE = ("walk", "noise", "sines", "repeating", "switches", "clock")  # need no files


def load(name: str, folder: Path | None) -> Parts:
    """The arrays of a set, in column-major order.

    Raises:
        FileNotFoundError: It needs a folder of data.
    """
    if name not in MADE and folder is None:
        raise FileNotFoundError(f"{name} needs data: pass --data DIR, or set HASTEN_DATA")
    return [np.asfortranarray(part) for part in SETS[name](folder or Path())]
