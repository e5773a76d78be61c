"""Arrays of Zarr format 3 written with the codec, read back whole and in parts."""

from __future__ import annotations

import functools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import GzipCodec, ShardingCodec, TransposeCodec
from zarr.storage import LocalStore, MemoryStore

from hasten.codecs.sprintz import CorruptError, blocks, decode_block, encode_block
from hasten.codecs.sprintz import decode as decoding
from hasten.integrations.zarr import TSZCodec

UNSTABLE = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")


def steps(shape: tuple[int, ...], dtype: str = "<i2", axis: int = 0) -> np.ndarray:
    """A walk along one axis, cast to any dtype."""
    walk = np.random.default_rng(0).integers(-9, 10, shape).cumsum(axis=axis)
    found = walk > 0 if np.dtype(dtype).kind == "b" else walk.astype(np.dtype(dtype).newbyteorder("="))
    return found.astype(dtype)


def create(x: np.ndarray, chunks: tuple[int, ...], codec: TSZCodec | None = None, store=None, **more) -> zarr.Array:
    """An array in a store (one in memory if none is given), filled."""
    store = MemoryStore() if store is None else store
    settings = {"serializer": codec or TSZCodec(), "compressors": None, **more}
    array = zarr.create_array(store, shape=x.shape, dtype=x.dtype, chunks=chunks, **settings)
    array[...] = x
    return zarr.open_array(store, mode="r+")


@pytest.fixture
def decoded(monkeypatch) -> list[tuple[int, int]]:
    """Rows and columns of each chunk of a block that is decoded."""
    seen: list[tuple[int, int]] = []
    real = decoding.decode_body

    def counted(body, at, nrows, dtypes, out, masks):
        seen.append((nrows, sum(target is not None for target in out)))
        real(body, at, nrows, dtypes, out, masks)

    monkeypatch.setattr(decoding, "decode_body", counted)
    return seen


@UNSTABLE
@pytest.mark.parametrize("place", ["memory", "folder"])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "u1", "<u8", ">u4", "<f4", ">f8", "?", "<M8[ms]", ">m8[s]"])
def test_what_is_written_is_read(tmp_path, place, dtype):
    x = steps((250, 5), dtype)
    store = MemoryStore() if place == "memory" else LocalStore(tmp_path)
    array = create(x, (100, 4), store=store)
    assert np.array_equal(array[:], x)
    assert np.array_equal(array[100:200, [0, 3]], x[100:200, [0, 3]])
    assert np.array_equal(array[::7, -1], x[::7, -1])
    assert array[249, 4] == x[249, 4]
    array[120:130] = x[20:30]  # chunks are decoded, changed and encoded again
    assert np.array_equal(array[110:140, 1:], np.concatenate([x[110:120], x[20:30], x[130:140]])[:, 1:])
    assert array.nbytes_stored() > 0


def test_floats_keep_every_bit():
    x = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 5e-324, 1.1] * 20)
    x.view(np.uint64)[2::7] |= 0xABC  # a NaN that says more
    assert create(x, (50,))[:].tobytes() == x.tobytes()


def test_it_compresses():
    x = steps((20_000, 3))
    assert create(x, (10_000, 3)).nbytes_stored() < x.nbytes / 2


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_time_axis(axis, order):
    x = np.asarray(steps((6, 70, 8), axis=1), order=order)
    array = create(x, (4, 60, 5), TSZCodec(time_axis=axis), config={"order": order})
    assert np.array_equal(array[:], x)
    assert np.array_equal(array[1:3, 10:65, ::3], x[1:3, 10:65, ::3])
    block = encode_block(np.moveaxis(x[:4, :60, :5], axis, 0))
    assert array.store._store_dict["c/0/0/0"].to_bytes() == block


def test_time_axis_decides_what_is_predicted():
    x = steps((4, 5000), axis=1) + np.array([[0], [9000], [-9000], [500]], np.int16)
    along, across = (create(x, (4, 5000), TSZCodec(time_axis=axis)).nbytes_stored() for axis in (1, 0))
    assert along < 0.5 * across


def test_only_what_is_touched_is_decoded(decoded):
    x = steps((200_000, 3))
    array = create(x, (100_000, 3))
    for key, chunks in [
        ((slice(100, 200), [0, 2]), [(32768, 2)]),
        ((slice(32760, 32770), 1), [(32768, 1)] * 2),
        ((slice(None), 2), [(1696, 1)] * 2 + [(32768, 1)] * 6),
        (slice(99_000, 101_000), [(1696, 3), (32768, 3)]),
        ((slice(0, 0), 1), []),
    ]:
        decoded.clear()
        assert np.array_equal(array[key], x[key])
        assert sorted(decoded) == chunks, key
    decoded.clear()
    rows = [5, 70_000, 99_999, 199_999]
    assert np.array_equal(array.oindex[rows, 1], x[rows, 1])
    assert sorted(decoded) == [(1696, 1), (1696, 1), (32768, 1), (32768, 1)]


