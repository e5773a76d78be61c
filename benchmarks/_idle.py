"""A hook for measuring what hooks cost; in a file of its own, because programs name code that can be imported."""

from __future__ import annotations

from typing import Any

__all__ = ["IdleHook"]


class IdleHook:
    """A hook with every moment and no work."""

    def before_step(self, run: Any) -> None: ...

    def on_batch(self, batch: Any, run: Any) -> Any:
        return batch

    def on_loss(self, losses: Any, batch: Any, run: Any) -> Any:
        return losses

    def after_step(self, run: Any) -> None: ...
