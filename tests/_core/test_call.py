"""Code as data: equal meaning is equal data, it builds what it says, and what has no name is refused with the fix."""

from __future__ import annotations

import collections
import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hasten._core.call import Call, bind, call, canonical, decode, encode, fill, name_of, resolve, walk
from hasten._core.card import Map
from hasten._core.clock import Scheduled, ramp
from hasten.schedules import cosine

NONE = Map()


def make(width: int, rate: float = 0.5, names: tuple[str, ...] = (), flag: bool = False) -> tuple:
    return width, rate, names, flag


def shapes(pair: tuple[int, float] = (1, 2.0), many: Sequence[float] = (), table: Mapping[str, float] = NONE) -> Any:
    return pair, many, table


def either(value: int | float = 0, maybe: float | None = None) -> Any:
    return value, maybe


def anything(**more: Any) -> dict[str, Any]:
    return more


def late(value: Any, *, generator: torch.Generator | None = None, optimizer: Any = None, other: Any = None) -> Any:
    return value, generator, optimizer, other


def unresolved(rate: NotThere = 1, plain: float = 2) -> Any:  # type: ignore[name-defined]  # noqa: F821
    return rate, plain


@dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.0


class Holder:
    def method(self) -> int:
        return 1

    @classmethod
    def of(cls, size: int = 1) -> tuple[type, int]:
        return cls, size

    class Inner:
        pass


def test_a_factory_is_called_and_a_partial_is_bound() -> None:
    assert call(make, width=3).build() == (3, 0.5, (), False)
    bound = bind(make, rate=1).build()
    assert bound(2) == (2, 1.0, (), False)
    assert bind(anything).build() is anything  # nothing to bind: the function itself


def test_nested_calls_are_built_first() -> None:
    inner = call(make, width=1)
    built = call(anything, one=inner, many=[inner, 2], table={"x": inner}).build()
    assert built == {"one": (1, 0.5, (), False), "many": ((1, 0.5, (), False), 2), "table": {"x": (1, 0.5, (), False)}}
    assert [part.target.rsplit(":")[-1] for part in walk(call(anything, one=inner, t={"x": (inner,)}))] == [
        "anything", "make", "make",
    ]  # fmt: skip


def test_equal_meaning_is_equal_data() -> None:
    assert call(make, width=3) == call(make, width=3.0, rate=0.5, names=[], flag=False)
    assert hash(call(make, width=3)) == hash(call(make, width=3.0))
    assert canonical(encode(call(make, width=3, rate=1))) == canonical(encode(call(make, width=3.0, rate=1.0)))
    assert call(make, width=3) != bind(make, width=3)
    assert bind(make) != bind(make, width=1)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"pair": (1.0, 2)}, {"pair": [1, 2.0]}),
        ({"many": (1, 2)}, {"many": [1.0, 2.0]}),
        ({"table": {"a": 1}}, {"table": {"a": 1.0}}),
    ],
)
def test_parts_of_containers_are_coerced_too(one: dict, two: dict) -> None:
    assert canonical(encode(call(shapes, **one))) == canonical(encode(call(shapes, **two)))


def test_a_float_stays_one_where_both_kinds_are_allowed() -> None:
    assert canonical(encode(call(either, value=1))) != canonical(encode(call(either, value=1.0)))
    assert call(either, maybe=1)["maybe"] == 1.0
    assert isinstance(call(either, maybe=1)["maybe"], float)
    assert call(either, maybe=None)["maybe"] is None


def test_a_fraction_is_not_cast_to_a_whole_number() -> None:
    with pytest.raises(TypeError, match=r"make width=: expected a whole number, got 1\.5"):
        call(make, width=1.5)
    with pytest.raises(TypeError, match="expected a whole number"):
        call(shapes, pair=(0.5, 2))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(value: float) -> None:
    with pytest.raises(ValueError, match=r"make rate=: expected a finite number, got (nan|inf|-inf)"):
        call(make, width=1, rate=value)


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, b"bytes", np.zeros(2), np.int64(3), torch.zeros(2), torch.float32, 1j]
)
def test_what_cannot_be_written_down_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="expected a value that can be written down, got .*Pass numbers, strings"):
        call(anything, value=value)


def test_dataclasses_and_functions_become_calls() -> None:
    point = call(anything, at=Point(1), f=make, kind=Point).build()
    assert point["at"] == Point(1.0, 0.0)
    assert point["f"].func is make
    assert point["kind"](x=2) == Point(2)
    assert call(anything, s=cosine()).build() == {"s": cosine()}


def test_misspelt_and_missing_arguments() -> None:
    with pytest.raises(TypeError, match=r"make: expected an argument .* by name, got 'widht'\. Did you mean width\?"):
        call(make, widht=1)
    with pytest.raises(TypeError, match=r"expected a value for width, got none\. Pass width=\."):
        call(make)
    assert bind(make).args == (("flag", False), ("names", ()), ("rate", 0.5))
    assert call(anything, a=1, b=2)["b"] == 2


def positional(x: int = 1, /, *rest: int, y: int = 2) -> Any:
    return x, rest, y


