"""`hasten methods [NAME]`: the catalogue, and one method's card."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from . import UsageError

if TYPE_CHECKING:
    from hasten.program import MethodFactory

__all__ = ["methods"]


def methods(
    name: str | None = None,
    *,
    component: str | None = None,
    action: str | None = None,
    touches: str | None = None,
    reversible: bool = False,
) -> int:
    """List the methods, or show one with its arguments and card.

    Parameters
    ----------
    name
        A method.
    component
        Only those that act on function, data or optimization.
    action
        Only those that remove, restrict, reorder, replace or retrofit.
    touches
        Only those that touch this slot of a program (surgery, batch, losses, optimizer, ...).
    reversible
        Only those that a cyclic run can show.
    """
    from hasten.methods import catalogue, find

    try:
        if name is not None:
            if component or action or touches or reversible:
                raise UsageError("methods: expected a name or filters, got both.")
            print(card_text(find(name)))
            return 0
        chosen = _chosen(list(catalogue().values()), component, action, touches)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if reversible:
        chosen = [factory for factory in chosen if factory.card.horizon != "irreversible"]
    width = max((len(factory.name) for factory in chosen), default=0)
    for factory in sorted(chosen, key=lambda item: (item.card.component, item.name)):
        card = factory.card
        print(f"{factory.name:<{width}}  {card.component:<12} {card.action:<8}  {card.summary}")
    return 0


def _chosen(
    found: list[MethodFactory], component: str | None, action: str | None, touches: str | None
) -> list[MethodFactory]:
    from hasten._core.checks import near, refuse
    from hasten.program import ORDERED, SINGLE, Action, Component

    for word, value, known in (
        ("component", component, [item.value for item in Component]),
        ("action", action, [item.value for item in Action]),
        ("touches", touches, [*SINGLE, *ORDERED]),
    ):
        if value is not None and value not in known:
            raise refuse("methods", f"--{word} among {', '.join(known)}", repr(value), near(value, known))
    return [
        factory
        for factory in found
        if component in (None, factory.card.component)
        and action in (None, factory.card.action)
        and (touches is None or touches in factory.card.touches)
    ]


def card_text(factory: MethodFactory) -> str:
    """A method's signature, purpose and card."""
    card = factory.card
    lines = [f"{factory.name}{signature(factory)}", f"  {card.summary}", "", f"  {inspect.getdoc(factory) or ''}", ""]
    facts = {
        "component x action": f"{card.component} x {card.action}",
        "touches": ", ".join(f"{slot} ({how})" for slot, how in card.touches.items()),
        "needs": ", ".join(sorted(card.needs)) or "nothing",
        "conflicts": "; ".join(f"{other}: {why}" for other, why in card.conflicts.items()) or "none",
        "horizon": card.horizon,
        "exact": ", ".join(sorted(card.exact)) or "no promise",
        "cost": card.cost or "nothing worth a word",
        "evidence": ", ".join(card.evidence) or "none recorded yet",
        "source": card.source,
    }
    return "\n".join([*lines, *(f"  {label + ':':<20} {text}" for label, text in facts.items())])


def signature(factory: MethodFactory) -> str:
    """Its arguments and their defaults, without the types."""
    parameters = factory.__signature__.parameters.values()
    return f"({', '.join(str(p.replace(annotation=inspect.Parameter.empty)) for p in parameters)})"
