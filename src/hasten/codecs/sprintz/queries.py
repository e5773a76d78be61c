"""Questions about the values that the index answers."""

from __future__ import annotations

__all__ = ["Queries"]


class Queries:
    """To come."""