def test_what_has_no_name_is_left_to_the_caller() -> None:
    assert bind(positional).build()(5) == (5, (), 2)
    assert call(positional, y=3).build() == (1, (), 3)
    with pytest.raises(TypeError, match=r"an argument it takes by name, got 'x'\. Known: y\."):
        bind(positional, x=1)


def test_what_the_loop_supplies_is_left_out_of_a_partial_only() -> None:
    assert [name for name, _ in bind(late).args] == ["other"]
    assert [name for name, _ in call(late, value=1).args] == ["generator", "optimizer", "other", "value"]


def test_annotations_that_cannot_be_resolved_are_read_by_name() -> None:
    assert call(unresolved, plain=3)["plain"] == 3.0
    assert isinstance(call(unresolved)["plain"], float)
    assert call(unresolved)["rate"] == 1


def made_here() -> Any:
    return lambda: 1


here = made_here()
partial = functools.partial(make, 1)
renamed = make


def shadowed() -> int:
    return 1


first_shadowed = shadowed


def shadowed() -> int:  # type: ignore[no-redef]
    return 2


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (here, "expected code with a name that other processes can import.*move it to the top level of a file"),
        (lambda x: x, "expected code with a name that other processes can import"),
        (partial, "expected a function or a class.*Define a function with `def`"),
        (Holder(), "expected a function or a class"),
        (collections.OrderedDict, "expected code whose arguments Python can tell"),
        (Holder().method, r"expected what .*Holder\.method names.*its file still knows"),
        (first_shadowed, "expected what .*shadowed names.*its file still knows"),
    ],
)
def test_code_without_a_name_is_refused_with_the_way_out(code: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        bind(code)


def test_code_of_main_is_refused() -> None:
    def main() -> None: ...

    main.__module__, main.__qualname__ = "__main__", "main"
    with pytest.raises(TypeError, match="got __main__:main. Other processes must be able to import it: move it"):
        bind(main)


def test_classes_class_methods_and_aliases_have_names() -> None:
    assert call(collections.Counter, a=2).build() == {"a": 2}
    assert call(Holder.of, size=2).build() == (Holder, 2)
    assert isinstance(call(Holder.Inner).build(), Holder.Inner)
    assert bind(renamed) == bind(make)
    assert name_of(torch.optim.SGD) == "torch.optim.sgd:SGD"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("does_not.exist:f", r"expected code that can be imported, got 'does_not.exist:f'\. \(No module"),
        ("hasten._core.clock:rampp", r"expected code that exists, got .*Did you mean ramp\?"),
        ("hasten._core.clock:math.floor", "expected code that hasten._core.clock defines"),
        ("hasten.optim:SAM", "expected code that hasten.optim defines"),  # defined in hasten.optim.sam
        ("user:0123456789abcdef:f", "expected a user file that has been loaded, got digest 0123.*Load its workload"),
        ("user:0123456789abcdef:helper:f", "expected a user file that has been loaded, got digest 0123.*:help"),
    ],
)
def test_targets_that_lead_nowhere(target: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        resolve(target)


def test_how_it_shows() -> None:
    assert str(call(Scheduled, schedule=cosine(), unit="step")) == "Scheduled(schedule=Cosine(floor=0.0), unit='step')"


def test_json_must_be_a_call_or_a_map() -> None:
    for bad in ({"call": "x"}, {"map": 1}, {"call": "x", "args": [], "bind": True}, {}):
        with pytest.raises(ValueError, match="program JSON: expected a call or a map, got an object with the keys"):
            decode(bad)
    with pytest.raises(ValueError, match="Out of range float"):
        canonical({"x": math.nan})
    assert canonical({"b": 1, "a": "ü"}) == '{"a":"\\u00fc","b":1}'


def test_a_signature_from_elsewhere_can_be_filled() -> None:
    import inspect

    filled = fill("x:y", inspect.signature(make).parameters, {"width": 1}, bound=False)
    assert filled == Call("x:y", (("flag", False), ("names", ()), ("rate", 0.5), ("width", 1)))


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
names = st.text("abcdefg", min_size=1, max_size=4)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(names, inner, max_size=3).map(Map)
        | st.builds(
            lambda args, bound: Call("m:f", tuple(sorted(args.items(), key=lambda item: item[0])), bound),
            st.dictionaries(names, inner, max_size=3),
            st.booleans(),
        )
    ),
    max_leaves=8,
)


@given(values)
def test_json_round_trip_of_any_value(value: Any) -> None:
    text = canonical(encode(value))
    again = decode(json.loads(text))
    assert canonical(encode(again)) == text
    assert again == value
    hash(again)


@given(st.dictionaries(names, scalars, max_size=4), st.randoms())
def test_the_order_of_arguments_does_not_matter(arguments: dict[str, Any], draw: Any) -> None:
    shuffled = list(arguments.items())
    draw.shuffle(shuffled)
    assert canonical(encode(call(anything, **arguments))) == canonical(encode(call(anything, **dict(shuffled))))


def test_a_schedule_survives_the_way_through_json() -> None:
    schedule = bind(ramp, start=1, end=2)
    assert decode(json.loads(canonical(encode(schedule)))).build()(1.5) == 0.5
