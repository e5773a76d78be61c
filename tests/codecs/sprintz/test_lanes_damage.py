"""Records in lanes that are not right: both decoders make the same of any bytes, and do no harm."""

from __future__ import annotations

import numpy as np
import pytest
from tests.codecs.sprintz import records_by_hand as by_hand
from tests.codecs.sprintz.records_by_hand import body_of, encode, head, needs_kernels, outcome_compiled, outcome_numpy
from tests.codecs.sprintz.test_damage import peak

from hasten._core import dispatch
from hasten.codecs.sprintz import CorruptError, chunk, records
from hasten.codecs.sprintz.lanes import decode_lanes

Z = np.arange(8, dtype=np.uint64).reshape(1, 8)
PLANAR = head() + by_hand.planar(Z, 16)
RICE = head(entropy=1) + by_hand.rice(Z, 2, np.full((1, 8), 3))
CODES = [dict.fromkeys(range(8), 3), {0: 1, 1: 2, 99: 2}]
TOKENS = head(entropy=2) + by_hand.tokens(Z, 16, CODES[:1])
CONTEXTS = head(entropy=2, bits=32, size=4) + by_hand.tokens(Z % 2, 32, [CODES[0], CODES[1]], 4, [9])


@pytest.fixture(params=[True, pytest.param(False, marks=needs_kernels)], ids=["numpy", "compiled"])
def numpy(request, monkeypatch):
    """Run the test with either decoder."""
    if request.param:
        monkeypatch.setattr(records, "ext", None)
    return request.param


@pytest.mark.parametrize("record", [PLANAR, RICE, TOKENS])
def test_before_the_damage(record):
    for found in (outcome_numpy(record, 8, "u2"), *(outcome_compiled(record, 8, "u2", isa) for isa in dispatch.isas())):
        assert isinstance(found, np.ndarray)
        assert found.tolist() == list(range(8))


def put(record: bytes, at: int, *values: int) -> bytes:
    return record[:at] + bytes(values) + record[at + len(values) :]


