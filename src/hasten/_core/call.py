"""Naming code as data: a `Call` is a function or class by name, with every argument written out.

`call(fn, **kw)` stands for `fn(**kw)`, a factory; `bind(fn, **kw)` for `functools.partial(fn, **kw)`. Both fill in
every default and coerce numbers by annotation, so that equal meaning is equal data: `lr=1` and `lr=1.0` hash alike,
and a default written out is the same as a default left out. A call can be stored as JSON and built in another process;
code that only exists here (a lambda, a local function, a notebook cell) is refused with the way out.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import json
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import sources
from .card import Map
from .checks import describe, near, refuse, refuse_type

__all__ = ["Call", "bind", "call", "canonical", "decode", "encode", "fill", "resolve", "walk"]

Value = Any  # str | int | float | bool | None | tuple | Map | Call, checked by `_value`


@dataclass(frozen=True)
class Call:
    """Code by name with its arguments: the only way a program names code.

    Args:
        target: `"package.module:qualname"`, or `"user:<content hash>:qualname"` for a user's file; never a path.
        args: (name, value) pairs by name; a value is a scalar, a tuple, a `Map` or another `Call`.
        bind: True for a partial, False for a factory.
    """

    target: str
    args: tuple[tuple[str, Value], ...] = ()
    bind: bool = False

    def __getitem__(self, name: str) -> Value:
        return dict(self.args)[name]

    def build(self) -> Any:
        """Import the code and call it (a factory) or bind its arguments (a partial); nested calls are built first."""
        function, kwargs = resolve(self.target), {name: _built(value) for name, value in self.args}
        if not self.bind:
            return function(**kwargs)
        return functools.partial(function, **kwargs) if kwargs else function

    def __str__(self) -> str:
        name = self.target.rsplit(":", 1)[-1]
        return f"{name}({', '.join(f'{key}={_show(value)}' for key, value in self.args)})"


def _show(value: Value) -> str:
    return str(value) if isinstance(value, Call) else repr(value)


def _built(value: Value) -> Any:
    if isinstance(value, Call):
        return value.build()
    if isinstance(value, tuple):
        return tuple(_built(part) for part in value)
    if isinstance(value, Map):
        return {name: _built(part) for name, part in value.items()}
    return value


def call(fn: Callable[..., Any], /, **kwargs: Any) -> Call:
    """The factory `fn(**kwargs)` as data. Every parameter without a default must be given."""
    return fill(name_of(fn), _signature(fn), kwargs, bound=False)


def bind(fn: Callable[..., Any], /, **kwargs: Any) -> Call:
    """The partial `fn(..., **kwargs)` as data; parameters without a default may be left to the caller.

    >>> from hasten._core.clock import ramp
    >>> bind(ramp, start=0, end=1) == bind(ramp, start=0.0, end=1.0)
    True
    """
    return fill(name_of(fn), _signature(fn), kwargs, bound=True)


def fill(target: str, parameters: Mapping[str, inspect.Parameter], kwargs: Mapping[str, Any], *, bound: bool) -> Call:
    """The call of `target` with these parameters: names checked, defaults filled in, values in canonical form."""
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    named = {name: p for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    for name in kwargs:
        if name not in named and not open_ended:
            raise refuse_type(target, "an argument it takes by name", repr(name), near(name, named))
    filled: dict[str, Value] = {}
    for name, parameter in named.items():
        if name in kwargs:
            filled[name] = _value(f"{target} {name}=", kwargs[name], parameter.annotation)
        elif parameter.default is not inspect.Parameter.empty:
            # What only the running loop can supply (a generator, a tensor) has the default None and is left out.
            if not (bound and parameter.default is None and name in _RUNTIME):
                filled[name] = _value(f"{target} {name}=", parameter.default, parameter.annotation)
        elif not bound:
            raise refuse_type(target, f"a value for {name}", "none", f"Pass {name}=.")
    for name in kwargs.keys() - filled.keys():
        filled[name] = _value(f"{target} {name}=", kwargs[name], inspect.Parameter.empty)
    return Call(target, tuple(sorted(filled.items())), bound)


_RUNTIME = ("generator", "optimizer")


def _signature(fn: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(fn, eval_str=True).parameters
    except (NameError, TypeError, AttributeError):  # annotations that only a type checker can resolve
        return inspect.signature(fn).parameters
    except ValueError as error:  # some built-in functions
        fix = "Call it from a function of a file and pass that."
        raise refuse_type("call", "code whose arguments Python can tell", fn, fix) from error


def name_of(fn: Callable[..., Any]) -> str:
    """The target string of a function or class, or a `TypeError` that says how to make it nameable."""
    module, qualname = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    if module is None or qualname is None:
        fix = "Define a function with `def` in a file and pass that."
        raise refuse_type("call", "a function or a class", fn, fix)
    if "<" in qualname or module == "__main__":
        fix = "Other processes must be able to import it: move it to the top level of a file (`hasten new workload`)."
        raise refuse_type("call", "code with a name that other processes can import", f"{module}:{qualname}", fix)
    place = sources.place_of(fn)
    target = f"user:{place}:{qualname}" if place else f"{module}:{qualname}"
    if resolve(target) != fn:  # a bound method, or a name that was given to something else since
        fix = "Pass a function or class that its file still knows under its own name."
        raise refuse_type("call", f"what {module}:{qualname} names", fn, fix)
    return target


def resolve(target: str) -> Any:
    """The function or class behind a target.

    The object must be defined in the module that the target names: `hasten.x:subprocess.run` finds nothing.
    """
    head, _, qualname = target.rpartition(":")
    if head.startswith("user:"):
        holder: Any = sources.module_of(head.removeprefix("user:"))
    else:
        try:
            holder = importlib.import_module(head)
        except ImportError as error:
            raise refuse("program", "code that can be imported", repr(target), f"({error})") from error
    for part in qualname.split("."):
        if not hasattr(holder, part):
            raise refuse("program", "code that exists", repr(target), near(part, vars(holder)))
        holder = getattr(holder, part)
    home = getattr(holder, "__module__", None)
    if not head.startswith("user:") and home != head:
        raise refuse("program", f"code that {head} defines", repr(target))
    return holder


def _value(where: str, value: Any, annotation: Any) -> Value:
    """`value` in canonical form: coerced by annotation, lists to tuples, dicts to maps, code to calls."""
    _check_kind(where, value, annotation)
    if isinstance(value, Call) or value is None or isinstance(value, str):
        return value
    if isinstance(value, (bool, int, float)):
        return _number(where, value, annotation)
    if isinstance(value, (list, tuple)):
        inner = _inner(annotation, len(value))
        return tuple(_value(where, part, kind) for part, kind in zip(value, inner, strict=True))
    if isinstance(value, Mapping):
        kind = _inner(annotation, 2)[1]
        return Map({str(name): _value(where, part, kind) for name, part in value.items()})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return call(type(value), **{field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if callable(value):
        return bind(value)
    fix = "Pass numbers, strings, tuples, dicts, dataclasses or functions of a file."
    raise refuse_type(where, "a value that can be written down", value, fix)


def _check_kind(where: str, value: Any, annotation: Any) -> None:
    """Refuse a string where only numbers are declared, and the other way round; anything else is left to the code."""
    kinds = set(_members(annotation)) - {types.NoneType}
    if isinstance(value, str) and kinds and kinds <= {bool, int, float}:
        raise refuse_type(where, "a number", describe(value))
    if isinstance(value, (bool, int, float)) and kinds == {str}:
        raise refuse_type(where, "a string", describe(value))


def _number(where: str, value: bool | int | float, annotation: Any) -> bool | int | float:
    if isinstance(value, bool):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise refuse(where, "a finite number", describe(value))
    kinds = set(_members(annotation))
    if isinstance(value, int) and float in kinds and int not in kinds:
        return float(value)
    if isinstance(value, float) and int in kinds and float not in kinds:
        if value % 1:
            raise refuse_type(where, "a whole number", describe(value))
        return int(value)
    return value


def _members(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    if isinstance(annotation, str):  # unresolved: read the plain names
        names = {"float": float, "int": int}
        return tuple(names[part.strip()] for part in annotation.split("|") if part.strip() in names)
    return (annotation,)


def _inner(annotation: Any, count: int) -> tuple[Any, ...]:
    """The annotations of a container's `count` parts; for a mapping, of its names and values."""
    for member in _members(annotation):
        origin, inner = typing.get_origin(member), typing.get_args(member)
        if origin is tuple and len(inner) == count and inner[-1] is not Ellipsis:
            return inner
        if origin in (tuple, list, Sequence) and inner:
            return (inner[0],) * count
        if origin in (dict, Mapping) and len(inner) == count:
            return inner
    return (inspect.Parameter.empty,) * count


