"""Damage to device streams: what is noticed, what is saved, and that no bytes can lead the decoder astray."""

from __future__ import annotations

import functools
import itertools
import struct
import zlib

import numpy as np
import pytest

from hasten.codecs.sprintz import device
from hasten.codecs.sprintz.device_segment import find_heads, make_head, read_head
from hasten.codecs.sprintz.errors import CorruptError, VersionError

PREDICTORS = ("delta", "nlms1")


def walk(rows: int, columns: int, pause: int = 1 << 30) -> np.ndarray:
    """A random walk that stands still in every second stretch of `pause` rows."""
    x = np.random.default_rng(0).integers(-9, 10, (rows, columns)).cumsum(0)
    return np.where(np.arange(rows)[:, None] // pause % 2, x[:1], x).astype(np.int16)


def check_lenient(stream: bytes, x: np.ndarray) -> device.DeviceRecording:
    """What `strict=False` returns is right, whatever was done to the stream."""
    recording = device.decode(stream, strict=False)
    np.testing.assert_array_equal(recording.data, x[recording.row_numbers()])
    return recording


def segment(blocks: bytes, rows: int, columns: int = 2, head: bytes = b"", kind: int = 5) -> bytes:
    """One segment with these blocks, its checksums right; `rows` is what its tail says."""
    head = head or make_head(False, 0, [[0, 0, 0]] * columns)
    tail = struct.pack("<BI", kind, rows)
    return head + blocks + tail + struct.pack("<I", zlib.crc32(head[:-4] + blocks + tail))


@functools.cache
def small(predictor: str) -> tuple[np.ndarray, bytes]:
    x = walk(8 * 9 + 5, 2, pause=40)
    return x, device.encode(x, predictor, checkpoint=2)


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_every_flipped_bit_is_noticed(predictor):
    x, stream = small(predictor)
    for bit in range(8 * len(stream)):
        damaged = bytearray(stream)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptError) as caught:
            device.decode(damaged)
        assert 0 <= caught.value.offset <= len(stream)
        recording = check_lenient(bytes(damaged), x)
        assert len(recording.data) >= len(x) - 32  # at most the segment, or two where a head is hit


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_every_truncation_is_noticed(predictor):
    x, stream = small(predictor)
    for size in range(len(stream)):
        with pytest.raises(CorruptError) as caught:
            device.decode(stream[:size])
        assert caught.value.offset <= size
        if size < read_head(stream, 0).body:
            with pytest.raises(CorruptError):
                device.decode(stream[:size], strict=False)
            continue
        recording = check_lenient(stream[:size], x)
        assert not recording.complete
        assert recording.end == size
        known = len(recording.data)
        np.testing.assert_array_equal(recording.unverified, x[known : known + len(recording.unverified)])
        assert all(gap.missing is None for gap in recording.gaps)


def test_a_cut_after_a_column_of_no_bits():
    x = np.stack([walk(160, 1)[:, 0], np.full(160, 3)], axis=1).astype(np.int16)
    stream = device.encode(x, checkpoint=0)
    for size in range(read_head(stream, 0).body, len(stream)):
        unverified = device.decode(stream[:size], strict=False).unverified
        np.testing.assert_array_equal(unverified, x[: len(unverified)])
    assert len(unverified) == 160


