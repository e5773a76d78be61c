"""Damaged files of every format: an error of the house, and nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from hasten.codecs import files
from hasten.codecs.files import Recording

X = np.arange(30, dtype=np.int16).reshape(15, 2) * 7
SAMPLES: dict[str, Recording] = {
    "x.csv": Recording(np.array([(1, 0.5, "2026-01-01"), (-2, 1e300, "2026-01-02")] * 4,
                                [("a", "i2"), ("b", "f8"), ("t", "M8[s]")])),
    "x.npy": Recording(X),
    "x.wav": Recording(X, rate=100.0, meta={"wav": {"bits": 12}}),
    "x.hea": Recording(X, ("a", "b"), ("mV", "mV"), 360.0, (200.0, 100.0), (0, 5)),
    "x.tsz": Recording(X, ("a", "b"), ("mV", "mV"), 360.0, (200.0, 100.0), (0, 5), {"csv": {"formats": ["d", "d"]}}),
}  # fmt: skip
TEXT = b"0123456789 .,;:-+/()xeE\n\r\t\"#'_\x00\xff" + "ß٣".encode()


def mutants(data: bytes, count: int, seed: int) -> list[bytes]:
    """The same every time: bytes changed, cut out, doubled and put in."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        mutant = bytearray(data)
        for _ in range(draw.choice((1, 1, 2, 5))):
            at = draw.randrange(len(mutant)) if mutant else 0
            stop = min(at + draw.choice((1, 1, 4, 20)), len(mutant))
            kind = draw.randrange(4)
            if kind == 0 and mutant:
                mutant[at] = draw.choice((draw.randrange(256), draw.choice(TEXT)))
            elif kind == 1:
                del mutant[at:stop]
            elif kind == 2:
                mutant[at:at] = mutant[at:stop]
            else:
                mutant[at:at] = bytes(draw.choice(TEXT) for _ in range(draw.randrange(1, 6)))
        found.append(bytes(mutant))
    return found


@pytest.mark.parametrize("name", SAMPLES)
def test_a_mutant_is_read_or_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    files.write(path, SAMPLES[name])
    read, told = 0, []
    for mutant in mutants(path.read_bytes(), 400, seed=len(name)):
        path.write_bytes(mutant)
        try:
            found = files.read(path)
        except (FileNotFoundError, ValueError) as error:
            told.append(str(error))
        else:
            read += 1
            assert len(found.data) < 1000
    assert all(text.startswith((f"{FORMS[name]}: expected", "corrupt data: ")) for text in told)
    assert max(map(len, told)) < 1000
    assert read or name == "x.tsz"


FORMS = {"x.csv": "csv", "x.npy": "npy", "x.wav": "wav", "x.hea": "wfdb", "x.tsz": "tsz"}


def test_samples_that_change_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.hea"
    files.write(path, SAMPLES["x.hea"])
    data, told = (tmp_path / "x.dat").read_bytes(), []
    for mutant in mutants(data, 300, seed=5):
        (tmp_path / "x.dat").write_bytes(mutant)
        try:
            found = files.read(path)
        except ValueError as error:
            told.append(str(error))
        else:
            sums = found.data.sum(axis=0, dtype=np.int64)
            assert ((sums - X.sum(axis=0)) % 65536 == 0).all()
    assert len(told) > 200
    assert all(text.startswith("wfdb: expected ") for text in told)
