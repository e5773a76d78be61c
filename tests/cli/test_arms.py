"""Arms as text: the grammar, what each mistake is told, and that nothing is ever evaluated."""

from __future__ import annotations

import string
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten import methods
from hasten._core import sources
from hasten.cli import UsageError
from hasten.cli.arms import parse_arms, split

MINE = """
from hasten.program import Card, method

@method(Card("Mine.", "data", "retrofit", {"batch": "append"}))
def mine(program, name, size: int = 3):
    return program

def no_method():
    pass
"""


@pytest.mark.parametrize(
    ("text", "arms"),
    [
        ("base", {"base": []}),
        ("baseline", {"baseline": []}),
        ("plain=base", {"plain": []}),
        ("blurpool", {"blurpool": [methods.blurpool()]}),
        ("base,blur=blurpool", {"base": [], "blur": [methods.blurpool()]}),
        ("a=mixup(0.5)", {"a": [methods.mixup(0.5)]}),
        ("a=mixup(alpha=0.5, per_sample=True)", {"a": [methods.mixup(alpha=0.5, per_sample=True)]}),
        ("a=ema+sam+mixup", {"a": [methods.ema(), methods.sam(), methods.mixup()]}),
        ("a = ema + sam ( rho = 1e-1 )", {"a": [methods.ema(), methods.sam(rho=0.1)]}),
        ("x=gradient_clipping(0.1, kind='value')", {"x": [methods.gradient_clipping(0.1, "value")]}),
        ('x=stochastic_depth(branches="[34],*=b")', {"x": [methods.stochastic_depth(branches="[34],*=b")]}),
        ("sam(rho=0.1)", {"sam(rho=0.1)": [methods.sam(rho=0.1)]}),
        ("x=sam(-0.5)", {"x": [methods.sam(-0.5)]}),
        (" base , , ema ,", {"base": [], "ema": [methods.ema()]}),
        ("my-arm=ema,my_arm=sam", {"my-arm": [methods.ema()], "my_arm": [methods.sam()]}),
    ],
)
def test_what_can_be_written(text: str, arms: dict[str, Any]) -> None:
    assert parse_arms(text) == arms
    assert list(parse_arms(text)) == list(arms)  # the order is the order of the report; the first is the baseline


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"--arms: expected at least one arm\. For example"),
        (" , ,", "expected at least one arm"),
        ("blurpol", r"expected a method, got 'blurpol'\. Did you mean blurpool\? `hasten methods` lists them"),
        ("base+ema", "expected a method, got 'base'"),
        ("base,base", r"expected each name once, got 'base' twice\. Write name=\.\.\. for the second"),
        ("a=ema,a=sam", "expected each name once, got 'a' twice"),
        ("a=", "cannot read ''"),
        ("=ema", "expected a plain name before '=', got ''"),
        ("1a=ema", "expected a plain name before '=', got '1a'"),
        ("a b=ema", "expected a plain name before '=', got 'a b'"),
        ("a==ema", "cannot read '=ema'"),
        ("a=ema(", r"expected closed parentheses and quotes, got 'a=ema\('"),
        ("a=ema)", "expected closed parentheses"),
        ("a=ema('x)", "expected closed parentheses and quotes"),
        ("a=ema(])", "expected closed parentheses"),
        ("a=ema(]", "cannot read 'ema"),
        ("a=ema sam", "cannot read 'ema sam'.*Write methods joined by"),
        ("a=ema-sam", "expected the name of a method, got 'ema - sam'"),
        ("a=ema+2", "expected the name of a method, got '2'"),
        ("a=ema.sam", "expected the name of a method, got 'ema.sam'"),
        ("a=sam(rho=[0.1][0])", "expected literals as arguments, got 'sam"),
        ("a=sam(rho=__import__('os').getcwd())", "expected literals as arguments"),
        ("a=sam(**{'rho': 1})", r"expected arguments by name, got \*\*"),
        ("a=sam(*[1])", "expected literals as arguments"),
        ("a=sam(rho=0.1, rho=0.2)", "expected each argument once, got rho twice"),
        ("a=sam({[]: 1})", "expected literals as arguments"),
        (
            "a=sam(radius=1)",
            r"unexpected keyword argument 'radius'\. It is sam\(rho=0\.05, epsilon=1e-12, interval",
        ),
        ("a=sam(1, 2, 3, 4)", r"sam: too many positional arguments\. It is sam\("),
        ("a=sam(interval=1.5)", "sam: .*expected a whole number, got 1.5. It is sam"),
        ("a=sam(rho=1e999)", "sam: .*expected a finite number, got inf"),
        ("a=sam('x\x00')", "cannot read"),
        ("a=" + "(" * 500 + "ema" + ")" * 500, "cannot read"),
        ("a=" + "+".join(["ema"] * 5000), "cannot read|expected"),
    ],
)
def test_what_cannot(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        parse_arms(text)


def test_methods_of_the_users_own_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    own = sources.load(sources.read(tmp_path / "mine.py"), tmp_path / "mine.py")
    (found,) = parse_arms("a=mine(5)", own)["a"]
    assert (found.kind, found.call["size"]) == ("mine", 5)
    assert parse_arms("a=ema", own) == {"a": [methods.ema()]}
    with pytest.raises(UsageError, match=r"got 'minne'\. Did you mean mine\?"):
        parse_arms("a=minne", own)
    for text in ("a=no_method", "a=method", "a=Card"):
        with pytest.raises(UsageError, match="expected a method, got"):
            parse_arms(text, own)
    assert isinstance(own, ModuleType)


pieces = st.text(string.ascii_letters + string.digits + "_=+-. ", min_size=1).map(str.strip).filter(bool)
literals = st.one_of(
    pieces.map(repr), st.lists(st.integers(), max_size=3).map(repr), st.tuples(st.text(",()[]{}", max_size=4)).map(repr)
)
calls = st.builds(lambda name, parts: f"{name}({','.join(parts)})", pieces, st.lists(literals, max_size=3))


@given(st.lists(pieces | calls, max_size=5))
def test_splitting_undoes_joining(parts: list[str]) -> None:
    """Commas inside parentheses, brackets and quotes belong to their piece."""
    assert split(",".join(parts)) == parts
    assert split(" , ".join(parts)) == parts


@given(st.text(string.printable, max_size=40))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        assert parse_arms(text)
    except UsageError as error:
        told = str(error)
        assert told.startswith("--arms: ")
