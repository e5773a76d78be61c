"""Published Sprintz streams and our Huffman blocks, slowly and in plain integers: what the fast code must equal.

`encode` is the description of the algorithm, value by value. `huffman_encode` finds code lengths with the coin
collector's sets of coins as they are, and `huffman_decode` reads bit by bit.
"""

from __future__ import annotations

import numpy as np

BLOCK, MAX_RUN = 8, 32767


def wrap(value: int, bits: int) -> int:
    """`value` modulo 2^bits in the signed range."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def sign(value: int) -> int:
    return (value > 0) - (value < 0)


class Column:
    """One column's predictor."""

    def __init__(self, bits: int, fire: bool, narrow: bool) -> None:
        self.bits, self.fire, self.narrow = bits, fire, narrow
        self.value = self.delta = self.counter = 0

    def coefficient(self) -> int:
        if not self.fire:
            return 0
        if self.narrow:
            return self.counter >> 1
        return wrap((self.counter >> (1 + self.bits - 4)) << (self.bits - 4), 16)

    def errors(self, values: list[int]) -> list[int]:
        """Zigzag coded errors of eight values."""
        if self.delta == 0 and values == [self.value] * BLOCK:
            return [0] * BLOCK  # nothing moves; only so that long runs take no minutes
        bits, coefficient, gradient, coded = self.bits, self.coefficient(), 0, []
        for i, value in enumerate(values):
            delta = wrap(value - self.value, bits)
            error = wrap(delta - wrap((self.delta * coefficient) >> bits, bits), bits)
            if i % 2 == 1:
                gradient = wrap(gradient + sign(error) * self.delta, bits)
            coded.append(((error << 1) ^ (error >> (bits - 1))) % (1 << bits))
            self.value, self.delta = value, delta
        self.counter = wrap(self.counter + (gradient >> 2), 2 * bits)
        return coded


def width_of(errors: list[int], bits: int, narrow: bool) -> int:
    width = max(error.bit_length() for error in errors)
    if width == bits - 1 or (width == 7 and bits == 16 and not narrow):
        width += 1
    return width


