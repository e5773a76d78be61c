"""The estimator: exact where it can be, close elsewhere, and stable under everything that should not matter."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from tests.matmul import reference
from tests.matmul.maddness.data import rows_like_activations
from tests.matmul.maddness.test_trees import CUBE

from hasten.matmul import Maddness, NotFittedError, nmse
from hasten.matmul.maddness import numpy_kernels
from hasten.matmul.maddness.kernels import Codes

D, M = 24, 5
A = rows_like_activations(3000, D, rank=5)
TRAIN, TEST = A[:2000], A[2000:]
B = np.random.default_rng(7).standard_normal((D, M)).astype(np.float32)
EXACT = TEST.astype(np.float64) @ B


def loss(**options):
    return nmse(EXACT, Maddness(**options).fit(TRAIN, B).matmul(TEST))


def test_sixteen_distinct_parts_are_exact():
    # Four codebooks, each of which sees a cube: all that they can be told apart by is in the codes.
    picks = np.random.default_rng(0).integers(0, 16, (400, 4))
    rows = np.concatenate([CUBE[picks[:, c]] * np.array([8, 4, 2, 1], np.float32) for c in range(4)], axis=1)
    factor = np.random.default_rng(1).standard_normal((16, 3))
    for dense in (True, False):
        model = Maddness(4, lut_bits=32, dense=dense).fit(rows, factor)
        np.testing.assert_allclose(model.matmul(rows), rows @ factor, atol=1e-4)
    assert (Maddness(4).fit(rows).encode(rows).array() == picks).all()


def test_attributes():
    model = Maddness(6, leaves=32).fit(TRAIN, B)
    assert (model.split_dims_.shape, model.split_dims_.dtype) == ((6, 5), np.int32)
    assert (model.thresholds_.shape, model.thresholds_.dtype) == ((6, 31), np.float32)
    assert (model.prototypes_.shape, model.prototypes_.dtype) == ((6, 32, D), np.float32)
    assert model.tables_.luts.shape == (M, 6, 32)
    assert (model.n_features_in_, model.n_outputs_, model.ridge_) == (D, M, 1.0)


def test_prototypes_are_those_of_dense_algebra():
    model = Maddness(5, ridge=3.0).fit(TRAIN, B)
    codes = numpy_kernels.encode(TRAIN, model.split_dims_, model.thresholds_)
    spans = np.array_split(np.arange(D), 5)
    _, P = reference.prototypes(TRAIN.astype(np.float64), codes, 16, spans, 3.0)
    used = np.concatenate([np.bincount(column, minlength=16) for column in codes.T]) > 0
    np.testing.assert_allclose(model.prototypes_.reshape(-1, D)[used], P[used], atol=1e-5)
    T = np.einsum("ckd,dm->mck", P.reshape(5, 16, D), B)
    expected = sum(T[:, c, codes[:, c]] for c in range(5)).T
    off = np.abs(model.matmul(TRAIN) - expected)
    assert (off <= 5 * 0.501 * model.tables_.scale + 1e-4).all()


def test_the_error_falls_with_codebooks_and_leaves():
    by_codebooks = [loss(ncodebooks=c) for c in (1, 2, 4, 8, 16)]
    assert by_codebooks == sorted(by_codebooks, reverse=True)
    assert by_codebooks[-1] < 0.05
    by_leaves = [loss(ncodebooks=4, leaves=k) for k in (16, 32, 64)]
    assert by_leaves == sorted(by_leaves, reverse=True)


def test_ridge_and_output_splits_lower_the_error():
    options = ({"dense": False, "split_metric": "input"}, {"split_metric": "input"}, {"split_metric": "output"})
    plain, dense, aware = (loss(ncodebooks=8, **o) for o in options)
    assert dense < plain / 1.5
    assert aware < 0.9 * dense


def test_output_splits_stay_useful_for_another_factor():
    other = np.random.default_rng(8).standard_normal((D, 3)).astype(np.float32)
    aware = Maddness(8, split_metric="output").fit(TRAIN, B)
    assert aware.score(TEST, other) > 0.9
    assert aware.set_B(B).score(TEST, B) > aware.score(TEST, other)


def test_rounding_costs_little():
    floats = loss(ncodebooks=8, lut_bits=32)
    assert loss(ncodebooks=8, lut_bits=16) == pytest.approx(floats, rel=1e-3)
    assert loss(ncodebooks=8) == pytest.approx(floats, rel=0.02)
    assert loss(ncodebooks=8, accumulate="avg") == pytest.approx(floats, rel=0.05)
    assert loss(ncodebooks=8, accumulate="avg", upcast_every=2) == pytest.approx(floats, rel=0.05)
    assert loss(ncodebooks=5, accumulate="avg") == pytest.approx(loss(ncodebooks=5), rel=0.05)


def test_outputs_of_different_size():
    factor = B * np.float32(10.0) ** np.arange(M, dtype=np.float32)
    own, shared = (
        Maddness(8, lut_scale=scale).fit(TRAIN, factor).matmul(TEST)[:, 0] for scale in ("per_output", "shared")
    )
    exact = EXACT[:, 0]
    assert nmse(exact, own) < 0.2
    assert nmse(exact, shared) > 1.5 * nmse(exact, own)


def test_an_output_that_is_nought():
    factor = B.copy()
    factor[:, 2] = 0
    for accumulate in ("exact", "avg"):
        assert (Maddness(8, accumulate=accumulate).fit(TRAIN, factor).matmul(TEST)[:, 2] == 0).all()


@pytest.mark.parametrize("accumulate", ["exact", "avg"])
@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 31, 33])
def test_batches_do_not_matter(n, accumulate):
    model = Maddness(7, accumulate=accumulate).fit(TRAIN, B)
    whole = model.matmul(TEST)
    assert model.matmul(TEST[:n]).shape == (n, M)
    assert (model.matmul(TEST[:n]) == whole[:n]).all()
    order = np.random.default_rng(0).permutation(len(TEST))
    assert (model.matmul(TEST[order]) == whole[order]).all()
    assert (model.matmul(model.encode(TEST)) == whole).all()


def test_a_large_batch_with_a_tail():
    model, rows = Maddness(7).fit(TRAIN, B), rows_like_activations(10_007, D, rank=5, seed=1)
    codes = numpy_kernels.encode(rows, model.split_dims_, model.thresholds_)
    assert (model.encode(rows).array() == codes).all()
    assert (model.matmul(rows) == numpy_kernels.scan(codes, model.tables_)).all()


@pytest.mark.parametrize(
    "view", [np.asfortranarray, lambda x: x[::-1][::-1], lambda x: np.repeat(x, 2, axis=1)[:, ::2], torch.from_numpy]
)
def test_the_layout_does_not_matter(view):
    model = Maddness(7).fit(TRAIN, B)
    assert (model.matmul(view(TEST)) == model.matmul(TEST)).all()
    assert (Maddness(7).fit(view(TRAIN), B).matmul(TEST) == model.matmul(TEST)).all()


def test_the_order_of_training_rows_does_not_matter():
    model = Maddness(6).fit(TRAIN, B)
    shuffled = Maddness(6).fit(TRAIN[np.random.default_rng(0).permutation(len(TRAIN))], B)
    assert (shuffled.split_dims_ == model.split_dims_).all()
    np.testing.assert_allclose(shuffled.matmul(TEST), model.matmul(TEST), atol=0.1)


def test_the_same_fit_gives_the_same_bits():
    options = {"split_metric": "output", "ridge": "cv", "random_state": 3}
    wide = np.random.default_rng(0).standard_normal((D, 40))
    a, b = (Maddness(6, **options).fit(TRAIN, wide).prototypes_ for _ in range(2))
    assert (a == b).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.float16])
def test_narrow_rows(dtype):
    rows = np.round(A).clip(0, 100).astype(dtype)
    model = Maddness(8).fit(rows[:2000], B)
    wide = Maddness(8).fit(rows[:2000].astype(np.float32), B)
    assert (model.matmul(rows[2000:]) == wide.matmul(rows[2000:].astype(np.float32))).all()


def test_bfloat16_tensors():
    rows = torch.from_numpy(A).bfloat16()
    model = Maddness(8).fit(rows[:2000], B)
    assert (model.matmul(rows[2000:]) == model.matmul(rows[2000:].float())).all()


def test_rows_that_are_not_finite_are_encoded_all_the_same():
    model = Maddness(6).fit(TRAIN, B)
    rows = np.stack([np.full(D, value, np.float32) for value in (np.nan, np.inf, -np.inf)])
    codes = model.encode(rows).array()
    assert (codes[0] == 0).all()  # NaN goes left
    assert (codes[2] == 0).all()
    assert (codes[1] == reference.encode(rows[1:2], model.split_dims_, model.thresholds_)[0]).all()
    assert np.isfinite(model.matmul(rows)).all()


def test_weights_are_numbers_of_rows():
    times = np.random.default_rng(0).integers(0, 3, len(TRAIN))
    for options in ({}, {"split_metric": "output"}):
        weighted = Maddness(6, **options).fit(TRAIN, B, sample_weight=times.astype(float))
        repeated = Maddness(6, **options).fit(np.repeat(TRAIN, times, axis=0), B)
        assert (weighted.split_dims_ == repeated.split_dims_).all()
        assert (weighted.thresholds_ == repeated.thresholds_).all()
        np.testing.assert_allclose(weighted.prototypes_, repeated.prototypes_, atol=1e-4)


def test_cross_validated_ridge():
    model = Maddness(8, ridge="cv").fit(TRAIN, B)
    assert model.ridge_ in (0.1, 0.3, 1.0, 3.0, 10.0)
    assert nmse(EXACT, model.matmul(TEST)) < 1.02 * loss(ncodebooks=8)
    few = TRAIN[:150]  # as many rows as leaves: a ridge of 1 is too weak for rows without a pattern
    noise = few + np.random.default_rng(0).standard_normal(few.shape).astype(np.float32)
    assert Maddness(8, ridge="cv").fit(noise, B).ridge_ > 1


@pytest.mark.parametrize("options", [{}, {"dense": False}, {"split_metric": "output"}], ids=str)
def test_rows_in_parts(options):
    model = Maddness(6, **options).fit(TRAIN[:700], B)
    start = copy.deepcopy(model.statistics_)
    streamed = copy.copy(model)
    streamed.partial_fit(TRAIN[700:1500]).partial_fit(TRAIN[1500:], B)
    assert (streamed.split_dims_ == model.split_dims_).all()
    assert (model.statistics_.counts == start.counts).all()  # a copy is a copy
    codes = numpy_kernels.encode(TRAIN, model.split_dims_, model.thresholds_)
    assert (np.diagonal(streamed.statistics_.counts).reshape(6, 16).sum(axis=1) == len(TRAIN)).all()
    spans = np.array_split(np.arange(D), 6)
    P0, P = reference.prototypes(TRAIN.astype(np.float64), codes, 16, spans, 1.0)
    used = np.diagonal(streamed.statistics_.counts) > 0
    expected = P if streamed.dense else P0
    np.testing.assert_allclose(streamed.prototypes_.reshape(-1, D)[used], expected[used], atol=1e-5)
    assert streamed.score(TEST, B) > 0.8


@pytest.mark.parametrize("options", [{}, {"dense": False}])
def test_arguments_that_change_after_fit_wait_for_the_next_fit(options):
    model = Maddness(6, **options).fit(TRAIN[:700], B)
    changed = copy.copy(model).set_params(dense=not model.dense, ridge=100.0, n_candidates=1)
    assert (changed.partial_fit(TRAIN[700:], B).prototypes_ == model.partial_fit(TRAIN[700:], B).prototypes_).all()
    assert changed.ridge_ == (1.0 if model.dense else np.inf)
    assert changed.fit(TRAIN, B).ridge_ == (100.0 if changed.dense else np.inf)


def test_parts_need_trees_and_then_a_factor():
    with pytest.raises(NotFittedError, match="Maddness.partial_fit: expected an estimator that has learned"):
        Maddness(2).partial_fit(TRAIN)
    model = Maddness(2).fit(TRAIN, B).partial_fit(TRAIN)
    with pytest.raises(NotFittedError, match="expected a B"):
        model.matmul(TEST)
    model.set_B(B).matmul(TEST)
    for bad in (TRAIN[:, :3], TRAIN * np.nan, TRAIN[:0]):
        with pytest.raises(ValueError, match="Maddness.partial_fit: expected"):
            model.partial_fit(bad)
    assert model.statistics_.counts[:16, :16].sum() == 2 * len(TRAIN)


@pytest.mark.parametrize("rows", [TRAIN[:1], TRAIN[:5], np.full((20, D), 3, np.float32)], ids=["1", "5", "equal"])
@pytest.mark.parametrize("options", [{}, {"dense": False}, {"split_metric": "output"}, {"accumulate": "avg"}], ids=str)
def test_rows_too_few_to_learn_much(rows, options):
    model = Maddness(4, lut_bits=8, **options).fit(rows, B)
    found = model.matmul(rows)
    exact = rows.astype(np.float64) @ B
    assert np.isfinite(found).all()
    if len(rows) == 1 or (rows == rows[0]).all():
        np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-4)  # one leaf in each codebook: its mean


def test_as_many_codebooks_as_columns():
    assert loss(ncodebooks=D, leaves=64) < loss(ncodebooks=8)
    narrow = A[:, :1].copy()
    assert Maddness(1, leaves=64).fit(narrow, np.ones((1, 1))).score(narrow, np.ones((1, 1))) > 0.99


def test_columns_without_variance_are_not_cut():
    rows = A.copy()
    rows[:, 1::2] = np.arange(D // 2, dtype=np.float32)
    for options in ({}, {"split_metric": "input"}, {"dense": False}):
        model = Maddness(4, **options).fit(rows[:2000], B)
        assert (model.split_dims_ % 2 == 0).all()
        assert model.score(rows[2000:], B) > 0.7
    constant = Maddness(D).fit(rows[:2000], B)  # a codebook for each column
    assert np.isinf(constant.thresholds_[1::2]).all()
    assert constant.score(rows[2000:], B) > 0.7


def test_ties_at_zero_are_not_cut():
    model = Maddness(4).fit(TRAIN, B)
    finite = model.thresholds_[np.isfinite(model.thresholds_)]
    assert (finite > 0).all()  # zeros of a ReLU are the least values, and all on one side


def test_cost_is_counted():
    model = Maddness(8).fit(TRAIN, B)
    cost = model.cost(100)
    assert cost.lookups == 100 * 8 * M
    assert cost.flops == 100 * 8 * 4 + 2 * 100 * M
    assert cost.bytes_read == 100 * 4 * len(np.unique(model.split_dims_))
    assert cost.table_bytes == M * 8 * 16 + 2 * 4 * M + 8 * 4 * 4 + 8 * 15 * 4


def test_scikit_learn_conventions():
    base = pytest.importorskip("sklearn.base")
    model = Maddness(8, ridge="cv", split_metric="output", random_state=1).fit(TRAIN, B)
    cloned = base.clone(model)
    assert cloned.get_params() == model.get_params()
    assert not hasattr(cloned, "trees_")
    assert (cloned.fit(TRAIN, B).matmul(TEST) == model.matmul(TEST)).all()


def test_pickle():
    model = Maddness(4).fit(TRAIN, B)
    same = pickle.loads(pickle.dumps(model))
    assert (same.matmul(TEST) == model.matmul(TEST)).all()
    more = same.partial_fit(TEST, B).prototypes_
    assert (more == model.partial_fit(TEST, B).prototypes_).all()


def test_codes_of_another_estimator_are_refused():
    model, other = Maddness(4).fit(TRAIN, B), Maddness(5).fit(TRAIN, B)
    with pytest.raises(ValueError, match=r"Maddness.matmul: expected codes of \(4, 16\)"):
        model.matmul(other.encode(TEST))
    assert isinstance(model.encode(TEST), Codes)


def test_arguments_that_were_changed_after_fit():
    model = Maddness(4).fit(TRAIN, B)
    exact = model.matmul(TEST)
    averaged = model.set_params(accumulate="avg").matmul(TEST)
    assert (averaged != exact).any()
    model = Maddness(4, lut_bits=16).fit(TRAIN, B).set_params(lut_bits=8, accumulate="avg")
    with pytest.raises(ValueError, match=r"tables of 8 bits .* Call set_B\(B\) again"):
        model.matmul(TEST)
    assert (model.set_B(B).matmul(TEST) == averaged).all()


BAD = {
    "ncodebooks": (0, -1, 2.0, "8", True, None),
    "leaves": (8, 17, 16.0, None),
    "ridge": (0, -1.0, np.nan, np.inf, "CV", None, True),
    "n_candidates": (0, 1.5),
    "split_metric": ("outputs", None, 1),
    "lut_bits": (4, 64, "8"),
    "lut_scale": ("own", None),
    "accumulate": ("sum", None),
    "upcast_every": (0, 3, 2.0, True),
    "dense": (1, None),
    "random_state": (-1, 0.5, "0", None),
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values])
def test_arguments_that_make_no_sense(name, value):
    with pytest.raises((ValueError, TypeError), match=rf"expected .*{name}|expected .* for {name}|{name}"):
        Maddness(**{name: value})
    model = Maddness()
    with pytest.raises((ValueError, TypeError), match="expected"):
        model.set_params(**{name: value})
    assert model.get_params() == Maddness().get_params()


def test_arguments_that_do_not_go_together():
    with pytest.raises(ValueError, match='lut_bits=8 with accumulate="avg"'):
        Maddness(accumulate="avg", lut_bits=16)
    with pytest.raises(ValueError, match='dense=True with ridge="cv"'):
        Maddness(dense=False, ridge="cv")
    with pytest.raises(ValueError, match=r"at least 25 columns, got ndarray of shape .* Pass ncodebooks=24 or fewer"):
        Maddness(25).fit(TRAIN)
    with pytest.raises(ValueError, match='B with split_metric="output"'):
        Maddness(4, split_metric="output").fit(TRAIN)
    with pytest.raises(ValueError, match="at least 5 rows"):
        Maddness(4, ridge="cv").fit(TRAIN[:4])


def test_the_size_of_rows_does_not_matter():
    wide = np.random.default_rng(1).standard_normal((D, 20)).astype(np.float32)
    expected = Maddness(6).fit(TRAIN, wide).score(TEST, wide)
    for size in (2.0**-100, 2.0**110):
        rows = TRAIN * np.float32(size)
        assert Maddness(6).fit(rows, wide / size).score(TEST * np.float32(size), wide / size) == pytest.approx(expected)


def test_a_ridge_that_is_lost_beside_the_rows_is_refused():
    for options, weight in (({"ridge": 1e-15}, 1.0), ({}, 1e18), ({"ridge": "cv"}, 1e18)):
        with pytest.raises(ValueError, match="Maddness: expected a ridge of at least"):
            Maddness(4, **options).fit(TRAIN, B, sample_weight=np.full(len(TRAIN), weight))


def test_products_beyond_float32_are_refused():
    with pytest.raises(ValueError, match="products that float32 can hold"):
        Maddness(4).fit(TRAIN * np.float32(1e30), B * np.float32(1e10))


def test_a_call_that_is_refused_late_leaves_what_was_learned():
    model = Maddness(4).fit(TRAIN, B)
    before, params = model.matmul(TEST), dict(vars(model))
    for factor in (np.full_like(B, 3e38), np.full(B.shape, 1e39)):
        for call in (model.fit, model.partial_fit):
            with pytest.raises(ValueError, match="float32"):
                call(2 * TRAIN, factor)
            assert vars(model) == params
        with pytest.raises(ValueError, match="float32"):
            model.set_B(factor)
    assert (model.matmul(TEST) == before).all()