@pytest.mark.parametrize(
    ("record", "dtype", "offset", "reason"),
    [
        (b"", "u2", 0, "an empty record"),
        (b"\x03", "u2", 1, "a record ends inside its head"),
        (PLANAR[:7], "u2", 6, "a record ends inside its head"),
        (put(PLANAR, 1, 8), "u2", 1, "an unknown predictor"),
        (put(PLANAR, 2, 3), "u2", 2, "an unknown entropy code"),
        (put(PLANAR, 3, 8), "u2", 3, "values of more bits than the column has"),
        (put(PLANAR, 3, 32), "u2", 3, "values of more bits than the column has"),
        (put(PLANAR, 3, 32), "u1", 3, "values of more bits than the column has"),
        (put(PLANAR, 3, 64), "u4", 3, "values of more bits than the column has"),
        (put(PLANAR, 1, 3, 0, 32), "u4", 3, "FIRE for other than 16 bits"),
        (put(PLANAR, 4, 3), "u2", 4, "an unknown mapping"),
        (put(PLANAR, 5, 3), "u2", 5, "more references to other columns than there may be"),
        (put(PLANAR, 5, 1), "u1", 5, "more references to other columns than there may be"),
        (put(PLANAR, 5, 1), "u8", 5, "more references to other columns than there may be"),
        (head(references=[(0, 5)]), "u2", 0, "a record that refers to others, where it may not"),
        (head(references=[(0, 5)])[:-1], "u2", 12, "a record ends inside its head"),
        (head(unit=5)[:-1], "u2", 8, "a record ends inside its head"),
        (put(head(palette=[1]), 8, 0, 0), "u2", 8, "a palette of no values, or of more than there may be"),
        (put(head(palette=[1]), 8, 1, 16), "u2", 8, "a palette of no values, or of more than there may be"),
        (head(palette=[5] * 4095)[:-1], "u2", 4104, "a record ends inside its palette"),
        (head(palette=[(1 << 63) - 1])[:-1] + b"\x80\x00", "u2", 18, "a number of more than 63 bits"),
        (head(palette=[5]) + by_hand.planar(Z, 16), "u2", 60 + 16, "a value that is not in the palette"),
        (head(7, linear=[1, 2, 3]), "u2", 8, "an order other than 2, 4, 8 or 16"),
        (head(7, linear=[1, 2, 3, 4])[:-1], "u2", 15, "a record ends inside its head"),
        (put(PLANAR, 8, 17), "u2", 8, "a width of more"),
        (PLANAR[:-1], "u2", 9, "a payload of another length than its widths say"),
        (PLANAR + b"\0", "u2", 9, "a payload of another length than its widths say"),
        (head(), "u2", 8, "a record ends inside its widths"),
        (put(RICE, 8, 3), "u2", 8, "a parameter of more bits than the values have"),
        (RICE[:8], "u2", 8, "a record ends inside its parameters"),
        (RICE[:12], "u2", 9, "a record ends inside its parameters"),
        (put(RICE, 11, 0xF1), "u2", 11, "a parameter of 15"),
        (RICE[:16], "u2", 13, "a record ends inside its parameters"),
        (put(RICE, 13, 200), "u2", 17, "a stream is longer than its record"),
        (RICE[:-1], "u2", len(RICE) - 1, "a stream ends too early, or counts too far"),
        (put(RICE, 13, 3), "u2", len(RICE), "a stream ends too early, or counts too far"),
        (put(RICE, len(RICE) - 1, 0), "u2", len(RICE), "a stream ends too early, or counts too far"),
        (RICE[:-1] + bytes(6) + b"\xff\xff", "u2", len(RICE) + 7, "a stream ends too early, or counts too far"),
        (RICE + b"\0", "u2", len(RICE) + 1, "a stream has another length than its codes"),
        (TOKENS[:8], "u2", 8, "a record ends inside its codes"),
        (put(TOKENS, 8, 0), "u2", 8, "no contexts, or more than 8"),
        (put(TOKENS, 8, 9), "u2", 8, "no contexts, or more than 8"),
        (put(TOKENS, 9, 77), "u2", 9, "more tokens than there are"),
        (put(CONTEXTS, 10, 3, 32), "u4", 11, "a shift of more than 31 bits"),
        (put(CONTEXTS, 12, 0), "u4", 12, "levels of contexts that do not rise"),
        (put(CONTEXTS, 10, 3, 4, 9, 9), "u4", 13, "levels of contexts that do not rise"),
        (TOKENS[:12], "u2", 12, "a record ends inside its codes"),
        (put(TOKENS, 12, 0xC3), "u2", 12, "a code of more bits than there may be"),
        (put(TOKENS, 13, 0x03), "u2", 13, "tokens behind the last"),
        (put(TOKENS, 9, 7), "u2", 13, "tokens behind the last"),
        (put(TOKENS, 13, 0x23), "u2", 14, "a code with more words than there is room for"),
        (put(TOKENS, 13, 0x43), "u2", 14, "a code that is not complete"),
        (head(entropy=2) + bytes([1, 1, 2]) + bytes(12), "u2", 11, "a code that is not complete"),
        (TOKENS[:24], "u2", 22, "a record ends inside its codes"),
        (put(TOKENS, 14, 99), "u2", 26, "a stream is longer than its record"),
        (TOKENS[:-1], "u2", len(TOKENS) - 1, "a stream ends too early"),
        (put(TOKENS, 14, 0), "u2", len(TOKENS), "a stream ends too early"),
        (put(TOKENS, 14, 2), "u2", len(TOKENS), "a stream ends too early"),
        (TOKENS + b"\0", "u2", len(TOKENS) + 1, "a stream has another length than its codes"),
    ],
)
def test_records_that_cannot_be(record, dtype, offset, reason):
    with pytest.raises(CorruptError, match=reason) as error:
        decode_lanes(memoryview(record), 8, np.dtype(dtype), 1000, [])
    if reason != "a record ends inside its widths":
        assert error.value.offset == 1000 + offset
    if dispatch.isas():
        found = outcome_compiled(record, 8, dtype)
        assert isinstance(found, tuple), found
        assert found[0] == offset
        assert found[1].startswith(reason)


@pytest.mark.parametrize("record", [PLANAR, RICE, TOKENS])
def test_many_rows_of_few_bytes(record):
    with peak(1 << 18), pytest.raises(CorruptError):
        decode_lanes(memoryview(record), 1 << 28, np.dtype("u2"), 0, [])


@pytest.mark.parametrize(
    ("columns", "dtypes"),
    [
        ([PLANAR, (1, 5)], ["u2", "u2"]),
        ([PLANAR, (2, 5)], ["u2", "u2"]),
        ([PLANAR, (1 << 31, 5)], ["u2", "u2"]),
        ([b"\0" + bytes(32), (0, 5)], ["u4", "u2"]),
        ([bytes([2, 0, 0, 0, 0]) + PLANAR, (0, 5)], ["u2", "u2"]),
        ([b"", (0, 5)], ["u2", "u2"]),
        ([(1, 5), (0, 5)], ["u2", "u2"]),
    ],
)
def test_references_that_cannot_be(columns, dtypes, numpy):
    body = body_of([
        c if isinstance(c, bytes) else head(references=[c]) + by_hand.planar(Z, 16) for c in columns
    ])  # fmt: skip
    with pytest.raises(CorruptError) as error:
        by_hand.read(body, 8, dtypes, [1], numpy=numpy)
    assert 0 <= error.value.offset <= len(body)


def test_a_long_chain_of_references(numpy):
    chain = [PLANAR, *[head(references=[(k, 4096)]) + by_hand.planar(0 * Z + k % 3, 16) for k in range(5000)]]
    assert by_hand.read(body_of(chain), 8, ["u2"] * 5001, [5000], numpy=numpy)[0].tolist() == list(range(4999, 5007))


