"""Pruning: which weights a model can do without, said by masks that hold, are counted truly and can be cut out.

    score      how much an entry matters                  `strategies`, `scores`
    allocate   how many entries each tensor keeps         `allocate`
    select     exactly that many, ties by position        `select`, `patterns`
    hold       they stay zero under any optimizer         `masks`, `hold`
    count      parameters, bytes, MACs, measured time     `count`
    remove     channels and heads, physically             `structure`

A mask says nothing about speed: zeros in a dense product are multiplied like any other number. What a mask saves is
reported as what it is: parameters, bytes in a sparse format, MACs that need not be done, and measured seconds.
"""
