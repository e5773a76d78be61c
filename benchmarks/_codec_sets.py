"""The data of the codec table: recordings as their converters gave them, series of the archives, and made-up ones.

A set is a list of arrays, (rows, columns) or (rows,), whose sizes are added up. Groups:

- `native`: integers of an analogue-to-digital converter, as they are in the file (MIT-BIH, PTB, MIMIC, and what else is
  among the WFDB samples). Where signals have rates of their own, each is an array.
- `quantised`: floats mapped to 8 or 16 bits by one line and rounded down, as in the publication of Sprintz; all of a
  UCR set by one line, its series one after the other with 5 values on a straight line between them; ETT by a line for
  each column. What is lost by that is not counted: the ratios are those of the integers.
- `floats`: floats as they are.
- `synthetic`: made with fixed seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hasten._core.checks import near
from hasten.codecs import files

__all__ = ["GROUPS", "WALK", "DataSet", "catalogue", "choose", "describe", "joined", "quantised"]

GROUPS = ("native", "quantised", "floats", "synthetic")
JOIN = 5  # values between two series of a UCR set
WALK = "walk_16"  # what speeds are claimed for

Arrays = list[np.ndarray]


@dataclass(frozen=True)
class DataSet:
    """A set: `load` gives its arrays, from files that must be there if there are any."""

    name: str
    group: str
    about: str
    load: Callable[[], Arrays]
    files: tuple[Path, ...] = ()

    def missing(self) -> str | None:
        """Why it cannot be loaded."""
        absent = ", ".join(str(path) for path in self.files if not path.is_file())
        return f"there is no {absent}; name the folder of the data with --data or HASTEN_DATA" if absent else None


def catalogue(folder: Path | None) -> dict[str, DataSet]:
    """All sets by their names; `folder` holds the files."""
    root = Path("HASTEN_DATA") if folder is None else folder
    found = [*_native(root), *_ucr(root), *_ett(root), *_synthetic()]
    return {one.name: one for one in found}


def choose(known: dict[str, DataSet], wanted: list[str] | None) -> list[DataSet]:
    """The sets of these names and groups; without any, all.

    Raises:
        ValueError: A name that is none of them.
    """
    chosen: dict[str, DataSet] = {}
    for name in wanted or GROUPS:
        some = {one.name: one for one in known.values() if name in (one.name, one.group)}
        if not some:
            names = (*GROUPS, *known)
            raise ValueError(f"--sets: expected names among {', '.join(names)}, got {name!r}. {near(name, names)}")
        chosen |= some
    return list(chosen.values())


# ---- from a converter


def _native(root: Path) -> list[DataSet]:
    samples = root / "wfdb_samples"
    ptb, mimic = samples / "s0010_re.hea", samples / "03700181.hea"
    known = [
        _record("mitbih_100", "MIT-BIH record 100, ECG, 11 bits", root / "mitbih_record100" / "100.hea"),
        _record("ptb_s0010", "PTB s0010_re, 12 leads of an ECG", ptb, slice(0, 12)),
        _record("ptb_s0010_frank", "PTB s0010_re, Frank leads", ptb, slice(12, 15)),
        _record("mimic_03700181", "MIMIC 03700181, MCL1 of four times the rate of ABP and RESP", mimic),
    ]
    others = [path for path in sorted(samples.glob("*.hea")) if path not in (ptb, mimic)]
    return known + [_record(f"wfdb_{path.stem}", f"WFDB record {path.stem}", path) for path in others]


def _record(name: str, about: str, path: Path, columns: slice = slice(None)) -> DataSet:
    return DataSet(name, "native", about, lambda: _signals(path, columns), (path,))


def _signals(path: Path, columns: slice) -> Arrays:
    """The samples: one matrix, or an array for each signal if a frame holds several samples of one."""
    recording = files.read(path)
    data = np.ma.getdata(recording.data)  # a sample that is not valid is a number, too
    signals: dict[str, list[int]] = {}
    for number, column in enumerate(recording.names or ()):
        signals.setdefault(column.partition("[")[0], []).append(number)
    if all(len(numbers) == 1 for numbers in signals.values()):
        return [np.ascontiguousarray(data[:, columns])]
    return [np.ascontiguousarray(data[:, numbers]).reshape(-1) for numbers in signals.values()]


# ---- from archives of series


def _ucr(root: Path) -> list[DataSet]:
    found = []
    for name in ("ACSF1", "GunPoint", "ItalyPowerDemand", "BasicMotions", "JapaneseVowels"):
        paths = tuple(root / "ucr_aeon" / f"{name}_{part}.ts" for part in ("TRAIN", "TEST"))
        found += _both_widths(name, paths, lambda paths=paths: joined(_series(paths)))
    path = root / "ucr_aeon" / "135_UCR_Anomaly_InternalBleeding16_TEST.csv"
    found += _both_widths("InternalBleeding16", (path,), lambda: _csv(path)[:, 1])
    ecg = root / "ecg5000_train" / "ECG5000_TRAIN.txt"
    found += _both_widths("ECG5000", (ecg,), lambda: joined(np.loadtxt(ecg)[:, 1:, None]))
    about = "ECG5000, training part, as printed: 8 digits"
    return [*found, DataSet("ecg5000_f64", "floats", about, lambda: [np.loadtxt(ecg)[:, 1:].reshape(-1)], (ecg,))]


def _both_widths(name: str, paths: tuple[Path, ...], load: Callable[[], np.ndarray]) -> list[DataSet]:
    return [
        DataSet(f"ucr_{name.lower()}_q{bits}", "quantised", f"UCR {name}, global linear map to {bits} bits, floor",
                lambda bits=bits: [quantised(load(), bits)], paths)
        for bits in (16, 8)
    ]  # fmt: skip


def _series(paths: Iterable[Path]) -> list[np.ndarray]:
    """The series of .ts files, (rows, columns) each: columns between colons, the class last."""
    found = []
    for path in paths:
        lines = iter(path.read_text().splitlines())
        for line in lines:
            if line.strip().lower() == "@data":
                break
        for line in lines:
            columns = line.split(":")[:-1]
            if columns:
                found.append(np.array([column.split(",") for column in columns], np.float64).T)
    return found


def joined(series: Iterable[np.ndarray], between: int = JOIN) -> np.ndarray:
    """Series one after the other, with values on a straight line between them.

    Args:
        series: (rows, columns) each.
        between: How many values lie between two.

    Returns:
        (rows, columns), or (rows,) if there is one column.

    >>> joined([np.array([[0.0], [1.0]]), np.array([[4.0]])], between=2).tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    parts: Arrays = []
    for one in series:
        if parts:
            parts.append(np.linspace(parts[-1][-1], one[0], between + 2)[1:-1])
        parts.append(one)
    whole = np.concatenate(parts)
    return whole[:, 0] if whole.shape[1] == 1 else whole


