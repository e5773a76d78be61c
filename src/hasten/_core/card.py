"""A method's card: what it changes, in which way, at what cost, and what is known about it.

`component` x `action` is the taxonomy of algorithmic efficiency (arXiv 2210.06640); `touches` is not a comment but a
claim: it is checked against the program before and after the method (see `hasten.program`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .checks import check, refuse

__all__ = ["Action", "Card", "Component", "Map"]

EXACT = ("resume", "workers", "compile", "microbatch", "ddp")
HORIZONS = ("none", "reversible", "irreversible")
TOUCHES = ("replace", "wrap", "append")


class Component(StrEnum):
    """The part of training a method acts on."""

    FUNCTION = "function"
    DATA = "data"
    OPTIMIZATION = "optimization"


class Action(StrEnum):
    """What a method does to it: the five verbs of the taxonomy."""

    REMOVE = "remove"
    RESTRICT = "restrict"
    REORDER = "reorder"
    REPLACE = "replace"
    RETROFIT = "retrofit"


class Map(Mapping[str, Any]):
    """A small immutable, hashable mapping."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        self._items = tuple(sorted({**(items or {}), **more}.items()))

    def __getitem__(self, name: str) -> Any:
        for known, value in self._items:
            if known == name:
                return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(self._items)

    def __repr__(self) -> str:
        return f"Map({dict(self._items)!r})"


@dataclass(frozen=True)
class Card:
    """What a method declares about itself.

    Args:
        summary: one line.
        component, action: the taxonomy.
        touches: slot -> "replace", "wrap" or "append"; verified.
        after: names this one must wrap or follow, where the stage does not already say so.
        conflicts: name -> reason; refused in either order.
        needs: what the workload must provide (see `hasten.bench.workloads`).
        horizon: does its effect depend on progress ("reversible"), and can it not be undone ("irreversible")?
        exact: which promises hold to the bit: resume, workers, compile, microbatch, ddp.
        cost: what it costs, in words; "" is nothing worth a word.
        evidence: links to records.
        source: the paper.
    """

    summary: str
    component: Component | str
    action: Action | str
    touches: Mapping[str, str]
    after: Set[str] = frozenset()
    conflicts: Mapping[str, str] = field(default_factory=Map)
    needs: Set[str] = frozenset()
    horizon: str = "none"
    exact: Set[str] = frozenset({"resume", "workers", "compile", "microbatch"})
    cost: str = ""
    evidence: tuple[str, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "component", Component(self.component))
        object.__setattr__(self, "action", Action(self.action))
        object.__setattr__(self, "touches", Map(self.touches))
        object.__setattr__(self, "conflicts", Map(self.conflicts))
        for name in ("after", "needs", "exact"):
            object.__setattr__(self, name, frozenset(getattr(self, name)))
        check(bool(self.summary.strip()), "Card", "a one-line summary", self.summary)
        check(self.horizon in HORIZONS, "Card", f"horizon among {', '.join(HORIZONS)}", self.horizon)
        check(self.exact <= set(EXACT), "Card", f"exact among {', '.join(EXACT)}", sorted(self.exact))
        for slot, how in self.touches.items():
            if how not in TOUCHES:
                raise refuse("Card", f"touches[{slot!r}] among {', '.join(TOUCHES)}", repr(how))
