"""The rule of survival, its sentences, and its table."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.bench.survival import answer, arm_row, notes_of, sentence, table

WORDS = ("pays", "costs", "mixed", "tie", "not proven")


def test_the_rule() -> None:
    confirmed = {(a, b) for a, b in itertools.product(WORDS, WORDS) if answer(a, b) == "confirmed"}
    contradicted = {(a, b) for a, b in itertools.product(WORDS, WORDS) if answer(a, b) == "contradicted"}
    assert confirmed == {("pays", "pays"), ("costs", "costs"), ("mixed", "mixed")}
    # a claim that the original does not make; what has claimed both cannot be contradicted
    assert contradicted == {("pays", "costs"), ("pays", "mixed"), ("costs", "pays"), ("costs", "mixed")}


@pytest.mark.parametrize(
    ("original", "variants", "expected"),
    [
        ("pays", {"a": "pays", "b": "pays"}, "pays; survives in all 2 variants."),
        ("pays", {"a": "pays"}, "pays; survives in the one variant."),
        ("pays", {"a": "not proven"}, "pays; survives in none of 1 variant: not proven with a."),
        (
            "costs",
            {"a": "costs", "b": "pays", "c": "not proven", "d": "tie", "e": "mixed", "f": "not proven"},
            "costs; survives in 1 of 6 variants: not proven with c and f; tie with d; contradicted with b (pays) and e "
            "(mixed).",
        ),
        ("mixed", {"a": "pays", "b": "mixed"}, "mixed; survives in 1 of 2 variants: pays with a."),
        ("not proven", {"a": "tie", "b": "not proven"}, "not proven on the original: nothing to confirm."),
        (
            "tie",
            {"a": "pays", "b": "costs", "c": "pays"},
            "tie on the original: nothing to confirm (pays with a and c; costs with b).",
        ),
        ("pays", {}, "pays; no variant has a verdict yet."),
    ],
)
def test_sentences(original: str, variants: dict[str, str], expected: str) -> None:
    assert sentence(original, variants) == expected


@given(
    original=st.sampled_from(WORDS),
    verdicts=st.lists(st.sampled_from(WORDS), max_size=6),
    permutation=st.randoms(use_true_random=False),
)
def test_counts_add_up_and_do_not_depend_on_the_order(original: str, verdicts: list[str], permutation: Any) -> None:
    variants = {f"v{i}": verdict for i, verdict in enumerate(verdicts)}
    row = arm_row("arm", original, variants)
    assert row["confirmed"] + row["unproven"] + row["contradicted"] == len(verdicts)
    if original in ("tie", "not proven"):
        assert row["unproven"] == len(verdicts)
    mixed = list(variants.items())
    permutation.shuffle(mixed)
    again = arm_row("arm", original, dict(mixed))
    assert all(again[count] == row[count] for count in ("confirmed", "unproven", "contradicted"))


def test_error_rates_of_several_studies_add_up() -> None:
    assert "of 6 studies is false has a chance of up to 30 %" in notes_of(6, 0.05)[1]
    assert "of 30 studies is false has a chance of up to 100 %" in notes_of(30, 0.05)[1]


def data(**more: Any) -> dict[str, Any]:
    variants = {"width": "pays", "batch": "costs"}
    return {
        "version": 1,
        "workload": "digits",
        "status": "complete",
        "changes": {"width": "width 16 instead of 8", "batch": "batches of 128 instead of 64"},
        "arms": [arm_row("blur", "pays", variants), arm_row("a" * 60, "not proven", variants)],
        "unavailable": {"norm": "its model has none"},
        "notes": notes_of(3, 0.05),
        **more,
    }


def test_the_table() -> None:
    text = table(data(), width=100, color=False, unicode=True)
    lines = text.splitlines()
    assert lines[0] == "digits: does the verdict survive?"
    assert "width  width 16 instead of 8" in lines
    row = next(line for line in lines if line.startswith("blur "))
    assert row.split() == ["blur", "▲", "pays", "▲", "pays", "▼", "costs"]
    assert "blur: pays; survives in 1 of 2 variants: contradicted with batch (costs)." in lines
    assert "  without norm: its model has none" in lines
    assert max(map(len, lines)) <= 100
    assert text.endswith("15 %.\n")


def test_the_table_in_a_narrow_terminal_without_signs() -> None:
    text = table(data(), width=40, color=False, unicode=False)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 40
    assert text.count("^ pays") == 3
    assert text.count("v costs") == 2


def test_the_table_in_colour_and_with_hostile_names() -> None:
    hostile = arm_row("x\x1b[2J", "pays", {"width": "pays", "batch": "costs"})
    text = table(data(arms=[hostile], changes={"width": "a\x1b[31mb", "batch": ""}), width=80, color=True, unicode=True)
    assert "\x1b[2J" not in text
    assert "\x1b[31mb" not in text
    assert "\x1b[32m▲ pays" in text


def test_the_table_before_there_is_a_verdict() -> None:
    text = table(data(arms=[], notes=[], unavailable={"original": "not run yet."}), width=80, color=False, unicode=True)
    assert "  without original: not run yet." in text
    assert "pays" not in text
