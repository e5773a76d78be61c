"""The kernels of published Sprintz streams and their Huffman stage, at the ends of memory: nothing beyond is touched.

NumPy only, and arrays that end where their allocation ends: a sanitizer sees each byte read or written too many. Which
bytes are right is checked in tests/codecs/sprintz/.
"""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from hasten._native import ext

ASKED_FOR = os.environ.get("HASTEN_NO_NATIVE", "0") not in ("", "0")
COMPILER = any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++", "cl")))
pytestmark = [
    pytest.mark.skipif(ext is None and ASKED_FOR, reason="no compiled module: HASTEN_NO_NATIVE is set"),
    pytest.mark.skipif(ext is None and not COMPILER, reason="no compiled module: this machine has no C++ compiler"),
]

COLUMNS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33)
ROWS = (0, 1, 15, 16, 17, 40, 131)


def at_the_end(content: np.ndarray | bytes) -> np.ndarray:
    """A copy at the very end of an allocation."""
    flat = np.frombuffer(content, np.uint8) if isinstance(content, bytes) else content.reshape(-1)
    block = np.empty(64 // flat.itemsize + flat.size, flat.dtype)
    block[block.size - flat.size :] = flat
    return block[block.size - flat.size :]


def encoded(x: np.ndarray, fire: bool) -> bytes:
    out = at_the_end(np.zeros(ext.sprintz_v0_bound(*x.shape, x.itemsize), np.uint8))
    length = ext.sprintz_v0_encode(at_the_end(x).reshape(x.shape), fire, out)
    assert length + 8 <= out.size
    return out[:length].tobytes()


def decoded(stream: bytes, fire: bool, size: int, dtype: str) -> tuple[np.ndarray, tuple[int, tuple[int, str] | None]]:
    out = at_the_end(np.zeros(size, dtype))
    return out, ext.sprintz_v0_decode(at_the_end(stream), fire, out)


def matrix(rows: int, columns: int, dtype: str, bits: int, seed: int = 0) -> np.ndarray:
    """Noise of so many bits, and a still part."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 1 << min(bits, 8 * np.dtype(dtype).itemsize), (rows, columns)).astype(dtype)
    x[rows // 2 : 3 * rows // 4] = x[rows // 2 : rows // 2 + 1]
    return x


@pytest.mark.parametrize("fire", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_every_shape_and_width(dtype: str, fire: bool) -> None:
    for columns in COLUMNS:
        for rows in ROWS:
            for bits in (0, 1, 3, 6, 8, 11, 16) if rows == 40 else (2, 16):
                x = matrix(rows, columns, dtype, bits, seed=rows)
                stream = encoded(x, fire)
                assert ext.sprintz_v0_scan(at_the_end(stream), x.itemsize, x.size) == (columns, x.size, None)
                found, outcome = decoded(stream, fire, x.size, dtype)
                assert outcome == (x.size, None)
                assert np.array_equal(found, x.reshape(-1)), (rows, columns, bits)


@pytest.mark.parametrize("fire", [False, True])
@pytest.mark.parametrize(("columns", "dtype"), [(1, "u1"), (3, "u1"), (7, "u1"), (1, "u2"), (2, "u2"), (5, "u2")])
def test_damaged_streams(columns: int, dtype: str, fire: bool) -> None:
    x = matrix(100, columns, dtype, bits=5)
    stream = encoded(x, fire)
    rng = np.random.default_rng(0)
    damaged = [stream[:length] for length in range(len(stream))]
    for _ in range(1500):
        changed = bytearray(stream)
        for at in rng.integers(0, len(stream), int(rng.integers(1, 5))):
            changed[at] = int(rng.integers(0, 256))
        damaged.append(bytes(changed))
    for changed in damaged:
        found_columns, elements, fault = ext.sprintz_v0_scan(at_the_end(changed), x.itemsize, 2 * x.size)
        _, outcome = decoded(changed, fire, 2 * x.size, dtype)
        assert outcome[1] == fault
        if fault is None:
            assert outcome[0] == elements <= 2 * x.size
            assert elements % found_columns == 0
        else:
            assert 0 <= fault[0] <= len(changed)
        decoded(changed, fire, x.size // 2, dtype)  # less room than the stream says


def test_huffman_of_every_size() -> None:
    rng = np.random.default_rng(0)
    for size in [*range(70), 1000, 1001, 1002, 1003, 131071, 131072, 131073]:
        for spread in (1, 2, 40, 255):
            data = (rng.integers(0, spread, size) * rng.integers(0, 2, size)).astype(np.uint8)
            out = at_the_end(np.zeros(ext.sprintz_huffman_bound(size), np.uint8))
            length = ext.sprintz_huffman_encode(at_the_end(data), out)
            assert length + 8 <= out.size
            back = at_the_end(np.zeros(size, np.uint8))
            assert ext.sprintz_huffman_decode(at_the_end(out[:length]), back) is None
            assert np.array_equal(back, data), (size, spread)


def test_damaged_huffman_blocks() -> None:
    rng = np.random.default_rng(0)
    data = rng.binomial(20, 0.5, 2000).astype(np.uint8)
    out = np.zeros(ext.sprintz_huffman_bound(data.size), np.uint8)
    coded = out[: ext.sprintz_huffman_encode(data, out)].tobytes()
    assert coded[0] == 1
    damaged = [coded[:length] for length in range(0, len(coded), 7)]
    for i in range(3000):
        changed = bytearray(coded)
        at = int(rng.integers(0, len(coded) if i % 2 else 60))
        changed[at] = int(rng.integers(0, 256))
        damaged.append(bytes(changed))
    for changed in damaged:
        fault = ext.sprintz_huffman_decode(at_the_end(changed), at_the_end(np.zeros(data.size, np.uint8)))
        assert fault is None or 0 <= fault[0] <= len(changed)
        ext.sprintz_huffman_decode(at_the_end(changed), at_the_end(np.zeros(150_000, np.uint8)))


def test_wrong_arguments_are_refused() -> None:
    x, room = np.zeros((16, 9), np.uint8), ext.sprintz_v0_bound(16, 9, 1)
    with pytest.raises(ValueError, match="shorter than the bound"):
        ext.sprintz_v0_encode(x, False, np.zeros(room - 1, np.uint8))
    with pytest.raises(ValueError, match="1 to 65535 columns"):
        ext.sprintz_v0_encode(np.zeros((16, 0), np.uint8), False, np.zeros(99, np.uint8))
    with pytest.raises(ValueError, match="1 to 65535 columns"):
        ext.sprintz_v0_encode(np.zeros((1, 65536), np.uint8), False, np.zeros(70_000, np.uint8))
    with pytest.raises(ValueError, match="itemsize of 1 or 2"):
        ext.sprintz_v0_scan(np.zeros(9, np.uint8), 4, 10)
    with pytest.raises(ValueError, match="shorter than the bound"):
        ext.sprintz_huffman_encode(np.zeros(9, np.uint8), np.zeros(9, np.uint8))
    for wrong in (x.astype(np.int8), x[:, ::2], x[0]):
        with pytest.raises(TypeError):
            ext.sprintz_v0_encode(wrong, False, np.zeros(room, np.uint8))
    frozen = np.zeros(144, np.uint8)
    frozen.flags.writeable = False
    with pytest.raises(TypeError):
        ext.sprintz_v0_decode(np.zeros(8, np.uint8), False, frozen)


def test_a_matrix_that_the_format_cannot_hold() -> None:
    x = np.zeros((15, 5000), np.uint8)
    assert ext.sprintz_v0_encode(x, False, np.zeros(ext.sprintz_v0_bound(15, 5000, 1), np.uint8)) == 0
    wide = matrix(33, 5000, "u2", bits=9)[:32]
    assert np.array_equal(decoded(encoded(wide, True), True, wide.size, "u2")[0], wide.reshape(-1))
