"""The compiled kernels: every instruction set gives the value of a slow, obvious reference; bad input is refused."""

from __future__ import annotations

import os
import platform
import shutil
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten._core import dispatch
from hasten._native import REASON, ext

# An installation without kernels is only for those who asked for it or have no compiler. Where there is one, a build
# that failed is a failed test, not a skip.
ASKED_FOR = os.environ.get("HASTEN_NO_NATIVE", "0") not in ("", "0")
COMPILER = any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++", "cl")))
pytestmark = [
    pytest.mark.skipif(ext is None and ASKED_FOR, reason="no compiled module: HASTEN_NO_NATIVE is set"),
    pytest.mark.skipif(ext is None and not COMPILER, reason="no compiled module: this machine has no C++ compiler"),
]

MASK = (1 << 64) - 1
ISAS = dispatch.isas()


def mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def reference(data: bytes) -> int:
    """The formula of checksum.hpp, word by word."""
    total = len(data)
    for i in range(0, len(data), 8):
        word = int.from_bytes(data[i : i + 8].ljust(8, b"\0"), "little")
        total += mix((word + (i // 8 + 1) * 0x9E3779B97F4A7C15) & MASK)
    return mix(total & MASK)


def at_the_end(size: int, seed: int = 0) -> np.ndarray:
    """`size` random bytes at the very end of an allocation, where a sanitizer sees one byte read too many."""
    block = np.random.default_rng(seed).integers(0, 256, 4096 + size, dtype=np.uint8)
    return block[4096:]


def test_module_is_there():
    assert ext is not None, REASON
    assert REASON == ""


def test_isas_and_features_agree():
    features = ext.cpu_features()
    assert ISAS[0] == "scalar"
    assert [dispatch.ISAS.index(name) for name in ISAS] == sorted(map(dispatch.ISAS.index, ISAS)), "the best last"
    assert ("avx2" in ISAS) <= features["avx2"]
    assert ("avx512" in ISAS) <= (features["avx512f"] and features["avx512dq"] and features["avx512bw"])
    assert ("avx512vnni" in ISAS) <= ("avx512" in ISAS and features["avx512vnni"] and features["avx512vbmi"])
    assert ("neon" in ISAS) == features["neon"]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="not an x86 machine")
def test_avx2_never_skips_on_x86():
    assert "avx2" in ISAS


@pytest.mark.parametrize("isa", ISAS)
def test_every_tail_length(isa):
    # 16 words are one turn of the widest kernel: whole turns, whole words and single bytes left over, in every mix.
    for size in [*range(300), 1023, 4096 + 7]:
        data = at_the_end(size, seed=size)
        assert ext.checksum(data, isa) == reference(data.tobytes()), size


@pytest.mark.parametrize("isa", ISAS)
@given(data=st.binary(max_size=600), offset=st.integers(0, 63))
def test_any_bytes_at_any_alignment(isa, data, offset):
    block = np.zeros(offset + len(data), dtype=np.uint8)
    block[offset:] = np.frombuffer(data, dtype=np.uint8)
    assert ext.checksum(block[offset:], isa) == reference(data)


@pytest.mark.parametrize("isa", ISAS)
def test_golden_values(isa):
    # Stored fingerprints are compared with new ones: these numbers never change.
    golden = {b"": 0x0, b"hasten": 0x5601211F85928737, bytes(range(256)): 0x5C109D37B913E26F}
    for data, value in golden.items():
        assert ext.checksum(np.frombuffer(data, dtype=np.uint8), isa) == value


@pytest.mark.parametrize("isa", ISAS)
def test_read_only_memory_is_accepted(isa):
    data = np.arange(200, dtype=np.uint8)
    value = ext.checksum(data, isa)
    data.flags.writeable = False
    assert ext.checksum(data, isa) == value


def test_runs_in_several_threads():
    data, found = at_the_end(1 << 20), []
    threads = [threading.Thread(target=lambda: found.append(ext.checksum(data, ISAS[-1]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [ext.checksum(data, "scalar")] * 4


@pytest.mark.parametrize(
    "data",
    [
        np.zeros(8, dtype=np.float32),  # a cast would be a silent copy
        np.zeros(8, dtype=np.int8),
        np.zeros(16, dtype=np.uint8)[::2],
        np.zeros((2, 4), dtype=np.uint8),
        [1, 2, 3],
        None,
    ],
    ids=["float32", "int8", "strided", "two-dimensional", "list", "none"],
)
def test_other_arrays_are_refused_not_converted(data):
    with pytest.raises(TypeError, match="incompatible function arguments"):
        ext.checksum(data, "scalar")


def test_unknown_isa():
    with pytest.raises(ValueError, match="unknown instruction set 'sse9'"):
        ext.checksum(np.zeros(8, dtype=np.uint8), "sse9")


def test_absent_isa():
    absent = next(name for name in dispatch.ISAS if name not in ISAS)  # no machine has both AVX2 and NEON
    with pytest.raises(ValueError, match=f"this CPU or operating system has no {absent}"):
        ext.checksum(np.zeros(8, dtype=np.uint8), absent)
