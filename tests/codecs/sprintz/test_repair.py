"""What `verify` finds, and what `repair` saves."""

from __future__ import annotations

import os

import numpy as np
import pytest
from tests.codecs.sprintz.container import same, sealed, walk

from hasten.codecs import sprintz
from hasten.codecs.sprintz import CorruptError, Writer, compress, repair, scan, verify
from hasten.codecs.sprintz.format import SYNC, ChunkHead, pack_chunk_head
from hasten.codecs.sprintz.scan import find_sync
from hasten.codecs.sprintz.source import Source

X = walk(1000, 3)
BUF = compress(X, chunk_rows=64, names=["a", "b", "c"], rate=250.0)
OFFSETS = sprintz.open(BUF).index.offsets.tolist()
INDEX = int.from_bytes(BUF[-32:-24], "little")


@pytest.fixture
def damage(tmp_path):
    """Writes a file with the bits at these places turned over, cut at `size`; returns its path."""

    def make(*places, size=None, data=BUF):
        data = bytearray(data)
        for place in places:
            data[place] ^= 4
        path = tmp_path / "x.tsz"
        path.write_bytes(data[:size])
        return path

    return make


def read(path):
    with sprintz.open(path) as r:
        assert not r.recovered
        return r[:]


def test_a_good_file(damage):
    path = damage()
    assert verify(path) == verify(BUF) == []
    done = repair(path)
    assert (done.changed, done.rows, done.chunks, done.gaps, done.faults) == (False, 1000, 16, (), ())
    assert path.read_bytes() == BUF


def test_every_fault_is_found_with_its_place(damage):
    path = damage(OFFSETS[2] + 33, OFFSETS[5] + 9, OFFSETS[6], INDEX - 1)
    assert verify(path) == [
        (OFFSETS[2] + 32, "chunk 2 does not fit its checksum"),
        (OFFSETS[5] + 28, "the head of a chunk does not fit its checksum"),
        (OFFSETS[6], "expected a chunk"),
        (OFFSETS[15] + 32, "chunk 15 does not fit its checksum"),
    ]


def test_faults_without_an_index(damage):
    faults = verify(damage(OFFSETS[2] + 33, OFFSETS[5] + 9, size=INDEX + 20))
    assert [fault.offset for fault in faults] == [OFFSETS[2] + 32, OFFSETS[5] + 28, INDEX - 12]
    assert [fault.offset for fault in verify(damage(INDEX + 9))] == [INDEX]
    assert [fault.offset for fault in verify(damage(len(BUF) - 30))] == [len(BUF) - 12]
    assert [fault.offset for fault in verify(damage(3))] == [0]
    assert verify(damage(70)) == [(60, "the header does not fit its checksum")]
    assert verify(damage(size=OFFSETS[3] + 50))[1] == (OFFSETS[3] + 50, "the file ends inside a chunk")


def test_a_wrong_index_is_a_fault(damage):
    wrong = bytearray(BUF)
    wrong[INDEX + 8 + 8 + 2] ^= 1  # the largest value of column 0 in chunk 0
    path = damage(data=sealed(bytes(wrong)))
    assert verify(path) == [(INDEX, "the index is wrong about chunk 0")]
    assert repair(path).changed
    assert path.read_bytes() == BUF


def test_a_body_that_does_not_decode_is_a_fault(damage, monkeypatch):
    decode = sprintz.chunk.decode

    def picky(body, nrows, dtypes, out, *, masks=None):
        decode(body, nrows, dtypes, out, masks=masks)
        if nrows == 40:
            raise CorruptError(7, "a width that cannot be")

    monkeypatch.setattr(sprintz.chunk, "decode", picky)
    path = damage()
    assert verify(path) == [(OFFSETS[15] + 32 + 7, "a width that cannot be")]
    assert repair(path).gaps == ((960, 40),)
    assert same(read(path), X[:960])


@pytest.mark.parametrize("size", [INDEX, INDEX + 5, len(BUF) - 1, INDEX - 1, OFFSETS[15] + 3])
def test_a_cut_file_is_mended_where_it_is(damage, size):
    path = damage(size=size)
    inode = path.stat().st_ino
    done = repair(path)
    rows = 1000 if size >= INDEX else 960
    assert (done.changed, done.rows, done.gaps) == (True, rows, ())
    assert path.stat().st_ino == inode
    assert path.read_bytes() == (BUF if rows == 1000 else compress(X[:960], chunk_rows=64, names=list("abc"), rate=250))


def test_bytes_behind_the_end_are_cut_off(damage):
    path = damage(data=BUF + b"\0" * 1000)
    assert verify(path)[-1] == (
        len(BUF) + 1000 - 32,
        "the file has no trailer: it was cut, or its writer was not closed",
    )
    repair(path)
    assert path.read_bytes() == BUF


@pytest.mark.parametrize("size", [None, INDEX])
def test_good_chunks_behind_a_bad_one_are_not_lost(damage, size):
    path = damage(OFFSETS[3] + 40, OFFSETS[7], OFFSETS[8] + 5, size=size)
    before = path.read_bytes()
    with pytest.raises(
        CorruptError, match="chunk 3 does not fit its checksum; 10 good chunks with 616 rows lie behind it"
    ):
        repair(path)
    assert path.read_bytes() == before
    with sprintz.open(path) as r:
        assert len(r) == (192 if size else 1000)
    done = repair(path, skip_bad=True)
    kept = np.concatenate([X[:192], X[256:448], X[576:]])
    assert (done.path, done.rows, done.chunks, done.changed) == (path, 808, 13, True)
    assert done.gaps == ((192, 64), (384, 128))
    assert same(read(path), kept)
    found = sprintz.info(path)
    assert (found.gaps, found.names, found.rate) == (done.gaps, ("a", "b", "c"), 250.0)
    assert verify(path) == []
    assert os.listdir(path.parent) == [path.name]