def damaged(record: bytes, g: np.random.Generator) -> bytes:
    out = bytearray(record)
    at = int(g.integers(len(out)))
    kind = g.integers(5)
    if kind < 2:
        out[at] ^= 1 << int(g.integers(8))
    elif kind == 2:
        out[min(at, int(g.integers(1, 60)))] = int(g.choice([0, 1, 2, 15, 16, 32, 64, 127, 128, 255]))
    elif kind == 3:
        del out[at : at + int(g.integers(1, 5))]
    else:
        out[at:at] = g.bytes(int(g.integers(1, 5)))
    return bytes(out)


@needs_kernels
@pytest.mark.parametrize("seed", range(4))
def test_both_decoders_make_the_same_of_damage(seed):
    g = np.random.default_rng(seed)
    seen = {"values": 0, "refused": 0}
    for k in range(400):
        dtype = by_hand.UNSIGNED[k % 4]
        rows = int(g.choice([40, 257, 300]))
        name = ("walk", "few", "bursts", "sparse", "units")[k // 4 % 5]
        predictor, entropy = by_hand.PREDICTORS[k % 8], records.ENTROPIES[k // 8 % 3]
        record = encode([by_hand.series(name, rows, dtype)], "max", predictor, entropy)[0]
        if record[0] != 3:
            continue
        for _ in range(3):
            record = damaged(record, g)
            if record[:1] != b"\x03":
                break
            x, y = outcome_numpy(record, rows, dtype), outcome_compiled(record, rows, dtype, ("scalar", "avx2")[k % 2])
            if isinstance(x, tuple) or isinstance(y, tuple):
                assert isinstance(x, tuple)
                assert isinstance(y, tuple)
                assert 0 <= x[0] <= len(record)
                assert x == y or record[2] == 0, "of planar residuals the NumPy reference says it otherwise"
                seen["refused"] += 1
            else:
                assert x.tolist() == y.tolist()
                seen["values"] += 1
    assert min(seen.values()) > 100


@needs_kernels
def test_every_bit_and_every_cut_of_a_body(numpy):
    found = [encode([c], "max", "auto", "classes")[0] for c in by_hand.leads(300, "u2")[:2]]
    assert [record[0] for record in found] == [3, 3]
    body, dtypes, g = body_of(found), [np.dtype("u2")] * 2, np.random.default_rng(0)
    offsets, decoded = [], 0
    for bit in [*range(8 * 100), *g.integers(8 * len(body), size=100)]:
        changed = bytearray(body)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            chunk.decode(bytes(changed), 300, dtypes, [np.zeros(300, "u2") for _ in found])
            decoded += 1
        except CorruptError as error:
            offsets.append(error.offset)
    assert min(decoded, len(offsets)) > 100
    assert 0 <= min(offsets) <= max(offsets) <= len(body)
    for size in [*range(100), *g.integers(len(body), size=100)]:
        with pytest.raises(CorruptError):
            chunk.decode(body[:size], 300, dtypes, [np.zeros(300, "u2") for _ in found])


def test_columns_with_missing_values_refer_to_none(numpy):
    values, mask, dtypes = PLANAR, b"\0\x0f", [np.dtype("u2")]
    out = [np.zeros(8, "u2")]
    before = b"\2" + len(mask).to_bytes(4, "little") + mask
    chunk.decode(body_of([before + values]), 8, dtypes, out)
    assert out[0].tolist() == list(range(8))
    refers = head(references=[(0, 5)]) + values[8:]
    with pytest.raises(CorruptError, match="refers to others, where it may not") as error:
        chunk.decode(body_of([before + refers]), 8, dtypes, out)
    assert error.value.offset == 4 + len(before)


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
def test_without_rows(numpy, dtype):
    dtypes, out = [np.dtype(dtype)] * 2, [np.empty(0, dtype)] * 2
    good = chunk.encode(out, chunk.Options(), [None, np.zeros(0, bool)])
    chunk.decode(good, 0, dtypes, out)
    chunk.decode(body_of([b"\0", b"\1\0\x08" + bytes(8)]), 0, dtypes, out, masks=[None, np.zeros(0, bool)])


@pytest.mark.parametrize(
    ("body", "offset"),
    [
        (b"", 0),
        (body_of([b""]), 4),
        (body_of([b"\0"])[:-1], 0),
        (body_of([b"\0"]) + b"\0", 5),
        (body_of([b"\0\0"]), 5),
        (body_of([b"\1"]), 5),
        (body_of([b"\1\0\x10" + bytes(9)]), 4 + 11),
        (body_of([PLANAR]), 4 + 8),
        (body_of([b"\2"]), 5),
        (body_of([b"\x63"]), 4),
    ],
)
def test_damage_without_rows(numpy, body, offset):
    with pytest.raises(CorruptError) as error:
        chunk.decode(body, 0, [np.dtype("u2")], [np.empty(0, "u2")])
    assert error.value.offset == offset
