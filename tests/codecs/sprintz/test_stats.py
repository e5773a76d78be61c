"""What the index holds of a block: the compiled kernel and NumPy give the same bytes, for any layout."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.sprintz.container import INTEGERS, laid_out, sample

from hasten._native import ext
from hasten.codecs.sprintz import stats
from hasten.codecs.sprintz.stats import fill_stats, record_dtype

NUMBERS = (*INTEGERS, "f4", "f8")
needs_native = pytest.mark.skipif(ext is None, reason="no compiled module")


def both(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The entries by the compiled kernel, and by NumPy."""
    found = [np.zeros(x.shape[1], record_dtype(x.dtype)) for _ in range(2)]
    fill_stats(found[0], x, None)
    stats._fill_numpy(found[1], x, None)
    return found[0], found[1]


@needs_native
@given(
    dtype=st.sampled_from(NUMBERS), rows=st.sampled_from((1, 2, 3, 31, 64, 255, 256, 257, 1000)),
    columns=st.sampled_from((1, 2, 3, 12, 100, 256, 257, 300)), seed=st.integers(0, 99),
    layout=st.sampled_from(("plain", "fortran", "strided", "backwards", "read-only", "unaligned")),
)  # fmt: skip
def test_kernel_and_numpy(dtype, rows, columns, seed, layout):
    x = laid_out(sample(dtype, (rows, columns), seed), layout)
    native, numpy = both(x)
    assert native.tobytes() == numpy.tobytes()


@needs_native
@pytest.mark.parametrize("dtype", NUMBERS)
def test_every_instruction_set(dtype, each_isa):
    for shape in ((100_000, 1), (5000, 7), (300, 400)):
        x = sample(dtype, shape)
        for view in (x, np.asfortranarray(x), x[:, ::-1], x[::3, :1]):
            native, numpy = both(view)
            assert native.tobytes() == numpy.tobytes(), shape


@needs_native
@pytest.mark.parametrize("dtype", INTEGERS)
def test_sums_of_extremes_do_not_overflow(dtype, each_isa):
    for value in (np.iinfo(dtype).min, np.iinfo(dtype).max):
        for shape in ((200_000, 1), (100_000, 2), (40_000, 300)):
            x = np.broadcast_to(np.array(value, dtype), shape)
            assert stats.sums(both(x[:, :2])[0]) == [shape[0] * int(value)] * min(shape[1], 2)
        x = np.full((300_000, 1), value, dtype)
        assert stats.sums(both(x)[0]) == [300_000 * int(value)]


def test_signs_of_zero_and_payloads_do_not_show(each_isa):
    for x in ([-0.0], [0.0, -0.0], [-0.0, np.nan], [np.inf, -np.inf], [np.nan], [np.inf, np.nan, -np.inf]):
        column = np.array(x)[:, None]
        native, numpy = both(column)
        assert native.tobytes() == numpy.tobytes(), x
        low, high, total, nulls = native[0]
        assert not any(np.signbit(v) for v in (low, high, total) if v == 0)
        assert np.array(total).tobytes() in (np.array(0.0).tobytes(), np.array(np.nan).tobytes())
        assert nulls == np.isnan(column).sum()


def test_with_a_mask_and_without_the_compiled_module(monkeypatch):
    x = sample("i4", (500, 3))
    hidden = np.random.default_rng(0).random(x.shape) < 0.5
    hidden[:, 1] = True
    found = np.zeros(3, record_dtype(x.dtype))
    fill_stats(found, x, hidden)
    for j in (0, 2):
        kept = x[~hidden[:, j], j]
        assert found[j].tolist() == (kept.min(), kept.max(), kept.sum(dtype="i8"), hidden[:, j].sum())
    assert found[1].tolist() == (0, 0, 0, 500)
    before = both(x)[0]
    monkeypatch.setattr(stats, "ext", None)
    assert both(x)[0].tobytes() == before.tobytes()


@needs_native
def test_results_that_do_not_fit_the_block_are_refused():
    x, two = np.zeros((5, 2), "i2"), {"u8": np.zeros(2, "u8"), "i8": np.zeros(2, "i8"), "u4": np.zeros(2, "u4")}
    low = np.zeros(2, "i2")
    with pytest.raises(ValueError, match="low and high must have the block's dtype"):
        ext.column_stats(x, low, two["i8"], two["u8"], two["i8"], two["u4"], "scalar")
    with pytest.raises(ValueError, match="one result for each column"):
        ext.column_stats(x, low, np.zeros(3, "i2"), two["u8"], two["i8"], two["u4"], "scalar")
    with pytest.raises(ValueError, match="a block without rows"):
        ext.column_stats(x[:0], low, low, two["u8"], two["i8"], two["u4"], "scalar")
    with pytest.raises(ValueError, match="no dtype that columns may have"):
        ext.column_stats(x.astype("c8"), low, low, two["u8"], two["i8"], two["u4"], "scalar")
    with pytest.raises(TypeError):
        ext.column_stats(x, low, low, two["i8"], two["i8"], two["u4"], "scalar")
