"""Schedules as text, for command lines and file names: `parse("warmup(cosine(), 8)")` and back with `format`.

The text is what one would write in Python, read as a syntax tree and never evaluated: the only calls it may contain
are those of the factories below, the only values are numbers, strings, None and tuples of them.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import Any

from .._core.checks import check, near, refuse, refuse_type
from .base import BaseSchedule
from .combine import floor, over, rewarm, scale, then, warmup
from .cyclic import cyclic
from .decays import constant, cosine, exponential, linear, polynomial, rex, step
from .open_ended import infinite, inverse_sqrt, power
from .phases import one_cycle, wsd

__all__ = ["FACTORIES", "format", "parse"]

FACTORIES: dict[str, Callable[..., BaseSchedule]] = {
    factory.__name__: factory
    for factory in (
        constant, linear, cosine, rex, polynomial, step, exponential, one_cycle, wsd, inverse_sqrt, power, infinite,
        cyclic, warmup, then, rewarm, over, scale, floor,
    )
}  # fmt: skip

_CALL = "schedule"
_WHOLE = 2.0**53  # below it every whole float is written as an int, and every int is exact as a float
_MANY = 1e6  # from here on 5.8e8 is easier to read than 580000000
_LARGEST = 1e300  # numbers beyond it are a slip, and an int that large is no float
_LONGEST = 1000  # characters; far above any schedule, far below what makes Python's parser run out of stack


def parse(text: str) -> BaseSchedule:
    """Read a schedule such as `warmup(cosine(), 8)`; arguments as in Python, brackets optional without any.

    Args:
        text: a call of one of the factories of `hasten.schedules`, with literal arguments or further such calls.

    Returns:
        The schedule; `parse(format(s)) == s`.

    Raises:
        ValueError: not such a call, an unknown name (the nearest ones are named), or values the schedule refuses.
        TypeError: an argument of the wrong type.

    >>> parse("wsd(0.1, kind='linear')")
    WSD(decay=0.1, kind='linear')
    """
    if not isinstance(text, str):
        raise refuse_type(_CALL, "text such as 'cosine()'", text)
    check(len(text) <= _LONGEST, _CALL, f"at most {_LONGEST} characters", len(text), "Build it in Python instead.")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise refuse(_CALL, "text such as 'warmup(cosine(), 8)'", repr(text), f"It does not parse: {reason}.") from None
    schedule = _read(tree)
    if not isinstance(schedule, BaseSchedule):
        raise refuse(_CALL, "text such as 'warmup(cosine(), 8)'", repr(text), "Write the name of a schedule.")
    return schedule


def format(schedule: BaseSchedule) -> str:  # noqa: A001 (the inverse of `parse`)
    """The text of a schedule, as short as it gets: arguments at their defaults are left out.

    >>> from hasten.schedules import cosine, warmup
    >>> format(warmup(cosine(), 8, kind="sqrt"))
    "warmup(cosine(), 8, kind='sqrt')"
    """
    factory = FACTORIES.get(getattr(schedule, "name", ""))
    if not isinstance(schedule, BaseSchedule) or factory is None:
        raise refuse_type("format", "a schedule of hasten.schedules", schedule, f"It knows {', '.join(FACTORIES)}.")
    arguments = []
    for parameter in inspect.signature(factory).parameters.values():
        value = getattr(schedule, parameter.name)
        if parameter.default is inspect.Parameter.empty:
            arguments.append(_write(value))
        elif value != parameter.default:
            arguments.append(f"{parameter.name}={_write(value)}")
    return f"{schedule.name}({', '.join(arguments)})"


def _write(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_write, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE:
        short = f"{value:g}".replace("e+0", "e").replace("e+", "e")
        return short if abs(value) >= _MANY and float(short) == value else str(int(value))
    return repr(value) if isinstance(value, (str, float)) or value is None else format(value)


def _read(node: ast.expr) -> Any:
    """The value of a syntax tree, or a refusal that shows the piece of text."""
    match node:
        case ast.Constant(value=str() | None):
            return node.value
        case ast.Constant(value=int() | float() as value):
            check(value <= _LARGEST, _CALL, f"numbers up to {_LARGEST:g}", value, "Write a smaller one.")
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float())):
            return -_read(node.operand)
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return tuple(_read(item) for item in items)
        case ast.Name(id=name):
            return _call(name, [], {})
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            named = {keyword.arg: _read(keyword.value) for keyword in keywords if keyword.arg is not None}
            if len(named) < len(keywords):
                fix = "Remove the repetition or **."
                raise refuse(_CALL, "every argument written out, once", ast.unparse(node), fix)
            return _call(name, [_read(arg) for arg in args], named)
    fix = "Write values out: nothing is evaluated."
    raise refuse(_CALL, "names of schedules, numbers, strings and tuples", repr(ast.unparse(node)), fix)


def _call(name: str, args: list[Any], named: dict[str, Any]) -> BaseSchedule:
    factory = FACTORIES.get(name)
    if factory is None:
        raise refuse(_CALL, "the name of a schedule", repr(name), near(name, FACTORIES))
    signature = inspect.signature(factory)
    for argument in named:
        if argument not in signature.parameters:
            raise refuse(name, "an argument it has", repr(argument), near(argument, signature.parameters))
    try:
        bound = signature.bind(*args, **named)
    except TypeError as error:
        shape = ", ".join(str(p).split(":")[0] for p in signature.parameters.values())
        raise refuse(name, f"arguments {name}({shape})", str(error), "") from None
    return factory(*bound.args, **bound.kwargs)
