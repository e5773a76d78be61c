"""Stateless random streams: a draw depends on (seed, name, step, rank) and on nothing else.

No generator is carried along, saved or restored. Adding or leaving out a method never shifts another's draws,
which is what makes two arms with the same seed a pair; resuming at step k is asking for the stream of step k.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator

import numpy as np
import torch

__all__ = ["fork", "key", "seed_globals", "stream"]


def key(seed: int, name: str, step: int = 0, rank: int = 0) -> int:
    """The 63-bit key of a stream, equal on every machine and version (BLAKE2b of the four values).

    >>> key(0, "mixup", 3) == key(0, "mixup", 3), key(0, "mixup", 3) == key(0, "mixup", 4)
    (True, False)
    """
    text = f"{seed}\x1f{name}\x1f{step}\x1f{rank}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def stream(seed: int, name: str, step: int = 0, rank: int = 0) -> torch.Generator:
    """A fresh CPU generator for one entry at one step.

    Args:
        seed: the run's seed.
        name: the entry's name; two names never share draws.
        step: the optimizer step, or the epoch for what happens once an epoch.
        rank: the process, where ranks shall differ.
    """
    return torch.Generator().manual_seed(key(seed, name, step, rank))


def seed_globals(seed: int, name: str, step: int = 0) -> None:
    """Seed the global generators of torch, numpy and random for code that is not ours (dropout, user data)."""
    value = key(seed, name, step)
    # Not torch.manual_seed: where CUDA is not in use yet it records a stack trace for later, 0.4 ms a call.
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(value)
    np.random.seed(value & 0xFFFFFFFF)
    random.seed(value)


@contextlib.contextmanager
def fork(seed: int, name: str, step: int = 0) -> Iterator[None]:
    """Run foreign code under seeded global generators and put the old states back, whatever happens inside."""
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    try:
        seed_globals(seed, name, step)
        yield
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)
