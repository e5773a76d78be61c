"""What all baselines of approximate products promise alike: shapes, order of calls, invariance, copies, bad input."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from hasten.matmul.base import ApproxMatmul, NotFittedError, nmse
from hasten.matmul.exact import Exact
from hasten.matmul.projections import PCA, TruncatedSVD
from hasten.matmul.quantizers import OPQ, PQ, Bolt
from hasten.matmul.sketches import OSNAP, CountSketch, FastJL, GaussianSketch, RowSampling

MAKERS: dict[str, Callable[[], ApproxMatmul]] = {
    "float32": lambda: Exact(),
    "bfloat16": lambda: Exact("bfloat16"),
    "int8": lambda: Exact("int8"),
    "pca": lambda: PCA(4),
    "svd_output": lambda: TruncatedSVD(4),
    "svd_input": lambda: TruncatedSVD(4, metric="input"),
    "gaussian": lambda: GaussianSketch(6),
    "fastjl": lambda: FastJL(6),
    "countsketch": lambda: CountSketch(6),
    "osnap": lambda: OSNAP(6, nonzeros=2),
    "rowsampling": lambda: RowSampling(6),
    "pq": lambda: PQ(3, leaves=8),
    "opq": lambda: OPQ(3, leaves=8),
    "bolt": lambda: Bolt(3),
}
SEEDED = ("gaussian", "fastjl", "countsketch", "osnap", "rowsampling", "pq", "opq", "bolt")
D, M = 11, 5


@pytest.fixture(params=MAKERS)
def method(request: pytest.FixtureRequest) -> ApproxMatmul:
    return MAKERS[request.param]()


def draw(n: int, seed: int = 0, columns: int = D) -> np.ndarray:
    """Rows of three directions, a mean and some noise."""
    rng = np.random.default_rng(seed)
    basis = np.random.default_rng(1).standard_normal((3, columns))
    return (rng.standard_normal((n, 3)) @ basis + 0.5 + 0.1 * rng.standard_normal((n, columns))).astype(np.float32)


B = np.random.default_rng(2).standard_normal((D, M)).astype(np.float32)
OTHER = np.random.default_rng(3).standard_normal((D, 2)).astype(np.float32)
TRAIN, TEST = draw(200), draw(33, seed=9)


def same(left: np.ndarray, right: np.ndarray) -> None:
    """Equal but for the order of sums in the product of the linear algebra library."""
    np.testing.assert_allclose(left, right, rtol=1e-5, atol=2e-5)


def test_shapes_and_types(method: ApproxMatmul) -> None:
    assert method.fit(TRAIN, B) is method
    assert (method.n_features_in_, method.n_outputs_) == (D, M)
    for n in (0, 1, 2, 33):
        out = method.matmul(TEST[:n])
        assert out.shape == (n, M)
        assert out.dtype == np.float32
        assert type(out) is np.ndarray
        assert np.array_equal(method.matmul(method.encode(TEST[:n])), out)
        assert method.encode(TEST[:n]).n == n
    assert method.fit(TRAIN[:, :7], B[:7]).matmul(TEST[:, :7]).shape == (33, M)


def test_learned_on_one_row_and_on_equal_rows(method: ApproxMatmul) -> None:
    for rows in (TRAIN[:1], np.repeat(TRAIN[:1], 5, axis=0), np.zeros((4, D), np.float32)):
        out = method.fit(rows, B).matmul(rows)
        assert np.isfinite(out).all()


def test_order_and_batches_change_nothing(method: ApproxMatmul) -> None:
    method.fit(TRAIN, B)
    whole, order = method.matmul(TEST), np.random.default_rng(0).permutation(len(TEST))
    same(method.matmul(TEST[order]), whole[order])
    same(np.concatenate([method.matmul(TEST[i : i + 7]) for i in range(0, len(TEST), 7)]), whole)
    same(np.concatenate([method.matmul(TEST[i : i + 1]) for i in range(len(TEST))]), whole)


def test_strides_do_not_matter(method: ApproxMatmul) -> None:
    method.fit(TRAIN, B)
    expected, wide = method.matmul(TEST), np.zeros((66, 2 * D), np.float32)
    wide[::2, 1::2] = TEST
    kept = TEST.copy()
    kept.flags.writeable = False
    for rows in (np.asfortranarray(TEST), wide[::2, 1::2], TEST[::-1].copy()[::-1], kept):
        same(method.matmul(rows), expected)
    same(method.set_B(np.asfortranarray(B)).matmul(TEST), expected)
    same(method.set_B(B.astype(np.float64)).matmul(TEST), expected)
    torch_rows = torch.from_numpy(TEST.copy())
    same(method.matmul(torch_rows), expected)


def test_fit_does_not_see_strides(method: ApproxMatmul) -> None:
    expected = method.fit(TRAIN, B).matmul(TEST)
    frozen = np.asfortranarray(TRAIN)
    frozen.flags.writeable = False
    same(method.fit(frozen, B).matmul(TEST), expected)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float16])
def test_narrow_rows_are_widened_exactly(method: ApproxMatmul, dtype: type) -> None:
    rows = np.abs(TEST * 10).astype(dtype)
    train = np.abs(TRAIN * 10).astype(dtype)
    expected = method.fit(train.astype(np.float32), B).matmul(rows.astype(np.float32))
    assert np.array_equal(method.matmul(rows), expected)
    assert np.array_equal(method.fit(train, B).matmul(rows), expected)


def test_the_same_seed_gives_the_same_bits(method: ApproxMatmul) -> None:
    assert np.array_equal(method.fit(TRAIN, B).matmul(TEST), method.fit(TRAIN, B).matmul(TEST))


@pytest.mark.parametrize("name", SEEDED)
def test_another_seed_gives_another_result(name: str) -> None:
    method = MAKERS[name]()
    first = method.fit(TRAIN, B).matmul(TEST)
    assert not np.array_equal(method.set_params(random_state=1).fit(TRAIN, B).matmul(TEST), first)


def test_inputs_are_left_alone_and_not_kept(method: ApproxMatmul) -> None:
    train, factor, rows = TRAIN.copy(), B.copy(), TEST.copy()
    expected = method.fit(train, factor).matmul(rows)
    assert np.array_equal(train, TRAIN)
    assert np.array_equal(factor, B)
    assert np.array_equal(rows, TEST)
    train[:], factor[:] = 0, 0
    assert np.array_equal(method.matmul(rows), expected)


def test_another_factor(method: ApproxMatmul) -> None:
    late = copy.deepcopy(method).fit(TRAIN)
    with pytest.raises(NotFittedError, match=r"expected a B to multiply by, got none. Call fit\(A, B\) or set_B\(B\)"):
        late.matmul(TEST)
    with pytest.raises(NotFittedError, match="expected a B"):
        late.cost(1)
    out = method.fit(TRAIN, B).matmul(TEST)
    if not isinstance(method, RowSampling):  # what it draws depends on B
        assert np.array_equal(late.set_B(B).matmul(TEST), out)
    for_once = method(TEST, OTHER)
    assert for_once.shape == (33, 2)
    assert np.array_equal(method(TEST), out), "the own B stays"
    assert np.array_equal(method.set_B(OTHER).matmul(TEST), for_once)


def test_codes_serve_any_factor(method: ApproxMatmul) -> None:
    codes = method.fit(TRAIN, B).encode(TEST)
    first = method.matmul(codes)
    second = method.set_B(OTHER).matmul(codes)
    assert np.array_equal(second, method.matmul(TEST))
    assert np.array_equal(method.set_B(B).matmul(codes), first)


def test_copies(method: ApproxMatmul) -> None:
    base = pytest.importorskip("sklearn.base", reason="needs the extra bench")
    out = method.fit(TRAIN, B).matmul(TEST)
    fresh = base.clone(method)
    assert fresh.get_params() == method.get_params()
    with pytest.raises(NotFittedError):
        fresh.matmul(TEST)
    for twin in (pickle.loads(pickle.dumps(method)), copy.deepcopy(method), copy.copy(method), fresh.fit(TRAIN, B)):
        assert np.array_equal(twin.matmul(TEST), out)
        assert repr(twin) == repr(method)


def test_parameters_set_later_wait_for_the_next_fit(method: ApproxMatmul) -> None:
    out = method.fit(TRAIN, B).matmul(TEST)
    other = {"n_components": 2, "dtype": "float32", "ncodebooks": 2, "leaves": 4, "metric": "input", "nonzeros": 1}
    method.set_params(**{name: value for name, value in other.items() if name in method.get_params()})
    assert np.array_equal(method.matmul(TEST), out)
    assert np.array_equal(method.set_B(B).matmul(TEST), out)
    assert method.fit(TRAIN, B).matmul(TEST).shape == out.shape


def test_score_is_of_rows_not_seen(method: ApproxMatmul) -> None:
    method.fit(TRAIN, B)
    found = method.score(TEST, B)
    assert found == pytest.approx(1 - nmse(TEST.astype(np.float64) @ B, method.matmul(TEST)), abs=1e-7)
    assert found <= 1


def test_rows_that_are_not_finite_spoil_no_other(method: ApproxMatmul) -> None:
    method.fit(TRAIN, B)
    rows, expected = TEST[:9].copy(), method.matmul(TEST[:9])
    rows[1, 2], rows[4, 0], rows[6, 3], rows[6, 4], rows[8] = np.nan, np.inf, np.inf, -np.inf, np.nan
    out = method.matmul(rows)
    good = [0, 2, 3, 5, 7]
    same(out[good], expected[good])
    if not isinstance(method, (PQ, RowSampling)):  # those look at some columns only, or pick a code
        assert np.isnan(out[[1, 8]]).all()
        assert not np.isfinite(out[[4, 6]]).any()
    if isinstance(method, PQ):
        assert np.isfinite(out).all()


def test_bad_rows_and_factors(method: ApproxMatmul) -> None:
    for call, argument in ((method.matmul, TEST), (method.encode, TEST), (method.set_B, B), (method.cost, 1)):
        with pytest.raises(NotFittedError, match="expected an estimator that has learned"):
            call(argument)
    bad = TRAIN.copy()
    bad[17, 3] = np.inf
    with pytest.raises(ValueError, match="finite A, got NaN or infinity in row 17"):
        method.fit(bad, B)
    with pytest.raises(ValueError, match="at least one row"):
        method.fit(TRAIN[:0], B)
    with pytest.raises(ValueError, match=r"B of shape \(11, M\)"):
        method.fit(TRAIN, B[:-1])
    with pytest.raises(TypeError, match="dtype float32"):
        method.fit(TRAIN.astype(np.float64), B)
    method.fit(TRAIN, B)
    out = method.matmul(TEST)
    with pytest.raises(ValueError, match=r"A of shape \(N, 11\)"):
        method.matmul(TEST[:, :-1])
    with pytest.raises(ValueError, match="finite B"):
        method.set_B(np.full_like(B, np.nan))
    with pytest.raises(ValueError, match="B within the range of float32"):
        method.set_B(np.full((D, M), 1e39))
    with pytest.raises(ValueError, match="finite A"):
        method.fit(bad, B)
    assert np.array_equal(method.matmul(TEST), out), "a refused call changes nothing"


WIDE = [PCA(12), TruncatedSVD(12), GaussianSketch(12), FastJL(12), CountSketch(12), OSNAP(12), RowSampling(12)]


@pytest.mark.parametrize("method", [*WIDE, PQ(12), OPQ(12), Bolt(12)], ids=repr)
def test_more_components_than_columns_are_refused(method: ApproxMatmul) -> None:
    with pytest.raises(ValueError, match=rf"{type(method).__name__}.fit: expected \w+ of at most 11, the columns of A"):
        method.fit(TRAIN, B)
    assert method.fit(draw(30, columns=12)).n_features_in_ == 12


BAD = [
    (Exact, {"dtype": "float16"}, r"dtype one of float32, bfloat16, int8, got float16. Did you mean"),
    (PCA, {"n_components": 0}, "PCA: expected a whole number of at least 1 for n_components"),
    (PCA, {"n_components": 2.0}, "a whole number"),
    (TruncatedSVD, {"metric": "inputs"}, "metric input or output, got inputs. Did you mean input"),
    (TruncatedSVD, {"n_components": True}, "a whole number"),
    (GaussianSketch, {"random_state": -1}, "at least 0 for random_state"),
    (FastJL, {"random_state": None}, "at least 0 for random_state"),
    (CountSketch, {"n_components": -3}, "n_components"),
    (OSNAP, {"n_components": 3, "nonzeros": 4}, "nonzeros of at most n_components = 3, got 4"),
    (OSNAP, {"nonzeros": 0}, "nonzeros"),
    (RowSampling, {"uniform": 1.5}, r"uniform in \[0, 1\]"),
    (PQ, {"leaves": 257}, "leaves of at most 256"),
    (PQ, {"leaves": 1}, "at least 2 for leaves"),
    (OPQ, {"ncodebooks": 0}, "OPQ: expected a whole number of at least 1 for ncodebooks"),
    (Bolt, {"max_iter": 0}, "max_iter"),
]


@pytest.mark.parametrize(("kind", "params", "message"), BAD)
def test_bad_parameters(kind: type[ApproxMatmul], params: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**params)
    good = kind()
    with pytest.raises(ValueError, match=message):
        good.set_params(**params)
    assert good.get_params() == kind().get_params()


def test_float32_needs_no_torch() -> None:
    code = """
import sys
import numpy as np
from hasten.matmul import exact, kmeans, projections, quantizers, sketches
A = np.eye(4, dtype="f")
for kind in (exact.Exact, projections.PCA, sketches.FastJL, quantizers.PQ):
    method = kind() if kind is exact.Exact else kind(2)
    assert method.fit(A, A).matmul(A).shape == (4, 4)
loaded = {"torch", "scipy", "sklearn"} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, *sys.flags.no_site * ["-S"], "-c", code], check=True)
