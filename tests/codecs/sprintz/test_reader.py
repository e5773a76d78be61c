"""Reading parts of files, whole and cut."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.sprintz.container import arrays, keep_masks, same, walk

from hasten.codecs import sprintz
from hasten.codecs.sprintz import CorruptError, compress

X = walk(1000, 4)
BUF = compress(X, chunk_rows=64, names=["a", "b", "c", "d"])


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "x.tsz"
    path.write_bytes(BUF)
    return path


ends = st.none() | st.integers(-1100, 1100)
steps = st.sampled_from((None, 1, 2, 7, 64, 100, -1, -3, -64))


@given(start=ends, stop=ends, step=steps, columns=st.none() | st.lists(st.integers(-4, 3), max_size=6))
def test_slices_are_those_of_the_whole(start, stop, step, columns):
    rows = slice(start, stop, step)
    reader = sprintz.open(BUF)
    expected = X[rows] if columns is None else X[rows][:, columns]
    assert same(expected, reader.read(rows, columns))
    assert same(expected, reader[rows] if columns is None else reader[rows, columns])


@given(x=arrays(dims=(1,)), step=steps)
def test_slices_of_one_dimension(x, step):
    reader = sprintz.open(compress(x, chunk_rows=32))
    assert same(x[::step], reader[::step])
    assert reader.shape == x.shape


def test_indexing(path):
    with sprintz.open(path) as r:
        assert (r.shape, r.dtype, r.names, len(r), r.recovered) == (
            (1000, 4),
            np.int16,
            ("a", "b", "c", "d"),
            1000,
            False,
        )
        for key in (5, -1, (7, 2), (slice(3, 9), 1), (slice(3, 9), [3, 0]), (slice(3, 9), slice(1, 3)), (-3, [2, 1])):
            assert same(np.asarray(X[key]), np.asarray(r[key])), key
        assert same(r["c"], X[:, 2])
        assert same(r[:9, "c"], X[:9, 2])
        assert same(r[["d", "a"]], X[:, [3, 0]])
        assert same(r[3, ["d", "a"]], X[3, [3, 0]])
        assert r[3, 2] == X[3, 2]


def test_indexing_of_records():
    x = np.zeros(100, [("a", "i2"), ("t", "M8[s]"), ("b", "?")])
    x["a"], x["t"], x["b"] = range(100), np.arange(100), np.arange(100) % 3 == 0
    r = sprintz.open(compress(x, chunk_rows=32))
    assert same(r["t"], x["t"])
    assert same(r[10:20, "b"], x["b"][10:20])
    assert same(r[10:20, ["b", "a"]], x[["b", "a"]][10:20])
    assert r[40] == x[40]
    assert r[40, "a"] == 40
    assert r[40].dtype == x.dtype


def test_fields_are_chosen_once():
    r = sprintz.open(compress(np.zeros(5, [("a", "i2"), ("b", "f4")])))
    with pytest.raises(ValueError, match=r"read: expected each field once, got \['a', 'a'\]"):
        r[:, ["a", "a"]]
    assert r[:, []].shape == (5,)
    assert r[:, (name for name in "ba")].dtype.names == ("b", "a")


def test_indexing_of_masked_rows(monkeypatch):
    keep_masks(monkeypatch)
    x = np.ma.array(X[:, :2], mask=X[:, :2] % 3 == 0)
    r = sprintz.open(compress(x, chunk_rows=64))
    assert same(r[5:900:2, 1], x[5:900:2, 1])
    assert r[5].tolist() == x[5].tolist()


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (1000, IndexError, "expected a row below 1000, got 1000"),
        (True, ValueError, "a slice or a number for rows"),
        ([1, 2], ValueError, "a slice or a number for rows"),
        ((0, 4), ValueError, "a column below 4"),
        ((0, 1.5), TypeError, "columns as numbers or names"),
        ((0, [True]), TypeError, "columns as numbers or names"),
        ((0, "bb"), ValueError, "got 'bb'. Did you mean b?|Known: a, b, c, d"),
        ("z", ValueError, "the name of a column"),
    ],
)
def test_indices_that_cannot_be(key, error, message):
    with pytest.raises(error, match=message):
        sprintz.open(BUF)[key]


def test_rows_must_be_a_slice():
    with pytest.raises(TypeError, match=r"a slice for rows, got 3. Pass rows=slice\(first, last \+ 1\)"):
        sprintz.open(BUF).read(3)


def test_only_what_is_asked_for_is_decoded(path, monkeypatch, request):
    r = sprintz.open(path)
    request.addfinalizer(r.close)
    read, wanted = [], []
    some, decode = r._source.some, sprintz.chunk.decode

    def spy(body, nrows, dtypes, out, *, masks=None):
        wanted.append([j for j, target in enumerate(out) if target is not None])
        return decode(body, nrows, dtypes, out, masks=masks)

    monkeypatch.setattr(r._source, "some", lambda at, length: read.append((at, length)) or some(at, length))
    monkeypatch.setattr(sprintz.chunk, "decode", spy)
    assert same(r[130:131, [2]], X[130:131, [2]])
    assert r.chunks_decoded == 1
    assert wanted == [[2]]
    assert [at for at, _ in read] == [int(r.index.offsets[2])]
    r[::500]
    assert r.chunks_decoded == 3
    r[60:70, [3, 3, 1]]
    assert wanted[3:] == [[1, 3], [1, 3]]


def test_chunks_one_after_the_other():
    r = sprintz.open(BUF)
    parts = list(r.chunks())
    assert [len(part) for part in parts] == [64] * 15 + [40]
    assert same(np.concatenate(parts), X)
    assert same(np.concatenate(list(r.chunks(["b"]))), X[:, 1:2])


def test_a_damaged_chunk_costs_only_its_own_rows(path):
    data = bytearray(BUF)
    at = int(sprintz.open(BUF).index.offsets[3])
    data[at + 40] ^= 1
    path.write_bytes(data)
    with sprintz.open(path) as r:
        assert same(r[:192], X[:192])
        assert same(r[256:], X[256:])
        with pytest.raises(CorruptError, match="chunk 3 does not fit its checksum") as caught:
            r[200]
    assert caught.value.offset == at + 32


def test_an_error_inside_a_body_is_placed_in_the_file(monkeypatch):
    def broken(body, nrows, dtypes, out, *, masks=None):
        raise CorruptError(5, "a width that cannot be")

    monkeypatch.setattr(sprintz.chunk, "decode", broken)
    r = sprintz.open(BUF)
    with pytest.raises(CorruptError, match="a width that cannot be") as caught:
        r[70]
    assert caught.value.offset == int(r.index.offsets[1]) + 32 + 5


def test_every_cut_is_read_up_to_its_last_good_chunk(path):
    ends = (sprintz.open(BUF).index.offsets + sprintz.open(BUF).index.lengths + 36).tolist()
    for size in [*range(64, 400), *range(400, len(BUF), 97), *range(len(BUF) - 200, len(BUF))]:
        if size < int(sprintz.open(BUF).header.size):
            with pytest.raises(CorruptError):
                sprintz.open(BUF[:size])
            continue
        r = sprintz.open(BUF[:size])
        rows = min(1000, 64 * sum(end <= size for end in ends))
        assert r.recovered
        assert same(r[:], X[:rows]), size
    found = sprintz.info(BUF[:5000])
    assert (found.recovered, found.chunks, found.shape) == (True, 8, (512, 4))
    assert "no trailer" in found.problem


def test_bytes_behind_the_end(path):
    path.write_bytes(BUF + b"x")
    with sprintz.open(path) as r:
        assert r.recovered
        assert same(r[:], X)


def test_a_file_that_is_cut_while_it_is_open(path):
    with sprintz.open(path) as r:
        with open(path, "r+b") as file:
            file.truncate(2000)
        assert same(r[:64], X[:64])
        with pytest.raises(CorruptError, match="the file ends"):
            r[:]


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="open: expected a tsz file, got .*none, which is no file"):
        sprintz.open(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="which is no file"):
        sprintz.open(str(tmp_path))
    (tmp_path / "text").write_text("hello")
    with pytest.raises(CorruptError, match="at byte 0: this is not a tsz file"):
        sprintz.open(tmp_path / "text")
    with pytest.raises(CorruptError, match="this is not a tsz file"):
        sprintz.open(b"")


def test_a_closed_reader_says_so(path):
    with sprintz.open(path) as r:
        pass
    with pytest.raises(ValueError, match="closed file"):
        r[0]


def test_threads_share_a_reader(path):
    found = []
    with sprintz.open(path) as r:

        def work(k):
            found.extend(same(r[k : k + 300], X[k : k + 300]) for _ in range(20))

        threads = [threading.Thread(target=work, args=(k,)) for k in (0, 100, 333, 700)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [True] * 80


def test_details(path):
    found = sprintz.info(path, details=True)
    assert [column["name"] for column in found.columns] == ["a", "b", "c", "d"]
    assert [column["min"] for column in found.columns] == X.min(axis=0).tolist()
    assert [column["max"] for column in found.columns] == X.max(axis=0).tolist()
    assert (found.raw_bytes, found.bytes, found.chunks, found.chunk_rows) == (8000, len(BUF), 16, 64)
    assert found.ratio == 8000 / len(BUF)
    flat = sprintz.info(compress(np.array([np.nan, 1.0, np.inf])), details=True).to_dict()
    assert (flat["columns"][0]["min"], flat["columns"][0]["max"], flat["columns"][0]["nulls"]) == (1.0, "inf", 1)
    empty = sprintz.info(compress(np.zeros(0, "M8[s]")), details=True).columns[0]
    assert (empty["min"], empty["dtype"]) == (None, "datetime64[s]")
