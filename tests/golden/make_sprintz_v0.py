"""Makes `sprintz_v0/`: published Sprintz streams (.sprintz) and frames of them (.spz) that must decode for ever.

Synthetic data only. `index.json` says what each file decodes to. Files are made once, by the version that introduces
their format, and never again: `python -m tests.golden.make_sprintz_v0`.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).with_name("sprintz_v0")


def matrices() -> dict[str, np.ndarray]:
    """Every layout, with noise, smooth parts, still parts and a ragged end."""
    rng = np.random.default_rng(20260101)
    found = {}
    for columns, dtype in ((1, "uint8"), (4, "uint8"), (5, "uint8"), (33, "uint8"), (1, "uint16"), (2, "uint16"),
                           (3, "uint16"), (17, "uint16"), (2, "int8"), (6, "int16")):  # fmt: skip
        t = np.arange(300)[:, None]
        x = 90 * np.sin(t / rng.uniform(5, 30, columns)) + rng.normal(0, 2, (300, columns)) * (t < 150)
        x[200:260] = x[199]
        x[280:] = rng.integers(-128, 128, (20, columns))
        found[f"{dtype}_{columns}"] = np.rint(x).astype(np.int64).astype(dtype)
    found["uint16_1_extremes"] = np.tile(np.array([[0], [65535], [32768], [1]], "uint16"), (40, 1))
    found["uint8_3_short"] = np.arange(30, dtype="uint8").reshape(10, 3)
    quiet = np.rint(rng.normal(0, 0.7, (3000, 5))).cumsum(axis=0)
    found["int16_5_quiet"], found["uint8_5_quiet"] = quiet.astype("int16"), quiet.astype(np.int64).astype("uint8")
    found["uint8_1_still"] = np.full((3000, 1), 7, "uint8")
    return found


def make() -> None:
    """Write the files and their index."""
    from hasten.codecs.sprintz import v0

    FOLDER.mkdir(exist_ok=True)
    index = {}
    for name, x in matrices().items():
        digest = sha256(x.astype(x.dtype.newbyteorder("<")).tobytes()).hexdigest()
        for predictor in ("delta", "fire"):
            files = {f"{name}_{predictor}.sprintz": v0.compress(x, predictor)}
            files[f"{name}_{predictor}.spz"] = v0.pack(x, predictor)
            for file, data in files.items():
                (FOLDER / file).write_bytes(data)
                index[file] = {"dtype": str(x.dtype), "shape": x.shape, "predictor": predictor, "sha256": digest}
    (FOLDER / "index.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    make()
