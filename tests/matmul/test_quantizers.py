"""PQ, OPQ and Bolt against brute force, and what each promises to be better at than the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.matmul import quantizers
from hasten.matmul.base import Cost
from hasten.matmul.quantizers import (
    ALPHAS,
    OPQ,
    PQ,
    Bolt,
    clip_tables,
    reconstruct,
    rotate_by_variance,
    tables,
)
from hasten.matmul.spans import spans


def draw(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def correlated(n: int, columns: int, seed: int = 0) -> np.ndarray:
    """Rows with a decaying spectrum, rotated."""
    rotation = np.linalg.qr(np.random.default_rng(7).standard_normal((columns, columns)))[0]
    return (draw((n, columns), seed) * 0.7 ** np.arange(columns) @ rotation).astype(np.float32)


A, B = draw((400, 11)), draw((11, 6), 1)


@given(D=st.integers(1, 60), data=st.data())
def test_subspaces_tile_the_columns(D: int, data: st.DataObject) -> None:
    C = data.draw(st.integers(1, D))
    parts = spans(D, C)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(D))
    assert [part.stop - part.start for part in parts] == [D // C + 1] * (D % C) + [D // C] * (C - D % C)


# PQ -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("C", "K"), [(1, 7), (3, 16), (11, 2), (4, 256)])
def test_pq_is_brute_force(C: int, K: int) -> None:
    method, rows = PQ(C, leaves=K).fit(A, B), draw((50, 11), 5)
    codes, expected = method.encode(rows).values, np.zeros((50, 6))
    assert codes.shape == (50, C)
    assert codes.dtype == np.uint8
    for c, part in enumerate(np.array_split(np.arange(11), C)):
        prototypes = method.prototypes_[c].astype(np.float64)
        assert prototypes.shape == (K, len(part))
        distance = ((rows[:, part][:, None] - prototypes) ** 2).sum(axis=2)
        assert np.array_equal(codes[:, c], distance.argmin(axis=1))
        expected += prototypes[codes[:, c]] @ B[part]
    np.testing.assert_allclose(method.matmul(rows), expected, atol=2e-5)
    seen = reconstruct(method.prototypes_, method.encode(A).values)
    assert method.inertia_ == pytest.approx(np.square(A.astype(np.float64) - seen).sum(), rel=1e-9)


def test_few_distinct_rows_are_exact() -> None:
    rows = draw((6, 11))[np.random.default_rng(0).integers(0, 6, 100)]
    for method in (PQ(3, leaves=6), OPQ(3, leaves=8), PQ(2)):
        np.testing.assert_allclose(method.fit(rows, B).matmul(rows), rows @ B, atol=2e-5)
        assert method.inertia_ < 1e-9


def test_more_leaves_and_more_codebooks_have_a_smaller_error() -> None:
    errors = [PQ(C, leaves=K).fit(A).inertia_ for C, K in ((1, 2), (1, 16), (3, 16), (11, 16), (11, 200))]
    assert (np.diff(errors) < 0).all()


def test_a_codebook_does_not_depend_on_the_others() -> None:
    wide = np.concatenate([A, draw((400, 11), 3)], axis=1)
    assert np.array_equal(PQ(2, leaves=5).fit(wide).prototypes_[0], PQ(1, leaves=5).fit(A).prototypes_[0])


def test_weights_of_zero_are_rows_left_out() -> None:
    far = np.concatenate([A, A + 100])
    weight = np.r_[np.ones(400), np.zeros(400)]
    for method in (PQ(3, leaves=4), OPQ(3, leaves=4)):
        method.fit(far, B, weight)
        assert max(np.abs(p).max() for p in method.prototypes_) < 10
        assert method.inertia_ < np.square(A).sum()


@pytest.mark.parametrize("method", [PQ(4, leaves=8), OPQ(4, leaves=8), Bolt(4)], ids=repr)
def test_small_rows_are_as_good_as_others(method: PQ) -> None:
    rows = np.random.default_rng(0).standard_normal((300, 16), dtype=np.float32)
    factor = np.eye(16, 3, dtype=np.float32)
    scores = [method.fit(rows * np.float32(s), factor).score(rows * np.float32(s), factor) for s in (1, 2.0**-100)]
    assert scores[0] == pytest.approx(scores[1])


def test_values_whose_squares_are_no_numbers_are_refused() -> None:
    for method in (PQ(2, leaves=4), OPQ(2, leaves=4), Bolt(2)):
        with pytest.raises(ValueError, match=r"A of magnitude at most 1e\+15, got .* Scale A down"):
            method.fit(A * np.float32(1e20), B)
        assert np.isfinite(method.fit(A * np.float32(1e14), B).matmul(A * np.float32(1e14))).all()


# OPQ ------------------------------------------------------------------------------------------------------------------


def test_opq_is_better_than_pq_on_rotated_rows() -> None:
    train, test, factor = correlated(1500, 16), correlated(500, 16, 1), draw((16, 6), 1)
    pq, opq = (kind(4, leaves=16).fit(train, factor) for kind in (PQ, OPQ))
    assert opq.inertia_ < 0.8 * pq.inertia_
    exact = test @ factor
    assert np.square(opq.matmul(test) - exact).sum() < 0.8 * np.square(pq.matmul(test) - exact).sum()


@given(seed=st.integers(0, 999), C=st.integers(1, 5), K=st.integers(2, 9))
def test_opq_is_never_worse_than_pq_in_training(seed: int, C: int, K: int) -> None:
    rows = np.random.default_rng(seed).gamma(0.5, size=(60, 5)).astype(np.float32)
    pq, opq = (kind(C, leaves=K, random_state=seed).fit(rows) for kind in (PQ, OPQ))
    assert opq.inertia_ <= pq.inertia_
    np.testing.assert_allclose(opq.rotation_ @ opq.rotation_.T, np.eye(5), atol=1e-5)


def test_turns_of_opq_improve_on_where_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (np.random.default_rng(0).gamma(0.3, size=(600, 8)) @ draw((8, 8), 1)).astype(np.float32)
    turned = OPQ(4, leaves=8).fit(rows).inertia_
    monkeypatch.setattr(quantizers, "ROTATION_ROUNDS", 1)
    once = OPQ(4, leaves=8).fit(rows).inertia_
    monkeypatch.setattr(quantizers, "ROTATION_ROUNDS", 0)
    start = OPQ(4, leaves=8).fit(rows).inertia_
    assert turned < once < start
    assert turned < 0.95 * start


def test_opq_is_pq_of_the_rotated_rows() -> None:
    opq = OPQ(3, leaves=8).fit(A, B)
    rotated = A @ opq.rotation_
    seen = reconstruct(opq.prototypes_, opq.encode(A).values)
    assert np.square(rotated.astype(np.float64) - seen).sum() == pytest.approx(opq.inertia_, rel=1e-6)
    np.testing.assert_allclose(opq.matmul(A), seen @ (opq.rotation_.T @ B), atol=5e-5)


@given(values=st.lists(st.floats(0, 100), min_size=1, max_size=12), data=st.data())
def test_principal_axes_are_dealt_out(values: list[float], data: st.DataObject) -> None:
    D = len(values)
    C = data.draw(st.integers(1, D))
    basis = np.linalg.qr(np.random.default_rng(D).standard_normal((D, D)))[0]
    covariance = basis @ np.diag(values) @ basis.T
    R = rotate_by_variance(covariance, C)
    np.testing.assert_allclose(R.T @ R, np.eye(D), atol=1e-9)
    turned = R.T @ covariance @ R
    np.testing.assert_allclose(turned, np.diag(np.diag(turned)), atol=1e-9)


# Bolt -----------------------------------------------------------------------------------------------------------------


def brute_force_clip(T: np.ndarray) -> tuple[np.ndarray, float]:
    """Decoded tables of the best alpha, by loops."""
    best = None
    for alpha in ALPHAS:
        low = [np.float32(np.quantile(t, alpha)) for t in T]
        gap = max(np.quantile(t, 1 - alpha) - f for t, f in zip(T, low, strict=True))
        scale = np.float64(np.float32(255 / gap))
        decoded = np.stack([np.clip(np.floor((t.astype(np.float64) - f) * scale + 0.5), 0, 255) / scale + f
                            for t, f in zip(T, low, strict=True)])  # fmt: skip
        error = np.square(decoded - T).sum()
        if best is None or error < best[1]:
            best = decoded, error
    assert best is not None
    return best


@pytest.mark.parametrize("heavy", [False, True])
def test_clipping_is_that_of_brute_force(heavy: bool) -> None:
    if heavy:  # one outlier among so many entries that finer steps for the others are worth more
        T = np.random.default_rng(0).random((1, 16, 20_000), dtype=np.float32)
        T[0, 3, 7] = 1.5
    else:
        T = draw((4, 16, 60))
    found, (decoded, error) = clip_tables(T), brute_force_clip(T.astype(np.float64))
    ours = found.codes / np.float64(found.scale) + found.floors[:, None, None]
    np.testing.assert_allclose(ours, decoded, atol=1e-9)
    plain = np.square(np.clip(np.floor((T - T.min()) * 255 / np.ptp(T) + 0.5), 0, 255) * np.ptp(T) / 255 + T.min() - T)
    assert error <= plain.sum() * (1 + 1e-6)
    assert (found.alpha > 0) == heavy
    assert found.alpha in ALPHAS
    assert (found.codes == 0).any()
    assert (found.codes == 255).any()


def test_tables_without_a_gap() -> None:
    for value in (0.0, -3.0, 1e-45):
        found = clip_tables(np.full((2, 16, 3), value, np.float32))
        assert found.scale == 1
        assert not found.codes.any()
        np.testing.assert_array_equal(found.floors, np.float32(value))
    lonely = np.zeros((1, 16, 200), np.float32)
    lonely[0, 0, 0] = 3.0  # beyond every quantile but the first
    assert np.isfinite(clip_tables(lonely).scale)
    tiny = clip_tables(np.tile(np.float32([0, 3e-45]), (1, 8, 4)))
    assert tiny.scale == 1


def test_bolt_is_pq_of_16_leaves_but_for_its_tables() -> None:
    rows = draw((50, 11), 5)
    bolt, pq = Bolt(3).fit(A, B), PQ(3, leaves=16).fit(A, B)
    codes = bolt.encode(rows).values
    assert np.array_equal(codes, pq.encode(rows).values)
    T, found = tables(pq.prototypes_, B), bolt.tables_
    sums = sum(found.codes[c][codes[:, c]].astype(np.int64) for c in range(3))
    expected = sums.astype(np.float32) / found.scale + np.float32(found.floors.sum(dtype=np.float64))
    assert np.array_equal(bolt.matmul(rows), expected)
    clipped = np.abs(found.codes / found.scale + found.floors[:, None, None] - T).max()
    assert np.abs(bolt.matmul(rows) - pq.matmul(rows)).max() <= 3 * clipped + 1e-4


def test_sums_of_257_codebooks_fit_in_16_bits_and_more_are_wider() -> None:
    for columns in (257, 258):
        rows = np.tile(np.array([[0], [1]], np.float32), (8, columns))
        out = Bolt(columns).fit(rows, np.ones((columns, 1), np.float32)).matmul(rows[:2]).ravel()
        np.testing.assert_allclose(out, [0, columns], rtol=1e-5, atol=1e-3)


# Costs ----------------------------------------------------------------------------------------------------------------


def test_costs_by_hand() -> None:
    # 10 rows, D = 11, C = 3, K = 8, M = 6: 88 multiply-adds (the first addition is that of the bias) and 3 times 7
    # comparisons to encode a row; 18 table entries. Kept: 88 directions, 24 biases, 144 entries.
    encode = 10 * (2 * 88 + 21)
    assert PQ(3, leaves=8).fit(A, B).cost(10) == Cost(encode, 180, 440, 4 * (88 + 24 + 144))
    assert OPQ(3, leaves=8).fit(A, B).cost(10) == Cost(encode + 2420, 180, 440, 4 * (88 + 24 + 144 + 121))
    encode = 10 * (2 * 176 + 45)
    assert Bolt(3).fit(A, B).cost(10) == Cost(encode + 120, 180, 440, 4 * (176 + 48) + 288 + 8)
