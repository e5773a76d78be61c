"""What all approximate products share: parameters, the order of calls, and what they refuse."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from hasten.matmul import ApproxMatmul, Cost, NotFittedError, nmse


class Doubled(ApproxMatmul):
    """Exact, and says what it was given."""

    def __init__(self, factor=2, *, name="twice"):
        if not isinstance(factor, int):
            raise ValueError("factor")
        self.factor, self.name = factor, name

    def _fit(self, A, B, weight):
        self.seen_ = (A, B, weight)

    def _set_B(self, B):
        self.B_ = B

    def _encode(self, A):
        from hasten.matmul.base import Encoded

        return Encoded(A, len(A))

    def _multiply(self, codes):
        return (codes.values @ self.B_).astype(np.float32)

    def _cost(self, n):
        return Cost(n, 0, 0, 0)


A = np.arange(12, dtype=np.float32).reshape(4, 3)
B = np.arange(6, dtype=np.float32).reshape(3, 2)


def test_the_order_of_calls():
    model = Doubled().fit(A, B)
    assert (model.matmul(A) == A @ B).all()
    assert (model.matmul(model.encode(A)) == A @ B).all()
    assert (model(A) == A @ B).all()
    assert (model.set_B(2 * B).matmul(A) == 2 * A @ B).all()
    assert model.n_features_in_ == 3
    assert model.n_outputs_ == 2
    assert model.score(A, B) == 1.0
    assert model.cost(5) == Cost(5, 0, 0, 0)


def test_another_factor_for_one_product():
    model = Doubled().fit(A, B)
    assert (model(A, 3 * B) == 3 * A @ B).all()
    assert (model(A) == A @ B).all()


def test_a_second_fit_forgets_the_first_factor():
    model = Doubled().fit(A, B).fit(A)
    with pytest.raises(NotFittedError, match=r"Doubled.matmul: expected a B .* Call fit\(A, B\) or set_B\(B\) first"):
        model.matmul(A)
    with pytest.raises(NotFittedError):
        model.cost(3)


@pytest.mark.parametrize("call", ["matmul", "encode", "set_B", "cost", "score"])
def test_nothing_goes_before_fit(call):
    arguments = {"set_B": (B,), "cost": (3,), "score": (A, B)}.get(call, (A,))
    with pytest.raises(NotFittedError, match=rf"Doubled\.{call}: expected an estimator that has learned"):
        getattr(Doubled(), call)(*arguments)


def test_parameters():
    model = Doubled(3)
    assert model.get_params() == {"factor": 3, "name": "twice"}
    assert repr(model) == "Doubled(factor=3)"
    assert model.set_params(name="x") is model
    assert repr(model) == "Doubled(factor=3, name='x')"
    with pytest.raises(ValueError, match=r"set_params: expected an argument .* got 'nam'. Did you mean name"):
        model.set_params(nam="y")
    with pytest.raises(ValueError, match="factor"):
        model.set_params(name="z", factor=0.5)
    assert model.get_params() == {"factor": 3, "name": "x"}  # all or none


def test_clone():
    base = pytest.importorskip("sklearn.base")
    model = Doubled(5, name="n").fit(A, B)
    copy = base.clone(model)
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "n_features_in_")


def test_what_a_subclass_is_given():
    model = Doubled().fit(A, B, sample_weight=[1, 2, 3, 0] * np.ones(4, np.int64))
    rows, factor, weight = model.seen_
    assert rows is A
    assert factor is B
    assert (weight.dtype, weight.tolist()) == (np.float64, [1, 2, 3, 0])


def test_tensors():
    model = Doubled().fit(torch.from_numpy(A), torch.from_numpy(B).requires_grad_())
    assert (model.matmul(torch.from_numpy(A).bfloat16()) == A @ B).all()
    with pytest.raises(ValueError, match="A on the CPU, got 'meta'|A on the CPU, got meta"):
        model.matmul(torch.empty(2, 3, device="meta"))
    with pytest.raises(ValueError, match="a dense A"):
        model.matmul(torch.from_numpy(A).to_sparse())


BAD_ROWS = {
    "float64": (A.astype(np.float64), TypeError, r"A of dtype float32.*astype\(numpy.float32\)"),
    "int64": (A.astype(np.int64), TypeError, "A of dtype"),
    "bool": (A > 0, TypeError, "A of dtype"),
    "complex": (A.astype(np.complex64), TypeError, "A of dtype"),
    "objects": (A.astype(object), TypeError, "A of dtype"),
    "big-endian": (A.astype(">f4"), TypeError, "A of dtype"),
    "a list": (A.tolist(), TypeError, "A to be a NumPy array or a CPU tensor, got list"),
    "masked": (np.ma.masked_array(A, A > 3), TypeError, "A to be a NumPy array"),
    "None": (None, TypeError, "A to be a NumPy array"),
    "one row": (A[0], ValueError, r"A of two dimensions, \(N, D\)"),
    "three dimensions": (A[None], ValueError, "two dimensions"),
}


@pytest.mark.parametrize(("rows", "error", "message"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_rows_that_are_none(rows, error, message):
    model = Doubled().fit(A, B)
    for call in (model.fit, model.matmul, model.encode):
        with pytest.raises(error, match=message):
            call(rows)
    assert (model.matmul(A) == A @ B).all()  # what was learned stays


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint8])
def test_narrow_rows_are_rows(dtype):
    assert (Doubled().fit(A.astype(dtype), B).matmul(A.astype(dtype)) == A @ B).all()


def test_rows_at_run_time():
    model = Doubled().fit(A, B)
    assert model.matmul(A[:0]).shape == (0, 2)
    assert np.isnan(model.matmul(A * np.nan)).all()  # only training data must be finite
    with pytest.raises(ValueError, match=r"A of shape \(N, 3\), got ndarray of shape \(4, 2\)"):
        model.matmul(A[:, :2])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_training_rows_are_finite(value):
    bad = A.copy()
    bad[2, 1] = value
    with pytest.raises(ValueError, match=r"Doubled.fit: expected finite A, got NaN or infinity in row 2"):
        Doubled().fit(bad)
    with pytest.raises(ValueError, match="finite A"):
        Doubled().fit(A, B).score(bad, B)


def test_there_is_something_to_learn_from():
    for none in (A[:0], A[:, :0]):
        with pytest.raises(ValueError, match="at least one row and one column"):
            Doubled().fit(none)


BAD_FACTORS = {
    "integers": (B.astype(int), TypeError, "B of a float dtype"),
    "transposed": (B.T, ValueError, r"B of shape \(3, M\).*weight.T"),
    "a vector": (B[:, 0], ValueError, r"B of shape \(3, M\)"),
    "no output": (B[:, :0], ValueError, "M at least 1"),
    "NaN": (B * np.nan, ValueError, "finite B"),
    "beyond float32": (np.full((3, 2), -1e39), ValueError, "B within the range of float32.*Scale B down"),
    "a list": (B.tolist(), TypeError, "B to be a NumPy array"),
}


@pytest.mark.parametrize(("factor", "error", "message"), BAD_FACTORS.values(), ids=BAD_FACTORS.keys())
def test_factors_that_are_none(factor, error, message):
    model = Doubled().fit(A, B)
    for call in (lambda: model.fit(A, factor), lambda: model.set_B(factor), lambda: model.score(A, factor)):
        with pytest.raises(error, match=message):
            call()
    assert (model.matmul(A) == A @ B).all()


@pytest.mark.parametrize("failing", ["_fit", "_set_B"])
def test_a_method_that_gives_up_keeps_what_it_had(failing, monkeypatch):
    model = Doubled().fit(A, B)
    before = dict(vars(model))

    def give_up(*given):
        model.seen_, model.B_ = None, None
        raise RuntimeError("given up")

    monkeypatch.setattr(Doubled, failing, give_up)
    with pytest.raises(RuntimeError, match="given up"):
        model.fit(A[:2], B)
    assert vars(model) == before


BAD_WEIGHTS = (
    [1.0, 2.0], [1.0, -1.0, 1.0, 1.0], [0.0] * 4, [np.nan] * 4, [[1.0] * 4], [1e31] * 4, [1.0, 1.0, 0.0, 1e-31],
)  # fmt: skip


@pytest.mark.parametrize("weight", BAD_WEIGHTS, ids=str)
def test_weights_that_are_none(weight):
    with pytest.raises(ValueError, match=r"Doubled.fit: expected sample_weight of"):
        Doubled().fit(A, B, sample_weight=np.array(weight))


def test_weights_of_words():
    with pytest.raises(TypeError, match="sample_weight of numbers"):
        Doubled().fit(A, B, sample_weight=np.array(["a"] * 4))
    with pytest.raises(TypeError, match="sample_weight to be a NumPy array"):
        Doubled().fit(A, B, sample_weight=[1.0] * 4)


@pytest.mark.parametrize("n", [-1, 1.5, True, None])
def test_a_cost_is_of_rows(n):
    with pytest.raises(ValueError, match="a number of rows"):
        Doubled().fit(A, B).cost(n)


def test_nmse():
    exact = np.array([[1.0, 3.0]])
    assert nmse(exact, exact) == 0
    assert nmse(exact, np.full((1, 2), 2.0)) == 1.0
    assert nmse(np.ones(3), np.ones(3)) == 0
    assert nmse(np.ones(3), np.zeros(3)) == np.inf
    assert np.isnan(nmse(exact, exact * np.nan))
    with pytest.raises(ValueError, match="two arrays of shape"):
        nmse(exact, exact[0])
    with pytest.raises(ValueError, match="at least one element"):
        nmse(np.zeros((0, 2)), np.zeros((0, 2)))


def test_neither_torch_nor_scikit_learn_is_loaded():
    code = "import sys, hasten.matmul.maddness; print({'torch', 'sklearn', 'scipy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path}; {code}"], capture_output=True, text=True
    )
    assert done.stdout.strip() == "set()", done.stderr


def test_names():
    import hasten.matmul

    for name in hasten.matmul.__all__:
        assert hasattr(hasten.matmul, name)
    with pytest.raises(AttributeError, match="no attribute 'Madness'"):
        hasten.matmul.Madness  # noqa: B018
