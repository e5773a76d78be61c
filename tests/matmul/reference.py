"""MADDNESS as its definition reads: slow, in loops, and without anything of the package."""

from __future__ import annotations

import itertools

import numpy as np


def encode(x, dims, thresholds):
    """Walk every tree for every row."""
    codes = np.zeros((len(x), len(dims)), np.uint8)
    for n, c in np.ndindex(codes.shape):
        prefix = 0
        for level, dim in enumerate(dims[c]):
            right = bool(np.float32(x[n, dim]) > thresholds[c, (1 << level) - 1 + prefix])
            prefix = 2 * prefix + right
        codes[n, c] = prefix
    return codes


def scan_exact(codes, luts, scale, offset):
    """Add integers, then one rounded product and one rounded sum."""
    out = np.zeros((len(codes), len(luts)), np.float32)
    for n, m in np.ndindex(out.shape):
        total = sum(int(luts[m, c, code]) for c, code in enumerate(codes[n]))
        out[n, m] = np.float32(np.float32(np.float32(total) * scale[m]) + offset[m])
    return out


def averaged_sum(values, upcast_every):
    """The sum over groups of their rounded averages, and the size of a group."""
    group = 1
    while group < min(upcast_every, len(values)):
        group *= 2
    padded = [*map(int, values)] + [0] * (-len(values) % group)
    total = 0
    for start in range(0, len(padded), group):
        level = padded[start : start + group]
        while len(level) > 1:
            level = [(a + b + 1) >> 1 for a, b in zip(level[::2], level[1::2], strict=True)]
        total += level[0]
    return total, group


def scan_averaged(codes, luts, scale, offset, upcast_every, bias):
    out = np.zeros((len(codes), len(luts)), np.float32)
    for n, m in np.ndindex(out.shape):
        values = [luts[m, c, code] for c, code in enumerate(codes[n])]
        total, group = averaged_sum(values, upcast_every)
        shifted = np.float32(offset[m] - np.float32(scale[m] * np.float32(bias)))
        out[n, m] = np.float32(np.float32(np.float32(total) * np.float32(scale[m] * np.float32(group))) + shifted)
    return out


def sse(targets, weight):
    """Weighted sum of squared distances to the weighted mean."""
    if len(targets) == 0:
        return 0.0
    mean = np.average(targets, axis=0, weights=weight)
    return float((weight[:, None] * (targets - mean) ** 2).sum())


def best_sse(x, targets, weight):
    """The least SSE of all cuts between distinct values, or of none."""
    values = np.unique(x)
    cuts = [x > low for low in values[:-1]]
    found = [sse(targets[right], weight[right]) + sse(targets[~right], weight[~right]) for right in cuts]
    return min([*found, sse(targets, weight)])


def best_tree_sse(x, targets, levels):
    """The least SSE of trees with one column for each level, by trying all columns and all best cuts."""
    one = np.ones(len(x))

    def grown(buckets, dims):
        if not dims:
            return sum(sse(targets[b], one[b]) for b in buckets)
        children = []
        for b in buckets:
            value = x[b, dims[0]]
            cuts = [b[value <= low] for low in np.unique(value)]
            rest = [np.setdiff1d(b, left) for left in cuts]
            both = min(
                zip(cuts, rest, strict=True),
                key=lambda pair: sum(sse(targets[side], one[side]) for side in pair),
            )
            children += both
        return grown(children, dims[1:])

    every = np.arange(len(x))
    return min(grown([every], dims) for dims in itertools.product(range(x.shape[1]), repeat=levels))


def one_hot(codes, leaves):
    """G (N, CK)."""
    return np.concatenate([np.eye(leaves)[column] for column in codes.T], axis=1)


def prototypes(A, codes, leaves, spans, ridge):
    """P0 and P (CK, D) by dense one-hot algebra."""
    G = one_hot(codes, leaves)
    P0 = np.zeros((G.shape[1], A.shape[1]))
    for c, span in enumerate(spans):
        for k in range(leaves):
            rows = A[codes[:, c] == k]
            if len(rows):
                P0[c * leaves + k, span] = rows[:, span].mean(axis=0, dtype=np.float64)
    inverse = np.linalg.inv(G.T @ G + ridge * np.eye(G.shape[1]))
    return P0, P0 + inverse @ (G.T @ (A - G @ P0))
