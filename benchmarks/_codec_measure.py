"""How the codec table measures: the best layout, exactness, then turns."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from _codec_peers import Codec, Loaded, flat, pieces

__all__ = ["WRONG", "Candidate", "Memory", "prepare", "take_turns"]

WRONG = "other bytes came back"
SAME = 1.001  # sizes that differ by less count as equal: the layout that is named first is taken

Times = list[tuple[float, float]]  # (by the clock, CPU) seconds of a call, one pair a round


@dataclass(frozen=True)
class Memory:
    """The pieces of a set in one layout, and as much memory twice; all codecs of that layout share them."""

    pieces: list[np.ndarray]
    outs: list[np.ndarray] = field(init=False)
    rooms: list[np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        for name in ("outs", "rooms"):
            object.__setattr__(self, name, [np.empty_like(piece) for piece in self.pieces])


@dataclass
class Candidate:
    """A codec with the data of a set in one layout; `packed` is the last that it made of them."""

    codec: Codec
    loaded: Loaded
    layout: str
    memory: Memory
    packed: list[Any] = field(default_factory=list)

    def compress(self) -> None:
        pairs = zip(self.memory.pieces, self.memory.rooms, strict=True)
        self.packed = [self.loaded.pack(piece, room) for piece, room in pairs]

    def decompress(self) -> list[Any]:
        threes = zip(self.packed, self.memory.outs, self.memory.rooms, strict=True)
        return [self.loaded.unpack(packed, out, room) for packed, out, room in threes]

    def size(self) -> int:
        """Bytes of `packed`."""
        return sum(memoryview(one).nbytes for one in self.packed)

    def exact(self) -> bool:
        """Do the very bytes come back?"""
        for out in self.memory.outs:
            flat(out).view(np.uint8).fill(0x5A)
        threes = zip(self.decompress(), self.memory.outs, self.memory.pieces, strict=True)
        return all((out.tobytes("A") if got is None else got) == piece.tobytes("A") for got, out, piece in threes)


def prepare(codec: Codec, arrays: list[np.ndarray], memory: dict[str, Memory]) -> Candidate | str:
    """The codec in its best layout, or why there are no numbers of it.

    Args:
        codec: What to measure.
        arrays: The data.
        memory: By layout; what is not there yet is added.
    """
    reasons = [reason for one in arrays if (reason := codec.refuses(one.dtype))]
    if reasons:
        return reasons[0]
    try:
        loaded = codec.load()
    except ImportError as error:
        return f"{codec.package} is not there: {error}"
    best: tuple[float, Candidate] | None = None
    problems = []
    for layout in codec.layouts if any(one.ndim == 2 for one in arrays) else codec.layouts[:1]:
        if layout not in memory:
            memory[layout] = Memory(pieces(arrays, layout))
        one = Candidate(codec, loaded, layout, memory[layout])
        try:
            one.compress()
            if not one.exact():
                return f"layout {layout}: {WRONG}"
        except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
            problems.append(f"layout {layout}: {type(error).__name__}: {error}")
            continue
        cost = one.size() if codec.by == "ratio" else min(_both(one) for _ in range(2))
        if best is None or cost * SAME < best[0]:
            best = cost, one
    return "; ".join(problems) if best is None else best[1]


def _both(one: Candidate) -> float:
    """Seconds of a call of each."""
    begun = time.perf_counter()
    one.compress()
    one.decompress()
    return time.perf_counter() - begun


def take_turns(candidates: list[Candidate], rounds: int, seconds: float) -> list[dict[str, Times]]:
    """What each candidate took for a call of `compress` and `decompress`.

    Args:
        candidates: They take turns, the order turned round every round.
        rounds: How many pairs of figures each gets.
        seconds: A figure is the mean of as many calls as take so long.
    """
    found: list[dict[str, Times]] = [{"compress": [], "decompress": []} for _ in candidates]
    batches = [{name: _batch(getattr(one, name), seconds) for name in ("compress", "decompress")} for one in candidates]
    was_enabled = gc.isenabled()
    try:
        for position in range(rounds):
            gc.collect()
            gc.disable()
            order = range(len(candidates))
            for k in order if position % 2 == 0 else reversed(order):
                for name, times in found[k].items():
                    times.append(_timed(getattr(candidates[k], name), batches[k][name], seconds))
    finally:
        if was_enabled:
            gc.enable()
    return found


def _batch(run: Callable[[], Any], seconds: float) -> int:
    """How many calls go between two looks at the clock: about a tenth of the time."""
    begun = time.perf_counter()
    run()
    return max(1, round(seconds / 10 / max(time.perf_counter() - begun, 1e-7)))


def _timed(run: Callable[[], Any], batch: int, seconds: float) -> tuple[float, float]:
    """Seconds of a call by the clock, and of CPU."""
    calls, cpu, begun = 0, time.process_time(), time.perf_counter()
    while True:
        for _ in range(batch):
            run()
        calls += batch
        wall = time.perf_counter() - begun
        if wall >= seconds:
            return wall / calls, (time.process_time() - cpu) / calls
