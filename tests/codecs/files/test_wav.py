"""WAV files, with the standard library's `wave` as the independent reader and writer."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import numpy as np
import pytest

from hasten.codecs import files
from hasten.codecs.files import Recording


def made(path: Path, width: int, data: bytes, channels: int = 2, rate: int = 8000) -> Path:
    """A file by the standard library."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(data)
    return path


def chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def fmt(tag: int, channels: int, bits: int, *, rate: int = 100, frame: int | None = None, more: bytes = b"") -> bytes:
    frame = channels * -(-bits // 8) if frame is None else frame
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits) + more)


@pytest.mark.parametrize(
    ("width", "dtype", "values"),
    [
        (1, np.uint8, [[0, 255], [128, 1]]),
        (2, "<i2", [[-32768, 32767], [0, -1]]),
        (3, "<i4", [[-(1 << 23), (1 << 23) - 1], [0, -1]]),
        (4, "<i4", [[-(1 << 31), (1 << 31) - 1], [0, -1]]),
    ],
)
def test_pcm_there_and_back(width: int, dtype: str, values: list, tmp_path: Path) -> None:
    packed = b"".join(v.to_bytes(width, "little", signed=width > 1) for row in values for v in row)
    path = made(tmp_path / "x.wav", width, packed)
    read = files.read(path)
    assert read.data.dtype == np.dtype(dtype)
    assert read.data.tolist() == values
    assert read.rate == 8000.0
    assert read.meta == {"wav": {"bits": 8 * width}}
    files.write(tmp_path / "y.wav", read)
    assert (tmp_path / "y.wav").read_bytes() == path.read_bytes()
    with wave.open(str(tmp_path / "y.wav")) as file:
        assert (file.getsampwidth(), file.getnchannels(), file.getnframes()) == (width, 2, 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_there_and_back(dtype: type, tmp_path: Path) -> None:
    x = np.array([[0.5], [np.nan], [-1e30]], dtype)
    files.write(tmp_path / "x.wav", Recording(x, rate=10.0))
    read = files.read(tmp_path / "x.wav")
    assert read.data.tobytes() == x.tobytes()
    assert read.rate == 10.0


def test_an_odd_size_gets_a_byte_more(tmp_path: Path) -> None:
    files.write(tmp_path / "x.wav", Recording(np.array([[1], [2], [3]], np.uint8), rate=5))
    data = (tmp_path / "x.wav").read_bytes()
    assert len(data) % 2 == 0
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8
    assert files.read(tmp_path / "x.wav").data.ravel().tolist() == [1, 2, 3]


def test_a_flat_array_is_one_channel(tmp_path: Path) -> None:
    files.write(tmp_path / "x.wav", Recording(np.arange(5, dtype=np.int16), rate=5))
    assert files.read(tmp_path / "x.wav").data.shape == (5, 1)


def test_extensible_headers_and_chunks_before_the_samples(tmp_path: Path) -> None:
    guid = struct.pack("<HHI", 22, 20, 3) + struct.pack("<H", 1) + bytes(14)
    parts = [chunk(b"LIST", b"odd"), fmt(0xFFFE, 1, 24, more=guid), chunk(b"data", bytes([1, 0, 0, 255, 255, 255]))]
    (tmp_path / "x.wav").write_bytes(riff(*parts))
    read = files.read(tmp_path / "x.wav")
    assert read.data.tolist() == [[1], [-1]]
    assert [block.tolist() for block in files.blocks(tmp_path / "x.wav", 1)] == [[[1]], [[-1]]]


def test_samples_of_12_bits_keep_their_number(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(riff(fmt(1, 1, 12), chunk(b"data", bytes([0xF0, 0x7F]))))
    read = files.read(tmp_path / "x.wav")
    files.write(tmp_path / "y.wav", read)
    assert (tmp_path / "y.wav").read_bytes() == (tmp_path / "x.wav").read_bytes()


def test_no_samples(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(riff(fmt(1, 3, 16), chunk(b"data", b"")))
    assert files.read(tmp_path / "x.wav").data.shape == (0, 3)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "does not begin like one"),
        (b"RIFF0000WEBP", "does not begin like one"),
        (riff(), "no format"),
        (riff(fmt(1, 1, 16)), "no samples"),
        (riff(chunk(b"data", b"12"), fmt(1, 1, 16)), "no samples"),
        (riff(fmt(2, 1, 4), chunk(b"data", b"12")), "format 0x2 with 4 bits"),
        (riff(fmt(1, 1, 64), chunk(b"data", bytes(8))), "format 0x1 with 64 bits"),
        (riff(fmt(0xFFFE, 1, 16), chunk(b"data", b"12")), "format 0xfffe"),
        (riff(fmt(1, 0, 16), chunk(b"data", b"12")), "0 channels"),
        (riff(fmt(1, 1, 16, frame=4), chunk(b"data", b"12")), "frames of 4 bytes"),
        (riff(fmt(1, 1, 16, rate=0), chunk(b"data", b"12")), "at 0 Hz"),
        (riff(fmt(1, 2, 16), chunk(b"data", b"123456")), "whole frames of 4 bytes.*6 bytes"),
        (riff(fmt(1, 1, 16), chunk(b"data", b"123456"))[:-2], "4 bytes of the 6 .*--no-check"),
    ],
)
def test_what_is_no_sound(data: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(data)
    with pytest.raises(ValueError, match=told):
        files.read(tmp_path / "x.wav")


def test_every_cut_is_told_or_harmless(tmp_path: Path) -> None:
    whole = riff(fmt(1, 1, 16), chunk(b"data", b"123456"))
    for size in range(len(whole)):
        (tmp_path / "x.wav").write_bytes(whole[:size])
        with pytest.raises(ValueError, match="wav: expected"):
            files.read(tmp_path / "x.wav")


def test_a_cut_file_unchecked(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(riff(fmt(1, 1, 16), chunk(b"data", b"123456"))[:-1])
    assert files.read(tmp_path / "x.wav", check=False).data.shape == (2, 1)


@pytest.mark.parametrize(
    ("recording", "error", "told"),
    [
        (Recording(np.zeros((1, 1), np.int64), rate=1), TypeError, "uint8, int16, int32, float32 or float64"),
        (Recording(np.zeros((1, 1), np.int8), rate=1), TypeError, "dtype int8"),
        (Recording(np.zeros(1, [("a", "i2")]), rate=1), TypeError, "dtype"),
        (Recording(np.zeros((1, 1), np.int16)), ValueError, "a whole number of samples per second, got none"),
        (Recording(np.zeros((1, 1), np.int16), rate=0.5), ValueError, "got 0.5"),
        (Recording(np.zeros((1, 40000), np.int16), rate=1), ValueError, "at most 4 GiB"),
        (Recording(np.full((1, 1), 1 << 23, np.int32), rate=1, meta={"wav": {"bits": 24}}), ValueError, "24 bits"),
    ],
)
def test_what_sound_cannot_be(recording: Recording, error: type[Exception], told: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=told):
        files.write(tmp_path / "x.wav", recording)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("said", [None, 24, {}, {"bits": "24"}, {"bits": 200}, {"bits": -1}, {"bits": 16}])
def test_metadata_that_makes_no_sense_is_not_followed(said: object, tmp_path: Path) -> None:
    files.write(tmp_path / "x.wav", Recording(np.full((1, 1), 1 << 30, np.int32), rate=1, meta={"wav": said}))
    assert files.read(tmp_path / "x.wav").data.tolist() == [[1 << 30]]
