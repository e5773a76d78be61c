"""Choosing an implementation at run time, and the checksum that goes through it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hasten._core import dispatch

GOLDEN = {b"": 0x0, b"hasten": 0x5601211F85928737, bytes(range(256)): 0x5C109D37B913E26F}


@pytest.fixture
def python_only(monkeypatch):
    """An installation without the compiled module."""
    monkeypatch.setattr(dispatch, "ext", None)
    monkeypatch.setattr(dispatch, "REASON", "no compiler.")
    monkeypatch.delenv("HASTEN_ISA", raising=False)


def test_best_isa_by_default(monkeypatch):
    monkeypatch.delenv("HASTEN_ISA", raising=False)
    assert dispatch.isa() == (dispatch.isas()[-1] if dispatch.native_available() else "reference")


def test_forced_isa_is_read_at_each_call(each_isa):
    assert dispatch.isa() == each_isa


def test_unknown_isa_says_what_is_near(monkeypatch):
    monkeypatch.setenv("HASTEN_ISA", "avx")
    with pytest.raises(ValueError, match=r"HASTEN_ISA: expected one of scalar, .*, got 'avx'\. Did you mean avx2"):
        dispatch.isa()


def test_absent_isa_says_what_there_is(monkeypatch):
    told = {"isas": staticmethod(lambda: ("scalar", "avx2")), "forced_isa": staticmethod(lambda: "neon")}
    monkeypatch.setattr(dispatch, "ext", type("Ext", (), told))
    monkeypatch.setenv("HASTEN_ISA", "neon")
    with pytest.raises(ValueError, match=r"got 'neon'\. Unset HASTEN_ISA, or use .*: scalar, avx2\.$"):
        dispatch.isa()


def test_python_only(python_only):
    assert not dispatch.native_available()
    assert dispatch.native_reason() == "no compiler."
    assert dispatch.isas() == ()
    assert dispatch.isa() == "reference"
    assert dispatch.cpu_features() == {}
    for data, value in GOLDEN.items():
        assert dispatch.checksum(data) == value


def test_forced_isa_without_the_module_is_refused(python_only, monkeypatch):
    monkeypatch.setenv("HASTEN_ISA", "scalar")
    with pytest.raises(ValueError, match="expected a compiled module to run it, got none. Unset HASTEN_ISA, since no"):
        dispatch.checksum(b"1")


def test_reason_and_module_exclude_each_other():
    assert dispatch.native_available() == (dispatch.native_reason() == "")


def test_golden_values(each_isa):
    for data, value in GOLDEN.items():
        assert dispatch.checksum(data) == value


def test_reference_in_several_chunks(each_isa):
    data = np.random.default_rng(0).integers(0, 256, 3 * 8 * dispatch._CHUNK + 5, dtype=np.uint8)
    assert dispatch._checksum_reference(data) == dispatch.checksum(data)


@given(array=hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, min_side=0, max_side=5)))
def test_only_the_bytes_count(array):
    assert dispatch.checksum(array) == dispatch._checksum_reference(np.frombuffer(array.tobytes(), dtype=np.uint8))


@given(data=st.binary(min_size=1, max_size=200), where=st.integers(0, 10**6), other=st.binary(min_size=8, max_size=8))
def test_a_change_inside_one_word_is_always_seen(data, where, other):
    start = where % len(data) // 8 * 8
    changed = data[:start] + other[: len(data) - start] + data[start + 8 :]
    assert (dispatch.checksum(changed) == dispatch.checksum(data)) == (changed == data)


def test_position_and_length_count():
    one, two = np.arange(8, dtype=np.uint64), np.arange(8, dtype=np.uint64)[::-1].copy()
    assert dispatch.checksum(one) != dispatch.checksum(two)
    assert dispatch.checksum(b"1\0") != dispatch.checksum(b"1")


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.bool, torch.int64, torch.complex64, torch.float8_e4m3fn]
)
def test_tensors_of_any_dtype(dtype):
    tensor = torch.arange(24).reshape(2, 3, 4).to(dtype)
    assert dispatch.checksum(tensor) == dispatch.checksum(bytes(tensor.reshape(-1).view(torch.uint8).tolist()))


def test_parameters_scalars_and_other_buffers():
    value = dispatch.checksum(np.float32(1.5).tobytes())
    parameter = torch.nn.Parameter(torch.tensor([1.5]))
    array = np.array(1.5, dtype=np.float32)
    for same in (parameter, torch.tensor(1.5), array, memoryview(array), bytearray(array.tobytes())):
        assert dispatch.checksum(same) == value


def test_nothing_is_copied():
    array = np.zeros((3, 4))
    assert np.shares_memory(dispatch._byte_view("test", array), array)
    assert np.shares_memory(dispatch._byte_view("test", memoryview(array)), array)
    tensor = torch.zeros(3, 4)
    assert np.shares_memory(dispatch._byte_view("test", tensor), tensor.numpy())


@pytest.mark.parametrize(
    ("bad", "error", "text"),
    [
        ("text", TypeError, "checksum: expected bytes, a memoryview, .*, got str"),
        (7, TypeError, "got int"),
        (np.array([object()]), TypeError, "expected an array of numbers, got ndarray of shape"),
        (np.zeros((4, 4))[:, ::2], ValueError, r"expected contiguous data, .*numpy\.ascontiguousarray"),
        (memoryview(b"abcd")[::2], ValueError, r"strides \(2,\)\. Pass bytes\(view\)"),
        (torch.zeros(4, 3).T, ValueError, r"shape \(3, 4\), strides \(1, 3\)\. Pass tensor\..*contiguous\(\)"),
        (torch.ones(2, dtype=torch.complex64).conj(), ValueError, "resolve_conj"),
        (torch.zeros(3).to_sparse(), ValueError, r"expected a dense tensor, .*to_dense\(\)"),
        (torch.zeros(3, device="meta"), ValueError, r"one on meta\. Pass tensor\.cpu\(\)"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_bad_buffers(bad, error, text):
    with pytest.raises(error, match=text):
        dispatch.checksum(bad)


def test_torch_is_not_imported():
    code = (
        "import sys, numpy; from hasten._core import dispatch; dispatch.checksum(numpy.ones(3)); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