def walk(value: Value) -> list[Call]:
    """`value` and everything inside it that is a call, outermost first."""
    if isinstance(value, Call):
        return [value, *(inner for _, part in value.args for inner in walk(part))]
    if isinstance(value, Map):
        return [inner for part in value.values() for inner in walk(part)]
    if isinstance(value, tuple):
        return [inner for part in value for inner in walk(part)]
    return []


def encode(value: Value) -> Any:
    """A value as plain JSON data."""
    if isinstance(value, Call):
        return {"call": value.target, "args": {k: encode(v) for k, v in value.args}, "bind": value.bind}
    if isinstance(value, Map):
        return {"map": {name: encode(part) for name, part in value.items()}}
    if isinstance(value, tuple):
        return [encode(part) for part in value]
    return value


def decode(data: Any) -> Value:
    """The inverse of `encode`."""
    if isinstance(data, list):
        return tuple(decode(part) for part in data)
    if isinstance(data, dict):
        if set(data) == {"map"} and isinstance(data["map"], dict):
            return Map({name: decode(part) for name, part in data["map"].items()})
        if set(data) == {"call", "args", "bind"} and isinstance(data["args"], dict):
            args = tuple(sorted((name, decode(part)) for name, part in data["args"].items()))
            return Call(str(data["call"]), args, bool(data["bind"]))
        raise refuse("program JSON", "a call or a map", f"an object with the keys {sorted(data)}")
    return data


def canonical(data: Any) -> str:
    """JSON text that is equal for equal data: sorted keys, no spaces, no NaN."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
