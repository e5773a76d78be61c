"""Pruning: which weights a model can do without, said by masks that hold, are counted truly and can be cut out.

    score      how much an entry matters                  `strategies`, `scores`
    allocate   how many entries each tensor keeps         `allocate`
    select     exactly that many, ties by position        `select`, `patterns`
    hold       they stay zero under any optimizer         `masks`, `hold`
    train      masks that change as training goes on      `controller`, `presets`, `schedules`, `rewind`
    count      parameters, bytes, MACs, measured time     `count`
    remove     channels and heads, physically             `structure`

A mask says nothing about speed: zeros in a dense product are multiplied like any other number. What a mask saves is
reported as what it is: parameters, bytes in a sparse format, MACs that need not be done, and measured seconds.
"""

from __future__ import annotations

from .allocate import fraction_to_keep
from .controller import SparseController
from .hold import Hold, hold
from .masks import Masks, apply, finalize, load, masks_of
from .patterns import NM, Block, Channel, Head, Unstructured
from .presets import gmp, granet, rigl, set_
from .rewind import Snapshot, rewind, snapshot
from .schedules import constant, cosine, cubic, iterative, linear, one_shot
from .select import keep_largest, keep_largest_each, keep_per_row
from .targets import NoClassifierWarning, Targets, find

__all__ = [
    "Block", "Channel", "Head", "Hold", "Masks", "NM", "NoClassifierWarning", "Snapshot", "SparseController", "Targets",
    "Unstructured", "apply", "constant", "cosine", "cubic", "finalize", "find", "fraction_to_keep", "gmp", "granet",
    "hold", "iterative", "keep_largest", "keep_largest_each", "keep_per_row", "linear", "load", "masks_of", "one_shot",
    "rewind", "rigl", "set_", "snapshot",
]  # fmt: skip
