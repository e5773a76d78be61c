"""Bytes of published Sprintz streams and of frames that changed: refused with an offset, or data of an allowed size."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from tests.codecs.sprintz.cases_v0 import PREDICTORS, kernels, needs_kernels, series  # noqa: F401

from hasten.codecs.sprintz import _v0_frame, v0
from hasten.codecs.sprintz.errors import CorruptError


@dataclass
class Sample:
    """Bytes, what they decode to, and how to read them."""

    data: bytes
    x: np.ndarray
    read: Callable[[bytes], np.ndarray]
    checked: bool  # by a checksum


def samples() -> list[Sample]:
    """Streams and frames of every layout, with runs."""
    rng = np.random.default_rng(3)
    found = []
    for columns, dtype in ((1, "u1"), (3, "u1"), (6, "u1"), (1, "u2"), (2, "u2"), (5, "u2")):
        for predictor in PREDICTORS:
            kinds = ("walk", "zeros", "random", "steps")
            x = np.concatenate([series(kind, rng, (40, columns), dtype) for kind in kinds])

            def read(b: bytes, dtype: str = dtype, predictor: str = predictor, most: int = 4 * x.size) -> np.ndarray:
                return v0.decompress(b, dtype, predictor, max_elements=most)

            found.append(Sample(v0.compress(x, predictor), x, read, checked=False))
            found.append(Sample(v0.pack(x, predictor), x, v0.unpack, checked=True))
    for shape, dtype in (((2000, 3), "u1"), ((900, 7), "u2")):
        x = series("quiet", rng, shape, dtype)
        found.append(Sample(v0.pack(x), x, v0.unpack, checked=True))
        assert found[-1].data[12] == _v0_frame.HUFFMAN
    return found


def is_refused(sample: Sample, changed: bytes, where: object) -> bool:
    """Refused with an offset inside, or read as a matrix of an allowed size: the same one, if there is a checksum."""
    fault = None
    try:
        found = sample.read(changed)
    except CorruptError as error:
        fault = error
    if fault is not None:
        assert -1 <= fault.offset <= len(changed), where
        assert fault.reason, where
        return True
    assert (found.dtype, found.ndim) == (sample.x.dtype, 2), where
    assert found.size <= 4 * sample.x.size, where
    assert not sample.checked or np.array_equal(found, sample.x), where
    return False


@needs_kernels
def test_every_truncation_is_refused() -> None:
    for sample in samples():
        assert not is_refused(sample, sample.data, "whole")
        for length in range(len(sample.data)):
            assert is_refused(sample, sample.data[:length], length)
        assert is_refused(sample, sample.data + b"\0", "longer")


@needs_kernels
def test_every_bit_that_flips_is_survived() -> None:
    for sample in samples():
        refused = 0
        for bit in range(8 * len(sample.data)):
            changed = bytearray(sample.data)
            changed[bit // 8] ^= 1 << bit % 8
            refused += is_refused(sample, bytes(changed), bit)
        assert refused > (4 * len(sample.data) if sample.checked else 60)


def mutants(stream: bytes, count: int, seed: int) -> list[bytes]:
    """Bytes overwritten, cut out, doubled and inserted, in a stream's header more often than elsewhere."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        changed = bytearray(stream)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(0, len(changed) if rng.random() < 0.7 else min(70, len(changed))))
            size = int(rng.integers(1, 9))
            how = int(rng.integers(0, 5))
            if how == 0:
                changed[at : at + size] = rng.bytes(size)
            elif how == 1:
                changed[at : at + size] = bytes([(0, 255, 128, 1)[int(rng.integers(0, 4))]]) * size
            elif how == 2:
                del changed[at : at + size]
            elif how == 3:
                changed[at:at] = changed[at : at + size]
            else:
                changed[at:at] = rng.bytes(size)
            changed = changed or bytearray(1)
        found.append(bytes(changed))
    return found


