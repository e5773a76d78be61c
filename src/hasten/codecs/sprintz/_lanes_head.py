"""What stands before the codes of a record in eight lanes, and the cursor that reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

from .errors import CorruptError

__all__ = ["AFFINE", "COUNT", "PALETTE", "Cursor", "Head", "parse_head"]

COUNT = 8  # lanes
PREDICTORS, FIRE, LPC = 8, 3, 7  # how many, and two of their numbers
AFFINE, PALETTE = 1, 2  # mappings; 0: the base alone
MAX_PALETTE, MAX_REFERENCES = 4096, 2


@dataclass
class Head:
    """The fields of a head, under the names of docs/formats.md."""

    predictor: int
    entropy: int
    bits: int
    mapping: int
    base: int = 0
    unit: int = 1
    palette: list[int] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)  # that the record refers to
    shares: list[int] = field(default_factory=list)  # of each of these columns, in units of 2^-12
    coefficients: list[int] = field(default_factory=list)  # of linear prediction


class Cursor:
    """The bytes of a record from the first to the last; offsets of errors count from `at`, where it begins."""

    def __init__(self, record: memoryview, at: int) -> None:
        self.record, self.at, self.place = record, at, 0

    def fail(self, reason: str, back: int = 0) -> NoReturn:
        """Refuse what stands `back` bytes before the next one."""
        raise CorruptError(self.at + self.place - back, reason)

    def left(self) -> int:
        """How many bytes were not read yet."""
        return len(self.record) - self.place

    def take(self, count: int, reason: str) -> memoryview:
        """The next bytes, or the reason why there are not so many."""
        if self.left() < count:
            self.fail(reason)
        self.place += count
        return self.record[self.place - count : self.place]

    def number(self, size: int = 1, reason: str = "a record ends inside its head", *, signed: bool = False) -> int:
        """The next integer of `size` bytes."""
        return int.from_bytes(self.take(size, reason), "little", signed=signed)

    def varint(self) -> int:
        """The next integer of 7 bits a byte."""
        value = 0
        for shift in range(0, 63, 7):
            byte = self.number(reason="a record ends inside its palette")
            value |= (byte & 127) << shift
            if byte < 128:
                break
        else:
            self.fail("a number of more than 63 bits", 1)
        return value


def parse_head(cursor: Cursor, itemsize: int) -> Head:
    """The head of a record of a column whose values have `itemsize` bytes; the cursor stands behind the kind."""
    head = Head(*_parse_codes(cursor, itemsize))
    references = cursor.number()
    if references > MAX_REFERENCES or (references and itemsize not in (2, 4)):
        cursor.fail("more references to other columns than there may be", 1)
    head.base = cursor.number(itemsize)
    if head.mapping == AFFINE:
        head.unit = cursor.number(itemsize)
    if head.mapping == PALETTE:
        head.palette = _parse_palette(cursor, head.base, itemsize)
    for _ in range(references):
        head.columns.append(cursor.number(4))
        head.shares.append(cursor.number(2, signed=True))
    if head.predictor == LPC:
        order = cursor.number()
        if order not in (2, 4, 8, 16):
            cursor.fail("an order other than 2, 4, 8 or 16", 1)
        head.coefficients = [cursor.number(2, signed=True) for _ in range(order)]
    return head


def _parse_codes(cursor: Cursor, itemsize: int) -> tuple[int, int, int, int]:
    predictor = cursor.number()
    if predictor >= PREDICTORS:
        cursor.fail("an unknown predictor", 1)
    entropy = cursor.number()
    if entropy > 2:
        cursor.fail("an unknown entropy code", 1)
    bits = cursor.number()
    if bits not in (16, 32, 64) or bits > 8 * max(itemsize, 2):
        cursor.fail("values of more bits than the column has", 1)
    if predictor == FIRE and bits != 16:
        cursor.fail("FIRE for other than 16 bits", 1)
    mapping = cursor.number()
    if mapping > PALETTE:
        cursor.fail("an unknown mapping", 1)
    return predictor, entropy, bits, mapping


def _parse_palette(cursor: Cursor, base: int, itemsize: int) -> list[int]:
    count = cursor.number(2)
    if count == 0 or count > (MAX_PALETTE if itemsize > 1 else 256):
        cursor.fail("a palette of no values, or of more than there may be", 2)
    palette = [base]
    while len(palette) < count:
        palette.append((palette[-1] + cursor.varint()) % (1 << 8 * itemsize))
    return palette
