"""The codec for numcodecs gives back the bytes it was given, whatever the array looked like."""

from __future__ import annotations

import pickle
from itertools import product

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hasten.codecs import sprintz
from hasten.codecs.sprintz import CorruptError
from hasten.integrations.numcodecs import TSZ

DTYPES = ["<i2", ">i2", "u1", "<u8", ">u4", "<f4", ">f8", "?", "<M8[ms]", ">m8[s]", "<M8[25us]"]


def steps(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """A walk along the first axis, cast to any dtype."""
    walk = np.random.default_rng(seed).integers(-9, 10, shape).cumsum(axis=0)
    found = walk > 0 if np.dtype(dtype).kind == "b" else walk.astype(np.dtype(dtype).newbyteorder("="))
    return found.astype(dtype)


def same(found: np.ndarray, x: np.ndarray) -> bool:
    """The same bytes, dtype, shape and order of elements: what a chunk of Zarr must be."""
    one_order = found.flags.c_contiguous == x.flags.c_contiguous and found.flags.f_contiguous == x.flags.f_contiguous
    return found.dtype == x.dtype and found.shape == x.shape and one_order and found.tobytes("A") == x.tobytes("A")


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_order_and_axis(dtype):
    for shape, order in product([(90,), (40, 3), (1, 5), (5, 1), (30, 2, 4), (0, 3), (3, 0, 2)], "CF"):
        x = np.asarray(steps(shape, dtype), order=order)
        for axis in range(-len(shape), len(shape)):
            codec = TSZ(time_axis=axis)
            encoded = codec.encode(x)
            assert same(codec.decode(encoded), x)
            assert same(TSZ().decode(encoded), x)  # the chunk says it all


@given(
    hnp.arrays(
        st.sampled_from([np.dtype(dtype) for dtype in DTYPES]),
        hnp.array_shapes(max_dims=4, max_side=7, min_side=0),
        elements=None,
    ),
    st.integers(0, 3),
    st.permutations(range(4)),
)
def test_any_array(x, axis, places):
    x = x.transpose([p for p in places if p < x.ndim])  # contiguous or not
    codec = TSZ(time_axis=min(axis, x.ndim - 1))
    found = codec.decode(codec.encode(x))
    assert found.dtype == x.dtype
    assert found.tobytes() == x.tobytes()


def test_no_dimensions_and_no_arrays():
    for x in (np.array(7, "<i4"), np.array(7, ">i4")):
        assert same(TSZ().decode(TSZ().encode(x)), x)
    for raw in (b"abcde", bytearray(b"abcde"), memoryview(b"abcde"), [97, 98, 99, 100, 101]):
        assert bytes(TSZ().decode(TSZ().encode(raw)).astype(np.uint8)) == b"abcde"


def test_structured_arrays():
    x = np.zeros((6, 2), [("t", "<i8"), ("on", "?"), ("v", "<f4")])
    x["t"], x["v"] = np.arange(12).reshape(6, 2), 0.5
    assert same(TSZ().decode(TSZ().encode(x)), x)
    for dtype in (np.dtype([("t", ">i8")]), np.dtype([("a", "u1"), ("b", "<i4")], align=True)):
        with pytest.raises(TypeError, match=r"TSZ.encode: expected a structured dtype that is packed and native"):
            TSZ().encode(np.zeros(3, dtype))


def test_out():
    x = steps((50, 3), ">i2")
    encoded = TSZ().encode(x)
    for out in (np.zeros_like(x), np.zeros(x.nbytes, np.uint8), bytearray(x.nbytes), np.zeros((3, 50), "<u2")):
        found = TSZ().decode(encoded, out=out)
        assert np.shares_memory(found, np.asarray(out))
        assert bytes(memoryview(np.asarray(out)).cast("B")) == x.tobytes()
    with pytest.raises(ValueError, match=r"TSZ.decode: expected out= of 300 bytes, got 299"):
        TSZ().decode(encoded, out=bytearray(299))


def test_a_chunk_is_a_file():
    x = steps((5000, 2), "<i2")
    encoded = TSZ().encode(x)
    assert sprintz.info(encoded).shape == (5000, 2)
    assert sprintz.info(encoded).meta == {}
    assert len(encoded) < x.nbytes / 2
    assert np.array_equal(TSZ().decode(sprintz.compress(x, names=["a", "b"])), x)


def test_config():
    assert TSZ().get_config() == {"id": "tsz"}
    codec = TSZ(profile="fast", predictor="delta", entropy="none", cross=False, time_axis=-1)
    config = codec.get_config()
    expected = {"profile": "fast", "predictor": "delta", "entropy": "none", "cross": False, "time_axis": -1}
    assert config == {"id": "tsz", **expected}
    assert numcodecs.get_codec(config) == codec != TSZ()
    assert isinstance(numcodecs.get_codec({"id": "tsz"}), TSZ)
    assert pickle.loads(pickle.dumps(codec)) == codec
    assert eval(repr(codec)) == codec


def test_settings_are_checked_early():
    with pytest.raises(ValueError, match=r"TSZ: expected profile one of .*, got 'fasst'. Did you mean fast\?"):
        TSZ(profile="fasst")
    with pytest.raises(TypeError, match=r"TSZ: expected time_axis a whole number, got 1.5"):
        TSZ(time_axis=1.5)
    with pytest.raises(TypeError, match="level"):
        numcodecs.get_codec({"id": "tsz", "level": 3})
    with pytest.raises(ValueError, match=r"TSZ: expected time_axis an axis of an array with 1 dimension, got 1"):
        TSZ(time_axis=1).encode(np.arange(3))


@pytest.mark.parametrize("dtype", ["c8", "U3", "S3", "f2", "O"])
def test_dtypes_that_cannot_be_stored(dtype):
    with pytest.raises(TypeError, match=rf"got dtype {np.zeros(1, dtype).dtype}"):
        TSZ().encode(np.zeros(3, dtype))


def test_missing_values_are_refused():
    x = np.ma.masked_equal([1, 2, 3], 2)
    with pytest.raises(ValueError, match=r"TSZ: expected no missing values, got 1 of them"):
        TSZ().encode(x)
    with pytest.raises(CorruptError, match="values may be missing"):
        TSZ().decode(sprintz.compress(x))
    assert TSZ().decode(TSZ().encode(np.ma.array([1, 2, 3]))).tolist() == [1, 2, 3]


def test_damaged_bytes():
    encoded = TSZ(time_axis=1).encode(steps((3, 200, 2), ">i2"))
    for at in range(0, len(encoded), 7):
        broken = bytearray(encoded)
        broken[at] ^= 0x40
        with pytest.raises(CorruptError):
            TSZ().decode(broken)
    for end in range(0, len(encoded), 11):
        with pytest.raises(CorruptError):
            TSZ().decode(encoded[:end])


@pytest.mark.parametrize(
    "said",
    [
        {"shape": [2, 3]}, {"shape": [-2, -2]}, {"shape": 4}, {"shape": ["a"]}, {"shape": [4.0]}, {"axis": 2},
        {"axis": "x"}, {"order": "Q"}, {"order": 3}, {"byteorder": "?"}, {"byteorder": None}, {"shape": [4], "axis": 1},
        [], 7, "text",
    ],
)  # fmt: skip
def test_a_chunk_that_lies_about_its_shape(said):
    forged = sprintz.compress(np.zeros((2, 2), np.int16), meta={"numcodecs": said})
    with pytest.raises(CorruptError, match="does not fit"):
        TSZ().decode(forged)


def test_chunks_that_are_too_large_are_not_decoded(monkeypatch):
    monkeypatch.setattr("hasten.integrations.numcodecs.MAX_BYTES", 99)
    with pytest.raises(ValueError, match=r"TSZ.decode: expected at most 99 bytes after decoding, got 100"):
        TSZ().decode(TSZ().encode(np.zeros(100, np.uint8)))


@pytest.mark.parametrize("dtype", ["<i2", ">i4", "<f8", "?", "<M8[s]"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_zarr_format_2(tmp_path, dtype, order):
    x = steps((250, 4, 2), dtype)
    for place, codecs in (
        ("compressor", {"compressors": TSZ(time_axis=1)}),
        ("filter", {"filters": [TSZ()], "compressors": numcodecs.Zlib()}),
    ):
        array = zarr.create_array(
            tmp_path / place, shape=x.shape, chunks=(100, 3, 2), dtype=dtype, zarr_format=2, order=order, **codecs
        )
        array[:] = x
        again = zarr.open_array(tmp_path / place, mode="r")
        assert np.array_equal(again[:], x)
        assert np.array_equal(again[95:130, 2], x[95:130, 2])
        assert array[:].dtype == x.dtype


def test_zarr_format_2_scalars_and_damage(tmp_path):
    array = zarr.create_array(tmp_path / "one", shape=(), dtype="<i4", zarr_format=2, compressors=TSZ())
    array[...] = 7
    assert zarr.open_array(tmp_path / "one")[...] == 7
    (tmp_path / "one/0").write_bytes((tmp_path / "one/0").read_bytes()[:-1])
    with pytest.raises(CorruptError):
        zarr.open_array(tmp_path / "one")[...]
