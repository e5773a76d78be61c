"""Published Sprintz streams: the bytes of the specification and of a slow reference, with and without kernels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.codecs.sprintz.cases_v0 import KINDS, PREDICTORS, kernels, needs_kernels, series  # noqa: F401
from tests.codecs.sprintz.reference_v0 import encode

from hasten.codecs.sprintz import v0


def unsigned(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1).view(f"u{x.itemsize}")


# ---- the published bytes

ROWS, COLUMNS = np.mgrid[:64, :5]
STREAMS = [
    (np.arange(1, 6, dtype="u1"), "delta", "00 00 00 00 05 00 01 00 01 02 03 04 05", 13),
    (np.full(128, 7, "u1"), "delta", "01 00 00 00 10 00 01 00 04 0e 00 00 00 0d" + " 07" * 16, 30),
    (np.full(128, 7, "u1"), "fire", "01 00 00 00 10 00 01 00 04 0e 00 00 00 0d" + " 07" * 16, 30),
    (np.arange(128, dtype="u1"), "delta", "08 00 00 00 00 00 01 00 12 a8 aa aa aa" + " 12 aa aa aa aa" * 7, 48),
    (np.arange(128, dtype="u1"), "fire", "08 00 00 00 00 00 01 00 12 a8 aa aa aa" + " 12 aa aa aa aa" * 7, 48),
    (np.arange(128, dtype="u1") % 2, "delta", "08 00 00 00 00 00 01 00 12 98 99 99 99 12 99 99 99 99", 48),
    (np.arange(0, 1280, 10, dtype="u2"), "delta", "08 00 00 00 00 00 01 00 55 80 52 4a 29 a5 94 52 4a 29 a5 55", 96),
    ((ROWS * COLUMNS).astype("u1"), "delta", "04 00 00 00 00 00 05 00 d0 46 68 23 00 00 d2 08 d2 08", 152),
    ((ROWS * COLUMNS)[:, :3].astype("u2"), "delta", "04 00 00 00 00 00 03 00 20 03 32 00 12 12 12 12 12 12 12 12", 84),
    ((ROWS * COLUMNS)[:, :3].astype("u2"), "fire", "04 00 00 00 00 00 03 00 20 03 32 00 12 12 12 12 12 12 12 12", 84),
    (np.zeros(200, "u1"), "delta", "01 00 00 00 10 00 01 00 00 17 00" + " 00" * 16, 27),
]


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(("x", "predictor", "start", "length"), STREAMS)
def test_streams_of_the_specification(x: np.ndarray, predictor: str, start: str, length: int) -> None:
    stream = v0.compress(x, predictor)
    assert stream.startswith(bytes.fromhex(start))
    assert len(stream) == length
    assert encode(unsigned(x), predictor == "fire") == stream
    assert np.array_equal(v0.decompress(stream, x.dtype, predictor), x.reshape(len(x), -1))


def random_series(count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        columns = int(rng.integers(1, 12)) if i % 10 else int(rng.integers(12, 40))
        shape = (int(rng.integers(1, 221)), columns)
        found.append(series(KINDS[i % len(KINDS)], rng, shape, ("u1", "u2")[i // len(KINDS) % 2]))
    return found


@needs_kernels
@pytest.mark.parametrize("predictor", PREDICTORS)
def test_random_series_give_the_bytes_of_the_reference(predictor: str) -> None:
    lengths = set()
    for i, x in enumerate(random_series(360, seed=1)):
        stream = v0.compress(x, predictor)
        assert stream == encode(x, predictor == "fire"), (i, x.shape, x.dtype)
        assert np.array_equal(v0.decompress(stream, x.dtype, predictor), x), (i, x.shape, x.dtype)
        assert len(stream) <= v0.bound(x.shape, x.dtype)
        lengths.add(len(stream) % 2 == 1 and x.itemsize == 2)
    assert lengths == {False, True}, "16-bit streams of an odd length occur, and keep their last byte"


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_without_kernels_the_bytes_are_the_same(predictor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v0, "ext", None)
    for i, x in enumerate(random_series(72, seed=2)):
        stream = v0.compress(x, predictor)
        assert stream == encode(x, predictor == "fire"), (i, x.shape, x.dtype)
        assert np.array_equal(v0.decompress(stream, x.dtype, predictor), x), (i, x.shape, x.dtype)


def run_of(blocks: int, lead: int, tail: int, columns: int, dtype: str) -> np.ndarray:
    """`lead` rows that vary, blocks that do not, `tail` rows that vary."""
    x = np.full((lead + 8 * blocks + tail, columns), 5, dtype)
    x[:lead] = np.arange(lead * columns).reshape(lead, columns) % 7
    x[lead + 8 * blocks :] = np.arange(tail * columns).reshape(tail, columns) % 3 + 9
    return x


@needs_kernels
@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("blocks", [1, 2, 126, 127, 128, 129])
@pytest.mark.parametrize(("columns", "dtype"), [(1, "u1"), (4, "u1"), (5, "u1"), (2, "u2"), (3, "u2")])
def test_runs_end_as_the_reference_ends_them(columns: int, dtype: str, blocks: int, predictor: str) -> None:
    for lead in (0, 8, 16):  # the run begins in the first slot of a group, or in the second
        for tail in (0, 1, 8, 15, 16, 17, 24, 32):
            x = run_of(blocks, lead, tail, columns, dtype)
            stream = v0.compress(x, predictor)
            assert stream == encode(x, predictor == "fire"), (lead, tail)
            assert np.array_equal(v0.decompress(stream, dtype, predictor), x), (lead, tail)


@needs_kernels
@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("blocks", [32766, 32767, 32768, 65535])
@pytest.mark.parametrize(("columns", "dtype"), [(1, "u1"), (3, "u2")])
def test_the_longest_runs(columns: int, dtype: str, blocks: int, predictor: str) -> None:
    for lead, tail in ((0, 0), (8, 17)):
        x = run_of(blocks, lead, tail, columns, dtype)
        stream = v0.compress(x, predictor)
        assert stream == encode(x, predictor == "fire"), (lead, tail)
        assert np.array_equal(v0.decompress(stream, dtype, predictor), x), (lead, tail)


def test_the_longest_run_by_hand() -> None:
    # 32769 blocks: the encoder closes the run at 32767 and begins another, which ends with the usable data.
    x = np.zeros(8 * 32769 + 16, "u1")
    assert v0.compress(x).hex(" ") == "01 00 00 00 10 00 01 00 00 ff ff 02" + " 00" * 16


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(("columns", "dtype"), [(1, "u1"), (6, "u1")])
def test_fire_goes_on_with_the_slope_during_a_run(columns: int, dtype: str) -> None:
    slope = np.repeat([3, 0, 3, -3, 0], 1000)[:, None]
    x = slope.cumsum(axis=0).repeat(columns, axis=1).astype(dtype)
    stream = v0.compress(x, "fire")
    assert 2 * len(stream) < len(v0.compress(x, "delta"))
    assert stream == encode(x, fire=True)
    assert np.array_equal(v0.decompress(stream, dtype, "fire"), x)


# ---- sizes


def test_known_ratios() -> None:
    n = 200_000
    assert len(v0.compress(np.full(n, 7, "u1"))) == 31, "header, widths, a block, two bytes of a run, 16 raw"
    ramp = 3 * np.arange(n)
    assert n / len(v0.compress(ramp.astype("u1"), "delta")) == pytest.approx(2.2855, abs=1e-4)
    assert n / len(v0.compress(ramp.astype("u1"), "fire")) == pytest.approx(351.5, abs=0.1)
    for predictor in PREDICTORS:  # FIRE's steps are too small to learn a small slope of 16-bit data
        assert 2 * n / len(v0.compress(ramp.astype("u2"), predictor)) == pytest.approx(4.571, abs=1e-3)


@pytest.mark.parametrize(("columns", "dtype", "growth"), [(1, "u1", 17 / 16), (9, "u1", 151 / 144), (1, "u2", 33 / 32)])
def test_growth_of_what_cannot_be_compressed(columns: int, dtype: str, growth: float) -> None:
    x = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (16 * 4000, columns)).astype(dtype)
    length = len(v0.compress(x))
    assert length / x.nbytes == pytest.approx(growth, rel=2e-3)
    assert length <= v0.bound(x.shape, dtype)
    x = np.tile(np.array([[0], [np.iinfo(dtype).max // 2]], dtype), (160, columns))  # every width is the full one
    assert len(v0.compress(x)) == v0.bound(x.shape, dtype)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("shape", [(0,), (0, 3), (1,), (127,), (128,), (129,), (7, 16), (8, 16), (15, 300), (16, 300)])
@pytest.mark.parametrize("dtype", ["i1", "u2"])
def test_small_shapes(shape: tuple[int, ...], dtype: str) -> None:
    x = np.random.default_rng(0).integers(-128 if dtype == "i1" else 0, 127, shape).astype(dtype)
    for predictor in PREDICTORS:
        found = v0.decompress(v0.compress(x, predictor), dtype, predictor)
        assert found.dtype == np.dtype(dtype)
        assert np.array_equal(
            found, x.reshape(shape[0], -1) if x.size else np.empty((0, shape[-1] if x.ndim > 1 else 1))
        )
        assert np.array_equal(v0.unpack(v0.pack(x, predictor)), found)


# ---- any data


@st.composite
def matrices(draw: st.DrawFn, most: int = 400) -> np.ndarray:
    columns = draw(st.one_of(st.integers(1, 9), st.sampled_from([31, 32, 33, 64, 65, 300])))
    group = 16 * columns
    elements = draw(st.sampled_from([0, 1, 127, 128, 129, group - 1, group, group + 1, 3 * group, 17 * group, most]))
    rows = min(-(-elements // columns), 300)
    kind, seed = draw(st.sampled_from(KINDS)), draw(st.integers(0, 2**32 - 1))
    dtype = draw(st.sampled_from(["u1", "i1", "u2", "i2"]))
    x = series(kind, np.random.default_rng(seed), (rows, columns), dtype.replace("i", "u"))
    return x.view(dtype)


@needs_kernels
@settings(max_examples=200)
@given(x=matrices(), predictor=st.sampled_from(PREDICTORS), huffman=st.booleans())
def test_round_trip(x: np.ndarray, predictor: str, huffman: bool) -> None:
    found = v0.decompress(v0.compress(x, predictor), x.dtype, predictor)
    assert found.dtype == x.dtype
    assert np.array_equal(found, x)
    packed = v0.pack(x, predictor, huffman=huffman)
    assert np.array_equal(v0.unpack(packed), x)
    assert len(packed) <= 64 + len(v0.compress(x, predictor))


@given(x=matrices(most=100), predictor=st.sampled_from(PREDICTORS))
@settings(max_examples=30)
def test_round_trip_without_kernels(x: np.ndarray, predictor: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(v0, "ext", None)
        packed = v0.pack(x, predictor)
        assert np.array_equal(v0.unpack(packed), x)
    assert packed == v0.pack(x, predictor)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2"])
def test_any_memory_layout(dtype: str) -> None:
    x = series("walk", np.random.default_rng(0), (100, 6), dtype.replace("i", "u")).view(dtype)
    stream = v0.compress(x)
    frozen = x.copy()
    frozen.flags.writeable = False
    unaligned = np.frombuffer(b"?" + x.tobytes(), np.uint8)[1:].view(dtype).reshape(x.shape)
    wide = np.zeros((200, 12), dtype)
    wide[::2, ::2] = x
    layouts = [
        np.asfortranarray(x),
        x.astype(x.dtype.newbyteorder(">")),
        frozen,
        unaligned,
        wide[::2, ::2],
        x[::-1][::-1],
    ]
    layouts += [memoryview(x), torch.from_numpy(x)] if dtype != "u2" else [memoryview(x)]
    for layout in layouts:
        assert v0.compress(layout) == stream
    flat = bytes(range(256))
    assert v0.compress(flat) == v0.compress(bytearray(flat)) == v0.compress(np.arange(256, dtype="u1"))


@pytest.mark.usefixtures("kernels")
def test_any_buffer_is_read_and_written() -> None:
    x = series("walk", np.random.default_rng(0), (100, 3), "u2")
    stream, packed = v0.compress(x), v0.pack(x)
    shifted = memoryview(b"?" + stream)[1:]
    for buf in (stream, bytearray(stream), memoryview(stream), np.frombuffer(stream, np.uint8), shifted):
        assert np.array_equal(v0.decompress(buf, "u2"), x)
    for out in (np.empty((100, 3), "u2"), bytearray(600), memoryview(bytearray(600))):
        for found in (v0.decompress(stream, "u2", out=out), v0.unpack(packed, out=out)):
            assert np.array_equal(found, x)
            assert np.shares_memory(found, np.asarray(out))
    column = np.empty(100, "i2")
    v0.decompress(v0.compress(x[:, 0].astype("i2")), "i2", out=column)
    assert np.array_equal(column, x[:, 0].astype("i2"))
    tensor = torch.empty((100, 3), dtype=torch.int16)
    v0.unpack(v0.pack(x.astype("i2")), out=tensor)
    assert np.array_equal(tensor.numpy(), x.astype("i2"))


# ---- what is refused


@pytest.mark.parametrize("call", [v0.compress, v0.pack])
def test_what_cannot_be_compressed_is_refused(call: Callable[..., bytes]) -> None:
    for wrong in (np.zeros(9), np.zeros(9, "i4"), np.zeros(9, bool), [1, 2], "text", None, np.zeros(9, object)):
        with pytest.raises(TypeError, match="uint8, int8, uint16 or int16|an array or a buffer"):
            call(wrong)
    with pytest.raises(TypeError, match="without a mask, got a masked array"):
        call(np.ma.masked_array(np.zeros(9, "u1"), mask=True))
    for shape in ((), (3, 0), (2, 2, 2), (1, 65536)):
        with pytest.raises(ValueError, match="rows are in the order of time"):
            call(np.zeros(shape, "u1"))
    with pytest.raises(ValueError, match="Did you mean delta"):
        call(np.zeros(9, "u1"), "dleta")


@pytest.mark.usefixtures("kernels")
def test_a_matrix_whose_rest_cannot_be_counted_is_refused() -> None:
    for shape, dtype in (((15, 5000), "u1"), ((15, 5000), "u2"), ((31, 4096 + 300), "u1"), ((32, 4096), "u1")):
        with pytest.raises(ValueError, match=r"at most 65535 elements remain .*, got shape \(\d+, \d+\)\. Pass fewer"):
            v0.compress(np.zeros(shape, dtype))
    for shape in ((13, 5000), (1, 65535), (32, 4095)):
        x = np.ones(shape, "u1")
        assert np.array_equal(v0.decompress(v0.compress(x), "u1"), x)
    x = np.zeros((32, 4096), "u1")  # here FIRE's comparison leaves less over than that of delta
    assert np.array_equal(v0.decompress(v0.compress(x, "fire"), "u1", "fire"), x)


def test_wrong_arguments_of_the_decoders() -> None:
    stream, packed = v0.compress(np.zeros((9, 2), "u1")), v0.pack(np.zeros((9, 2), "u1"))
    with pytest.raises(TypeError, match="uint8, int8, uint16 or int16, got float32"):
        v0.decompress(stream, "float32")
    with pytest.raises(TypeError, match="got nonsense"):
        v0.decompress(stream, "nonsense")
    with pytest.raises(ValueError, match="predictor 'delta' or 'fire', got 'nlms'"):
        v0.decompress(stream, "u1", "nlms")
    with pytest.raises(ValueError, match="max_elements"):
        v0.decompress(stream, "u1", max_elements=-1)
    with pytest.raises(TypeError, match="an array or a buffer, got str"):
        v0.unpack("text")
    with pytest.raises(TypeError, match="a buffer of bytes"):
        v0.unpack(np.zeros(3, object))
    frozen = np.zeros((9, 2), "u1")
    frozen.flags.writeable = False
    for out, message in (
        (np.zeros((9, 3), "u1"), "out of shape"),
        (np.zeros((9, 2), "i1"), "out of shape"),
        (np.zeros(18, "u1"), "out of shape"),
        (bytearray(17), "out of shape"),
        (frozen, "writable"),
        (np.zeros((2, 9), "u1").T, "writable, contiguous"),
        (bytes(18), "writable"),
    ):
        with pytest.raises(ValueError, match=message):
            v0.decompress(stream, "u1", out=out)
        with pytest.raises(ValueError, match=message):
            v0.unpack(packed, out=out)
