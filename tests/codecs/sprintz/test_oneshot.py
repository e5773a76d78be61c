"""`compress` and `decompress`: what goes in comes out, and bad arguments are named."""

from __future__ import annotations

import array
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.sprintz.container import DTYPES, arrays, same, sample, walk

from hasten.codecs.sprintz import CorruptError, bound, compress, decompress, info


@given(x=arrays(), chunk_rows=st.sampled_from((None, 32, 64)), threads=st.sampled_from((1, 3)))
def test_round_trip(x, chunk_rows, threads):
    buf = compress(x, chunk_rows=chunk_rows, threads=threads)
    y = decompress(buf, threads=threads)
    assert same(x, y)
    assert y.dtype.isnative
    assert len(buf) <= bound(x.shape, x.dtype, chunk_rows=chunk_rows)
    assert buf == compress(x.copy(), chunk_rows=chunk_rows), "neither layout nor threads change the bytes"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (1,), (0, 3), (5, 0), (0, 0), (70, 2)])
def test_every_dtype_and_shape(dtype, shape):
    x = sample(dtype, shape)
    y = decompress(compress(x, chunk_rows=32))
    assert same(x, y)
    assert y.shape == shape
    assert y.dtype == np.dtype(dtype)


MIXED = np.dtype([("a", "i1"), ("b", ">f8"), ("t", "M8[us]"), ("ok", "?"), ("µ", "<u2")])


@given(rows=st.sampled_from((0, 1, 33, 100)), aligned=st.booleans(), seed=st.integers(0, 9))
def test_structured_arrays(rows, aligned, seed):
    x = np.zeros(rows, np.dtype([(n, MIXED[n]) for n in MIXED.names], align=aligned))
    for name in MIXED.names:
        dtype = MIXED[name]
        x[name] = sample("?" if dtype.kind == "b" else dtype.str[1:], (rows,), seed)
    y = decompress(compress(x, chunk_rows=32))
    assert same(x, y)
    assert same(decompress(compress(x), columns=["t", "a"]), x[["t", "a"]])


def test_fields_of_one_dtype_stay_fields():
    x = np.array([(1, 2), (3, 4)], [("a", "i2"), ("b", "i2")])
    y = decompress(compress(x))
    assert y.dtype == x.dtype
    assert same(x, y)


@given(x=arrays(), seed=st.integers(0, 99))
def test_masked_arrays(x, seed):
    hidden = np.random.default_rng(seed).random(x.shape) < 0.3
    hidden[32:64] = False  # a chunk in which nothing is missing
    x = np.ma.array(x, mask=hidden)
    buf = compress(x, chunk_rows=32)
    y = decompress(buf)
    assert isinstance(y, np.ma.MaskedArray)
    assert (np.ma.getmaskarray(y) == hidden).all()
    assert same(x, y)
    assert same(x[5::7], decompress(buf, rows=slice(5, None, 7)))
    assert len(buf) <= bound(x.shape, x.dtype, chunk_rows=32, missing=True)


def test_masked_structured_arrays(monkeypatch):
    x = np.ma.array([(1, 2.0), (3, 4.0)], mask=[(True, False), (False, False)], dtype=[("a", "i2"), ("b", "f4")])
    y = decompress(compress(x))
    assert y.mask.tolist() == x.mask.tolist()
    assert y[1].tolist() == (3, 4.0)
    assert decompress(compress(x), columns=["a"])["a"].mask.tolist() == [True, False]


def test_an_array_without_missing_values_stays_masked():
    x = np.ma.array([1, 2, 3], dtype=np.int16)
    y = decompress(compress(x))
    assert isinstance(y, np.ma.MaskedArray)
    assert y.tolist() == [1, 2, 3]


def test_lists_and_tensors_go_in():
    assert decompress(compress([1, 2, 3])).tolist() == [1, 2, 3]
    tensor = torch.arange(12, dtype=torch.int16).reshape(4, 3)
    assert decompress(compress(tensor)).tolist() == tensor.tolist()


def test_names_units_rate_and_meta_are_kept():
    x = walk(100, 3)
    said = {"names": ["x", "µ", ""], "units": ["mV", None, "°"], "rate": 250.0, "meta": {"a": [1, {"b": None}]}}
    found = info(compress(x, **said))
    assert (found.names, found.units, found.rate, found.meta) == (
        ("x", "µ", ""),
        ("mV", None, "°"),
        250.0,
        said["meta"],
    )
    assert json.loads(json.dumps(found.to_dict()))["meta"] == said["meta"]
    assert same(decompress(compress(x, **said), columns=["µ"]), x[:, 1:2])


