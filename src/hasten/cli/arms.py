"""Arms as text: `base,blur=blurpool,both=blurpool+label_smoothing(0.1)`. Literals only, nothing is evaluated."""

from __future__ import annotations

import ast
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hasten._core.checks import describe, near

from . import UsageError
from .methods import signature

if TYPE_CHECKING:
    from hasten.program import Method, MethodFactory

__all__ = ["parse_arms", "split"]

BASELINES = ("base", "baseline")  # names of the arm without methods


def parse_arms(text: str, own: ModuleType | None = None) -> dict[str, list[Method]]:
    """Read the arms of a study.

    Args:
        text: arms separated by commas; an arm is `base`, a method, methods joined by `+`, or `name=` one of these.
        own: the user's workload file, whose own methods can be named too.

    Raises:
        UsageError: what is wrong and where; near names for an unknown method.
    """
    arms: dict[str, list[Method]] = {}
    for piece in split(text):
        name, expression = _named(piece)
        if name in arms:
            raise UsageError(f"--arms: expected each name once, got {name!r} twice. Write name=... for the second.")
        arms[name] = [] if expression in BASELINES else _methods(expression, own)
    if not arms:
        raise UsageError("--arms: expected at least one arm. For example --arms 'base,blur=blurpool'.")
    return arms


def split(text: str, option: str = "--arms") -> list[str]:
    """The pieces between commas that are in no parentheses and no quotes; `option` is what an error names."""
    pieces, depth, quote, start = [], 0, "", 0
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "," and depth == 0:
            pieces.append(text[start:position].strip())
            start = position + 1
    pieces.append(text[start:].strip())
    if depth or quote:
        raise UsageError(f"{option}: expected closed parentheses and quotes, got {text!r}.")
    return [piece for piece in pieces if piece]


def _named(piece: str) -> tuple[str, str]:
    head, equals, rest = piece.partition("=")
    if equals and "(" not in head:
        if not head.strip().replace("-", "_").isidentifier():
            raise UsageError(f"--arms: expected a plain name before '=', got {head.strip()!r}.")
        return head.strip(), rest.strip()
    return piece, piece


def _methods(expression: str, own: ModuleType | None) -> list[Method]:
    try:
        tree = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two: nested without end
        why = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
        fix = "Write methods joined by +, such as blurpool+label_smoothing(0.1)."
        raise UsageError(f"--arms: cannot read {_short(expression)} ({why}). {fix}") from None
    parts = []
    while isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Add):
        parts.append(tree.right)
        tree = tree.left
    return [_method(part, own) for part in (tree, *reversed(parts))]


def _method(node: ast.expr, own: ModuleType | None) -> Method:
    arguments: list[Any] = []
    keywords: dict[str, Any] = {}
    if isinstance(node, ast.Call):
        arguments, keywords = _arguments(node)
        node = node.func
    if not isinstance(node, ast.Name):
        raise UsageError(f"--arms: expected the name of a method, got {_short(ast.unparse(node))}.")
    factory = _factory(node.id, own)
    try:
        return factory(*arguments, **keywords)
    except (TypeError, ValueError) as error:
        why = str(error).rstrip(".")
        raise UsageError(f"--arms: {node.id}: {why}. It is {node.id}{signature(factory)}.") from None


def _arguments(node: ast.Call) -> tuple[list[Any], dict[str, Any]]:
    names = [keyword.arg for keyword in node.keywords]
    twice = [name for name in names if names.count(name) > 1]
    if None in names or twice:
        problem = f"each argument once, got {twice[0]} twice" if twice else "arguments by name, got **"
        raise UsageError(f"--arms: expected {problem}.")
    try:
        positional = [ast.literal_eval(argument) for argument in node.args]
        return positional, {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
    except (ValueError, TypeError):
        raise UsageError(f"--arms: expected literals as arguments, got {_short(ast.unparse(node))}.") from None


def _short(text: str) -> str:
    return describe(text)


def _factory(name: str, own: ModuleType | None) -> MethodFactory:
    from hasten.methods import catalogue
    from hasten.program import MethodFactory

    known = catalogue()
    if own is not None:
        known.update({key: value for key, value in vars(own).items() if isinstance(value, MethodFactory)})
    if name not in known:
        raise UsageError(f"--arms: expected a method, got {name!r}. {near(name, known)} `hasten methods` lists them.")
    return known[name]
