from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bench.report.synthetic import calibrated, designed, hostile, study

from hasten.bench.report.terminal import _columns, table


def test_the_table_holds_answer_arms_effects_order_and_notes() -> None:
    text = table(study(), width=100, color=False, unicode=True)
    for line in (
        "blur pays, with reservations; mixup pays at some places and costs at others; nothing is proven about",
        "arm    verdict         time, same steps  accuracy at 15 ep",
        "base   ● baseline                 1.00\u00d7      0.810 ± 0.004",
        "mixup  ◆ mixed, but …             1.02\u00d7      0.832 ± 0.004",
        "    Pays in training time at budget 15 ep; elsewhere not proven, but inference costs 1.12x.",
        "mixup  ○ \u22120.016  ▼ \u22120.054  ○ +0.002  ▲ +0.020",
        "ls     ○ 0.98\u00d7  ○ 0.95\u00d7  ○ unknown",
        "7 ep: blur > mixup = ls = base",
        "- With 5 seeds a gain of 0.009 at the last budget is found with 80 % power.",
    ):
        assert line in text.splitlines()


def test_without_colour_and_unicode_it_is_plain_ascii() -> None:
    text = table(study(), width=100, color=False, unicode=False)
    assert text.isascii()
    assert "\x1b" not in text
    assert "mixup  ? -0.016  v -0.054  ? +0.002  ^ +0.020" in text
    assert "? not proven   ^ pays   v costs" in text
    assert "blur   ^ pays, but ...              1.16x     0.851 +- 0.005" in text


def test_frontier_designs_and_calibration_are_there_where_they_are_known() -> None:
    data = designed("branch")
    data["calibration"] = calibrated()["calibration"]
    text = table(data, width=100, color=False, unicode=True)
    lines = text.splitlines()
    assert "digits · branch curve · 2026-01-31" in lines
    at = lines.index("share of resamples on the frontier of time and quality: no verdict")
    assert lines[at + 1].split("  ")[-2:] == ["any point", "hypervolume"]
    assert [line.split()[0] for line in lines[at + 2 : at + 6]] == ["base", "blur", "ls", "both"]
    at = lines.index("do the methods add up? no verdict")
    assert lines[at + 1].startswith("blur and ls together, at 15 ep: ")
    at = lines.index("accuracy of base, difference from separate runs")
    assert lines[at + 2].split()[:2] == ["cyclic", "curve"]
    assert lines[at + 3].endswith("0.66\u00d7  0.66\u00d7")
    plain = table(study(), width=100, color=False, unicode=True)
    assert "do the methods add up" not in plain
    assert "difference from separate" not in plain
    old = study()
    old["analysis"]["frontier"] = None
    assert "share of resamples" not in table(old, width=100, color=False, unicode=True)


def test_colour_only_adds_escape_codes() -> None:
    plain = table(study(), width=90, color=False, unicode=True)
    colored = table(study(), width=90, color=True, unicode=True)
    assert "\x1b[32m▲ +0.037\x1b[0m" in colored
    for code in ("0", "1", "2", "31", "32", "33", "36"):
        colored = colored.replace(f"\x1b[{code}m", "")
    assert [line.rstrip() for line in colored.splitlines()] == plain.splitlines()


@given(width=st.integers(60, 200), unicode=st.booleans())
def test_no_line_is_wider_than_the_terminal(width: int, unicode: bool) -> None:
    data = designed()
    data["calibration"] = calibrated()["calibration"]
    text = table(data, width=width, color=False, unicode=unicode)
    assert max(map(_columns, text.splitlines())) <= width


def test_many_budgets_are_shown_in_blocks() -> None:
    text = table(study(), width=40, color=False, unicode=True)
    heads = [line.split() for line in text.splitlines() if line.split() and line.split()[0] in ("1", "7", "15")]
    assert ["1", "ep", "3", "ep", "7", "ep"] in heads
    assert ["15", "ep"] in heads


def test_wide_characters_keep_the_columns_straight() -> None:
    data = study({"base": "base", "模糊": "blur", "ls": "ls"})
    lines = table(data, width=100, color=False, unicode=True).splitlines()
    marks = [
        (line, mark) for line in lines for mark in "●▲○" if mark in line and line.startswith(("base", "模糊", "ls"))
    ]
    assert [_columns(line.split(mark)[0]) for line, mark in marks[:3]] == [6, 6, 6]


def test_control_characters_never_reach_the_terminal() -> None:
    text = table(hostile(), width=100, color=False, unicode=True)
    assert all(line.isprintable() for line in text.splitlines())


def test_a_long_name_is_cut_in_its_middle() -> None:
    data = study({"base": "base", "a very long name that goes on and on, number 1": "blur"})
    text = table(data, width=80, color=False, unicode=True)
    assert "a very long n…on, number 1  ▲" in text


def test_without_a_verdict_there_are_no_tables_of_effects() -> None:
    text = table(study({"base": "base"}, seeds=2), width=80, color=True, unicode=True)
    assert "No verdict yet." in text
    assert "gain at equal" not in text


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "colored"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colour_follows_the_terminal(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], colored: bool) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert ("\x1b" in table(study())) is colored
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert table(study()).isascii()
