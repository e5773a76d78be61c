"""Frames of Sprintz streams and their Huffman stage: layout, lies, the slow coder's bytes; and files that last."""

from __future__ import annotations

import heapq
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.codecs.sprintz.cases_v0 import PREDICTORS, kernels, needs_kernels, series  # noqa: F401
from tests.codecs.sprintz.reference_v0 import HUFFMAN_BLOCK, LIMIT, code_lengths, huffman_decode, huffman_encode

from hasten._native import ext
from hasten.codecs.sprintz import _v0_frame, _v0_huffman, v0
from hasten.codecs.sprintz.errors import CorruptError, VersionError

GOLDEN = Path(__file__).parents[2] / "golden" / "sprintz_v0"
each_coder = pytest.mark.parametrize(
    "coder", [pytest.param(ext, marks=needs_kernels, id="native"), pytest.param(_v0_huffman, id="python")]
)


@pytest.mark.usefixtures("kernels")
def test_the_frame_says_everything() -> None:
    for dtype in ("u1", "i1", "u2", "i2"):
        for predictor in PREDICTORS:
            x = series("quiet", np.random.default_rng(0), (700, 4), dtype.replace("i", "u")).view(dtype)
            for huffman in (False, True):
                packed = v0.pack(x, predictor, huffman=huffman)
                found = v0.unpack(packed)
                assert found.dtype == x.dtype
                assert np.array_equal(found, x)
            assert v0.pack(x, predictor, huffman=False)[64:] == v0.compress(x, predictor)
            assert len(packed) < 64 + len(v0.compress(x, predictor)), "and Huffman pays here"


def test_the_layout_of_the_frame() -> None:
    packed = v0.pack(np.array([[1, -2], [3, -4]], "i2"), "fire")
    assert packed[:16].hex(" ") == "93 53 50 5a 0d 0a 1a 0a 01 02 01 01 00 00 00 00"
    assert packed[16:32].hex(" ") == "02 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00"
    assert packed[32:48].hex(" ") == "10 00 00 00 00 00 00 00 10 00 00 00 00 00 00 00"
    assert packed[64:].hex(" ") == "00 00 00 00 04 00 02 00 01 00 fe ff 03 00 fc ff"


def test_frames_that_are_none() -> None:
    packed = v0.pack(series("walk", np.random.default_rng(0), (300, 4), "u1"))
    with pytest.raises(VersionError, match="version 2; this version of hasten reads version 1"):
        v0.unpack(packed[:8] + b"\2" + packed[9:])
    for changed, offset in ((b"", 0), (b"PNG" + packed, 0), (packed[:20], 20), (packed[:-1], len(packed) - 1)):
        with pytest.raises(CorruptError) as caught:
            v0.unpack(changed)
        assert caught.value.offset == offset
    with pytest.raises(CorruptError, match="more elements than are allowed"):
        v0.unpack(packed, max_elements=1199)


def forged(packed: bytes, **fields: int) -> bytes:
    """The frame with other fields, and a checksum of these."""
    header = _v0_frame.Header.read(np.frombuffer(packed, np.uint8), 1 << 40)
    return header._replace(**fields).to_bytes() + packed[64:]


@pytest.mark.usefixtures("kernels")
def test_a_header_that_lies_is_found_out() -> None:
    packed = v0.pack(series("quiet", np.random.default_rng(0), (2000, 4), "u1"))
    lies: list[tuple[dict[str, int], str]] = [
        ({"itemsize": 4}, "unknown kind"),
        ({"signed": 2}, "unknown kind"),
        ({"fire": 2}, "unknown kind"),
        ({"coding": 2}, "unknown kind"),
        ({"coding": 0}, "fits neither"),
        ({"columns": 0}, "not in 1 to 65535"),
        ({"rows": 1 << 63}, "more elements than are allowed"),
        ({"rows": 4000, "columns": 2}, "another shape"),
        ({"rows": 1999}, "more elements than are allowed"),
        ({"rows": 2001}, "another shape"),
        ({"itemsize": 2}, "."),
        ({"fire": 1}, "the checksum was made of"),
        ({"checksum": 1}, "the checksum was made of"),
        ({"body_bytes": 1 << 62}, "ends inside its body"),
        ({"body_bytes": 10}, "more bytes follow"),
        ({"stream_bytes": 1 << 62}, "fits neither"),
        ({"stream_bytes": 900}, "."),
    ]
    for fields, reason in lies:
        with pytest.raises(CorruptError, match=reason):
            v0.unpack(forged(packed, **fields))