@needs_kernels
def test_twenty_thousand_mutants() -> None:
    some = samples()
    refused = 0
    for seed, sample in enumerate(some):
        for i, changed in enumerate(mutants(sample.data, -(-20_000 // len(some)), seed)):
            refused += is_refused(sample, changed, (seed, i))
    assert refused > 15_000


@needs_kernels
def test_the_decoders_agree_on_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome(sample: Sample, changed: bytes) -> object:
        try:
            return sample.read(changed).tobytes()
        except CorruptError as error:
            return error.offset, error.reason

    for seed, sample in enumerate(samples()):
        changed = mutants(sample.data, 30, seed) + [sample.data[:k] for k in range(0, len(sample.data), 37)]
        with monkeypatch.context() as patch:
            patch.setattr(v0, "ext", None)
            expected = [outcome(sample, c) for c in changed]
        assert [outcome(sample, c) for c in changed] == expected


HOSTILE = {
    "nothing": ("", 0, "ends inside its header"),
    "half a header": ("01 00 00 00 10 00 01", 7, "ends inside its header"),
    "no columns": ("00 00 00 00 00 00 00 00", 6, "at least one column"),
    "half rows": ("00 00 00 00 03 00 02 00 01 02 03", 4, "no whole rows"),
    "four billion groups, no bytes": ("ff ff ff ff 00 00 01 00", 8, "the widths of a group"),
    "four billion groups of no rows": ("ff ff ff ff 00 00 01 00" + " 00 00 00" * 1000, 3008, "the widths of a group"),
    "a run of more than is allowed": ("01 00 00 00 00 00 01 00 00 ff ff 00", 9, "more elements than are allowed"),
    "a run's second byte is missing": ("01 00 00 00 00 00 01 00 00 ff", 9, "inside the length of a run"),
    "a run's length is missing": ("01 00 00 00 00 00 01 00 00", 9, "before the length of a run"),
    "a block is cut": ("01 00 00 00 00 00 01 00 24 01 02 03", 9, "inside a block"),
    "the rest is cut": ("00 00 00 00 05 00 01 00 01 02 03 04", 12, "the elements that remain"),
    "more behind the end": ("00 00 00 00 02 00 01 00 01 02 03", 10, "more bytes follow"),
    "65535 columns of nothing": ("ff ff ff ff ff ff ff ff", 8, "the widths of a group"),
}


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_streams(name: str) -> None:
    text, offset, reason = HOSTILE[name]
    tracemalloc.start()
    with pytest.raises(CorruptError, match=reason) as caught:
        v0.decompress(bytes.fromhex(text), "u1", max_elements=1000)
    assert tracemalloc.get_traced_memory()[1] < 3_000_000
    tracemalloc.stop()
    assert caught.value.offset == offset
    assert str(offset) in str(caught.value)


@pytest.mark.usefixtures("kernels")
def test_a_width_that_no_encoder_writes() -> None:
    with pytest.raises(CorruptError, match="no width 7"):  # 3 columns of 16 bits: six fields of four bits
        v0.decompress(bytes.fromhex("01 00 00 00 00 00 03 00 07 00 00" + "00" * 60), "u2")
    x = np.full((48, 3), 50, "u2")  # zigzag 100: seven bits, written as eight
    assert v0.compress(x)[8:11].hex() == "880800"
    assert np.array_equal(v0.decompress(v0.compress(x), "u2"), x)


@pytest.mark.usefixtures("kernels")
def test_runs_are_bombs_only_up_to_the_limit() -> None:
    bomb = bytes.fromhex("02 00 00 00 00 00 01 00" + "00 ff ff ff ff" * 2)
    assert v0.decompress(bomb, "u1", max_elements=8 * 4 * 32767).size == 8 * 4 * 32767
    with pytest.raises(CorruptError, match="more elements than are allowed"):
        v0.decompress(bomb, "u1", max_elements=8 * 4 * 32767 - 1)
    with pytest.raises(CorruptError, match="more elements than are allowed"):
        v0.decompress(bytes.fromhex("00 00 00 00 03 00 01 00 01 02 03"), "u1", max_elements=2)
