"""The bytes of a file: an independent reader, later versions, and headers that cannot be."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.sprintz.container import arrays, same, sealed, walk
from tests.golden.tsz import make_tsz

from hasten.codecs import sprintz
from hasten.codecs.sprintz import CorruptError, VersionError, chunk, compress, decompress, info
from hasten.codecs.sprintz.crc import crc32c

NAMES = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"]
UNITS = ["?", "Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"]


def take(layout: str, data: bytes, at: int) -> tuple:
    return struct.unpack_from("<" + layout, data, at)


def independent(data: bytes) -> tuple[list[np.ndarray], list[np.ndarray], list[list[tuple]], dict]:
    """Columns, masks, entries of the index and TLVs, read with nothing but the page docs/formats.md and the codec."""
    assert data[:8] == bytes.fromhex("89 54 53 5A 0D 0A 1A 0A")
    major, _, flags, *code, _, count, columns, size, most = take("HHIBBBBIIII", data, 8)
    assert major == 1
    crc = take("I", data, 60)[0]
    assert crc == crc32c(data[:60] + data[64 : 64 + size])
    tlvs, at = {}, 64
    while at < 64 + size:
        kind, _, length = take("HHI", data, at)
        tlvs[kind] = data[at + 8 : at + 8 + length]
        at += 8 + length
    codes = [take("BBBxI", tlvs[1], 8 * j) for j in range(columns)] if 1 in tlvs else [(*code, count)] * columns
    dtypes = [dtype_of(*each) for each in codes]
    stored = [np.dtype("i8") if d.kind in "mM" else d for d in dtypes]
    index, rows, chunks, check = take("QQII", data, len(data) - 32)
    assert data[-8:] == bytes.fromhex("AB 54 53 5A 45 4E 44 0A")
    assert check == crc32c(data[-32:-12], crc)
    out = [np.zeros(rows, d) for d in stored]
    masks = [np.zeros(rows, bool) for _ in stored]
    row = 0
    lengths = []
    for number in range(chunks):
        sync, n, first, nrows, length, flag, _, check = take("4sIQIIHHI", data, at)
        assert (sync, n, first) == (bytes.fromhex("AB 54 53 43"), number, row)
        assert 1 <= nrows <= most
        assert check == crc32c(data[at : at + 28], crc)
        body = data[at + 32 : at + 32 + length]
        assert take("I", data, at + 32 + length)[0] == (crc32c(body) if flags & 8 else 0)
        part = slice(row, row + nrows)
        if columns:
            chunk.decode(
                body, nrows, stored, [c[part] for c in out], masks=[m[part] for m in masks] if flag & 1 else None
            )
        lengths.append((nrows, length))
        at, row = at + 36 + length, row + nrows
    assert (at, row) == (index, rows)
    assert data[at : at + 4] == bytes.fromhex("AB 54 53 49")
    assert take("I", data, len(data) - 36)[0] == crc32c(data[at : len(data) - 36], crc)
    entries = independent_index(data, at, lengths, dtypes, codes)
    return [c.view(d) for c, d in zip(out, dtypes, strict=True)], masks, entries, tlvs


def dtype_of(code: int, meaning: int, unit: int, count: int) -> np.dtype:
    if meaning < 2:
        return np.dtype("?" if meaning == 1 else NAMES[code - 1])
    return np.dtype(f"{'M' if meaning == 2 else 'm'}8" + (f"[{count}{UNITS[unit]}]" if unit else ""))


def independent_index(data: bytes, at: int, lengths: list, dtypes: list, codes: list) -> list[list[tuple]]:
    assert take("I", data, at + 4)[0] == len(lengths)
    at += 8
    entries = []
    for length in lengths:
        assert take("II", data, at) == length
        at += 8
        entry = []
        for dtype, (code, *_) in zip(dtypes, codes, strict=True):
            letter = "bhiqBHIQfd"[code - 1]
            low, high = take(letter * 2, data, at)
            at += 2 * np.dtype(NAMES[code - 1]).itemsize
            if letter in "qQ":
                bits, top = take("Qq", data, at)
                total, at = (top << 64) + bits, at + 16
            else:
                total, at = take("d" if dtype.kind == "f" else "q", data, at)[0], at + 8
            entry.append((low, high, total, take("I", data, at)[0]))
            at += 4
        entries.append(entry)
    assert at == len(data) - 36
    return entries


@given(x=arrays(), masked=st.booleans(), seed=st.integers(0, 9))
def test_an_independent_reader(x, masked, seed):
    if masked:
        x = np.ma.array(x, mask=np.random.default_rng(seed).random(x.shape) < 0.2)
    columns, masks, entries, _ = independent(compress(x, chunk_rows=64))
    wide = x if x.ndim == 2 else x[:, None]
    for j, (column, mask) in enumerate(zip(columns, masks, strict=True)):
        expected = np.ma.array(wide[:, j]) if masked else wide[:, j]
        assert same(expected, np.ma.array(column, mask=mask) if masked else column)
        for k, entry in enumerate(entries):
            part = slice(64 * k, 64 * k + 64)
            assert entry[j] == expected_entry(np.asarray(column[part]), mask[part])


def expected_entry(values: np.ndarray, mask: np.ndarray) -> tuple:
    """What the page says that the index holds, value by value."""
    values = values.view("i8") if values.dtype.kind in "mM" else values.view("u1") if values.dtype == bool else values
    hidden = mask | np.isnan(values) if values.dtype.kind == "f" else mask
    kept = values[~hidden]
    nulls = int(hidden.sum())
    if values.dtype.kind != "f":
        whole = [int(v) for v in kept]
        return (min(whole, default=0), max(whole, default=0), sum(whole), nulls)
    sums = [0.0 if gone else float(v) for v, gone in zip(values, hidden, strict=True)]
    sums += [0.0] * ((1 << (len(sums) - 1).bit_length()) - len(sums))
    with np.errstate(all="ignore"):
        while len(sums) > 1:
            sums = [float(np.float64(a) + np.float64(b)) for a, b in zip(sums, sums[len(sums) // 2 :], strict=False)]
    low, high = (float(kept.min()), float(kept.max())) if len(kept) else (0.0, 0.0)
    return (low, high, Same(sums[0] + 0.0), nulls)


class Same(float):
    """A float that is equal to the same bits, NaN too."""

    def __eq__(self, other: object) -> bool:
        return struct.pack("<d", self) == struct.pack("<d", other) or (self != self and other != other)

    __hash__ = float.__hash__


def test_records_and_texts_for_an_independent_reader():
    x = np.array([(1, 2.5, 3), (4, -1.0, 5)], [("a", "i1"), ("b", "f8"), ("t", "M8[25s]")])
    columns, _, _, tlvs = independent(compress(x, units=["mV", None, "µs"], rate=360.0, meta={"k": "é"}))
    assert [c.tolist() for c in columns] == [x[name].tolist() for name in x.dtype.names]
    assert json.loads(tlvs[2].decode()) == ["a", "b", "t"]
    assert json.loads(tlvs[3].decode()) == ["mV", None, "µs"]
    assert take("d", tlvs[4], 0) == (360.0,)
    assert json.loads(tlvs[6].decode()) == {"k": "é"}


def changed(data: bytes, at: int, layout: str, *values: int) -> bytes:
    """A file with other numbers in one place, and checksums that fit."""
    out = bytearray(data)
    struct.pack_into("<" + layout, out, at, *values)
    return sealed(bytes(out))


def with_tlv(data: bytes, kind: int, content: bytes) -> bytes:
    """A file without rows, with one more TLV."""
    tlv = struct.pack("<HHI", kind, 0, len(content)) + content
    size = take("I", data, 28)[0]
    head, rest = data[: 64 + size], data[64 + size :]
    out = bytearray(head + tlv + rest)
    struct.pack_into("<I", out, 28, size + len(tlv))
    struct.pack_into("<Q", out, len(out) - 32, 64 + size + len(tlv))
    return sealed(bytes(out))


ROWS = np.random.default_rng(0).integers(-(1 << 15), 1 << 15, (100, 2)).astype(np.int16)  # chunks of one length
FILE = compress(ROWS, chunk_rows=32)
EMPTY = compress(walk(0, 2))


def test_sealing_changes_nothing_in_a_good_file():
    assert sealed(FILE) == FILE
    assert sealed(EMPTY) == EMPTY


def test_later_versions():
    with pytest.raises(VersionError, match="at byte 8: the format has version 2; this version of hasten reads 1"):
        decompress(changed(FILE, 8, "H", 2))
    later = changed(changed(changed(FILE, 10, "H", 7), 40, "Q", 99), 12, "I", 8 | 1 << 20)
    assert same(decompress(later), ROWS)
    assert decompress(with_tlv(EMPTY, 999, b"whatever")).shape == (0, 2)


@pytest.mark.parametrize(
    ("at", "layout", "value", "offset", "reason"),
    [
        (0, "B", 0, 0, "not a tsz file"),
        (12, "I", 3, 12, "out of range"),
        (12, "I", 1 | 8, 24, "one dimension"),
        (12, "I", 2 | 8, 12, "records without names"),
        (16, "B", 11, 16, "unknown dtype"),
        (16, "B", 0, 16, "unknown dtype"),
        (17, "B", 2, 16, "unknown dtype"),
        (20, "I", 1, 16, "unknown dtype"),
        (24, "I", (1 << 20) + 1, 12, "out of range"),
        (32, "I", 0, 12, "out of range"),
        (32, "I", 1 << 31, 12, "out of range"),
        (32, "I", 16, None, "impossible size"),
    ],
)
def test_headers_that_cannot_be(at, layout, value, offset, reason):
    with pytest.raises(CorruptError, match=reason) as caught:
        decompress(changed(FILE, at, layout, value))
    assert offset is None or caught.value.offset == offset


@pytest.mark.parametrize(
    ("kind", "content", "reason"),
    [
        (1, b"", "list of dtypes does not fit"),
        (1, struct.pack("<BBBxI", 2, 0, 0, 0) * 2, "share one dtype"),
        (1, struct.pack("<BBBxI", 77, 0, 0, 0) * 2, "unknown dtype"),
        (2, b"[", "not JSON"),
        (2, b"\xff", "not JSON"),
        (2, b"[" * 100_000, "not JSON"),
        (2, b'["a"]', "one text per column"),
        (2, b'["a", 3]', "one text per column"),
        (2, b'["a", "a"]', "two columns have one name"),
        (3, b'{"a": 1}', "one text per column"),
        (4, b"", "not a positive number"),
        (4, struct.pack("<d", float("nan")), "not a positive number"),
        (5, b"[]", "JSON object"),
        (5, b'{"max_error": "a"}', "an option"),
        (5, b'{"max_error": 0}', "an option"),
        (5, b'{"max_error": NaN}', "an option"),
        (5, b'{"max_error": [1, 2, 3]}', "an option"),
        (5, b'{"profile": 3}', "an option"),
        (6, b"3", "JSON object"),
        (7, b"123", "broken length"),
    ],
)
def test_tlvs_that_cannot_be(kind, content, reason):
    with pytest.raises(CorruptError, match=reason) as caught:
        decompress(with_tlv(EMPTY, kind, content))
    assert 64 < caught.value.offset <= 80 or reason == "share one dtype"


def test_tlvs_longer_than_the_header_or_the_file():
    one = with_tlv(EMPTY, 999, b"12345678")
    with pytest.raises(CorruptError, match="at byte 64: a TLV is longer than the header"):
        decompress(changed(one, 68, "I", 9))
    with pytest.raises(CorruptError, match="at byte 72: the header ends inside a TLV"):
        decompress(changed(changed(one, 68, "I", 0), 28, "I", 12))
    with pytest.raises(CorruptError, match="the header is longer than the file"):
        decompress(FILE[:28] + b"\xff\xff\xff\xff" + FILE[32:])


def test_unknown_options_are_those_of_a_later_version():
    assert info(with_tlv(EMPTY, 5, b'{"cleverness": 9, "profile": "max"}')).options["profile"] == "max"


def test_limits_come_before_memory():
    # A file that claims much in few bytes: 2^31 - 1 rows of 2^20 columns in one chunk with an empty body.
    claims = changed(changed(FILE, 24, "I", 1 << 20), 32, "I", (1 << 31) - 1)
    claims = changed(claims, 64 + 16, "I", (1 << 31) - 1)
    with pytest.raises(CorruptError, match="more than the 268435456 allowed|index"):
        decompress(claims)
    reader = sprintz.open(claims)
    assert (reader.shape, reader.recovered) == ((0, 1 << 20), True)
    with pytest.raises(CorruptError, match="chunks of more than the 100 bytes allowed"):
        decompress(FILE, max_chunk_bytes=100)
    assert sprintz.open(FILE[:-1], max_chunk_bytes=100).shape == (0, 2)


@pytest.mark.parametrize(
    ("at", "layout", "value"),
    [
        (-32, "Q", 0),  # the index at the start, in itself, behind the end
        (-32, "Q", 64),
        (-32, "Q", len(FILE) - 40),
        (-32, "Q", 1 << 63),
        (-24, "Q", 1 << 63),  # rows
        (-16, "I", 5),  # chunks
        (-16, "I", (1 << 32) - 1),
    ],
)
def test_trailers_that_cannot_be(at, layout, value):
    with pytest.raises(CorruptError, match="index"):
        decompress(changed(FILE, len(FILE) + at, layout, value))


def test_index_entries_that_cannot_be():
    at = int.from_bytes(FILE[-32:-24], "little")
    size = (len(FILE) - 32 - at - 12) // 4
    first, second = at + 8, at + 8 + size
    twice = FILE[:second] + FILE[first : first + size] + FILE[second + size :]
    assert same(decompress(sealed(twice)), ROWS), "the same but for the statistics, which are not read here"
    longer = changed(changed(FILE, first + 4, "I", 200), second + 4, "I", 2 * 138 - 200)
    with pytest.raises(CorruptError, match="at byte 84: the chunk and the index give different lengths"):
        decompress(longer)
    with pytest.raises(CorruptError, match="does not fit the chunks"):
        decompress(changed(FILE, first, "I", 31))
    with pytest.raises(CorruptError, match="impossible size"):
        decompress(changed(changed(FILE, first, "I", 0), second, "I", 64))
    shifted = changed(changed(FILE, first, "I", 31), second + 2 * size, "I", 5)
    with pytest.raises(CorruptError, match="the index lists another chunk 0"):
        decompress(shifted)


def test_chunks_out_of_order():
    size = 36 + int.from_bytes(FILE[84:88], "little")
    swapped = FILE[:64] + FILE[64 + size : 64 + 2 * size] + FILE[64 : 64 + size] + FILE[64 + 2 * size :]
    with pytest.raises(CorruptError, match="the index lists another chunk 0"):
        decompress(swapped)
    assert len(sprintz.open(swapped[:-1])) == 0, "without an index nothing stands before a chunk 1"


def test_a_chunk_of_another_file_does_not_fit():
    size = 36 + int.from_bytes(FILE[84:88], "little")
    with pytest.raises(CorruptError, match="the head of a chunk does not fit its checksum"):
        decompress(FILE[:64] + compress(ROWS, chunk_rows=32, rate=1.0)[80 : 80 + size] + FILE[64 + size :])


@pytest.mark.parametrize("name", make_tsz.CASES)
def test_golden_files_decode_for_ever(name, each_isa):
    path, x = make_tsz.FOLDER / f"{name}.tsz", make_tsz.CASES[name]()
    if not path.exists():
        pytest.skip("made once the codec of chunks keeps masks")
    with sprintz.open(path) as r:
        assert same(x, r[:])
        assert r.recovered == (name == "cut")
        assert r.header.checksum == (name != "unchecked")
        if name == "matrix":
            found = r.info()
            assert (found.names, found.units, found.rate) == (tuple(make_tsz.NAMES), ("mV",) * 3, 360.0)
            assert found.meta == {"id": "µ1"}
    if name != "cut":
        assert sprintz.verify(path) == []


def test_the_smallest_file():
    assert EMPTY.hex(" ") == (
        "89 54 53 5a 0d 0a 1a 0a 01 00 00 00 08 00 00 00 02 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00 "
        "00 80 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
        + EMPTY[60:64].hex(" ") + " ab 54 53 49 00 00 00 00 " + EMPTY[72:76].hex(" ")
        + " 40 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 " + EMPTY[96:100].hex(" ")
        + " ab 54 53 5a 45 4e 44 0a"
    )  # fmt: skip
