"""Reductions and crossings: those of NumPy, without decoding what the index knows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.sprintz.container import INTEGERS, arrays, keep_masks, same, sample, walk

from hasten.codecs import sprintz
from hasten.codecs.sprintz import compress

slices = st.sampled_from(
    (None, slice(0, 0), slice(10, 90), slice(64, 128), slice(32, None), slice(None, None, 7), slice(200, 3, -5))
)


def exact(x: np.ndarray) -> list[int]:
    return [sum(int(v) for v in column) for column in x.T]


@pytest.mark.parametrize("dtype", [*INTEGERS, "?"])
@given(seed=st.integers(0, 99), rows=slices, recovered=st.booleans())
def test_integers(dtype, seed, rows, recovered):
    x = sample(dtype, (300, 3), seed)
    buf = compress(x, chunk_rows=32)
    r = sprintz.open(buf[:-1] if recovered else buf)
    y = x if rows is None else x[rows]
    assert r.sum(rows=rows).tolist() == exact(y)
    assert r.count(rows=rows).tolist() == [len(y)] * 3
    if not len(y):
        assert np.ma.getmaskarray(r.min(rows=rows)).all()
        return
    assert same(np.asarray(r.min(rows=rows)), y.min(axis=0))
    assert same(np.asarray(r.max(axis=0, rows=rows)), y.max(axis=0))
    assert r.mean(rows=rows).tolist() == [total / len(y) for total in exact(y)]
    if rows is None or rows.step is None:
        start = 0 if rows is None else rows.start
        assert r.argmax(rows=rows).tolist() == (y.argmax(axis=0) + start).tolist()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@given(seed=st.integers(0, 99), rows=slices)
def test_floats(dtype, seed, rows):
    x = sample(dtype, (300, 3), seed)  # every exponent, NaN and infinities
    r = sprintz.open(compress(x, chunk_rows=32))
    y = x if rows is None else x[rows]
    if not len(y):
        return
    kept = [[v for v in column if v == v] for column in y.T.tolist()]  # NumPy's nanmin errs with signalling NaN
    assert r.min(rows=rows).tolist() == [min(values) for values in kept]
    assert r.max(rows=rows).tolist() == [max(values) for values in kept]
    with np.errstate(all="ignore"):
        assert np.allclose(r.sum(rows=rows), np.nansum(y, axis=0, dtype="f8"), equal_nan=True)
    assert r.count(rows=rows).tolist() == np.count_nonzero(~np.isnan(y), axis=0).tolist()


@given(x=arrays(), seed=st.integers(0, 99))
def test_missing_values(x, seed):
    if x.dtype.kind in "Mm" or not x.size:
        return
    with pytest.MonkeyPatch.context() as patch:
        keep_masks(patch)
        x = np.ma.array(x, mask=np.random.default_rng(seed).random(x.shape) < 0.5)
        r = sprintz.open(compress(x, chunk_rows=32))
        wide = x if x.ndim == 2 else x[:, None]
        for j in range(wide.shape[1]):
            column = wide[:, j]
            kept = column.compressed()
            kept = kept[~np.isnan(kept)] if x.dtype.kind == "f" else kept
            assert r.count(columns=j) == len(kept)
            if not len(kept):
                assert r.max(columns=j) is np.ma.masked
                assert r.argmax(columns=j) is np.ma.masked
                assert np.isnan(r.mean(columns=j))
                continue
            assert (r.min(columns=j), r.max(columns=j)) == (kept.min(), kept.max())
            row = r.argmax(columns=j)
            assert not np.ma.getmaskarray(column)[row]
            assert column[row] == kept.max()
            earlier = np.ma.array(column[:row]).compressed()
            assert not (earlier == kept.max()).any()


def test_columns_and_forms():
    x = walk(500, 3)
    r = sprintz.open(compress(x, chunk_rows=64, names=["a", "b", "c"]))
    assert r.max(columns="b") == x[:, 1].max()
    assert isinstance(r.max(columns="b"), np.int16)
    assert r.sum(columns=2) == int(x[:, 2].sum(dtype="i8"))
    assert r.sum(columns=["c", 0]).tolist() == [int(x[:, 2].sum(dtype="i8")), int(x[:, 0].sum(dtype="i8"))]
    assert r.sum().dtype == np.int64
    assert r.chunks_decoded == 0
    flat = sprintz.open(compress(x[:, 0]))
    assert (flat.min(), flat.argmax()) == (x[:, 0].min(), int(x[:, 0].argmax()))
    assert sprintz.open(compress(np.zeros((5, 0), "i2"))).max().shape == (0,)


def test_records_of_mixed_dtypes():
    x = np.array([(3, 0.5, 10), (1, np.nan, 30), (2, 2.5, 20)], [("a", "u1"), ("b", "f4"), ("t", "M8[s]")])
    r = sprintz.open(compress(x))
    assert r.max() == {"a": 3, "b": 2.5, "t": np.datetime64(30, "s")}
    assert r.argmax() == {"a": 0, "b": 2, "t": 1}
    assert r.count() == {"a": 3, "b": 2, "t": 3}
    assert r.sum(columns=["a", "b"]) == {"a": 6, "b": 3.0}
    assert r.min(columns="t") == np.datetime64(10, "s")
    with pytest.raises(TypeError, match=r"a column of numbers, got dtype datetime64\[s\]"):
        r.sum()


def test_columns_without_any_value(monkeypatch):
    keep_masks(monkeypatch)
    for dtype in ("M8[s]", "m8", "i2", "f4"):
        r = sprintz.open(compress(np.zeros((0, 2), dtype)))
        assert r.max().mask.tolist() == r.argmax().mask.tolist() == [True, True]
        assert r.max().dtype == dtype
    half = np.ma.array(np.arange(8).reshape(4, 2), mask=[[0, 1]] * 4)
    r = sprintz.open(compress(half))
    assert r.max().tolist() == [6, None]
    assert r.sum().tolist() == [12, 0]
    assert r.mean().tolist()[0] == 3.0


def test_sums_that_fit_no_integer_type():
    x = np.full((100, 2), np.iinfo("u8").max, "u8")
    x[:, 1] = 1
    r = sprintz.open(compress(x, chunk_rows=32))
    assert r.sum().tolist() == [100 * (2**64 - 1), 100]
    assert r.sum(columns=1) == 100
    low = sprintz.open(compress(np.full(100, np.iinfo("i8").min, "i8")))
    assert low.sum() == -100 * 2**63
    assert low.mean() == -(2.0**63)


def test_only_chunks_that_are_cut_are_decoded():
    x = walk(1000, 2)
    r = sprintz.open(compress(x, chunk_rows=64))
    r.sum(rows=slice(64, 640))
    assert r.chunks_decoded == 0
    assert (r.sum(rows=slice(60, 650)) == x[60:650].sum(axis=0)).all()
    assert r.chunks_decoded == 2
    r.argmax(columns=1)
    assert r.chunks_decoded == 3


def turns(x: np.ndarray, threshold: float) -> tuple[list[int], list[int]]:
    """Crossings, row by row; `None` is missing."""
    above = [None if v is None else v >= threshold for v in x]
    pairs = [(k, above[k - 1], above[k]) for k in range(1, len(above))]
    rising = [k for k, before, now in pairs if before is False and now is True]
    falling = [k for k, before, now in pairs if before is True and now is False]
    return rising, falling


@given(
    dtype=st.sampled_from(("i2", "u1", "i8", "u8", "f4", "f8")), seed=st.integers(0, 99),
    threshold=st.sampled_from((0, 3, 0.1, -2.5, 40, 2**40, -(2**70), float("inf"))), masked=st.booleans(),
    rows=st.sampled_from((None, slice(5, 250), slice(32, 64), slice(7, 8), slice(9, 9))),
)  # fmt: skip
def test_crossings(dtype, seed, threshold, masked, rows):
    generator = np.random.default_rng(seed)
    x = (np.cumsum(generator.normal(size=300)) * 3).astype("f8")
    x = x.clip(0).astype(dtype) if dtype[0] == "u" else x.astype(dtype)
    hidden = generator.random(300) < (0.1 if masked else 0)
    hidden[64:96] = False
    with pytest.MonkeyPatch.context() as patch:
        keep_masks(patch)
        if dtype[0] == "f" and masked:
            x[::17] = np.nan
        y = np.ma.array(x, mask=hidden) if masked else x
        r = sprintz.open(compress(y, chunk_rows=32))
        found = r.crossings(threshold, rows=rows)
    part = rows or slice(0, 300)
    values = [None if gone or v != v else v.item() for v, gone in zip(x[part], hidden[part], strict=True)]
    rising, falling = turns(values, threshold)
    assert [k - part.start for k in found.rising] == rising
    assert [k - part.start for k in found.falling] == falling
    assert len(found) == len(rising) + len(falling)


def test_chunks_on_one_side_of_the_threshold_are_not_decoded():
    x = np.concatenate([np.arange(320), np.arange(320)[::-1]]).astype("i4")
    r = sprintz.open(compress(x, chunk_rows=32))
    found = r.crossings(100)
    assert (found.rising.tolist(), found.falling.tolist()) == ([100], [540])
    assert r.chunks_decoded == 2
    assert len(r.crossings(1000)) == 0
    edge = r.crossings(96)  # between two chunks: neither is decoded
    assert (edge.rising.tolist(), edge.falling.tolist()) == ([96], [544])
    assert r.chunks_decoded == 2


def test_crossings_of_points_in_time():
    x = np.array([1, 5, 3, 9], "M8[s]")
    r = sprintz.open(compress(x))
    assert r.crossings(np.datetime64(4, "s")).rising.tolist() == [1, 3]
    assert r.crossings(np.datetime64(3001, "ms")).falling.tolist() == [2]
    assert r.crossings(np.datetime64(3000, "ms")).falling.tolist() == []
    with pytest.raises(TypeError, match=r"a threshold of dtype datetime64\[s\], got 4"):
        r.crossings(4)


def test_a_threshold_between_two_floats():
    x = np.array([0.1, 0.2], "f4")  # the float32 next to 0.1 is above the double 0.1
    assert sprintz.open(compress(x)).crossings(0.1).rising.tolist() == []
    assert sprintz.open(compress(x)).crossings(float(x[0]) + 1e-12).rising.tolist() == [1]


def test_questions_that_cannot_be():
    r = sprintz.open(compress(walk(100, 2)))
    with pytest.raises(ValueError, match="min: expected axis=0, over rows, got 1"):
        r.min(axis=1)
    with pytest.raises(ValueError, match="rows without a step"):
        r.crossings(3, rows=slice(0, 9, 2))
    with pytest.raises(ValueError, match="a threshold that is a number, got nan"):
        r.crossings(float("nan"))
    with pytest.raises(TypeError, match="a number for threshold, got 'a'"):
        r.crossings("a")
    with pytest.raises(ValueError, match="a column below 2"):
        r.crossings(0, 2)