def test_a_log_without_checkpoints_that_was_cut_off():
    x = walk(800, 3)
    stream = device.encode(x, checkpoint=0)
    recording = device.decode(stream[: len(stream) // 2], strict=False)
    assert not len(recording.data)
    assert not recording.complete
    assert 350 < len(recording.unverified) < 450
    np.testing.assert_array_equal(recording.unverified, x[: len(recording.unverified)])


def test_mutants():
    g = np.random.default_rng(1)
    streams = [small(predictor) for predictor in PREDICTORS]
    offsets, saved = [], 0
    for number in range(5000):
        x, stream = streams[number % 2]
        damaged = bytearray(stream)
        for _ in range(g.integers(1, 4)):
            at, length = (int(v) for v in g.integers(0, [len(damaged), 12]))
            match int(g.integers(4)):
                case 0:
                    damaged[at : at + length] = g.bytes(length)
                case 1:
                    del damaged[at : at + length]
                case 2:
                    damaged[at:at] = g.bytes(length)
                case 3:
                    damaged[at:at] = damaged[at // 2 : at // 2 + 5 * length]
        try:
            whole = device.decode(damaged).data
        except CorruptError as error:
            offsets.append(error.offset / len(damaged))
        else:  # some edits change nothing
            np.testing.assert_array_equal(whole, x)
            assert bytes(damaged) == stream
        try:
            check_lenient(bytes(damaged), x)
            saved += 1
        except CorruptError:
            pass  # no head was left
    assert len(offsets) > 4500
    assert min(offsets) >= 0
    assert max(offsets) <= 1
    assert saved > 4900


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_lost_bytes_cost_the_segment_they_were_in(predictor):
    x = walk(8 * 40 + 2, 3)
    stream = device.encode(x, predictor, checkpoint=8)
    heads = [head.start for head in find_heads(stream)]
    assert len(heads) == 6  # 5 segments of 64 rows, and 2 rows left
    at = heads[2] + 70
    recording = check_lenient(stream[:at] + stream[at + 9 :], x)
    (gap,) = recording.gaps
    assert (gap.row, gap.missing, gap.start, gap.stop) == (128, 64, heads[2], heads[3] - 9)
    assert recording.complete
    assert recording.row_numbers()[127:129].tolist() == [127, 192]
    # Two places: two gaps. Two segments side by side, or a damaged head: one gap.
    damaged = bytearray(stream)
    damaged[heads[1] + 60] ^= 1
    damaged[heads[3] + 60] ^= 1
    recording = check_lenient(bytes(damaged), x)
    assert [(gap.row, gap.missing) for gap in recording.gaps] == [(64, 64), (128, 64)]
    damaged[heads[2]] ^= 1
    recording = check_lenient(bytes(damaged), x)
    assert [(gap.row, gap.missing) for gap in recording.gaps] == [(64, 192)]
    # The beginning is lost, then the end.
    recording = check_lenient(stream[5:], x)
    assert [(gap.row, gap.missing, gap.start) for gap in recording.gaps] == [(0, 64, 0)]
    recording = check_lenient(stream[: heads[5] + 3], x)
    assert [(gap.row, gap.missing) for gap in recording.gaps] == [(320, None)]
    assert not recording.complete


def test_a_device_that_restarts_begins_another_recording():
    x, stream = small("delta")
    cut = stream[: find_heads(stream)[3].start - 10]
    both = cut + stream
    first = check_lenient(both, x)
    assert not first.complete
    assert first.end == len(cut)
    assert first.gaps[-1].stop == len(cut)
    known = len(first.data)
    assert len(first.unverified)
    np.testing.assert_array_equal(first.unverified, x[known : known + len(first.unverified)])
    second = device.decode(both[first.end :])
    np.testing.assert_array_equal(second.data, x)
    for other in (device.encode(x[:, :1]), device.encode(x, "nlms1")):
        assert device.decode(cut + other, strict=False).end == len(cut)
    padded = device.decode(stream + b"\xff" * 100, strict=False)  # erased flash
    assert padded.complete
    assert padded.end == len(stream)
    assert not padded.gaps
    with pytest.raises(CorruptError, match="bytes after the end block"):
        device.decode(stream + b"\xff")


def segments(stream: bytes) -> list[bytes]:
    starts = [*(head.start for head in find_heads(stream)), len(stream)]
    return [stream[i:j] for i, j in itertools.pairwise(starts)]


def test_segments_in_another_order():
    x = walk(64, 1)
    stream = device.encode(x, checkpoint=2)
    a, b, c, *rest = segments(stream)
    for order in ([b, a, c], [a, c, b], [a, c], [b, c], [a, b, b, c]):
        with pytest.raises(CorruptError, match=r"does not go on|begins at row 16"):
            device.decode(b"".join([*order, *rest]))
        check_lenient(b"".join([*order, *rest]), x)


def reseal(stream: bytes, at: int, new: bytes) -> bytes:
    """`new` at `at`, and the checksum of the first head made right again."""
    changed = bytearray(stream)
    changed[at : at + len(new)] = new
    changed[18:22] = struct.pack("<I", zlib.crc32(changed[:18]))
    return bytes(changed)


def test_forged_heads():
    _, stream = small("delta")
    with pytest.raises(VersionError, match="version 2 of the device stream"):
        device.decode(reseal(stream, 8, b"\x02"))
    with pytest.raises(VersionError):
        device.decode(reseal(device.encode(np.zeros(3, np.int16)), 8, b"\x02"), strict=False)
    for at, new in ((9, b"\x08"), (10, b"\x02"), (11, b"\x02"), (12, b"\0\0"), (12, b"\x01\x04")):
        with pytest.raises(CorruptError, match="not known"):
            device.decode(reseal(stream, at, new))
    with pytest.raises(CorruptError, match="begins at row 7"):
        device.decode(reseal(stream, 14, b"\7\0\0\0"))


def test_forged_blocks():
    assert not device.decode(segment(b"\1\0", 8)).data.any()  # widths of 0: a block of zeros at full length
    for blocks, reason in ((b"\1\x10", "padding"), (b"\3\0", "run of no"), (b"\x13\1", "0x13"), (b"\0", "0x00")):
        with pytest.raises(CorruptError, match=reason):
            device.decode(segment(blocks, 8))
    with pytest.raises(CorruptError, match="0x85"):
        device.decode(segment(b"\x85", 8))
    with pytest.raises(CorruptError, match="number of rows"):
        device.decode(segment(b"\3\1", 9))


def signed(word: int) -> int:
    return (word & 0xFFFF) - ((word & 0x8000) << 1)


def plain_read(blocks: bytes, state: list[list[int]]) -> list[list[int]]:
    """The rows of blocks, read as the documentation of the format has it; a predictor without `a` is delta."""
    rows, nibbles, at = [], [n for byte in blocks for n in (byte & 15, byte >> 4)], 0
    while at < len(blocks):
        kind, columns = nibbles[2 * at], len(state)
        residuals = [[[0] * 8] * columns]
        if kind == 3:
            residuals *= blocks[at + 1]
            at += 2
        else:
            widths = nibbles[2 * at + 1 : 2 * at + 1 + columns]
            at += (columns + 2) // 2
            for c, width in enumerate(16 if n == 15 and kind == 2 else n for n in widths):
                packed = int.from_bytes(blocks[at : at + width], "little")
                z = [packed >> width * i & (1 << width) - 1 for i in range(8)]
                residuals[0][c] = [v // 2 if v % 2 == 0 else -(v + 1) // 2 for v in z]
                at += width
        for block in residuals:
            rows += zip(*itertools.starmap(plain_predict, zip(block, state, strict=True)), strict=True)
    return [list(row) for row in rows]


def plain_predict(block: list[int], state: list[int]) -> list[int]:
    p, q, a = state
    values, s = [], 0
    for e in block:
        f = (a * q + 2**14) // 2**15 if a is not None else 0
        s += int(np.sign(e) * np.sign(q))
        q = signed(e + f)
        p = signed(p + q)
        values.append(p)
    state[:] = p, q, None if a is None else min(max(a + 128 * s, -(2**14)), 2**15 - 1)
    return values


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_any_well_formed_blocks_decode_as_documented(predictor):
    """Also those that no encoder of ours would write: kind 2 without need, blocks of zeros at full length."""
    g = np.random.default_rng(2)
    learn = predictor == "nlms1"
    for _ in range(100):
        columns = int(g.integers(1, 5))
        blocks, count = b"", 0
        for kind in g.choice([1, 2, 3], 12):
            if kind == 3:
                blocks += bytes([3, 2])
                count += 2
                continue
            widths = g.integers(0, 16, columns).tolist()
            nibbles = [int(kind), *widths, 0]
            blocks += bytes(a | b << 4 for a, b in zip(nibbles[::2], nibbles[1::2], strict=False))
            blocks += g.bytes(sum(16 if n == 15 and kind == 2 else n for n in widths))
            count += 1
        state = [[int(v) for v in g.integers([-(2**15), -(2**15), -(2**14)], 2**15)] for _ in range(columns)]
        stream = segment(blocks, 8 * count, head=make_head(learn, 0, state))
        expected = plain_read(blocks, [s if learn else [s[0], 0, None] for s in state])
        assert device.decode(stream).data.tolist() == expected


def test_runs_cannot_fill_the_memory():
    bomb = segment(b"\3\xff" * 100_000, 8 * 255 * 100_000, columns=1024)
    for strict in (True, False):
        with pytest.raises(CorruptError, match="more than 262144 rows; pass max_rows="):
            device.decode(bomb, strict=strict)
    x, stream = small("delta")
    assert len(device.decode(stream, max_rows=len(x)).data) == len(x)
    with pytest.raises(CorruptError, match="more than 76 rows"):
        device.decode(stream, max_rows=len(x) - 1)


def test_many_heads_need_no_more_than_their_bytes():
    """A head of 22 bytes may speak of 1024 columns of state."""
    empty = segment(b"", 0, 1024, kind=4)
    with pytest.raises(CorruptError, match="no head"):
        device.decode(empty * 200)
    recording = device.decode(empty * 200, strict=False)
    assert recording.data.shape == (0, 1024)
    assert len(find_heads(empty * 200)) == 200
    assert not find_heads(empty)[0].kept


def test_the_count_of_rows_goes_round():
    head = make_head(False, 2**32 - 8, [[5, 0, 0]])
    first = segment(b"\3\1", 0, 1, head, kind=4)
    second = segment(b"\3\1", 8, 1, make_head(False, 2**32, [[5, 0, 0]]))
    recording = device.decode(first + second, strict=False)
    assert recording.data.tolist() == [[5]] * 16
    assert recording.complete
    assert [(gap.row, gap.missing) for gap in recording.gaps] == [(0, 2**32 - 8)]
    assert recording.row_numbers()[[0, 15]].tolist() == [2**32 - 8, 2**32 + 7]
    with pytest.raises(CorruptError, match="begins at row 4294967288"):
        device.decode(first + second)


def test_a_segment_sent_twice():
    x, stream = small("delta")
    a, b, *rest = segments(stream)
    recording = check_lenient(b"".join([a, b[:30], b, *rest]), x)
    assert recording.complete
    assert [(gap.row, gap.missing) for gap in recording.gaps] == [(16, 0)]
