"""Records of the compiled encoder: the same bytes everywhere, and small where something can be known beforehand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.codecs.sprintz.container import laid_out, same
from tests.codecs.sprintz.records_by_hand import (
    LENGTHS,
    PREDICTORS,
    SERIES,
    UNSIGNED,
    ar2,
    body_of,
    encode,
    needs_kernels,
    read,
    series,
)  # fmt: skip
from tests.codecs.sprintz.reference_v0 import Column

from hasten._core import dispatch
from hasten._native import ext
from hasten.codecs.sprintz import chunk, compress, decompress, records
from hasten.codecs.sprintz._lanes_codes import take_planar
from hasten.codecs.sprintz._lanes_head import Cursor
from hasten.codecs.sprintz.planar import PLANAR_PREDICTORS, encode_column

pytestmark = needs_kernels
ENTROPIES = records.ENTROPIES


def size(x: np.ndarray, *how: str) -> int:
    return len(encode([x], *how)[0])


def described(x: np.ndarray, **how: str) -> tuple[str, str]:
    found = chunk.describe(chunk.encode([x], chunk.Options(**how)), 1)[0]
    return found["predictor"], found["entropy"]


# ---- the same bytes


@pytest.mark.parametrize("predictor", ["auto", *PREDICTORS])
def test_all_instruction_sets_write_the_same_and_read_it(predictor):
    for number, (dtype, name, entropy) in enumerate(itertools.product(UNSIGNED, SERIES, ENTROPIES)):
        rows = (*LENGTHS, 2100)[number % 8]
        columns = [series(name, rows, dtype, seed) for seed in range(3)]
        columns.append((columns[0] - columns[1]).astype(dtype))
        found = {isa: encode(columns, "max", predictor, entropy, isa=isa) for isa in dispatch.isas()}
        assert all(mine == found["scalar"] for mine in found.values()), (dtype, name, entropy, rows)
        body = body_of(found["scalar"])
        for isa in dispatch.isas():
            out = [np.zeros(rows, dtype) for _ in columns]
            assert ext.tsz_decode(body, rows, [dtype.itemsize] * 4, out, isa) == []
            assert all((y == x).all() for x, y in zip(columns, out, strict=True)), (isa, dtype, name, entropy, rows)


@pytest.mark.parametrize("profile", records.PROFILES)
def test_the_number_of_threads_changes_nothing(profile, each_isa):
    x = np.stack([series("walk", 5000, "i2", seed) for seed in range(3)], axis=1)
    x = np.column_stack([x, x[:, 0] - x[:, 1]])
    data = compress(x, profile=profile, chunk_rows=1024)
    assert compress(x, profile=profile, chunk_rows=1024, threads=3) == data
    assert same(decompress(data, threads=3), x)
    assert same(decompress(data, columns=[3, 1]), x[:, [3, 1]])


@given(st.data(), st.sampled_from(UNSIGNED), st.sampled_from(["auto", *PLANAR_PREDICTORS]))
def test_planar_records_are_those_of_the_reference(data, dtype, predictor):
    x = data.draw(hnp.arrays(dtype, st.integers(1, 100)))
    if data.draw(st.booleans()):
        x &= dtype.type(0x3F)
    assert encode([x], "fast", predictor, "none")[0] == encode_column(x, predictor)


@pytest.mark.parametrize("name", SERIES)
def test_planar_series_are_those_of_the_reference(name):
    for dtype, predictor, rows in itertools.product(UNSIGNED, ("auto", *PLANAR_PREDICTORS), (1, 31, 33, 3000)):
        x = series(name, rows, dtype)
        expected = encode_column(x, predictor)
        for isa in dispatch.isas():
            assert encode([x], "fast", predictor, isa=isa)[0] == expected


@pytest.mark.parametrize("layout", ["strided", "backwards", "unaligned", "read-only"])
@pytest.mark.parametrize("predictor", ["delta", "lpc"])
def test_columns_lie_as_they_like(layout, predictor):
    for dtype in UNSIGNED:
        table = np.stack([series("walk", 300, dtype, seed) for seed in range(2)], axis=1)
        found = [encode(list(laid_out(table, layout).T), profile, predictor) for profile in ("fast", "max")]
        assert found == [encode(list(np.asfortranarray(table).T), profile, predictor) for profile in ("fast", "max")]
        assert encode([np.broadcast_to(table[7, 0], 300)]) == encode([np.full(300, table[7, 0])])
        if layout == "read-only":
            continue
        for mine in found:
            out = laid_out(np.zeros((600, 2), dtype), layout)[::-2] if layout != "unaligned" else None
            records_ = np.zeros(300, [("gap", "u1"), ("a", dtype), ("b", dtype)])  # values at odd places
            columns = [records_["a"], records_["b"]] if out is None else list(out.T)
            assert ext.tsz_decode(body_of(mine), 300, [dtype.itemsize] * 2, columns, dispatch.isa()) == []
            assert (np.stack(columns, axis=1) == table).all()
            assert not records_["gap"].any()


def test_structured_rows():
    x = np.zeros(400, [("a", "i2"), ("flag", "?"), ("b", "i8"), ("c", "i2"), ("d", "u1")])
    for seed, name in enumerate(x.dtype.names):
        x[name] = series("walk", 400, "i8", seed) % 2 if name == "flag" else series("walk", 400, x[name].dtype, seed)
    for profile in records.PROFILES:
        data = compress(x, profile=profile)
        assert same(decompress(data), x)
        out = np.zeros(800, x.dtype)[::-2]
        decompress(data, out=out)
        assert same(out, x)


def test_columns_may_be_any_buffers():
    found = [bytes(range(200)) * 3, bytearray(600), memoryview(bytes(600))] * 5
    assert encode(found) == encode([np.frombuffer(x, np.uint8) for x in found])


def test_what_is_refused():
    x, y = np.zeros(9, "u2"), np.zeros(8, "u2")
    for columns, how, reason in (
        ([x, y], (1, -1, -1), "columns of different lengths"),
        ([x.reshape(3, 3)], (1, -1, -1), "arrays of one dimension"),
        ([np.zeros(9, "c16")], (1, -1, -1), "items of 1, 2, 4 or 8 bytes"),
        ([x], (3, -1, -1), "unknown effort, predictor or entropy"),
        ([x], (1, 8, -1), "unknown effort, predictor or entropy"),
        ([x], (1, -1, 3), "unknown effort, predictor or entropy"),
    ):
        with pytest.raises(ValueError, match=reason):
            ext.tsz_encode(columns, *how, True, "scalar")
    body = body_of(encode([x]))
    for sizes, out, reason in (
        ([2], [y], "an output of another size"),
        ([2], [np.zeros(9, "u4")], "an output of another size"),
        ([2, 2], [x], "fewer outputs than columns"),
        ([2], [x, x], "more outputs than columns"),
        ([3], [x], "items of 1, 2, 4 or 8 bytes"),
    ):
        with pytest.raises(ValueError, match=reason):
            ext.tsz_decode(body, 9, sizes, out, "scalar")
    x.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        ext.tsz_decode(body, 9, [2], [x], "scalar")


# ---- what is chosen


def test_constant_columns_cost_next_to_nothing():
    for dtype, profile in itertools.product(UNSIGNED, ("balanced", "max")):
        assert size(series("constant", 8192, dtype), profile) < 40
    assert size(series("constant", 8192, "u8"), "fast") == 11 + 8192 // 32


def test_few_values_with_gaps_are_a_palette():
    x = series("few", 4096, "u4")
    record = encode([x])[0]
    assert record[4] == 2
    assert len(record) < 4096 * np.log2(5) / 8 * 1.03 + 40, "five values, as often each"
    assert encode([series("few", 4096, "u1")])[0][4] == 2
    assert encode([series("walk", 4096, "u4")])[0][4] == 0


def test_multiples_of_a_unit():
    x = series("walk", 4096, "i8")
    plain, record = encode([x.view("u8")])[0], encode([(1000 * x + 17).view("u8")])[0]
    assert record[4] == 1
    assert len(record) == len(plain) + 8, "the unit alone is more"
    assert encode([(1000 * x + x % 2).view("u8")])[0][4] == 0


def test_linear_prediction_of_what_swings():
    x = ar2(8192, 1.6, -0.97, 0).astype("u2")
    sizes = {name: size(x, "balanced", name) for name in PREDICTORS if name != "fire"}
    assert sizes["lpc"] < 0.8 * min(sizes[name] for name in ("none", "delta", "delta2"))
    assert sizes["lpc"] <= min(sizes.values())
    ideal = 8192 * np.log2(4 * np.sqrt(2 * np.pi * np.e)) / 8
    assert sizes["lpc"] < 1.1 * ideal
    assert described(x)[0] == "lpc"


def test_weights_that_follow_a_series():
    # What rings changes its pitch half way through each run of rows: no fixed coefficients fit both.
    x = np.concatenate([ar2(500, a, -0.97, seed) for seed in range(8) for a in (1.95, 0.3)]).astype("u2")
    sizes = {name: size(x, "balanced", name) for name in PREDICTORS}
    assert sizes["nlms4"] < sizes["nlms1"] < sizes["delta"]


def test_columns_that_are_sums_of_others():
    g = np.random.default_rng(0)
    a, b = (g.integers(-900, 901, 4096).cumsum() for _ in range(2))
    table = [c.astype("i2") for c in (a, b, (a + b) // 2, 3 * a + g.integers(-1, 2, 4096))]
    body, alone = (chunk.encode(table, chunk.Options(profile="max", cross=cross)) for cross in ("auto", False))
    found, plain = chunk.describe(body, 4), chunk.describe(alone, 4)
    assert "after" not in " ".join(d["predictor"] for d in [*found[:2], *plain])
    assert found[2]["predictor"].endswith("after 2 other columns")
    assert found[3]["predictor"].endswith("after 1 other column")
    assert found[2]["bytes"] < 0.2 * plain[2]["bytes"]
    assert found[3]["bytes"] < 0.25 * plain[3]["bytes"]
    balanced = chunk.describe(chunk.encode(table, chunk.Options()), 4)
    assert all("after" not in d["predictor"] for d in balanced)
    out = [np.zeros(4096, "i2") for _ in table]
    chunk.decode(body, 4096, [c.dtype for c in table], out)
    assert all((x == y).all() for x, y in zip(table, out, strict=True))


def test_columns_with_nothing_in_common_stay_alone():
    table = [series("walk", 2000, "i4", seed) for seed in range(3)]
    alone = chunk.encode(table, chunk.Options(profile="max", cross=False))
    assert len(chunk.encode(table, chunk.Options(profile="max"))) <= len(alone)


def test_rice_codes_for_sparse_columns():
    assert described(series("sparse", 8192, "i2"), profile="balanced")[1] == "rice"
    for profile in ("balanced", "max"):
        assert described(series("walk", 8192, "i2"), profile=profile)[1] == "classes"
    x = series("sparse", 8192, "i2").view("u2")
    assert size(x) < 8192 / 8 < size(x, "balanced", "auto", "classes"), "codes take a bit for each value at least"


def test_noise_is_stored():
    for dtype, rows, profile in itertools.product(UNSIGNED, (100, 1000, 5000), records.PROFILES):
        x = np.random.default_rng(rows).integers(0, 256, rows * dtype.itemsize, dtype=np.uint8).view(dtype)
        assert encode([x], profile)[0] == b"\0" + x.tobytes()


@given(
    st.data(), st.sampled_from(UNSIGNED), st.sampled_from(records.PROFILES),
    st.sampled_from(["auto", *PREDICTORS]), st.sampled_from(["auto", *ENTROPIES]),
)  # fmt: skip
def test_no_record_is_longer_than_a_stored_one(data, dtype, profile, predictor, entropy):
    x = data.draw(hnp.arrays(dtype, st.integers(0, 300)))
    assert size(x, profile, predictor, entropy) <= 1 + x.nbytes


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("entropy", ENTROPIES)
def test_what_is_asked_for_is_done(predictor, entropy):
    for profile in records.PROFILES:
        x = ar2(3000, 1.5, -0.7, 1).astype("i2")
        assert described(x, profile=profile, predictor=predictor, entropy=entropy) == (predictor, entropy)
        wide = x.astype("i8") << 20 | np.random.default_rng(0).integers(0, 1 << 20, 3000)
        other = "delta" if predictor == "fire" else predictor
        assert described(wide, profile=profile, predictor=predictor, entropy=entropy) == (other, entropy)


def test_fire_is_that_of_the_published_streams():
    for rows, swings in itertools.product((1000, 2000, 2004), (False, True)):
        x = 5 + (ar2(rows, 1.9, -0.95, 1) if swings else series("walk", rows, "i8")).astype("u2")
        steps = -(-rows // 8)
        record = encode([x], "max", "fire", "none")[0]
        assert record[3:6] == bytes([16, 0, 0])
        z = take_planar(Cursor(memoryview(record[8:]), 0), steps, 16)
        v = np.pad(x, (0, 8 * steps - rows), "edge").reshape(8, steps) - np.frombuffer(record[6:8], "<u2")
        for lane in range(8):
            column, values = Column(16, fire=True, narrow=True), v[lane].tolist()
            expected = [e for t in range(0, steps, 8) for e in column.errors(values[t : t + 8])]
            assert z[:, lane].tolist() == expected


def test_a_line_has_no_use_for_coefficients():
    assert described(np.full(3000, 9, "i2"), predictor="lpc")[0] in ("lpc", "delta")
    assert described(np.arange(20, dtype="i8") << 40, predictor="lpc", entropy="none")[0] in ("lpc", "delta")
    for rows in LENGTHS:
        for x in (np.zeros(rows, "u8"), np.full(rows, -1, "i8").view("u8"), (np.arange(rows) % 2).astype("u8") << 63):
            record = encode([x], "max", "lpc")
            assert (read(body_of(record), rows, ["u8"], numpy=False)[0] == x).all()


def test_more_effort_is_not_for_nothing():
    g = np.random.default_rng(0)
    for dtype, name, rows in itertools.product(UNSIGNED, SERIES, (31, 255, 256, 300, 1000, 8192)):
        x = series(name, rows, dtype)
        fast, balanced, best = (size(x, profile) for profile in records.PROFILES)
        assert balanced <= 1.03 * fast + 24, (dtype, name, rows)
        assert best <= 1.01 * balanced + 16, (dtype, name, rows)
    swing = (500 * np.sin(np.arange(8192) / 20) + g.normal(0, 3, 8192)).astype("i2").view("u2")
    fast, balanced, best = (size(swing, profile) for profile in records.PROFILES)
    assert best <= balanced < 0.85 * fast


def test_columns_that_repeat_go_through_zstd_and_are_referred_to_by_none():
    pytest.importorskip("zstandard")
    x = np.tile(np.random.default_rng(0).integers(-30000, 30000, (1000, 4)), (30, 1)).astype(np.int16)
    columns = [*x.T, *(x[:, :2] // 3 + np.random.default_rng(1).integers(0, 9, (30000, 2), np.int16)).T]
    body = chunk.encode(columns, chunk.Options("max"))
    said = chunk.describe(body, 6)
    assert [column["values"] for column in said[:4]] == ["zstd"] * 4
    assert len(body) < x.nbytes / 2
    out = [np.empty(30000, np.int16) for _ in columns]
    chunk.decode(body, 30000, [np.dtype(np.int16)] * 6, out)
    assert all(np.array_equal(a, b) for a, b in zip(columns, out, strict=True))


@pytest.mark.parametrize("refer", [False, True])
def test_columns_are_encoded_again_only_if_they_refer_to_one_that_goes_through_zstd(refer, monkeypatch):
    pytest.importorskip("zstandard")
    g = np.random.default_rng(0)
    repeats = np.tile(g.integers(-9000, 9000, 500).cumsum(), 8).astype(np.int16)
    columns = [repeats, (repeats * refer + g.integers(0, 9, 4000)).astype(np.int16)]
    calls, encode_columns = [], records.encode_columns
    monkeypatch.setattr(records, "encode_columns", lambda *how: calls.append(how[0]) or encode_columns(*how))
    said = chunk.describe(chunk.encode(columns, chunk.Options("max")), 2)
    assert [column["values"] for column in said] == ["zstd", "integers"]
    assert "other column" not in said[1]["predictor"]
    assert [[column is None for column in one] for one in calls] == [[False, False], [True, False]][: 1 + refer]
