"""Other people's products of this kind, where they are installed: ours are as exact.

`faiss` (pip install faiss-cpu) has product quantisation with and without a learned rotation, `halutmatmul`
(github.com/joennlae/halutmatmul, which also needs numba) an implementation of MADDNESS as published.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.matmul.maddness.data import has_images, images, least_squares, rows_like_activations

from hasten.matmul import OPQ, PQ, Bolt, Maddness, nmse

pytestmark = pytest.mark.filterwarnings("ignore")  # of the peers

LIKE_THEIRS: dict[str, Any] = {"split_metric": "input", "n_candidates": 8, "lut_bits": 32}
ROWS = rows_like_activations(2000, 64, rank=12)


def mean_error(rows: np.ndarray, again: np.ndarray) -> float:
    return float(((rows - again).astype(np.float64) ** 2).sum(axis=1).mean())


@pytest.mark.parametrize(("codebooks", "bits"), [(8, 4), (16, 4), (8, 6)])
def test_product_quantisation_against_faiss(codebooks: int, bits: int) -> None:
    faiss = pytest.importorskip("faiss", reason="optional peer")
    theirs = faiss.ProductQuantizer(64, codebooks, bits)
    theirs.train(ROWS)
    expected = mean_error(ROWS, theirs.decode(theirs.compute_codes(ROWS)))
    found = PQ(codebooks, leaves=1 << bits).fit(ROWS).inertia_ / len(ROWS)
    assert found < 1.02 * expected
    if bits == 4:
        assert Bolt(codebooks).fit(ROWS).inertia_ / len(ROWS) == pytest.approx(found)


@pytest.mark.parametrize("codebooks", [4, 8])
def test_rotations_against_faiss(codebooks: int) -> None:
    faiss = pytest.importorskip("faiss", reason="optional peer")
    rotation = faiss.OPQMatrix(64, codebooks)
    rotation.pq = theirs = faiss.ProductQuantizer(64, codebooks, 4)  # its own has 8 bits
    rotation.train(ROWS)
    rotated = rotation.apply(ROWS)
    theirs.train(rotated)
    expected = mean_error(rotated, theirs.decode(theirs.compute_codes(rotated)))
    assert OPQ(codebooks, leaves=16).fit(ROWS).inertia_ / len(ROWS) < 1.02 * expected


@pytest.mark.parametrize(("codebooks", "leaves"), [(4, 16), (16, 16), (16, 64)])
def test_maddness_against_halutmatmul(codebooks: int, leaves: int) -> None:
    pytest.importorskip("faiss", reason="optional peer, which halutmatmul needs")
    halut = pytest.importorskip("halutmatmul.halutmatmul", reason="optional peer")
    rows, factor = ROWS + np.float32(1e-4), np.random.default_rng(0).standard_normal((64, 10)).astype(np.float32)
    train, test = rows[:1500], rows[1500:]
    theirs = halut.HalutMatmul(codebooks, leaves)
    theirs.learn_offline(train, factor)
    exact = test.astype(np.float64) @ factor
    expected = nmse(exact, theirs.matmul_online(test))
    as_published = Maddness(codebooks, leaves=leaves, **LIKE_THEIRS).fit(train, factor)
    found = nmse(exact, as_published.matmul(test))
    assert found < 1.05 * expected
    assert nmse(exact, Maddness(codebooks, leaves=leaves).fit(train, factor).matmul(test)) < found


@has_images
def test_maddness_against_halutmatmul_on_images() -> None:
    pytest.importorskip("faiss", reason="optional peer, which halutmatmul needs")
    halut = pytest.importorskip("halutmatmul.halutmatmul", reason="optional peer")
    train, test, *_ = images()
    factor = least_squares().astype(np.float32)
    theirs = halut.HalutMatmul(16, 16)
    theirs.learn_offline(train, factor)
    exact = test.astype(np.float64) @ factor
    expected = nmse(exact, theirs.matmul_online(test))
    found = nmse(exact, Maddness(16, **LIKE_THEIRS).fit(train, factor).matmul(test))
    assert found < 1.05 * expected
    assert nmse(exact, Maddness(16).fit(train, factor).matmul(test)) < 0.9 * expected
