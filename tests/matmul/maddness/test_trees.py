"""Trees: those that can be checked by hand, and what holds for all of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.matmul import reference
from tests.matmul.maddness.data import random_trees, rows_like_activations

from hasten.matmul.maddness import Trees, learn_trees, numpy_kernels
from hasten.matmul.spans import spans

CUBE = np.array(list(itertools.product([0, 1], repeat=4)), np.float32)  # row k: the bits of k, the highest first


def test_two_clusters_on_one_column():
    A = np.zeros((8, 4), np.float32)
    A[4:, 2] = 3
    learned = learn_trees(A, 1)
    assert learned.trees.dims[0, 0] == 2
    assert learned.trees.thresholds[0, 0] == 1.5
    assert np.isinf(learned.trees.thresholds[0, 1:]).all()
    assert learned.codes[:, 0].tolist() == [0] * 4 + [8] * 4
    assert learned.sse[0].tolist() == [18, 0, 0, 0, 0]


def test_the_binary_cube():
    scaled = CUBE * np.array([8, 4, 2, 1], np.float32)  # so that the columns are chosen in this order
    learned = learn_trees(scaled, 1)
    assert learned.trees.dims.tolist() == [[0, 1, 2, 3]]
    assert learned.codes[:, 0].tolist() == list(range(16))  # level 0 is the most significant bit
    assert learned.trees.thresholds[0].tolist() == [4.0] + [2.0] * 2 + [1.0] * 4 + [0.5] * 8
    assert learned.sse[0, -1] == 0


def test_columns_are_divided_evenly():
    assert [s.stop - s.start for s in spans(10, 4)] == [3, 3, 2, 2]
    for d, c in ((1, 1), (7, 7), (512, 16), (27, 4)):
        found = spans(d, c)
        assert np.concatenate([np.arange(d)[s] for s in found]).tolist() == list(range(d))
        assert len(found) == c


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 6), st.booleans(), st.booleans())
def test_training_codes_are_what_encoding_gives(seed, n, d, ties, aware):
    generator = np.random.default_rng(seed)
    A = generator.standard_normal((n, d)).astype(np.float32)
    A = np.round(A) if ties else A
    ncodebooks = int(generator.integers(1, d + 1))
    factor = generator.standard_normal((d, 2)) if aware else None
    learned = learn_trees(A, ncodebooks, factor=factor, feedback=True)
    assert (learned.codes == reference.encode(A, learned.trees.dims, learned.trees.thresholds)).all()
    assert (np.diff(learned.sse, axis=1) <= 1e-9 * (1 + learned.sse[:, :1])).all()  # no level makes it worse
    for c, span in enumerate(spans(d, ncodebooks)):
        assert span.start <= learned.trees.dims[c].min()
        assert learned.trees.dims[c].max() < span.stop


def test_sse_is_that_of_the_leaves():
    A = rows_like_activations(500, 12)
    learned = learn_trees(A, 3)
    for c, span in enumerate(spans(12, 3)):
        own, ones = A[:, span].astype(np.float64), np.ones(500)
        leaves = [learned.codes[:, c] == k for k in range(16)]
        expected = sum(reference.sse(own[leaf], ones[leaf]) for leaf in leaves)
        assert learned.sse[c, -1] == pytest.approx(expected)


def test_no_tree_of_the_same_depth_is_better_than_free_columns():
    # One column for each level is a restriction: a tree that may choose for each node bounds it, if it is as greedy.
    tree = pytest.importorskip("sklearn.tree")
    A = rows_like_activations(800, 6, rank=3)
    learned = learn_trees(A, 1, n_candidates=6)
    free = tree.DecisionTreeRegressor(max_depth=4).fit(A, A)
    bound = float(((A - free.predict(A)) ** 2).sum())
    assert bound <= learned.sse[0, -1] < 1.5 * bound


def test_the_first_level_is_the_best_there_is():
    A = np.random.default_rng(3).standard_normal((40, 3)).astype(np.float32)
    learned = learn_trees(A, 1, n_candidates=3)
    assert learned.sse[0, 1] == pytest.approx(reference.best_tree_sse(A, A.astype(np.float64), 1))
    assert learned.sse[0, 2] >= reference.best_tree_sse(A, A.astype(np.float64), 2) - 1e-9


@pytest.mark.parametrize("leaves", [16, 32, 64])
def test_more_leaves_describe_more(leaves):
    A = rows_like_activations(1000, 16)
    learned = learn_trees(A, 2, leaves)
    assert learned.trees.leaves == leaves
    assert learned.codes.max() < leaves
    assert learned.sse.shape == (2, learned.trees.levels + 1)
    assert (learned.sse[:, 4] == learn_trees(A, 2, 16).sse[:, 4]).all()  # the first four levels are the same


def test_more_candidates_are_no_worse_at_the_first_level():
    A = rows_like_activations(400, 16)
    losses = [learn_trees(A, 1, n_candidates=n).sse[0, 1] for n in (1, 2, 4, 8, 16)]
    assert losses == sorted(losses, reverse=True)


def test_a_weight_is_a_number_of_rows():
    A = rows_like_activations(300, 8)
    times = np.random.default_rng(0).integers(1, 4, 300)
    weighted, repeated = learn_trees(A, 2, weight=times.astype(np.float64)), learn_trees(np.repeat(A, times, axis=0), 2)
    assert (weighted.trees.dims == repeated.trees.dims).all()
    assert (weighted.trees.thresholds == repeated.trees.thresholds).all()
    assert weighted.sse == pytest.approx(repeated.sse)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 15])
def test_fewer_rows_than_leaves(n):
    learned = learn_trees((2.0 ** np.arange(n, dtype=np.float32))[:, None], 1, 64)
    codes = learned.codes[:, 0].astype(int)
    assert (np.diff(codes) >= 0).all()  # in the order of the only column
    assert len(np.unique(codes)) >= min(n, 7)  # each level splits at least one bucket that has two rows
    assert learned.sse[0, -1] == pytest.approx(0, abs=1e-9) or n == 15


def test_equal_rows_and_constant_columns():
    learned = learn_trees(np.full((20, 4), 7, np.float32), 2)
    assert (learned.codes == 0).all()
    assert np.isinf(learned.trees.thresholds).all()
    A = rows_like_activations(100, 4)
    A[:, 1] = 5
    assert 1 not in learn_trees(A, 1, n_candidates=1).trees.dims


def test_a_factor_of_many_columns_changes_nothing_but_the_time():
    A = rows_like_activations(300, 6)
    narrow = np.random.default_rng(0).standard_normal((6, 4))
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((40, 4)))[0].T  # (4, 40), orthonormal rows
    a, b = (learn_trees(A, 2, factor=f) for f in (narrow, narrow @ rotation))
    assert (a.trees.dims == b.trees.dims).all()
    assert a.sse == pytest.approx(b.sse)


def test_columns_that_the_factor_ignores_are_not_cut():
    A = np.random.default_rng(0).standard_normal((500, 4)).astype(np.float32) * np.array([1, 100, 1, 100], np.float32)
    factor = np.array([[1.0], [0.0], [2.0], [0.0]])
    assert set(learn_trees(A, 1, factor=factor).trees.dims.ravel().tolist()) <= {0, 2}
    assert set(learn_trees(A, 1).trees.dims.ravel().tolist()) <= {1, 3}


def test_float16_and_integers_are_learned_from_as_float32():
    A = np.random.default_rng(0).integers(-5, 6, (200, 4))
    expected = learn_trees(A.astype(np.float32), 2).trees
    for dtype in (np.float16, np.int8):
        found = learn_trees(A.astype(dtype), 2).trees
        assert (found.thresholds == expected.thresholds).all()


BAD = {
    "int64 dims": lambda d, t: (d.astype(np.int64), t),
    "negative dims": lambda d, t: (d - 100, t),
    "three levels": lambda d, t: (d[:, :3], t),
    "no codebook": lambda d, t: (d[:0], t[:0]),
    "float64 thresholds": lambda d, t: (d, t.astype(np.float64)),
    "too few thresholds": lambda d, t: (d, t[:, :14]),
    "NaN": lambda d, t: (d, t * np.nan),
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD.keys())
def test_what_are_no_trees(change):
    trees = random_trees(2, 16, 8)
    with pytest.raises(ValueError, match=r"Trees: expected .* got "):
        Trees(*change(trees.dims, trees.thresholds))


def test_encoding_learned_trees_of_many_rows():
    A = rows_like_activations(3000, 20)
    learned = learn_trees(A, 5)
    assert (numpy_kernels.encode(A, learned.trees.dims, learned.trees.thresholds) == learned.codes).all()
