"""The exact product in three formats: its bits, and the proven bound on the error of 8-bit integers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hasten.matmul import exact
from hasten.matmul.base import Cost
from hasten.matmul.exact import Exact, quantise_rows


def draw(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * np.exp(2 * rng.standard_normal((shape[0], 1)))).astype(np.float32)


def test_float32_is_the_product() -> None:
    A, B = draw((37, 19)), draw((19, 5), 1)
    assert np.array_equal(Exact().fit(A, B).matmul(A), A @ B)
    assert Exact().fit(A, B).score(A, B) == pytest.approx(1, abs=1e-12)


def test_bfloat16_is_the_product_of_rounded_factors() -> None:
    A, B = draw((37, 19)), draw((19, 5), 1)
    out = Exact("bfloat16").fit(A, B).matmul(A)
    wide = torch.from_numpy(A).bfloat16().double() @ torch.from_numpy(B).bfloat16().double()
    bound = np.abs(A) @ np.abs(B) * 2.0**-16 + np.abs(wide.numpy()) * 2.0**-8  # sums in float32, a result of 8 bits
    assert (np.abs(out - wide.numpy()) <= bound).all()
    assert np.array_equal(out, torch.from_numpy(out).bfloat16().float().numpy())
    tensor = torch.from_numpy(A).bfloat16()
    assert np.array_equal(Exact("bfloat16").fit(tensor, B).matmul(tensor), out)


finite = st.floats(-(2.0**100), 2.0**100, width=32)


@given(arrays.arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(1, 7)), elements=finite))
def test_codes_are_within_half_a_scale(A: np.ndarray) -> None:
    codes, scale = quantise_rows(A)
    assert codes.dtype == np.int8
    assert codes.min(initial=0) >= -127
    error = np.abs(A.astype(np.float64) - codes * scale[:, None].astype(np.float64))
    assert (error <= scale[:, None] * (0.5 + 2.0**-16)).all(), (
        "a quotient is rounded before it is rounded to an integer"
    )
    used = np.abs(A).max(axis=1, initial=0) >= 2e-36
    assert (np.abs(codes).max(axis=1, initial=0) == np.where(used, 127, np.abs(codes).max(axis=1, initial=0))).all()


def test_rows_without_a_scale() -> None:
    A = np.array([[0, 0], [1e-38, 0], [np.nan, 1], [1, -np.inf], [127, 1]], np.float32)
    codes, scale = quantise_rows(A)
    assert codes.tolist() == [[0, 0], [0, 0], [0, 0], [0, 0], [127, 1]]
    np.testing.assert_array_equal(scale, np.array([1, 1, np.nan, np.nan, 1], np.float32))


def test_rows_are_quantised_alone() -> None:
    A = draw((3000, 70))  # more than one block
    codes, scale = quantise_rows(A)
    for i in (0, 935, 936, 937, 2999):
        one, its = quantise_rows(A[i : i + 1])
        assert np.array_equal(one[0], codes[i])
        assert its[0] == scale[i]


def test_int8_by_hand() -> None:
    A = np.array([[127, 0], [2, -1]], np.float32)  # scales 1 and 2 / 127; -1 is -63.5, and that -64
    B = np.array([[254.0], [-2.0]], np.float32)  # scale 2, codes 127 and -1
    out = Exact("int8").fit(A, B).matmul(A)
    two = np.float32(2) / np.float32(127)
    assert out.tolist() == [[127 * 127 * 2], [np.float32(127 * 127 + 64) * np.float32(2) * two]]


@pytest.mark.parametrize("shape", [(33, 64, 10), (1, 1, 1), (7, 1300, 3)])
def test_int8_error_is_within_the_bound(shape: tuple[int, int, int]) -> None:
    N, D, M = shape
    A, B = draw((N, D)), draw((M, D), 1).T
    a, b = np.abs(A).max(1, keepdims=True) / 127.0, np.abs(B).max(0, keepdims=True) / 127.0
    bound = np.abs(A).sum(1, keepdims=True) * b / 2 + np.abs(B).sum(0, keepdims=True) * a / 2 + D * a * b / 4
    out = Exact("int8").fit(A, B).matmul(A)
    error = np.abs(out - A.astype(np.float64) @ B)
    assert (error <= bound * (1 + 1e-4) + np.abs(out) * 2.0**-22).all()
    assert error.max() > 0 or D == 1, "the test would notice float32"


def test_int8_is_the_integer_product_scaled() -> None:
    A, B = draw((40, 1500)), draw((6, 1500), 1).T  # sums beyond 2^24, which float32 rounds
    A[0], B[:, 0] = 1, 1
    codes, scale = quantise_rows(A)
    weight, its = quantise_rows(np.ascontiguousarray(B.T))
    sums = codes.astype(np.int64) @ weight.T.astype(np.int64)
    assert sums.max() > 2**24
    expected = sums.astype(np.float32) * its * scale[:, None]
    assert np.array_equal(Exact("int8").fit(A, B).matmul(A), expected)


def test_int8_without_onednn_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    A, B = draw((40, 50)), draw((50, 7), 1)
    method = Exact("int8").fit(A, B)
    out = method.matmul(A)
    monkeypatch.setattr(exact, "_onednn_is_exact", lambda: False)
    assert np.array_equal(method.matmul(A), out)
    assert np.array_equal(pickle.loads(pickle.dumps(method)).matmul(A), out)


def test_a_onednn_that_saturates_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    by_onednn = exact._by_onednn
    monkeypatch.setattr(exact, "_by_onednn", lambda *given: by_onednn(*given).clamp(max=1e5))
    exact._onednn_is_exact.cache_clear()
    try:
        assert not exact._onednn_is_exact()
    finally:
        exact._onednn_is_exact.cache_clear()


def test_costs_by_hand() -> None:
    A, B = draw((10, 3)), draw((3, 2))
    assert Exact().fit(A, B).cost(10) == Cost(flops=120, lookups=0, bytes_read=120, table_bytes=24)
    assert Exact("bfloat16").fit(A, B).cost(10) == Cost(flops=120, lookups=0, bytes_read=120, table_bytes=12)
    assert Exact("int8").fit(A, B).cost(10) == Cost(flops=120, lookups=0, bytes_read=120, table_bytes=6 + 8)