def outs(shape, dtype):
    """What a result may be written into, each with a way to look at it."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    plain, wide = np.zeros(shape, dtype), np.zeros((shape[0], 2 * shape[1]), dtype)
    tensor, raw = torch.zeros(shape, dtype=torch.int16), bytearray(size)
    yield plain, lambda: plain
    yield np.asfortranarray(plain), None
    yield wide[:, ::2], None
    yield plain.copy()[::-1], None
    yield tensor, lambda: tensor.numpy()
    yield tensor.T.contiguous().T, None
    yield raw, lambda: np.frombuffer(raw, dtype).reshape(shape)
    yield memoryview(bytearray(size)), None
    yield memoryview(np.zeros(shape, dtype)), None


def test_every_kind_of_out():
    x = walk(100, 3)
    buf = compress(x, chunk_rows=32)
    for out, look in outs(x.shape, "i2"):
        y = decompress(buf, out=out, threads=2)
        assert same(x, y)
        assert not isinstance(out, np.ndarray) or y is out
        assert look is None or same(x, look())


def test_out_of_one_dimension_and_records():
    x = np.arange(100, dtype="i4")
    out = array.array("i", [0] * 50)
    decompress(compress(x), rows=slice(0, None, 2), out=out)
    assert list(out) == list(range(0, 100, 2))
    records = np.zeros(5, [("a", "i2"), ("b", "f4")])
    records["a"] = range(5)
    target = np.zeros(5, records.dtype)
    assert decompress(compress(records), out=target) is target
    assert same(records, target)


def test_masked_out(monkeypatch):
    x = np.ma.array([1, 2, 3, 4], mask=[0, 1, 0, 0], dtype=np.int32)
    out = np.ma.array([9, 9, 9, 9], mask=[1, 0, 0, 1], dtype=np.int32, hard_mask=True)
    assert decompress(compress(x), out=out) is out
    assert out.mask.tolist() == [False, True, False, False]
    with pytest.raises(ValueError, match=r"expected out= a masked array, got ndarray\. Pass out=numpy\.ma\.masked_all"):
        decompress(compress(x), out=np.zeros(4, np.int32))


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.zeros((100, 2), "i2"), ValueError, r"out= of shape \(100, 3\), got ndarray of shape \(100, 2\)"),
        (np.zeros((100, 3), "u2"), TypeError, "out= of dtype int16, got ndarray of shape .* and dtype uint16"),
        (np.zeros((100, 3), ">i2"), TypeError, "out= of dtype int16, got .* >i2"),
        (bytes(600), ValueError, "a contiguous buffer that can be written, got bytes"),
        (bytearray(599), ValueError, "out= of 600 bytes, got 599"),
        (np.broadcast_to(np.zeros(3, "i2"), (100, 3)), ValueError, "out= that can be written"),
        (torch.zeros(100, 3), TypeError, "out= of dtype int16"),
        (torch.zeros(100, 3, dtype=torch.bfloat16), TypeError, "out= of dtype int16"),
        (torch.zeros(100, 3, dtype=torch.int16).to_sparse(), ValueError, "a dense tensor on the CPU"),
        ([0] * 300, TypeError, "out= an array, a CPU tensor or a writable buffer, got list"),
    ],
)
def test_out_that_does_not_fit(out, error, message):
    with pytest.raises(error, match=message):
        decompress(compress(walk(100, 3)), out=out)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((2, 2, 2), "i2"), ValueError, r"\(rows,\) or \(rows, columns\), got 3 dimensions"),
        (np.int16(3), ValueError, "got 0 dimensions"),
        (np.zeros(3, "f2"), TypeError, r"got dtype float16. Convert it without loss: x.astype\(numpy.float32\)"),
        (np.zeros(3, "c8"), TypeError, "Store real and imaginary part as two columns"),
        (np.array(["a"]), TypeError, "Text cannot be stored"),
        (np.array([None]), TypeError, "Convert it to numbers first"),
        (np.zeros(3, "M8"), TypeError, "datetime64 with a unit"),
        (np.zeros(3, [("a", "i2", (2,))]), TypeError, "got dtype"),
        (np.zeros(3, []), ValueError, "1 to 2\\^20 fields"),
        (np.zeros((3, 2), [("a", "i2")]), ValueError, r"structured array of shape \(rows,\)"),
    ],
)
def test_arrays_that_cannot_be_stored(x, error, message):
    with pytest.raises(error, match=message):
        compress(x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profile": "fats"}, "profile one of .* got 'fats'. Did you mean fast?"),
        ({"predictor": "dleta"}, "Did you mean delta"),
        ({"entropy": 3}, "entropy one of"),
        ({"cross": True}, 'cross "auto" or False'),
        ({"cross": 0}, 'cross "auto" or False, got 0'),
        ({"cross": np.False_}, 'cross "auto" or False'),
        ({"max_error": 0.5}, "max_error only for floats, got columns of dtype int16"),
        ({"max_error": 0.0}, "max_error > 0"),
        ({"max_error": float("inf")}, "a finite number for max_error"),
        ({"max_error": "small"}, "a finite number for max_error, got 'small'"),
        ({"max_error": True}, "a finite number for max_error, got True"),
        ({"max_error": [0.5, -1.0, None]}, "max_error > 0"),
        ({"chunk_rows": 33}, "chunk_rows a multiple of 32, got 33"),
        ({"chunk_rows": [32]}, r"chunk_rows a multiple of 32, got \[32\]"),
        ({"chunk_rows": 1 << 28}, "chunks of at most 268435456 bytes"),
        ({"threads": 0}, "at least 1 for threads"),
        ({"names": ["a"]}, "names for 3 columns"),
        ({"names": ["a", "b", "a"]}, "names that differ"),
        ({"units": "mV"}, "units for 3 columns"),
        ({"rate": -1.0}, "rate > 0"),
        ({"framing": False, "rate": 3.0}, "no checksum, names, units, rate or meta for a block"),
    ],
)
def test_arguments_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        compress(walk(100, 3), **arguments)


def test_meta_must_be_a_dict():
    for meta in ({"a": b"x"}, {"a": float("nan")}, {1: 2, "a": 3}):
        with pytest.raises(TypeError, match="meta that JSON can hold"):
            compress(walk(9, 1), meta=meta)
    with pytest.raises(TypeError, match="meta a dict, got list"):
        compress(walk(9, 1), meta=[1])


def test_what_one_caller_does_to_meta_reaches_no_other():
    for arguments in ({"profile": "fast"}, {"meta": {"device": {"name": "A7"}}}):
        buf = compress(walk(9, 1), **arguments)
        found = info(buf).meta
        found.setdefault("device", {})["name"] = found["more"] = "mine"
        assert info(buf).meta == arguments.get("meta", {})


def test_a_result_that_is_too_large_is_refused_before_it_is_made():
    buf = compress(walk(1000, 3))
    with pytest.raises(ValueError, match="at most 5999 bytes of rows, got 6000. Pass a larger max_bytes="):
        decompress(buf, max_bytes=5999)
    assert decompress(buf, max_bytes=6, rows=slice(7, 8)).shape == (1, 3)


def test_cut_bytes_are_an_error_not_a_shorter_array():
    buf = compress(walk(1000, 3), chunk_rows=32)
    with pytest.raises(CorruptError, match="the file has no trailer"):
        decompress(buf[:-1])


def test_what_is_no_buffer():
    with pytest.raises(TypeError, match="a path or compressed bytes, got int"):
        decompress(3)
    with pytest.raises(ValueError, match="contiguous bytes"):
        decompress(memoryview(compress(walk(9, 1)))[::2])


def test_the_chunks_of_wide_and_narrow_files():
    for shape, dtype, rows in (
        ((0, 1), "i1", 131072), ((0, 3), "i2", 32768), ((0, 3), "f8", 8192), ((0, 1000), "i2", 16768),
        ((0, 100_000), "i2", 1024), ((0, 1 << 20), "f8", 32), ((0, 0), "i2", 65536),
    ):  # fmt: skip
        assert info(compress(np.zeros(shape, dtype))).chunk_rows == rows, shape
    mixed = np.dtype([("a", "i1"), ("b", "f8")])
    assert info(compress(np.zeros(0, mixed))).chunk_rows == 14560


def test_too_many_columns():
    with pytest.raises(ValueError, match="at most 2\\^20 columns"):
        compress(np.zeros((0, (1 << 20) + 1), "i1"))


def test_no_checksum():
    x = walk(100, 3)
    buf = compress(x, checksum=False)
    assert same(x, decompress(buf))
    assert not info(buf).checksum


def test_torch_is_not_loaded():
    code = """if True:
        import sys, numpy as np
        from hasten.codecs import sprintz
        x = np.arange(50)
        y = sprintz.decompress(sprintz.compress(x), out=bytearray(400))
        assert (x == y).all()
        print([name for name in sys.modules if name.split(".")[0] in ("torch", "pyarrow", "zarr", "hypothesis")])
    """
    done = subprocess.run([sys.executable, "-S", "-c", code], env=environment(), capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def environment():
    return {"PYTHONPATH": ":".join(sys.path)}


def test_threads_change_nothing():
    x = walk(1000, 2)
    assert len({compress(x, chunk_rows=32, threads=threads) for threads in (1, 2, 7)}) == 1
    buf = compress(x, chunk_rows=32)
    for threads, rows in itertools.product((1, 2, 7), (None, slice(100, 900, 3), slice(None, None, -1))):
        assert same(decompress(buf, rows=rows, threads=threads), x if rows is None else x[rows])
