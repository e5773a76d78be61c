"""The kernels of tsz files at the ends of memory, where a sanitizer sees one byte read too many."""

from __future__ import annotations

import numpy as np
import pytest

from hasten._core import dispatch
from hasten._native import ext

pytestmark = pytest.mark.skipif(ext is None, reason="no compiled module")
ISAS = dispatch.isas()
SHAPES = ((1, 1), (2, 3), (255, 1), (256, 1), (257, 1), (100, 3), (33, 255), (3, 256), (5, 300), (2000, 5))
DTYPES = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")


def at_the_end(size: int, seed: int = 0) -> np.ndarray:
    """Random bytes at the very end of an allocation."""
    return np.random.default_rng(seed).integers(0, 256, 4096 + size, dtype=np.uint8)[4096:]


@pytest.mark.parametrize("isa", ISAS)
def test_crc32c_of_every_tail(isa):
    for size in [*range(100), 1024, 3071, 3072, 3073, 3079, 6144, 9999]:
        data = at_the_end(size, size)
        whole = ext.crc32c(data, 0, "scalar")
        assert ext.crc32c(data, 0, isa) == whole
        assert ext.crc32c(data[size // 3 :], ext.crc32c(data[: size // 3], 0, isa), isa) == whole


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_column_stats_of_every_shape(dtype, isa):
    for rows, columns in SHAPES:
        data = at_the_end(rows * columns * np.dtype(dtype).itemsize, rows)
        for x in (data.view(dtype).reshape(rows, columns), data.view(dtype).reshape(columns, rows).T):
            for view in (x, x[::-1], x[:, ::-1], x[::2, ::2]):
                assert found(view, isa) == found(view, "scalar")


def found(x: np.ndarray, isa: str) -> list[bytes]:
    columns = x.shape[1]
    results = [np.zeros(columns, kind) for kind in (x.dtype, x.dtype, "u8", "i8", "u4")]
    ext.column_stats(x, *results, isa)
    return [result.tobytes() for result in results]


@pytest.mark.parametrize("isa", ISAS)
def test_column_stats_of_small_numbers(isa):
    x = np.array([[3, -1], [5, -7], [-2, 0]], "i2")
    kinds = ("i2", "i2", "i8", "i8", "u4")
    results = [np.frombuffer(data, kind).tolist() for data, kind in zip(found(x, isa), kinds, strict=True)]
    assert results == [[-2, -7], [5, 0], [6, -8], [0, -1], [0, 0]]
