"""Records in lanes: what is written is read in NumPy too, and so is whatever else the format allows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.codecs.sprintz import records_by_hand as by_hand
from tests.codecs.sprintz.container import same
from tests.codecs.sprintz.records_by_hand import LENGTHS, PREDICTORS, SERIES, UNSIGNED, head, needs_kernels
from tests.golden.tsz import make_tsz

from hasten._core import dispatch
from hasten.codecs import sprintz
from hasten.codecs.sprintz import chunk, records
from hasten.codecs.sprintz.lanes import references_of

LANE_BITS = {1: (16,), 2: (16,), 4: (16, 32), 8: (16, 32, 64)}
FIRE, LINEAR = 3, 7


# ---- what the compiled encoder writes


@needs_kernels
@pytest.mark.parametrize("predictor", ["auto", *PREDICTORS])
@pytest.mark.parametrize("dtype", UNSIGNED)
def test_what_is_written_is_read(dtype, predictor):
    seen = set()
    for number, (name, rows, entropy) in enumerate(itertools.product(SERIES, LENGTHS, records.ENTROPIES)):
        profile = ("fast", "max")[number % 2]
        x = by_hand.series(name, rows, dtype, number)
        record = by_hand.encode([x], profile, predictor, entropy)[0]
        seen.add((record[0], record[2] if record[0] == 3 else 0))
        for numpy in (True, False):
            found = by_hand.read(by_hand.body_of([record]), rows, [dtype], numpy=numpy)
            assert found[0].tolist() == x.tolist(), (name, rows, entropy)
    simple = predictor in ("auto", "none", "delta", "delta2")
    assert seen == {(0, 0), (1 if simple else 3, 0), (3, 1), (3, 2)}, "stored, without code, Rice, tokens"


@needs_kernels
@pytest.mark.parametrize("name", SERIES)
def test_contexts_and_mappings(name):
    for dtype in UNSIGNED:
        x = by_hand.series(name, 2100, dtype)
        for predictor in ("delta", "nlms4", "lpc"):
            record = by_hand.encode([x], "max", predictor, "classes")[0]
            assert by_hand.read(by_hand.body_of([record]), 2100, [dtype], numpy=True)[0].tolist() == x.tolist()
            if name == "bursts" and predictor == "delta" and dtype.itemsize > 1:
                assert record[6 + dtype.itemsize] > 1, "several contexts"
    assert by_hand.encode([by_hand.series("units", 999, "u4")])[0][4] == 1, "affine"
    assert by_hand.encode([by_hand.series("few", 999, "u4")])[0][4] == 2, "a palette"


@needs_kernels
@pytest.mark.parametrize("dtype", ["u2", "u4"])
@pytest.mark.parametrize("entropy", ["auto", *records.ENTROPIES])
def test_columns_that_refer_to_others(dtype, entropy):
    columns = by_hand.leads(700, dtype)
    found = by_hand.encode(columns, "max", "nlms2" if entropy == "none" else "auto", entropy)
    references = [references_of(memoryview(record), np.dtype(dtype), 0) for record in found]
    assert references[:2] == [[], []]
    assert sorted(references[2]) == [0, 1], "the difference of both"
    assert references[4][0] == 0
    for numpy in (True, False):
        for wanted in (range(6), [2], [5, 0]):
            read = by_hand.read(by_hand.body_of(found), 700, [dtype] * 6, wanted, numpy=numpy)
            for j, y in zip(sorted(wanted), read, strict=True):
                assert y.tolist() == columns[j].tolist()


@needs_kernels
@given(
    st.data(), st.sampled_from(UNSIGNED), st.sampled_from(records.PROFILES),
    st.sampled_from(["auto", *PREDICTORS]), st.sampled_from(["auto", *records.ENTROPIES]),
)  # fmt: skip
def test_any_values_come_back(data, dtype, profile, predictor, entropy):
    rows = data.draw(st.integers(1, 70))
    pattern = data.draw(hnp.arrays(dtype, (rows, 2)))
    repeats = data.draw(st.sampled_from([1, 5]))
    columns = list(np.tile(pattern, (repeats, 1)).T.copy())
    body = by_hand.body_of(by_hand.encode(columns, profile, predictor, entropy))
    for numpy in (True, False):
        found = by_hand.read(body, rows * repeats, [dtype] * 2, numpy=numpy)
        assert [y.tolist() for y in found] == [x.tolist() for x in columns]


# ---- what the format allows


def residuals(steps: int, bits: int, g: np.random.Generator) -> np.ndarray:
    """Small, large and extreme ones."""
    full = g.integers(0, 1 << bits, (steps, 8), dtype=np.uint64, endpoint=False) if bits < 64 else g.bytes(64 * steps)
    z = np.frombuffer(full, np.uint64).reshape(steps, 8) if isinstance(full, bytes) else full
    z = z >> g.integers(0, bits, (steps, 8)).astype(np.uint64)
    extreme = np.array([0, 1, 2, (1 << bits) - 1, (1 << bits) - 2, 1 << (bits - 1)], np.uint64)
    return np.where(g.random((steps, 8)) < 0.1, g.choice(extreme, (steps, 8)), z)


def agree(record: bytes, rows: int, dtype: np.dtype) -> np.ndarray:
    """What both decoders make of a good record."""
    x = by_hand.outcome_numpy(record, rows, dtype)
    assert isinstance(x, np.ndarray), x
    assert x.dtype == dtype
    for isa in dispatch.isas():
        y = by_hand.outcome_compiled(record, rows, dtype, isa)
        assert isinstance(y, np.ndarray), y
        assert y.tolist() == x.tolist()
    return x


@pytest.mark.parametrize("predictor", range(8))
@pytest.mark.parametrize("dtype", UNSIGNED)
def test_any_residuals(dtype, predictor):
    g = np.random.default_rng(predictor)
    size = dtype.itemsize
    top = 1 << 8 * size
    for bits, rows in itertools.product(LANE_BITS[size], LENGTHS):
        if predictor == FIRE and bits > 16:
            continue
        steps = -(-rows // 8)
        linear = g.integers(-(1 << 15), 1 << 15, g.choice([2, 4, 8, 16])) if predictor == LINEAR else ()
        how = {"base": top - 3, "unit": top - 5} if rows % 2 else {"base": int(g.integers(1 << 8))}
        record = head(predictor, 0, bits, size, **how, linear=linear)
        z = residuals(steps, bits, g) if rows != 1000 else residuals(steps, 6, g)
        x = agree(record + by_hand.planar(z, bits), rows, dtype)
        if predictor == 0:
            v = z.T.reshape(-1)[:rows].tolist()
            assert x.tolist() == [(how["base"] + how.get("unit", 1) * k) % top for k in v]


@pytest.mark.parametrize("rows", LENGTHS)
def test_palettes_wrap(rows):
    g = np.random.default_rng(rows)
    for dtype in UNSIGNED:
        size, count = dtype.itemsize, 300 if dtype.itemsize > 1 else 256
        steps = g.integers(0, 1 << 8, count - 1).tolist()
        steps[7] = (1 << 63) - 1  # nine bytes
        values = np.cumsum(np.array([250, *steps], np.uint64)).astype(dtype)
        z = g.integers(0, count, (-(-rows // 8), 8)).astype(np.uint64)
        x = agree(head(0, 0, 16, size, base=250, palette=steps) + by_hand.planar(z, 16), rows, dtype)
        assert x.tolist() == values[z.T.reshape(-1)[:rows]].tolist()


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_token_codes_by_hand(bits):
    g = np.random.default_rng(bits)
    dtype = np.dtype(f"u{bits // 8}")
    for rows, count in itertools.product((*LENGTHS, 600), (1, 2, 5, 8)):
        z = residuals(-(-rows // 8), bits, g)
        shift, levels = int(g.integers(0, 18)), sorted(g.choice(np.arange(1, 256), count - 1, replace=False).tolist())
        contexts = by_hand.contexts_of(z, shift, levels)
        lengths = []
        for context in range(count):
            numbers = {by_hand.token(value, bits)[0] for value in z[contexts == context].tolist()}
            extra = g.choice([0, 31, 32, 75], 2).tolist() if numbers else []  # tokens that do not occur
            lengths.append(
                by_hand.some_code(sorted(numbers.union(extra)), g, 11 if count == 1 else 10) if numbers else {}
            )
        record = head(0, 2, bits, bits // 8) + by_hand.tokens(z, bits, lengths, shift, levels)
        assert agree(record, rows, dtype).tolist() == z.T.reshape(-1)[:rows].tolist()


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_rice_codes_by_hand(bits):
    g = np.random.default_rng(bits)
    dtype = np.dtype(f"u{bits // 8}")
    for rows, least in itertools.product((*LENGTHS, 600), (0, 1, bits - 14)):
        steps = -(-rows // 8)
        parameters = g.integers(0, 15, (-(-steps // 32), 8))
        k = (least + parameters - 1).repeat(32, axis=0)[:steps]
        z = residuals(steps, bits, g).astype(object) % (np.array(40, object) << np.maximum(k, 0).astype(object))
        z = np.where(parameters.repeat(32, axis=0)[:steps] > 0, z, 0).astype(np.uint64)
        record = head(0, 1, bits, bits // 8) + by_hand.rice(z, least, parameters)
        assert agree(record, rows, dtype).tolist() == z.T.reshape(-1)[:rows].tolist()


def test_a_constant_takes_no_bits():
    for z, entropy, payload in (
        (5, 2, bytes([1, 6, 0, 0, 1 << 4]) + bytes(12)),
        (0, 2, bytes([1, 0]) + bytes(12)),  # without any token
        (0, 1, bytes(1 + 4 + 4)),
    ):
        assert agree(head(0, entropy) + payload, 100, np.dtype("u2")).tolist() == [z] * 100


def test_references_wrap():
    g = np.random.default_rng(0)
    for size, shares in ((2, [-32768, 32767]), (4, [32767, 32767]), (4, [-32768])):
        dtype = np.dtype(f"u{size}")
        others = [g.integers(0, 256, 257 * size, dtype=np.uint8).view(dtype) for _ in shares]
        record = head(1, 0, 16, size, references=[(k, share) for k, share in enumerate(shares)])
        z = residuals(33, 16, g)
        plain = by_hand.outcome_numpy(head(1, 0, 16, size) + by_hand.planar(z, 16), 257, dtype)
        assert isinstance(plain, np.ndarray)
        parts = [share * other.view(f"i{size}").astype(object) for share, other in zip(shares, others, strict=True)]
        expected = (plain.astype(object) + (sum(parts) + 2048) // 4096) % (1 << 8 * size)
        body = by_hand.body_of([*[b"\0" + other.tobytes() for other in others], record + by_hand.planar(z, 16)])
        for numpy in (True, False)[: 1 + bool(dispatch.isas())]:
            found = by_hand.read(body, 257, [dtype] * (len(shares) + 1), [len(shares)], numpy=numpy)
            assert found[0].tolist() == list(expected)


# ---- what was written once


WRITTEN = {  # bits, mapping and references of the last column
    "lanes_contexts": (32, 0, 0),
    "lanes_64_bits": (64, 0, 0),
    "lanes_palette": (16, 2, 0),
    "lanes_affine": (32, 1, 0),
    "lanes_references": (16, 0, 2),
    "lanes_bytes": (16, 0, 0),
}


@pytest.mark.parametrize("name", make_tsz.OPTIONS)
def test_golden_files_in_numpy(name, monkeypatch):
    monkeypatch.setattr(records, "ext", None)
    how = make_tsz.OPTIONS[name]
    with sprintz.open(make_tsz.FOLDER / f"{name}.tsz") as r:
        assert same(make_tsz.CASES[name](), r[:])
        body = r.body(0)[0]
        for found, (_, record) in zip(
            chunk.describe(body, r.header.ncols), records.split(memoryview(body), r.header.ncols), strict=True
        ):
            assert record[0] == 3
            assert found["entropy"] == how["entropy"]
            assert found["predictor"].split()[0] == how.get("predictor", "lpc")
    assert tuple(record[3:6]) == WRITTEN.get(name, tuple(record[3:6]))
    assert name != "lanes_contexts" or record[6 + 8] > 1