SHAPE, CHUNKS = (150, 4, 3), (100, 3, 2)


@st.composite
def selections(draw, size: int):
    """One selector of an axis: a number, a slice or a list."""
    number = st.integers(-size, size - 1)
    kind = draw(st.sampled_from(["number", "slice", "list"]))
    if kind == "number":
        return draw(number)
    if kind == "slice":
        return slice(draw(st.none() | number), draw(st.none() | number), draw(st.none() | st.integers(1, size)))
    return draw(st.lists(number, min_size=1, max_size=5))


@functools.cache
def many_chunks(axis: int, sharded: bool) -> zarr.Array:
    """An array whose chunks have chunks of 32 rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "default_chunk_rows", lambda row_bytes, ncols: 32)
        return create(steps(SHAPE), CHUNKS, TSZCodec(time_axis=axis), shards=(200, 6, 4) if sharded else None)


@given(st.tuples(*map(selections, SHAPE)), st.integers(0, 2), st.booleans(), st.data())
def test_any_selection(selection, axis, sharded, data):
    x, array = steps(SHAPE), many_chunks(axis, sharded)
    expected = x
    for k, part in reversed(list(enumerate(selection))):
        expected = expected[(slice(None),) * k + (part,)]
    assert np.array_equal(array.oindex[selection], expected)
    if not any(isinstance(part, list) for part in selection):
        assert np.array_equal(array[selection], x[selection])
    points = [data.draw(st.lists(st.integers(0, n - 1), min_size=4, max_size=4)) for n in SHAPE]
    assert np.array_equal(array.vindex[tuple(points)], x[tuple(points)])


def test_masks_and_blocks_of_chunks():
    x, array = steps(SHAPE), many_chunks(0, False)
    mask = np.random.default_rng(1).random(SHAPE) < 0.01
    assert np.array_equal(array.vindex[mask], x[mask])
    rows = np.arange(150) % 40 == 3
    assert np.array_equal(array.oindex[rows, 1:, [True, False, True]], x[rows][:, 1:, ::2])
    assert np.array_equal(array.blocks[1, 0, 1], x[100:, :3, 2:])


def test_shards(tmp_path, decoded):
    x = steps((4000, 4), "<f4")
    array = create(x, (500, 2), shards=(2000, 4), store=LocalStore(tmp_path))
    written = json.loads((tmp_path / "zarr.json").read_text())["codecs"]
    assert written[0]["configuration"]["codecs"] == [{"name": "hasten.tsz"}]
    assert sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "c").rglob("0")) == [
        "c/0",
        "c/0/0",
        "c/1/0",
    ]
    decoded.clear()
    assert np.array_equal(array[600:700, [0, 3]], x[600:700, [0, 3]])
    assert decoded == [(500, 1)] * 2
    assert np.array_equal(array[:], x)
    array[10] = 7
    assert np.array_equal(array[9:12], np.stack([x[9], np.full(4, 7, "<f4"), x[11]]))
    codec = ShardingCodec(chunk_shape=(500, 2), codecs=[TSZCodec(time_axis=1)])
    assert np.array_equal(create(x, (2000, 4), serializer=codec)[:], x)


@pytest.mark.parametrize("fill", [0, -3])
def test_fill_values(fill):
    x = np.full((300, 2), fill, np.int16)
    x[120] = [5, 6]
    array = create(x, (100, 2), fill_value=fill)
    assert [key for key in array.store._store_dict if key != "zarr.json"] == ["c/1/0"]
    assert np.array_equal(array[:], x)
    assert np.array_equal(array[90:130, 1], x[90:130, 1])
    array[120] = fill
    assert list(array.store._store_dict) == ["zarr.json"]
    kept = create(x, (100, 2), fill_value=fill, config={"write_empty_chunks": True})
    assert kept.nchunks_initialized == 3


@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
def test_beside_other_codecs():
    x = steps((300, 4))
    assert np.array_equal(create(x, (100, 4), compressors=GzipCodec())[5:250, [1, 2]], x[5:250, [1, 2]])
    assert np.array_equal(create(x, (100, 2), filters=TransposeCodec(order=(1, 0)))[5:250, 1:3], x[5:250, 1:3])


@UNSTABLE
def test_structured_arrays():
    x = np.zeros(500, [("t", "<i8"), ("v", "<f4")])
    x["t"] = np.arange(500)
    array = create(x, (200,))
    assert np.array_equal(array[:], x)
    assert np.array_equal(array[150:250], x[150:250])
    with pytest.raises(ValueError, match=r"TSZCodec: expected a structured array of shape \(rows,\), got 2 dimensions"):
        create(x.reshape(250, 2), (100, 2))


def test_metadata_on_disk(tmp_path):
    codec = TSZCodec(profile="fast", predictor="delta", entropy="none", cross=False, time_axis=1)
    array = create(steps((50, 40)), (50, 40), codec, store=tmp_path)
    expected = {"profile": "fast", "predictor": "delta", "entropy": "none", "cross": False, "time_axis": 1}
    assert json.loads((tmp_path / "zarr.json").read_text())["codecs"] == [
        {"name": "hasten.tsz", "configuration": expected}
    ]
    assert array.serializer == codec != TSZCodec()
    assert pickle.loads(pickle.dumps(codec)) == codec
    assert TSZCodec.from_dict(codec.to_dict()) == codec
    assert TSZCodec.from_dict({"name": "hasten.tsz", "configuration": {}}) == TSZCodec()
    assert TSZCodec().to_dict() == {"name": "hasten.tsz"}
    with pytest.raises(NotImplementedError):
        codec.compute_encoded_size(100, None)


def test_damage(tmp_path):
    create(steps((100, 3)), (50, 3), store=tmp_path)
    array, path = zarr.open_array(tmp_path, mode="r"), Path(tmp_path) / "c/1/0"
    good = path.read_bytes()
    for at in range(0, len(good), 9):
        path.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
        for selection in (slice(None), slice(60, 70), (slice(None), 1)):
            with pytest.raises(CorruptError):
                array[selection]
    for end in (0, 3, 8, len(good) - 1):
        path.write_bytes(good[:end])
        with pytest.raises(CorruptError):
            array[:]
    assert array[:50].shape == (50, 3)  # the other chunk


@pytest.mark.parametrize(("axis", "shape"), [(2, (5, 5)), (-3, (5, 5)), (1, (5,))])
def test_an_axis_that_is_not_there(axis, shape):
    with pytest.raises(ValueError, match=rf"TSZCodec: expected time_axis an axis of an array with {len(shape)} dim"):
        create(np.zeros(shape, "u1"), shape, TSZCodec(time_axis=axis))


def test_settings_are_checked_early():
    with pytest.raises(ValueError, match=r"TSZCodec: expected profile one of .*, got 'fasst'. Did you mean fast\?"):
        TSZCodec(profile="fasst")
    with pytest.raises(TypeError, match=r"TSZCodec: expected time_axis a whole number, got '0'"):
        TSZCodec(time_axis="0")
    with pytest.raises(TypeError, match="level"):
        TSZCodec.from_dict({"name": "hasten.tsz", "configuration": {"level": 3}})


@UNSTABLE
@pytest.mark.parametrize("dtype", ["<c8", "<U3", "S3", "<f2", "<M8"])
@pytest.mark.parametrize("shards", [None, (4, 2)])
def test_dtypes_that_cannot_be_stored(dtype, shards):
    store = MemoryStore()
    with pytest.raises(TypeError, match=rf"TSZCodec: expected .*, got dtype {np.zeros(1, dtype).dtype}"):
        zarr.create_array(store, shape=(4, 2), chunks=(2, 2), shards=shards, dtype=dtype, serializer=TSZCodec())
    assert not store._store_dict


def test_arrays_without_dimensions_or_with_too_many_columns():
    with pytest.raises(ValueError, match=r"TSZCodec: expected an array with one dimension or more, got one without"):
        zarr.create_array({}, shape=(), dtype="i2", serializer=TSZCodec(), compressors=None)
    with pytest.raises(ValueError, match=r"TSZCodec: expected at most 2\^20 columns, got 1048577"):
        zarr.create_array({}, shape=(4, 2**21), chunks=(4, 2**20 + 1), dtype="u1", serializer=TSZCodec())


def test_missing_values_are_refused():
    array = create(np.zeros((4, 2)), (4, 2))
    with pytest.raises(ValueError, match=r"TSZCodec: expected no missing values, got 1 of them"):
        array[:] = np.ma.masked_equal(np.arange(8.0).reshape(4, 2), 3)


def test_a_block_is_all_there_is():
    x = steps((60, 2), ">i4")
    array = create(x, (60, 2))
    assert np.array_equal(decode_block(array.store._store_dict["c/0/0"].to_bytes(), "i4", (60, 2)), x)
