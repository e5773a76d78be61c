"""Files: what is read is what was written, and nothing else is read."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.matmul.maddness.data import rows_like_activations

from hasten.matmul import Maddness, NotFittedError
from hasten.matmul.maddness import load

A = rows_like_activations(300, 12)
B = np.random.default_rng(0).standard_normal((12, 3))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "model.safetensors"
    Maddness(3, ridge=2.0).fit(A, B).save(path)
    return path.read_bytes()


def read(tmp_path, data):
    path = tmp_path / "read.safetensors"
    path.write_bytes(data)
    return load(path)


def parts(data):
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def whole(header, body):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


@pytest.mark.parametrize(
    "options", [{}, {"lut_bits": 16}, {"lut_bits": 32}, {"leaves": 64}, {"accumulate": "avg"}, {"ridge": "cv"}], ids=str
)
def test_round_trip(tmp_path, options):
    model = Maddness(3, **options).fit(A, B)
    model.save(tmp_path / "a")
    same = load(str(tmp_path / "a"))
    assert same.get_params() == model.get_params()
    assert (same.matmul(A) == model.matmul(A)).all()
    assert (same.encode(A).array() == model.encode(A).array()).all()
    assert (same(A, 2 * B) == model(A, 2 * B)).all()
    same.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_without_prototypes(tmp_path):
    model = Maddness(3).fit(A, B)
    model.save(tmp_path / "a", prototypes=False)
    same = load(tmp_path / "a")
    assert (same.matmul(A) == model.matmul(A)).all()
    with pytest.raises(NotFittedError, match="expected prototypes, got a file saved without"):
        same.set_B(B)
    with pytest.raises(NotFittedError, match="got a loaded file"):
        same.partial_fit(A)
    same.save(tmp_path / "b", prototypes=False)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_without_a_factor(tmp_path):
    model = Maddness(3).fit(A)
    with pytest.raises(ValueError, match="a B or prototypes=True"):
        model.save(tmp_path / "a", prototypes=False)
    model.save(tmp_path / "a")
    same = load(tmp_path / "a")
    with pytest.raises(NotFittedError, match="expected a B"):
        same.matmul(A)
    assert (same.set_B(B).matmul(A) == model.set_B(B).matmul(A)).all()


def test_what_is_not_written(tmp_path):
    with pytest.raises(NotFittedError, match="Maddness.save: expected an estimator that has learned"):
        Maddness(3).save(tmp_path / "a")
    with pytest.raises(ValueError, match="changed ones: .* Call fit again"):
        Maddness(3).fit(A, B).set_params(ncodebooks=4).save(tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_a_plain_reader_understands_it(written):
    header, body = parts(written)
    assert set(header) == {"__metadata__", "split_dims", "thresholds", "prototypes", "luts", "scale", "offset"}
    assert header["luts"]["dtype"] == "U8"
    assert header["luts"]["shape"] == [3, 3, 16]
    low, high = header["scale"]["data_offsets"]
    assert np.frombuffer(body[low:high], "<f4").tolist() == Maddness(3, ridge=2.0).fit(A, B).tables_.scale.tolist()
    assert (len(written) - len(body)) % 8 == 0


def test_safetensors_understands_it(written):
    safetensors = pytest.importorskip("safetensors.numpy")
    assert safetensors.load(written)["prototypes"].shape == (3, 16, 12)


def changed(written, change):
    header, body = parts(written)
    body = change(header, body)
    return whole(header, body)


def edit(name, **values):
    def change(header, body):
        header[name] = {**header[name], **values}
        return body

    return change


def drop(name):
    def change(header, body):
        del header[name]
        return body

    return change


def overlap(header, body):
    header["offset"]["data_offsets"] = header["scale"]["data_offsets"]
    return body[:-12]


def nan_thresholds(header, body):
    low, high = header["thresholds"]["data_offsets"]
    return body[:low] + b"\xff" * (high - low) + body[high:]


def params(**values):
    def change(header, body):
        old = json.loads(header["__metadata__"]["params"])
        header["__metadata__"]["params"] = json.dumps({**old, **values})
        return body

    return change


DAMAGED = {
    "no metadata": drop("__metadata__"),
    "no trees": drop("split_dims"),
    "another format": edit("__metadata__", format="other"),
    "a later version": edit("__metadata__", version="2"),
    "numbers as metadata": edit("__metadata__", n_features=12),
    "columns that are not there": edit("__metadata__", n_features="3"),
    "a dtype that we lack": edit("luts", dtype="BF16"),
    "a dtype of another size": edit("luts", dtype="F32"),
    "a shape of another size": edit("luts", shape=[3, 3, 17]),
    "a negative shape": edit("luts", shape=[-3, -3, 16]),
    "too many dimensions": edit("luts", shape=[3, 3, 16, 1]),
    "a place beyond the end": edit("luts", data_offsets=[10**6, 10**6 + 144]),
    "a place of one number": edit("luts", data_offsets=[0]),
    "places that overlap": overlap,
    "bytes too many": lambda header, body: body + b"\0",
    "bytes too few": lambda header, body: body[:-1],
    "NaN": nan_thresholds,
    "other codebooks": params(ncodebooks=4),
    "other bits": params(lut_bits=16),
    "an argument that there is not": params(oops=1),
    "an argument that makes no sense": params(ridge=-1),
}


@pytest.mark.parametrize("change", DAMAGED.values(), ids=DAMAGED.keys())
def test_damage_is_noticed(tmp_path, written, change):
    with pytest.raises(ValueError, match="load: expected"):
        read(tmp_path, changed(written, change))


@pytest.mark.parametrize("data", [b"", b"\0" * 8, b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]", b"PK\x03\x04" * 20], ids=repr)
def test_other_files(tmp_path, data):
    with pytest.raises(ValueError, match="load: expected"):
        read(tmp_path, data)


def test_a_deep_header(tmp_path):
    text = b"[" * 100_000
    with pytest.raises(ValueError, match="load: expected a safetensors header"):
        read(tmp_path, len(text).to_bytes(8, "little") + text)


@given(st.data())
def test_any_change_is_refused_or_harmless(tmp_path_factory, written, data):
    mutant = bytearray(written)
    for _ in range(data.draw(st.integers(1, 4))):
        mutant[data.draw(st.integers(0, 1200))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("mutant") / "a"
    path.write_bytes(mutant[: data.draw(st.integers(0, len(mutant)))] if data.draw(st.booleans()) else mutant)
    try:
        model = load(path)
    except ValueError:
        return
    if hasattr(model, "n_outputs_"):
        assert model.matmul(np.zeros((2, model.n_features_in_), np.float32)).shape == (2, model.n_outputs_)
