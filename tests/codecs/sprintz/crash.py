"""Writers that are killed with signal 9 while they append: `python crash.py FOLDER ROUNDS SEED` prints what was found.

Each round goes on with the file of the last, reads what the writer acknowledges, kills it after a random number of
these, and checks that every acknowledged row is there.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from hasten.codecs import sprintz


def rows(first: int, count: int) -> np.ndarray:
    """The rows from `first` on: each says which it is."""
    return np.arange(first, first + count)[:, None] * np.array([1, -3, 7])


def append(path: Path, pipe: int, seed: int) -> None:
    """Append until killed; say after each flush how many rows are safe."""
    generator = random.Random(seed)
    with sprintz.Writer(path, "i8", 3, mode="a", chunk_rows=64, threads=generator.choice((1, 2))) as writer:
        while True:
            writer.append(rows(writer.rows, generator.choice((0, 1, 5, 64, 130, 700))))
            if generator.random() < 0.5:
                writer.flush()
                os.write(pipe, writer.rows_durable.to_bytes(8, "little"))
            if generator.random() < 0.05:
                writer.close()
                os.write(pipe, writer.rows.to_bytes(8, "little"))
                writer = sprintz.Writer(path, mode="a")


def one_round(path: Path, generator: random.Random, safe: int) -> int:
    """Start a writer, kill it, and return how many rows it acknowledged, `safe` if none."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        append(path, send, generator.randrange(1 << 30))
    os.close(send)
    with open(receive, "rb", buffering=0) as pipe:
        for _ in range(generator.randrange(12)):
            safe = int.from_bytes(pipe.read(8), "little")
        time.sleep(generator.random() * 0.002)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while word := pipe.read(8):  # acknowledged before the signal came
            safe = int.from_bytes(word, "little")
    return safe


def main(folder: str, rounds: str, seed: str) -> None:
    """All rounds."""
    path, generator = Path(folder) / "killed.tsz", random.Random(int(seed))
    sprintz.Writer(path, "i8", 3, chunk_rows=64).close()
    safe, found = 0, []
    for _ in range(int(rounds)):
        safe = one_round(path, generator, safe)
        with sprintz.open(path) as reader:
            data = reader[:]
            good = len(data) >= safe and bool((data == rows(0, len(data))).all())
            found.append((safe, len(data), good, reader.recovered))
    sprintz.Writer(path, mode="a").close()
    print(json.dumps({"rounds": found, "faults": sprintz.verify(path)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
