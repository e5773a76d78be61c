"""Codes that are written many values at a time: the bits of every instruction set are those of the scalar loop."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from tests.codecs.sprintz.records_by_hand import body_of, encode, needs_kernels, read

from hasten._core import dispatch
from hasten.codecs import sprintz

pytestmark = needs_kernels


def residuals(kind: str, rows: int) -> np.ndarray:  # (rows,), uint16
    """Values that are written as they are: predictor "none" above a base of 0."""
    rng = np.random.default_rng(rows)
    if kind == "tiny":
        z = rng.geometric(0.3, rows) - 1
    elif kind == "one":
        z = np.full(rows, 7)
    elif kind == "small":  # all 256 alike: codes of up to 11 bits and 5 more, four of them fill a word
        z = rng.integers(0, 256, rows)
    elif kind == "longest":  # next to nothing but the rarest codes
        z = np.where(rng.random(rows) < 0.5, 3, np.minimum(rng.geometric(0.02, rows) + 100, 255))
    elif kind == "outliers":  # the loops of vectors and of single values take turns
        z = np.where(rng.random(rows) < 0.004, rng.integers(256, 65536, rows), rng.integers(0, 40, rows))
    else:
        z = rng.integers(0, 65536, rows)
    z[0] = 0
    return z.astype(np.uint16)


@pytest.mark.parametrize("kind", ["tiny", "one", "small", "longest", "outliers", "all"])
@pytest.mark.parametrize("rows", [300, 1024, 1031, 8 * 16 * 3 + 8, 32768])
def test_every_instruction_set_writes_the_same_bits(kind, rows):
    z = residuals(kind, rows)
    records = {isa: encode([z], "balanced", "none", "classes", isa=isa)[0] for isa in dispatch.isas()}
    assert set(records.values()) == {records["scalar"]}
    for numpy in (True, False):
        assert (read(body_of([records["scalar"]]), rows, ["u2"], numpy=numpy)[0] == z).all()


def test_a_word_that_four_codes_fill():
    # 255 neighbours that are all rare: 11 bits of code and 5 as they are, for all of a step
    z = np.zeros(1 << 16, np.uint16)
    z[4096:4224] = 255
    z[1 << 15 :] = np.random.default_rng(1).integers(0, 8, 1 << 15)
    for isa in dispatch.isas():
        record = encode([z], "balanced", "none", "classes", isa=isa)[0]
        assert record == encode([z], "balanced", "none", "classes", isa="scalar")[0]
        assert (read(body_of([record]), len(z), ["u2"], numpy=False)[0] == z).all()


def test_a_column_that_changes_while_it_is_read_harms_nobody():
    x = (np.random.default_rng(3).integers(0, 40, 1 << 16) * 11).astype(np.int16)  # few values: ranks are looked up
    stop = threading.Event()

    def change() -> None:
        rng = np.random.default_rng(4)
        while not stop.is_set():
            x[rng.integers(0, len(x), 64)] = rng.integers(-(1 << 15), 1 << 15, 64)
            x[:] = np.where(np.abs(x) > 440, 0, x)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(100):
            found = sprintz.decompress(sprintz.compress(x))
            assert found.shape == x.shape  # whatever is in it
    finally:
        stop.set()
        thread.join()
    assert (sprintz.decompress(sprintz.compress(x)) == x).all()
