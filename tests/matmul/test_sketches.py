"""Sketches: expectation and variance over seeds are those of theory, their parts are those of dense matrices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.matmul.base import ApproxMatmul, Cost
from hasten.matmul.sketches import (
    OSNAP,
    CountSketch,
    FastJL,
    GaussianSketch,
    RowSampling,
    draw_buckets,
    hadamard,
    sampling_probabilities,
    signed_sums,
)


def draw(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


A, B = draw((4, 13)), draw((13, 3), 1)
A[2], B[:, 1] = 0, np.arange(13)
A[2, 4] = 2.0  # a row with one element
WIDTH, SEEDS = 5, 4000


def variance(kind: type[ApproxMatmul]) -> np.ndarray:
    """What the head of the module says, for each output."""
    a, b = A.astype(np.float64), B.astype(np.float64)
    norms = (a**2).sum(axis=1)[:, None] * (b**2).sum(axis=0)
    inner, squares = (a @ b) ** 2, a**2 @ b**2
    if kind is GaussianSketch:
        return (norms + inner) / WIDTH
    if kind is RowSampling:
        return (a**2 @ (b**2 / sampling_probabilities(A, B, None, 0.1)[:, None]) - inner) / WIDTH
    finite_population = (1 - WIDTH / 16) * 16 / 15 if kind is FastJL else 1
    return (norms + inner - 2 * squares) / WIDTH * finite_population


MAKERS: dict[type[ApproxMatmul], Callable[[int], ApproxMatmul]] = {
    GaussianSketch: lambda seed: GaussianSketch(WIDTH, random_state=seed),
    FastJL: lambda seed: FastJL(WIDTH, random_state=seed),
    CountSketch: lambda seed: CountSketch(WIDTH, random_state=seed),
    OSNAP: lambda seed: OSNAP(WIDTH, nonzeros=3, random_state=seed),
    RowSampling: lambda seed: RowSampling(WIDTH, random_state=seed),
}


@pytest.mark.parametrize("kind", MAKERS, ids=lambda kind: kind.__name__)
def test_mean_and_variance_over_seeds(kind: type[ApproxMatmul]) -> None:
    outputs = np.stack([MAKERS[kind](seed).fit(A, B).matmul(A) for seed in range(SEEDS)]).astype(np.float64)
    expected = variance(kind)
    # The mean of SEEDS outputs is normal with that variance / SEEDS: beyond 5 deviations lies 6e-7. Rounding: 1e-5.
    assert (np.abs(outputs.mean(axis=0) - A.astype(np.float64) @ B) <= 5 * np.sqrt(expected / SEEDS) + 1e-5).all()
    # The variance of SEEDS outputs is off by sqrt((kurtosis - 1) / SEEDS): 4 % at a kurtosis of 8, each 5 times that.
    np.testing.assert_allclose(outputs.var(axis=0), expected, rtol=0.2, atol=1e-9)
    assert outputs.var(axis=0).sum() == pytest.approx(expected.sum(), rel=0.06)


def test_more_components_have_a_smaller_error() -> None:
    rows, factor = draw((20, 64)), draw((64, 8), 1)
    exact = rows @ factor
    for kind in (GaussianSketch, FastJL, CountSketch, OSNAP, RowSampling):
        errors = [
            np.mean(
                [np.square(kind(d, random_state=s).fit(rows, factor).matmul(rows) - exact).mean() for s in range(30)]
            )
            for d in (4, 16, 60)
        ]
        assert errors[0] > 2 * errors[1] > 4 * errors[2], kind


# Hadamard -------------------------------------------------------------------------------------------------------------


@given(log=st.integers(0, 6), n=st.integers(1, 4))
def test_hadamard_is_the_dense_matrix(log: int, n: int) -> None:
    linalg = pytest.importorskip("scipy.linalg", reason="needs the extra bench")
    x = np.random.default_rng(log).integers(-99, 99, (2**log, n)).astype(np.float32)
    out = x.copy()
    hadamard(out)
    assert np.array_equal(out, linalg.hadamard(2**log) @ x)
    hadamard(out)
    assert np.array_equal(out, x * 2**log)


def test_fastjl_keeps_inner_products_at_full_width() -> None:
    for columns in (1, 2, 8, 32):
        rows, factor = draw((6, columns)), draw((columns, 4), 1)
        np.testing.assert_allclose(FastJL(columns).fit(rows, factor).matmul(rows), rows @ factor, atol=2e-5)


def test_fastjl_pads_to_a_power_of_two() -> None:
    rows, factor = draw((6, 9)), draw((9, 4), 1)
    padded = [np.concatenate([x, np.zeros(shape, np.float32)], axis) for x, shape, axis in
              ((rows, (6, 7), 1), (factor, (7, 4), 0))]  # fmt: skip
    narrow, wide = FastJL(9).fit(rows, factor), FastJL(9).fit(padded[0], padded[1])
    wide.signs_[:9], wide.sample_ = narrow.signs_, narrow.sample_
    assert np.array_equal(narrow.matmul(rows), wide.set_B(padded[1]).matmul(padded[0]))
    assert len(set(narrow.sample_.tolist())) == 9
    assert narrow.sample_.max() < 16


# Signed sums ----------------------------------------------------------------------------------------------------------


@given(data=st.data(), n=st.integers(0, 5), columns=st.integers(1, 9), width=st.integers(1, 6))
def test_signed_sums_are_a_sparse_product(data: st.DataObject, n: int, columns: int, width: int) -> None:
    nonzeros = data.draw(st.integers(1, width))
    buckets, signs = draw_buckets(np.random.default_rng(data.draw(st.integers(0, 99))), columns, width, nonzeros)
    dense = np.zeros((columns, width), np.int64)
    np.add.at(dense, (np.arange(columns)[:, None], buckets), np.where(signs, 1, -1))
    assert (np.abs(dense).sum(axis=1) == nonzeros).all(), "the places of a column are distinct"
    assert np.abs(dense).max() == 1
    rows = np.random.default_rng(n).integers(-99, 99, (n, columns)).astype(np.float32)
    assert np.array_equal(signed_sums(rows, buckets, signs, width), rows.astype(np.int64) @ dense)


def test_codes_of_a_row_have_the_same_bits_in_any_batch() -> None:
    rows = draw((700, 300))  # two blocks of rows
    for method in (CountSketch(7), OSNAP(7), FastJL(7)):
        codes = method.fit(rows, draw((300, 2))).encode(rows).values
        for i in (0, 435, 436, 437, 699):
            assert np.array_equal(method.encode(rows[i : i + 1]).values[0], codes[i])


def test_buckets_and_signs_are_uniform() -> None:
    buckets, signs = draw_buckets(np.random.default_rng(0), 20_000, 5, 2)
    counts = np.bincount(buckets.ravel(), minlength=5)  # of 20000 draws without replacement of 2 of 5: sd 69
    assert np.abs(counts - 8000).max() < 5 * 70
    assert abs(int(signs.sum()) - 20_000) < 5 * 100


def test_an_osnap_of_one_nonzero_is_a_count_sketch() -> None:
    assert np.array_equal(OSNAP(5, nonzeros=1).fit(A, B).matmul(A), CountSketch(5).fit(A, B).matmul(A))


# Sampling -------------------------------------------------------------------------------------------------------------


def test_probabilities_by_hand() -> None:
    rows = np.array([[3, 0, 0], [4, 0, 5]], np.float32)  # norms 5, 0, 5
    factor = np.array([[1, 0], [7, 7], [0, 3]], np.float32)
    np.testing.assert_allclose(sampling_probabilities(rows, factor, None, 0.0), [0.25, 0, 0.75])
    np.testing.assert_allclose(sampling_probabilities(rows, None, None, 0.0), [0.5, 0, 0.5])
    np.testing.assert_allclose(sampling_probabilities(rows, None, np.array([1.0, 0]), 0.0), [1, 0, 0])
    np.testing.assert_allclose(sampling_probabilities(rows, factor, None, 0.3), [0.275, 0.1, 0.625])
    np.testing.assert_allclose(sampling_probabilities(0 * rows, factor, None, 0.0), [1 / 3] * 3)


def test_a_column_drawn_twice_counts_twice() -> None:
    rows, factor = np.ones((2, 4), np.float32), np.ones((4, 1), np.float32)
    for seed in range(20):
        method = RowSampling(4, uniform=1.0, random_state=seed).fit(rows, factor)
        assert method.scales_.sum() == pytest.approx(4)
        np.testing.assert_allclose(method.matmul(rows), 4, rtol=1e-6)
        assert method.encode(rows).values.shape == (2, len(method.sample_))


def test_with_a_uniform_share_columns_unseen_in_training_count_on_average() -> None:
    train, rows, factor = np.eye(1, 4, dtype=np.float32), np.ones((1, 4), np.float32), np.ones((4, 1), np.float32)
    blended = [RowSampling(4, random_state=seed).fit(train, factor).matmul(rows).item() for seed in range(4000)]
    p = sampling_probabilities(train, factor, None, 0.1)
    deviation = np.sqrt(((1 / p).sum() - 16) / 4 / 4000)
    assert abs(np.mean(blended) - 4) < 5 * deviation
    assert RowSampling(4, uniform=0.0).fit(train, factor).matmul(rows).item() == 1


def test_costs_by_hand() -> None:
    # 10 rows, D = 13, d = 5, M = 3: the narrow product is 15 multiply-adds a row; P = 16 takes 4 passes of 16 additions
    assert GaussianSketch(5).fit(A, B).cost(10) == Cost(10 * (130 + 30), 0, 520, 4 * (15 + 65))
    assert FastJL(5).fit(A, B).cost(10) == Cost(10 * (13 + 64 + 30), 0, 520, 60 + 52 + 40)
    assert CountSketch(5).fit(A, B).cost(10) == Cost(10 * (13 + 30), 0, 520, 60 + 9 * 13)
    assert OSNAP(5, nonzeros=3).fit(A, B).cost(10) == Cost(10 * (39 + 30), 0, 520, 60 + 27 * 13)
    sampled = RowSampling(5).fit(A, B)
    kept = len(sampled.sample_)
    assert sampled.cost(10) == Cost(10 * 6 * kept, 0, 40 * kept, 20 * kept)
