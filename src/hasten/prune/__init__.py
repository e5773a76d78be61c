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
from .count import (
    Comparison,
    Latency,
    Macs,
    Report,
    Sizes,
    compare_latency,
    latency,
    mac_table,
    macs,
    pack,
    report,
    sizes,
    unpack,
)  # fmt: skip
from .hold import Hold, hold
from .masks import Masks, apply, finalize, load, masks_of
from .patterns import NM, Block, Channel, Head, Unstructured
from .plan import compute, reconstruct
from .presets import gmp, granet, rigl, set_
from .rewind import Snapshot, rewind, snapshot
from .schedules import constant, cosine, cubic, iterative, linear, one_shot
from .select import keep_largest, keep_largest_each, keep_per_row
from .strategies import Strategy, ZeroScoresWarning, grasp, movement, sparsegpt, synflow, wanda
from .structure import Group, Groups, NarrowAttention, Removed, channel_masks, groups, head_masks, materialize
from .targets import NoClassifierWarning, Targets, find

__all__ = [
    "Block", "Channel", "Comparison", "Group", "Groups", "Head", "Hold", "Latency", "Macs", "Masks", "NM",
    "NarrowAttention", "NoClassifierWarning", "Removed", "Report", "Sizes", "Snapshot", "SparseController", "Strategy",
    "Targets", "Unstructured", "ZeroScoresWarning", "apply", "channel_masks", "compare_latency", "compute", "constant",
    "cosine", "cubic", "finalize", "find", "fraction_to_keep", "gmp", "granet", "grasp", "groups", "head_masks",
    "hold", "iterative", "keep_largest", "keep_largest_each", "keep_per_row", "latency", "linear", "load", "mac_table",
    "macs", "masks_of", "materialize", "movement", "one_shot", "pack", "reconstruct", "report", "rewind", "rigl",
    "set_", "sizes", "snapshot", "sparsegpt", "synflow", "unpack", "wanda",
]  # fmt: skip
