"""What can be wrong with compressed bytes, or with a promise asked of them."""

from __future__ import annotations

__all__ = ["BoundError", "CorruptError", "VersionError"]


class CorruptError(ValueError):
    """Bytes that no encoder of ours wrote, or that changed since.

    Attributes:
        offset: Where in the bytes handed in the fault was noticed; -1 where no single place is at fault.
        reason: What is wrong there.
    """

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(offset, reason)
        self.offset, self.reason = offset, reason

    def __str__(self) -> str:
        where = f"at byte {self.offset}: " if self.offset >= 0 else ""
        return f"corrupt data: {where}{self.reason}"


class VersionError(CorruptError):
    """Bytes of a format that this version of hasten does not read."""


class BoundError(ValueError):
    """A `max_error` that cannot be kept."""
