"""Changing a model's modules in place, with a report of what was changed and a way back.

Every surgery returns a `Report`. One that matched nothing warns (`NoEffectWarning`); as a method in a program it is
an error, because an arm that changes nothing would silently measure nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from torch import nn

__all__ = ["NoEffectWarning", "Report", "parents_of", "replace_modules"]


class NoEffectWarning(UserWarning):
    """A surgery found nothing to change."""


@dataclass
class Report:
    """What a surgery did: `changed` names the modules (or parameters), `undo()` puts everything back."""

    surgery: str
    changed: tuple[str, ...] = ()
    note: str = ""
    _undo: list[Callable[[], None]] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.changed)

    def undo(self) -> None:
        """Take the surgery back (last change first). A second call does nothing."""
        while self._undo:
            self._undo.pop()()

    def warn_if_empty(self, looked_for: str) -> Report:
        """Warn that nothing matched; returns the report."""
        if not self.changed:
            message = f"{self.surgery}: nothing changed: expected {looked_for}, the model has none."
            warnings.warn(message, NoEffectWarning, stacklevel=3)
        return self


def parents_of(model: nn.Module) -> Iterator[tuple[nn.Module, str, str, nn.Module]]:
    """(parent, attribute, full name, child) of every registered child; a shared module comes once per place."""
    for prefix, parent in model.named_modules():
        for attribute, child in parent._modules.items():  # named_children() would hide the second place in a parent
            if child is not None:
                yield parent, attribute, f"{prefix}.{attribute}" if prefix else attribute, child


def replace_modules(
    model: nn.Module,
    make: Callable[[str, nn.Module], nn.Module | None],
    *,
    surgery: str,
) -> Report:
    """Replace modules of `model` in place by what `make(name, module)` returns (None: keep).

    A module used in several places is made once and replaced everywhere. The new module is put into the old one's
    training mode; neither it nor what it replaced is searched further. Parameters that the new module keeps stay the
    same objects, so an optimizer built before still holds them.

    Args:
        model: the model; the root itself is never replaced.
        make: called once per module, in definition order.
        surgery: the name the report carries.

    Returns:
        The report; its `undo()` restores the old modules.
    """
    made: dict[int, nn.Module | None] = {}
    names: list[str] = []
    report = Report(surgery)

    def visit(parent: nn.Module, prefix: str) -> None:
        for attribute, child in list(parent._modules.items()):
            if child is None:
                continue
            name = f"{prefix}{attribute}"
            if id(child) not in made:
                new = made[id(child)] = make(name, child)
                if new is None:
                    visit(child, f"{name}.")
                else:
                    new.train(child.training)
                    names.append(name)
            new = made[id(child)]
            if new is not None:
                setattr(parent, attribute, new)
                report._undo.append(lambda p=parent, a=attribute, c=child: setattr(p, a, c))

    visit(model, "")
    report.changed = tuple(names)
    return report