def test_a_repaired_file_goes_on_and_is_repaired_again(damage):
    path = damage(OFFSETS[3] + 40)
    repair(path, skip_bad=True)
    with Writer(path, mode="a") as w:
        w.append(X[:100])
    data = bytearray(path.read_bytes())
    offsets = sprintz.open(bytes(data)).index.offsets
    for number in (0, 3, 4, 16):
        data[offsets[number] + 40] ^= 1
    path.write_bytes(data)
    done = repair(path, skip_bad=True)
    assert done.gaps == ((0, 64), (128, 128), (808, 36))
    # The old gap stood before old row 192, which is lost too: both are there, at the row that is now behind them.
    assert sprintz.info(path).gaps == ((0, 64), (128, 64), (128, 128))
    assert same(read(path), np.concatenate([X[64:192], X[384:], X[:64]]))


def test_a_repaired_file_that_is_cut(damage):
    path = damage(OFFSETS[3] + 40)
    repair(path, skip_bad=True)
    with open(path, "r+b") as file:
        file.truncate(OFFSETS[1] + 50)
    assert repair(path).rows == 64
    assert same(read(path), X[:64])
    assert verify(path) == []
    assert sprintz.info(path).gaps == ((192, 64),), "the header stays as it was, and the gap is behind the end"


def test_a_target_leaves_the_damaged_file_as_it_is(damage, tmp_path):
    path = damage(OFFSETS[3] + 40)
    before = path.read_bytes()
    done = repair(path, tmp_path / "first")
    assert (done.path, done.rows, done.gaps) == (tmp_path / "first", 192, ((192, 808),))
    assert done.left_out == (12, 744), "of the 808 rows, those that are good"
    assert (tmp_path / "first").read_bytes() == compress(X[:192], chunk_rows=64, names=list("abc"), rate=250)
    done = repair(path, tmp_path / "all", skip_bad=True)
    assert (done.gaps, done.left_out) == (((192, 64),), (0, 0))
    assert same(read(tmp_path / "all"), np.concatenate([X[:192], X[256:]]))
    assert path.read_bytes() == before
    assert repair(damage(), tmp_path / "copy").changed is False
    assert (tmp_path / "copy").read_bytes() == BUF


def test_chunks_are_found_where_bytes_are_missing(damage):
    # 50 bytes of chunk 4's body are gone, so that chunk 5 begins inside what chunk 4 claims.
    at = OFFSETS[4] + 100
    path = damage(data=BUF[:at] + BUF[at + 50 :])
    assert repair(path, skip_bad=True).gaps == ((256, 64),)
    assert same(read(path), np.concatenate([X[:256], X[320:]]))


def test_a_file_inside_a_file_is_not_mistaken_for_it(damage):
    # The bytes of a tsz file, stored as they are: its chunks have a sync, but another file's checksum.
    inner = np.frombuffer(BUF, np.uint8)
    outer = compress(inner, chunk_rows=1024)
    at = int(sprintz.open(outer).index.offsets[1])
    path = damage(at + 5, data=outer)
    assert repair(path, skip_bad=True).gaps == ((1024, 1024),)
    assert same(read(path), np.concatenate([inner[:1024], inner[2048:]]))


def test_masks_survive(damage, monkeypatch):
    x = np.ma.array(X, mask=X % 7 == 0)
    x.mask[100:300] = False
    buf = compress(x, chunk_rows=64)
    path = damage(sprintz.open(buf).index.offsets[1] + 40, size=len(buf) - 9, data=buf)
    repair(path, skip_bad=True)
    assert same(read(path), np.ma.concatenate([x[:64], x[128:]]))
    assert verify(path) == []


def test_a_lost_header_is_said(damage):
    path = damage(30)
    before = path.read_bytes()
    with pytest.raises(CorruptError, match="header"):
        repair(path, skip_bad=True)
    assert path.read_bytes() == before


def test_nothing_but_a_header(damage):
    header = sprintz.open(BUF).header.size
    for size in (header, header + 20):
        path = damage(size=size)
        assert repair(path).rows == 0
        assert same(read(path), X[:0])


def test_a_failed_repair_leaves_the_old_file(damage, monkeypatch):
    path = damage(OFFSETS[3] + 40)
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        repair(path, skip_bad=True)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_no_file(tmp_path):
    for call in (verify, repair):
        with pytest.raises(FileNotFoundError, match="which is no file"):
            call(tmp_path / "none")


def test_a_file_made_to_waste_time_is_looked_through_once(monkeypatch):
    # Heads of chunks everywhere, each with a body up to the end of the file.
    header = sprintz.open(BUF).header
    heads, total = [], 200_000
    for k in range(1, total // 40):
        head = ChunkHead(k, 64 * k, 64, max(0, total - 40 * k - 36), False)
        heads += [pack_chunk_head(head, header.crc), bytes(8)]
    counted = []
    crc = scan.crc32c
    monkeypatch.setattr(scan, "crc32c", lambda data, *rest: counted.append(len(data)) or crc(data, *rest))
    assert verify(BUF[: header.size] + b"".join(heads))
    assert sum(counted) < 8 * total


def test_the_next_chunk_is_found_at_any_distance():
    for gap in (0, 1, 3, 4090, 4093, 4094, 4095, 4096, 4097, 12286, 12287, 12288, 12289, 1_100_000):
        data = b"\xab" * gap + SYNC + b"\xab" * 9
        assert find_sync(Source(memoryview(data)), 0) == gap
        assert find_sync(Source(memoryview(data)), gap + 1) == len(data)
