"""The grammar of `--arms`: what it reads, what it refuses and how it says so."""

from __future__ import annotations

import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.cli import UsageError
from hasten.cli.arms import parse_arms
from hasten.methods import blurpool, label_smoothing, mixup


def test_names_methods_and_sums() -> None:
    arms = parse_arms("base, blur=blurpool, both = blurpool+label_smoothing(0.1), mixup(alpha=0.4)")
    assert arms == {
        "base": [],
        "blur": [blurpool()],
        "both": [blurpool(), label_smoothing(0.1)],
        "mixup(alpha=0.4)": [mixup(0.4)],
    }
    assert next(iter(arms)) == "base"


def test_commas_and_equals_inside_parentheses_and_quotes_do_not_split() -> None:
    arms = parse_arms("a=gradient_clipping(0.5, kind='value'),b=mixup(alpha=0.1, per_sample=True)")
    assert list(arms) == ["a", "b"]
    assert arms["a"][0].call["kind"] == "value"


@pytest.mark.parametrize("word", ["base", "baseline"])
def test_the_baseline_can_have_any_name(word: str) -> None:
    assert parse_arms(f"plain={word}") == {"plain": []}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "at least one arm"),
        (",,", "at least one arm"),
        ("base,blurpol", "Did you mean blurpool"),
        ("base,base", "'base' twice"),
        ("a=mixup(", "closed parentheses"),
        ("a='mixup", "closed parentheses and quotes"),
        ("a=mixup(alpha=open('x'))", "literals"),
        ("a=(lambda: 1)()", "name of a method"),
        ("a=mixup(beta=1)", "mixup"),
        ("a=mixup(alpha='x')", "mixup"),
        ("a=mixup-cutmix", "name of a method"),
        ("a=mixup cutmix", "cannot read"),
        ("a b=mixup", "plain name"),
    ],
)
def test_refusals_are_matters_of_usage(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        parse_arms(text)


def test_methods_of_the_users_own_file_can_be_named() -> None:
    own = types.ModuleType("own")
    own.sharper = blurpool  # type: ignore[attr-defined]
    assert parse_arms("mine=sharper(min_channels=4)", own)["mine"][0].call["min_channels"] == 4


@given(st.lists(st.sampled_from(["base", "blurpool", "mixup(0.3)", "ema+blurpool"]), min_size=1, max_size=6))
def test_every_named_piece_comes_back_in_order(pieces: list[str]) -> None:
    text = ",".join(f"arm{number}={piece}" for number, piece in enumerate(pieces))
    arms = parse_arms(text)
    assert list(arms) == [f"arm{number}" for number in range(len(pieces))]
    assert [len(methods) for methods in arms.values()] == [
        0 if piece == "base" else piece.count("+") + 1 for piece in pieces
    ]
