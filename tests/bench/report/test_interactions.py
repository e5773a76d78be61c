from __future__ import annotations

from typing import Any

import pytest
from tests.bench.report.synthetic import designed, study
from tests.bench.report.test_tables import cells

from hasten.bench.report.interactions import interaction_cell, interaction_lines, interaction_sentence
from hasten.bench.report.interactions import interactions_table as made


def item(**change: Any) -> dict[str, Any]:
    found = {"kind": "pair", "arm": "both", "parts": ["blur", "ls"], "method": "", "axis": "budget", "index": 3,
             "label": "15 ep", "value": -0.0041, "low": -0.0082, "high": -0.0011, "bound": "", "n": 5, "p": 0.02,
             "reason": ""}  # fmt: skip
    return found | change


LEFT_OUT = {"kind": "left_out", "parts": ["ls"], "method": "blurpool(min_channels=16)"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "0.004 less than the sum of both"),
        ({"value": 0.0041, "low": 0.001, "high": 0.01}, "0.004 more than the sum of both"),
        ({"value": 0.0002, "low": -0.01, "high": 0.01}, "the sum of both, may be chance"),
        ({"high": 0.0011}, "0.004 less than the sum of both, may be chance"),
        ({"low": None, "high": None}, "0.004 less than the sum of both, without an interval"),
        ({"value": None, "low": None, "high": None, "bound": "?"}, "unknown"),
        ({"bound": ">=", "low": None, "high": None}, "at least \u22120.004"),
        ({"bound": "<=", "low": None, "high": None}, "at most \u22120.004"),
        ({"axis": "target", "value": 0.93, "low": 0.9, "high": 0.97}, "0.93\u00d7 the product of their speedups"),
        ({"axis": "target", "value": 1.001, "low": 0.9, "high": 1.1}, "the product of their speedups, may be chance"),
        ({**LEFT_OUT, "value": 0.03, "low": 0.02, "high": 0.04}, "0.030 better with it"),
        ({**LEFT_OUT}, "0.004 worse with it"),
        ({**LEFT_OUT, "value": 0.0, "low": -0.01, "high": 0.01}, "as good with it, may be chance"),
        ({**LEFT_OUT, "axis": "target", "value": 1.2, "low": 1.1, "high": 1.3}, "1.20\u00d7 as fast with it"),
        ({**LEFT_OUT, "axis": "target", "value": 1.0, "low": 0.9, "high": 1.3}, "as fast with it, may be chance"),
        ({**LEFT_OUT, "axis": "target", "value": 1.5, "low": None, "high": None, "bound": ">="}, "at least 1.50\u00d7"),
    ],
)
def test_an_interaction_is_said_in_words(change: dict[str, Any], words: str) -> None:
    assert interaction_sentence(item(**change), 3) == words


def test_cells_are_named_by_arms_and_methods_without_arguments() -> None:
    assert interaction_cell(item()) == "blur and ls together"
    assert interaction_cell(item(**LEFT_OUT)) == "blurpool inside both"


def test_there_is_one_line_per_cell_about_the_longest_budget_that_is_known() -> None:
    data = designed()
    lines = interaction_lines(data)
    assert [line.split(",")[0] for line in lines] == [
        "blur and ls together", "blurpool inside both", "label_smoothing inside both"]  # fmt: skip
    assert all(", at 15 ep: " in line for line in lines)
    assert lines[1].endswith("better with it (+0.028 … +0.035).") or " better with it (+" in lines[1]
    for found in data["analysis"]["interactions"]:
        if found["label"] == "15 ep" and found["kind"] == "pair":
            found.update(value=None, low=None, high=None, bound="?")
    assert ", at 7 ep: " in interaction_lines(data)[0]


def test_every_reading_has_a_row_with_its_reason_and_no_verdict() -> None:
    data = designed()
    head, *rows = cells(made(data))
    assert head == ["arms", "at", "in words", "size", "interval", "p, alone", "n"]
    assert len(rows) == len(data["analysis"]["interactions"]) == 3 * 7
    open_ = next(i for i, found in enumerate(data["analysis"]["interactions"]) if found["bound"] == "?")
    assert rows[open_][2].startswith("unknownnot covered by the curves of ")
    assert rows[open_][3:6] == ["unknown", "\u2013", "\u2013"]
    assert not {"pays", "costs", "not proven"} & {cell for row in rows for cell in row}


def test_sizes_of_targets_are_factors() -> None:
    data = designed()
    _, *rows = cells(made(data))
    sizes = [row[3] for row, found in zip(rows, data["analysis"]["interactions"], strict=True)
             if found["axis"] == "target" and found["value"] is not None]  # fmt: skip
    assert sizes
    assert all("\u00d7" in size for size in sizes)


def test_without_a_design_nothing_is_said() -> None:
    assert interaction_lines(study()) == []
    assert made(study()) is None
    data = study()
    data["analysis"] = None
    assert interaction_lines(data) == []
    assert made(data) is None
