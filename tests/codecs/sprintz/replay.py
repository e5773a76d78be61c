"""A disk that remembers what was asked of it, and every file that a power cut could have left of that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hasten.codecs.sprintz import writer
from hasten.codecs.sprintz.disk import Disk

SECTOR = 64  # smaller than that of a disk, so that small files have many

Step = tuple[Any, ...]  # ("write", at, bytes), ("truncate", size), ("sync",), ("rows", acknowledged)


class Recorded(Disk):
    """A disk that notes each change."""

    steps: list[Step] = []  # noqa: RUF012 - the test hands in its list

    def write(self, at: int, data: bytes) -> None:
        self.steps.append(("write", at, bytes(data)))
        super().write(at, data)

    def truncate(self, size: int) -> None:
        self.steps.append(("truncate", size))
        super().truncate(size)

    def sync(self) -> None:
        super().sync()
        self.steps.append(("sync",))


def record(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """The list into which writers note what they do, from now on."""
    steps: list[Step] = []
    monkeypatch.setattr(Recorded, "steps", steps)
    monkeypatch.setattr(writer, "Disk", Recorded)
    return steps


def apply(data: bytearray, step: Step) -> None:
    """One change of a file."""
    if step[0] == "truncate":
        del data[step[1] :]
        data.extend(bytes(step[1] - len(data)))
    elif step[0] == "write":
        data.extend(bytes(max(0, step[1] - len(data))))
        data[step[1] : step[1] + len(step[2])] = step[2]


def torn(step: Step, generator: np.random.Generator) -> Iterator[Step]:
    """What may have reached the disk of one write: its first bytes, or some of its sectors."""
    if step[0] != "write":
        yield step
        return
    _, at, data = step
    yield ("write", at, data[: generator.integers(len(data) + 1)])
    kept = bytearray(len(data))
    for start in range(-(at % SECTOR), len(data), SECTOR):
        if generator.random() < 0.5:
            part = slice(max(start, 0), start + SECTOR)
            kept[part] = data[part]
    yield ("write", at, bytes(kept))  # the others are holes, which read as zeros


def files_after(steps: list[Step], start: bytes, seed: int = 0) -> Iterator[tuple[int, bytes]]:
    """Every file that a crash between or in these steps can leave, with the rows acknowledged before it.

    What was synced is there. Of the rest: all of it; all but the last, which is torn; and any part of it, in any order.
    """
    generator = np.random.default_rng(seed)
    durable, rows = bytearray(start), 0
    waiting: list[Step] = []
    for step in [*steps, ("end",)]:
        for choice in crashes(waiting, generator):
            data = bytearray(durable)
            for each in choice:
                apply(data, each)
            yield rows, bytes(data)
        if step[0] == "sync":
            for each in waiting:
                apply(durable, each)
            waiting = []
        elif step[0] == "rows":
            rows = step[1]
        else:
            waiting.append(step)


def crashes(waiting: list[Step], generator: np.random.Generator) -> Iterator[list[Step]]:
    """Choices from the steps that were not synced."""
    yield waiting
    if not waiting:
        return
    for last in torn(waiting[-1], generator):
        yield [*waiting[:-1], last]
    for _ in range(3):
        some = [step for step in waiting if generator.random() < 0.6]
        yield [part for step in some for part in [list(torn(step, generator))[-1 if generator.random() < 0.5 else 0]]]
        yield some


def written(path: Path, actions: list[Any], rows: np.ndarray, steps: list[Step], **arguments: Any) -> None:
    """Append so many rows, "flush" or "close", one after the other, and note what is acknowledged."""
    with writer.Writer(path, **arguments) as w:
        for action in actions:
            if action == "flush":
                w.flush()
            elif action == "close":
                w.close()
            else:
                w.append(rows[w.rows : w.rows + action])
            steps.append(("rows", w.rows_durable))
        w.close()
        steps.append(("rows", w.rows_durable))
