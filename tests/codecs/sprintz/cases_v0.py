"""Shared by the tests of published Sprintz streams: series that take every path, and with or without kernels."""

from __future__ import annotations

import numpy as np
import pytest

from hasten._native import ext
from hasten.codecs.sprintz import v0

PREDICTORS = ("delta", "fire")
KINDS = (
    "random",
    "walk",
    "steps",
    "sine",
    "twice integrated",
    "mostly still",
    "mostly straight",
    "jumps",
    "zeros",
    "quiet",
)

needs_kernels = pytest.mark.skipif(ext is None, reason="no compiled module")


@pytest.fixture(params=[pytest.param("native", marks=needs_kernels), "python"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with the compiled kernels, and with what stands in for them."""
    if request.param == "python":
        monkeypatch.setattr(v0, "ext", None)
    return request.param


def series(kind: str, rng: np.random.Generator, shape: tuple[int, int], dtype: str) -> np.ndarray:
    """Data that take every path of the format: `shape` is (rows, columns), `dtype` unsigned."""
    (rows, columns), full = shape, np.iinfo(dtype).max + 1
    rare = rng.random((rows, 1)) < 0.02
    if kind == "random":
        x = rng.integers(0, full, shape)
    elif kind == "walk":
        x = rng.integers(-3, 4, shape).cumsum(axis=0)
    elif kind == "steps":
        x = np.repeat(rng.integers(0, full, (rows // 13 + 1, columns)), 13, axis=0)[:rows]
    elif kind == "sine":
        x = np.rint(full / 3 * np.sin(np.arange(rows)[:, None] / rng.uniform(2, 50, columns)))
    elif kind == "twice integrated":
        x = rng.integers(-2, 3, shape).cumsum(axis=0).cumsum(axis=0)
    elif kind == "mostly still":
        x = (rng.integers(-9, 10, shape) * rare).cumsum(axis=0)
    elif kind == "mostly straight":
        x = (rng.integers(-1, 2, shape) * rare).cumsum(axis=0).cumsum(axis=0) * int(rng.integers(1, full // 8))
    elif kind == "jumps":
        x = rng.integers(0, 2, shape) * (full - 1) * (rng.random((rows, 1)) < 0.5)
    elif kind == "quiet":  # errors so unlike in size that Huffman's code pays
        x = np.rint(rng.normal(0, 0.7, shape)).cumsum(axis=0) + 100 * rare
    else:
        x = np.zeros(shape)
    return x.astype(np.int64).astype(dtype)
