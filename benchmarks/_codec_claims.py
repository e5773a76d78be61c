"""What is claimed about the codec, judged by lines of the codec table: held, missed, or not measured.

Speeds of two codecs are compared round by round, since they took turns; the median of the quotients decides, and where
their interval reaches across the target, that is said. Ratios have no interval: they do not vary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from _codec_peers import MEMCPY, PLANAR
from _codec_sets import WALK
from _intervals import median_interval

__all__ = ["Verdict", "judge"]

ADC = ("mitbih_100", "ptb_s0010", "mimic_03700181")
PEERS = ("pcodec-8", "pcodec-8+conv32")  # what it detects itself, and what it can if it is told; the first is claimed
AHEAD = 1.005  # of two ratios, beyond what headers make
LZ = ("zstd-", "delta+zstd-", "lz4", "blosc2-")

Line = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """A claim with the number that was wanted and the one that was found; None: there is no such line."""

    claim: str
    set: str
    unit: str
    wanted: float | None
    found: float | None
    interval: list[float] | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.found is None:
            return "not measured"
        if self.wanted is None:
            return "noted"
        return "held" if self.found >= self.wanted else "missed"

    @property
    def clear(self) -> bool | None:
        """Is all of the interval on one side of the target?"""
        if self.interval is None or self.wanted is None:
            return None
        return not self.interval[0] < self.wanted <= self.interval[1]

    def fields(self) -> Line:
        return {**asdict(self), "verdict": self.verdict, "clear": self.clear}

    def text(self) -> str:
        number = "none" if self.found is None else f"{self.found:.3f} {self.unit}".rstrip()
        span = "" if self.interval is None else f" [{self.interval[0]:.3f}, {self.interval[1]:.3f}]"
        doubt = ", not clearly" if self.clear is False else ""
        wanted = "" if self.wanted is None else f" (wanted {self.wanted:g}{doubt})"
        return f"{self.verdict:<13} {self.set:<26} {self.claim}: {number}{span}{wanted}{self.note and '; ' + self.note}"


def judge(lines: list[Line]) -> list[Verdict]:
    """All verdicts of these lines; where a set and codec occur twice, the later line counts."""
    found = {(line["set"], line["arm"]): line for line in lines if line.get("ratio") is not None}

    def get(name: str, arm: str) -> Line | None:
        return found.get((name, arm))

    return [*_balanced(get), *_most(get), *_planar(get), *_against_lz(found)]


Get = Callable[[str, str], Line | None]


def _balanced(get: Get) -> Iterator[Verdict]:
    for name in ADC:
        ours, usual = get(name, "tsz-balanced"), get(name, PEERS[0])
        for peer in PEERS:
            other = get(name, peer)
            if peer != PEERS[0] and (usual is None or other is None or other["ratio"] <= usual["ratio"]):
                continue
            both = ours is not None and other is not None
            claim = f"balanced against {peer}"
            note = f"{ours['ratio']:.3f} and {other['ratio']:.3f}" if both else ""
            ratio = ours["ratio"] / other["ratio"] if both else None
            yield Verdict(f"{claim}, ratio", name, "of its ratio", 0.97, ratio, note=note)
            for direction, wanted in (("compress", 5.0), ("decompress", 1.0)):
                yield _faster(f"{claim}, {direction}", name, ours, other, direction, wanted)


def _faster(claim: str, name: str, ours: Line | None, other: Line | None, direction: str, wanted: float) -> Verdict:
    """How many times as fast as another."""
    if ours is None or other is None:
        return Verdict(claim, name, "times its speed", wanted, None)
    runs = zip(ours[f"{direction}_runs"], other[f"{direction}_runs"], strict=False)
    middle, interval = median_interval([a / max(b, 1e-9) for a, b in runs])
    note = f"{ours[f'{direction}_gbps']:.3f} and {other[f'{direction}_gbps']:.3f} GB/s"
    return Verdict(claim, name, "times its speed", wanted, middle, interval, note)


def _most(get: Get) -> Iterator[Verdict]:
    line = get("ptb_s0010", "tsz-max")
    found = None if line is None else line["ratio"]
    others = [(arm, get("ptb_s0010", arm)) for arm in (*PEERS, "zstd-9")]
    note = ", ".join(f"{arm} {other['ratio']:.3f}" for arm, other in others if other is not None)
    yield Verdict("max, ratio", "ptb_s0010", "", 3.5, found, note=note)


def _planar(get: Get) -> Iterator[Verdict]:
    """Speeds of differences at the width of the largest of 32, of 16 bits; of one instruction set."""
    line, copy = get(WALK, PLANAR), get(WALK, MEMCPY)
    isa = "" if line is None else line["isa"]
    decode, encode = (None if line is None else line[f"{name}_gbps"] for name in ("decompress", "compress"))
    inside, around = (None if line is None else line[f"{name}_interval"] for name in ("decompress", "compress"))
    share = _faster("", WALK, line, copy, "decompress", 0.65)
    large = isa.startswith("avx512")
    note = "" if share.found is None else f"{share.found:.3f} of memcpy"
    if large and decode is not None and decode < 7 and (share.found or 0) >= 0.65:
        yield Verdict("planar delta, decode, AVX-512", WALK, "of memcpy", 0.65, share.found, share.interval,
                      f"{decode:.3f} GB/s")  # fmt: skip
    else:
        yield Verdict("planar delta, decode, AVX-512", WALK, "GB/s", 7.0, decode if large else None,
                      inside if large else None, note if large else isa and f"this was {isa}")  # fmt: skip
    small = isa == "avx2"
    yield Verdict("planar delta, decode, AVX2", WALK, "GB/s", 3.0, decode if small else None,
                  inside if small else None, note if small else "HASTEN_ISA=avx2 measures it")  # fmt: skip
    yield Verdict("planar delta, encode", WALK, "GB/s", 2.0, encode, around, isa)


def _against_lz(found: dict[tuple[str, str], Line]) -> Iterator[Verdict]:
    """Where the best of the codecs that look for repetitions has a better ratio than the best of ours."""
    for name in dict.fromkeys(name for name, _ in found):
        ratios = {arm: line["ratio"] for (some, arm), line in found.items() if some == name}
        ours = {arm: ratio for arm, ratio in ratios.items() if arm.startswith("tsz-")}
        others = {arm: ratio for arm, ratio in ratios.items() if arm.startswith(LZ)}
        if ours and others and max(others.values()) > AHEAD * max(ours.values()):
            best, own = max(others, key=others.__getitem__), max(ours, key=ours.__getitem__)
            note = f"{best} {others[best]:.3f}, {own} {ours[own]:.3f}"
            yield Verdict("LZ is ahead of us", name, "times our ratio", None, others[best] / ours[own], note=note)