def quantised(x: np.ndarray, bits: int, axis: int | None = None) -> np.ndarray:
    """Floats mapped to 0 ... 2^bits - 1 by a line and rounded down, one line for all (`axis` 0: for each column).

    >>> quantised(np.array([-1.0, 0.0, 0.999, 1.0]), 8).tolist()
    [0, 127, 254, 255]
    """
    low, high = x.min(axis, keepdims=True), x.max(axis, keepdims=True)
    return np.floor((x - low) / np.where(high > low, high - low, 1.0) * (2**bits - 1)).astype(f"u{bits // 8}")


def _csv(path: Path) -> np.ndarray:
    """The numbers of a CSV file with a header."""
    return np.genfromtxt(path, delimiter=",", skip_header=1)


def _ett(root: Path) -> list[DataSet]:
    path = root / "ett_hourly" / "ETTh1.csv"
    each = "ETTh1, 7 columns"

    def load() -> np.ndarray:
        return _csv(path)[:, 1:]

    return [
        DataSet("etth1_f32", "floats", f"{each}, float32: thousandths", lambda: [load().astype(np.float32)], (path,)),
        DataSet("etth1_f64", "floats", f"{each}, float64 as printed: those in full", lambda: [load()], (path,)),
        DataSet("etth1_q16", "quantised", f"{each}, a linear map of each to 16 bits, floor",
                lambda: [quantised(load(), 16, axis=0)], (path,)),
    ]  # fmt: skip


# ---- made up


def _synthetic() -> list[DataSet]:
    made = [
        ("uniform_8", "uniform noise, 32 columns of 8 bits", _uniform),
        ("sines_16", "sines of periods 50 to 500, 64 columns of 16 bits, no noise", _sines),
        ("repeats_16", "a random pattern of 1000 rows, repeated exactly, 4 columns of 16 bits", _repeats),
        ("switches_8", "8 switches that are thrown once in 2000 rows, 8 bits", _switches),
        ("timestamps_64", "nanoseconds every 4 ms, 20 us of jitter, int64", _timestamps),
        (WALK, "random walk, steps of standard deviation 16, 2^22 values of 16 bits", _walk),
    ]
    return [DataSet(name, "synthetic", about, load) for name, about, load in made]


def _uniform() -> Arrays:
    return [np.random.default_rng(1).integers(0, 256, (131_072, 32), np.uint8)]


def _sines() -> Arrays:
    rng = np.random.default_rng(2)
    period, phase = np.exp(rng.uniform(np.log(50), np.log(500), 64)), rng.uniform(0, 2 * np.pi, 64)
    return [np.rint(30_000 * np.sin(2 * np.pi * np.arange(65_536)[:, None] / period + phase)).astype(np.int16)]


def _repeats() -> Arrays:
    return [np.tile(np.random.default_rng(3).integers(-(1 << 15), 1 << 15, (1000, 4), np.int16), (250, 1))]


def _switches() -> Arrays:
    thrown = np.random.default_rng(4).random((262_144, 8)) < 1 / 2000
    return [(np.cumsum(thrown, axis=0) % 2).astype(np.uint8)]


def _timestamps() -> Arrays:
    jitter = np.random.default_rng(5).normal(0, 20_000, 262_144)
    return [1_700_000_000_000_000_000 + np.arange(262_144) * 4_000_000 + np.rint(jitter).astype(np.int64)]


def _walk() -> Arrays:
    steps = np.rint(np.random.default_rng(6).normal(0, 16, 1 << 22)).astype(np.int16)
    return [np.cumsum(steps, dtype=np.int16)]  # it wraps around


def describe(arrays: Arrays) -> str:
    """Shapes and dtypes in words.

    >>> describe([np.zeros((3, 2), np.int16)])
    '3x2 int16'
    """
    return ", ".join(f"{'x'.join(map(str, one.shape))} {one.dtype}" for one in arrays)