def packed(fields: list[tuple[int, int]]) -> bytes:
    """(value, width) after (value, width), from the lowest bit up, filled up to bytes."""
    word = position = 0
    for value, width in fields:
        word |= value << position
        position += width
    return word.to_bytes((position + 7) // 8, "little")


def payload(errors: list[list[int]], widths: list[int], narrow: bool) -> bytes:
    if narrow:
        return b"".join(packed([(e, w) for e in column]) for column, w in zip(errors, widths, strict=True))
    return b"".join(packed(list(zip(row, widths, strict=True))) for row in zip(*errors, strict=True))


def run_bytes(blocks: int) -> bytes:
    return bytes([blocks]) if blocks < 128 else bytes([(blocks & 127) | 128, blocks >> 7])


def slots_of(x: np.ndarray, fire: bool, narrow: bool) -> tuple[list[tuple[list[int], bytes]], int]:
    """Widths and payload of each slot, and the row behind the last of them."""
    (rows, columns), bits = x.shape, 8 * x.itemsize
    state = [Column(bits, fire, narrow) for _ in range(columns)]
    data = x.T.tolist()
    slots: list[tuple[list[int], bytes]] = []
    row = run = 0
    while len(slots) % 2 == 1 or run > 0 or row + 16 <= rows:
        errors = [column.errors(values[row : row + BLOCK]) for column, values in zip(state, data, strict=True)]
        widths = [width_of(e, bits, narrow) for e in errors]
        if run > 0 and (any(widths) or run == MAX_RUN):
            slots.append(([0] * columns, run_bytes(run)))
            run = 0
        row += BLOCK
        if any(widths):
            slots.append((widths, payload(errors, widths, narrow)))
            continue
        run += 1
        goes_on = row + 16 <= rows if fire and not narrow else row + 16 < rows
        if not goes_on:
            slots.append(([0] * columns, run_bytes(run)))
            if len(slots) % 2 == 1:
                slots.append(([0] * columns, run_bytes(0)))
            break
    return slots, row


def encode(x: np.ndarray, fire: bool) -> bytes:
    """The stream of a matrix (rows, columns) of uint8 or uint16."""
    (rows, columns), bits = x.shape, 8 * x.itemsize
    narrow = columns * bits <= 32
    slots, row = slots_of(x, fire, narrow) if rows * columns >= 128 else ([], 0)
    groups = b""
    for (first, one), (second, other) in zip(slots[::2], slots[1::2], strict=True):
        groups += packed([(w - (w == bits), 3 if bits == 8 else 4) for w in first + second]) + one + other
    raw = x[row:].astype(x.dtype.newbyteorder("<"))
    header = (len(slots) // 2).to_bytes(4, "little") + raw.size.to_bytes(2, "little") + columns.to_bytes(2, "little")
    return header + groups + raw.tobytes()


# ---- the Huffman stage

LIMIT, HUFFMAN_BLOCK = 11, 131072


def code_lengths(data: bytes) -> dict[int, int]:
    """The coin collector: a coin of each symbol for each length, bought by pairs."""
    counts = {s: data.count(s) for s in sorted(set(data))}
    coins = sorted((count, 0, (s,)) for s, count in counts.items())
    pairs: list[tuple[int, int, tuple[int, ...]]] = []
    for _ in range(LIMIT):
        row = sorted(coins + pairs, key=lambda coin: coin[:2])  # a symbol before a pair of the same weight
        pairs = [(a[0] + b[0], 1, a[2] + b[2]) for a, b in zip(row[::2], row[1::2], strict=False)]
    bought = [s for coin in row[: 2 * len(coins) - 2] for s in coin[2]]
    return {s: bought.count(s) for s in counts}


def codewords(lengths: dict[int, int]) -> dict[int, str]:
    """Canonical: shorter ones first, then by symbol, counted up."""
    words, code, length = {}, 0, 0
    for s in sorted(lengths, key=lambda s: (lengths[s], s)):
        code <<= lengths[s] - length
        length = lengths[s]
        words[s] = f"{code:0{length}b}"
        code += 1
    return words


def bits_to_bytes(bits: str) -> bytes:
    return bytes(int(bits[i : i + 8][::-1], 2) for i in range(0, len(bits), 8))


def quarters(size: int) -> list[slice]:
    quarter = -(-size // 4)
    return [slice(k * quarter, min((k + 1) * quarter, size)) for k in range(4)]


def huffman_encode(data: bytes) -> bytes:
    """The blocks of some bytes."""
    out = b""
    for start in range(0, len(data), HUFFMAN_BLOCK):
        block = data[start : start + HUFFMAN_BLOCK]
        kind, body = 0, block
        if len(set(block)) == 1:
            kind, body = 2, block[:1]
        else:
            lengths = code_lengths(block)
            words = codewords(lengths)
            bitmap = sum(1 << s for s in lengths).to_bytes(32, "little")
            nibbles = packed([(lengths[s], 4) for s in sorted(lengths)])
            streams = [bits_to_bytes("".join(words[s] for s in block[part])) for part in quarters(len(block))]
            coded = bitmap + nibbles + b"".join(len(s).to_bytes(4, "little") for s in streams[:3]) + b"".join(streams)
            if len(coded) < len(block):
                kind, body = 1, coded
        out += bytes([kind]) + len(body).to_bytes(4, "little") + body
    return out


def huffman_decode(coded: bytes, size: int) -> bytes:
    """The bytes that blocks stand for."""
    out, at = b"", 0
    while len(out) < size:
        block = min(HUFFMAN_BLOCK, size - len(out))
        kind, length = coded[at], int.from_bytes(coded[at + 1 : at + 5], "little")
        body = coded[at + 5 : at + 5 + length]
        at += 5 + length
        out += body if kind == 0 else body * block if kind == 2 else decode_block(body, block)
    return out


def decode_block(body: bytes, size: int) -> bytes:
    bitmap = int.from_bytes(body[:32], "little")
    symbols = [s for s in range(256) if bitmap >> s & 1]
    table = body[32 : 32 + (len(symbols) + 1) // 2]
    lengths = {s: table[i // 2] >> 4 * (i % 2) & 15 for i, s in enumerate(symbols)}
    symbol_of = {word: s for s, word in codewords(lengths).items()}
    at = 32 + len(table)
    sizes = [int.from_bytes(body[at + 4 * k : at + 4 * k + 4], "little") for k in range(3)]
    at += 12
    out = []
    for part, length in zip(quarters(size), [*sizes, len(body) - at - sum(sizes)], strict=True):
        bits = iter("".join(f"{byte:08b}"[::-1] for byte in body[at : at + length]))
        for _ in range(part.stop - part.start):
            word = ""
            while word not in symbol_of:
                word += next(bits)
            out.append(symbol_of[word])
        at += length
    return bytes(out)