def bytes_of_every_kind() -> dict[str, bytes]:
    rng = np.random.default_rng(5)
    fibonacci = [1, 1]
    while len(fibonacci) < 24:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    skewed = np.repeat(np.arange(24, dtype=np.uint8), fibonacci)
    return {
        "nothing": b"",
        "one byte": b"x",
        "one symbol": b"\0" * 1000,
        "two symbols": bytes(rng.integers(0, 2, 1000, np.uint8) * 200),
        "random": rng.bytes(3000),
        "peaked": bytes(np.clip(rng.normal(128, 6, 5000), 0, 255).astype(np.uint8)),
        "Fibonacci: longer codes than allowed": bytes(rng.permutation(skewed)),
        "all symbols, one of them often": bytes(range(256)) + b"\7" * 4000,
        "five bytes": b"aabab",
        "two blocks": b"ab" * (HUFFMAN_BLOCK // 2) + b"c",
    }


@each_coder
@pytest.mark.parametrize("name", bytes_of_every_kind())
def test_huffman_blocks_are_those_of_the_slow_coder(name: str, coder: Any) -> None:
    data = bytes_of_every_kind()[name]
    expected = huffman_encode(data)
    assert huffman_decode(expected, len(data)) == data
    out = np.zeros(coder.sprintz_huffman_bound(len(data)), np.uint8)
    length = coder.sprintz_huffman_encode(np.frombuffer(data, np.uint8), out)
    assert out[:length].tobytes() == expected
    back = np.zeros(len(data), np.uint8)
    assert coder.sprintz_huffman_decode(np.frombuffer(expected, np.uint8), back) is None
    assert back.tobytes() == data


@needs_kernels
@pytest.mark.parametrize("size", [HUFFMAN_BLOCK - 1, HUFFMAN_BLOCK, HUFFMAN_BLOCK + 1, 2 * HUFFMAN_BLOCK + 3])
def test_huffman_across_blocks(size: int) -> None:
    rng = np.random.default_rng(size)
    data = np.clip(rng.normal(0, 9, size), -128, 127).astype(np.int8).view(np.uint8)
    data[HUFFMAN_BLOCK:] = rng.integers(0, 256, data[HUFFMAN_BLOCK:].size, np.uint8)  # not worth a code
    coded = []
    for coder in (_v0_huffman, ext):
        out = np.zeros(coder.sprintz_huffman_bound(size), np.uint8)
        coded.append(out[: coder.sprintz_huffman_encode(data, out)])
    assert np.array_equal(*coded)
    back = np.zeros_like(data)
    assert ext.sprintz_huffman_decode(coded[0], back) is None
    assert np.array_equal(back, data)


def huffman_bits(data: bytes) -> int:
    """Of the best code without a limit: every node's weight is what its merger costs."""
    heap = [data.count(s) for s in set(data)]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        node = heapq.heappop(heap) + heapq.heappop(heap)
        total += node
        heapq.heappush(heap, node)
    return total


@settings(max_examples=60)
@given(st.binary(min_size=2, max_size=600).filter(lambda data: len(set(data)) > 1))
def test_codes_are_complete_and_the_best(data: bytes) -> None:
    lengths = code_lengths(data)
    assert sum(2 ** (LIMIT - length) for length in lengths.values()) == 2**LIMIT
    assert sum(data.count(s) * length for s, length in lengths.items()) == huffman_bits(data)
    found = _v0_huffman._code_lengths(np.bincount(np.frombuffer(data, np.uint8), minlength=256))
    assert {s: int(n) for s, n in enumerate(found) if n} == lengths


@each_coder
def test_malformed_huffman_blocks(coder: Any) -> None:
    size = 5000
    good = huffman_encode(bytes_of_every_kind()["peaked"])
    used = sum(byte.bit_count() for byte in good[5:37])
    streams = 37 + (used + 1) // 2

    def with_byte(at: int, value: int) -> bytes:
        return good[:at] + bytes([value]) + good[at + 1 :]

    def with_lengths(length: int) -> bytes:
        nibbles = [length] * used + [0] * (used % 2)
        table = bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True))
        return good[:37] + table + good[streams:]

    cases = [
        (b"", 0, "inside the header of a block"),
        (good[:4], 0, "inside the header of a block"),
        (with_byte(0, 3), 0, "an unknown kind"),
        (with_byte(0, 0), 1, "another length than its kind"),
        (with_byte(0, 2), 1, "another length than its kind"),
        (with_byte(4, 255), 1, "longer than the bytes that follow"),
        (good[:-1], 1, "longer than the bytes that follow"),
        (good + b"?", len(good), "more bytes follow"),
        (with_byte(37, good[37] & 0xF0), 5, "a code of no length"),
        (with_byte(37, good[37] | 0x0C), 5, "more than 11 bits"),
        (with_lengths(1), 5, "more words than there is room for"),
        (with_lengths(11), 5, "a code that is not complete"),
        (with_byte(streams + 3, 255), streams, "a stream is longer than its block"),
        (with_byte(streams, good[streams] ^ 1), None, "another length than its codes"),
        (bytes([1, 10, 0, 0, 0]) + bytes(10), 5, "inside its table"),
        (bytes([1, 33, 0, 0, 0]) + b"\7" + bytes(32), 5, "inside its table"),
        (bytes([1, 33, 0, 0, 0]) + b"\3" + bytes(31) + b"\x11", 38, "inside the lengths of its streams"),
    ]
    for coded, offset, reason in cases:
        fault = coder.sprintz_huffman_decode(np.frombuffer(coded, np.uint8), np.zeros(size, np.uint8))
        assert fault is not None, reason
        assert offset in (None, fault[0]), (fault, reason)
        assert reason in fault[1], fault


# ---- for ever


@pytest.mark.usefixtures("kernels")
def test_golden_files_decode() -> None:
    index = json.loads((GOLDEN / "index.json").read_text())
    assert len(index) >= 20
    for name, entry in index.items():
        data = (GOLDEN / name).read_bytes()
        arguments = () if name.endswith(".spz") else (entry["dtype"], entry["predictor"])
        found = (v0.decompress if arguments else v0.unpack)(data, *arguments)
        assert [*found.shape] == entry["shape"], name
        assert found.dtype == np.dtype(entry["dtype"]), name
        little = found.astype(found.dtype.newbyteorder("<"))
        assert sha256(little.tobytes()).hexdigest() == entry["sha256"], name
