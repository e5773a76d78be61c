"""Makes the golden `tsz` files: synthetic rows, one file for each thing that the format can say.

They must decode for ever, so they are made once per version of what writes them: `python -m tests.golden.tsz.make_tsz`
writes those that are missing. `CASES` says what each must decode to, in integer arithmetic, so on every machine alike.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent
NAMES = ["I", "II", "V1"]


def wave(rows: int, columns: int, dtype: str = "i2") -> np.ndarray:
    """Something like a sensor: parabolas one after the other, and a little that looks like noise."""
    t = np.arange(rows)[:, None] + 7 * np.arange(columns)
    return ((t % 40) * (40 - t % 40) + t * t % 7).astype(dtype)


def records() -> np.ndarray:
    """Columns of every meaning."""
    x = np.zeros(70, [("t", "M8[ms]"), ("dt", "m8[25us]"), ("ok", "?"), ("v", "f4"), ("n", "u8"), ("i", "i1")])
    k = np.arange(70)
    x["t"], x["dt"], x["ok"], x["v"] = k * k, -k, k % 3 == 0, k / 8
    x["n"], x["i"] = k.astype("u8") << np.uint64(57), k - 35
    return x


def floats() -> np.ndarray:
    """Decimals, and every kind of float there is."""
    x = np.arange(130) / 8 - 4
    odd = np.array([0x7FF0, 0xFFF0, 0x7FF8, 0x8000, 0], "u8") << np.uint64(48)  # infinities, NaN, -0.0 and
    x[100:105] = (odd + np.array([0, 0, 5, 0, 1], "u8")).view("f8")  # a payload, and the smallest number of all
    return x


def masked() -> np.ma.MaskedArray:
    """Some values are missing, in the first of three chunks none."""
    x = np.ma.array(wave(80, 2), mask=False)
    x.mask[40:] = wave(40, 2) % 5 == 0
    return x


def noise(rows: int, seed: int = 0, most: int = 32) -> np.ndarray:
    """Numbers below `most`, a power of two, that follow no rule that an encoder could find."""
    t = np.arange(1, rows + 1, dtype=np.uint64) + np.uint64(rows * seed)
    return (t * t * t * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(40)).astype(np.int64) % most


def swing(rows: int = 600) -> np.ndarray:
    """Parabolas and noise, over more than 16 bits in the second column."""
    smooth = wave(rows, 2, "i8")
    return (smooth * [1, 1000] + np.stack([noise(rows), noise(rows, 1, 1024)], axis=1)).astype("i4")


def leads() -> np.ndarray:
    """The third column is the difference of the others, nearly."""
    a, b = noise(600).cumsum() - 9000, noise(600, 1).cumsum()
    return np.stack([a, b, a - b + noise(600, 2, 4)], axis=1).astype("i2")


CASES: dict[str, Callable[[], np.ndarray]] = {
    "matrix": lambda: wave(150, 3),
    "flat": lambda: wave(100, 1, "i4")[:, 0],
    "bytes": lambda: wave(300, 2, "u1"),
    "wide": lambda: wave(40, 20, "u2"),
    "floats": floats,
    "flags": lambda: wave(100, 2) % 3 == 0,
    "records": records,
    "masked": masked,
    "empty": lambda: wave(0, 4),
    "no_columns": lambda: wave(50, 0),
    "appended": lambda: wave(150, 3),
    "cut": lambda: wave(96, 3),
    "unchecked": lambda: wave(50, 1),
    **{f"lanes_{predictor}": swing for predictor in ("none", "delta", "delta2", "nlms1", "nlms2", "nlms4", "lpc")},
    "lanes_fire": lambda: swing()[:, 0],
    "lanes_planar": swing,
    "lanes_rice": lambda: noise(600, 0, 512) * (noise(600, 1) < 1),
    "lanes_contexts": lambda: noise(2100, 0, 1 << 30) >> np.arange(2100) // 100 % 7 * 4 + 1,
    "lanes_bytes": lambda: (wave(600, 2, "i8") // 2 + noise(600)[:, None]).astype("u1"),
    "lanes_64_bits": lambda: noise(600, 0, 1 << 20).cumsum() * 10001 + noise(600, 1),
    "lanes_palette": lambda: np.array([3, 4, 60, 1000, 5000], "u4")[noise(600) % 5],
    "lanes_affine": lambda: 250 * swing().astype("i8") - 7,
    "lanes_references": leads,
}
OPTIONS: dict[str, dict[str, Any]] = {  # of those with records in lanes
    **{name: {"predictor": name[6:], "entropy": "classes"} for name in CASES if name.startswith("lanes_")},
    "lanes_planar": {"predictor": "nlms2", "entropy": "none"},
    "lanes_rice": {"predictor": "none", "entropy": "rice"},
    "lanes_contexts": {"predictor": "none", "entropy": "classes", "profile": "max"},
    "lanes_bytes": {"predictor": "lpc", "entropy": "classes"},
    "lanes_64_bits": {"predictor": "nlms1", "entropy": "rice"},
    "lanes_palette": {"predictor": "none", "entropy": "classes"},
    "lanes_affine": {"predictor": "lpc", "entropy": "rice"},
    "lanes_references": {"profile": "max", "entropy": "classes"},
}


def write(name: str, path: Path) -> None:
    """Write one file."""
    from hasten.codecs.sprintz import Writer, compress
    from hasten.codecs.sprintz import open as open_file

    x = CASES[name]()
    if name == "appended":
        with Writer(path, x.dtype, 3, chunk_rows=64) as writer:
            writer.append(x[:70])
            writer.flush()
            writer.append(x[70:75])
        with Writer(path, mode="a") as writer:
            writer.append(x[75:])
    elif name == "cut":  # in its fourth chunk
        data = compress(wave(150, 3), chunk_rows=32)
        path.write_bytes(data[: int(open_file(data).index.offsets[3]) + 50])
    elif name == "matrix":
        path.write_bytes(compress(x, chunk_rows=64, names=NAMES, units=["mV"] * 3, rate=360.0, meta={"id": "µ1"}))
    elif name in OPTIONS:
        path.write_bytes(compress(x, **OPTIONS[name]))
    else:
        path.write_bytes(compress(x, chunk_rows=32, checksum=name != "unchecked"))


def make() -> None:
    """Write what is missing."""
    for name in CASES:
        path = FOLDER / f"{name}.tsz"
        if not path.exists():
            write(name, path)


if __name__ == "__main__":
    make()
