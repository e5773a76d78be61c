from __future__ import annotations

from typing import Any

from tests.bench.report.synthetic import study
from tests.bench.report.test_markup import read

from hasten.bench.report import tables
from hasten.bench.report.words import joules


def cells(markup: str | None) -> list[list[str]]:
    """The texts of a table, row by row."""
    assert markup is not None
    found = []
    for row in markup.split("<tr")[1:]:
        parts = row.replace("<th", "<td").split("<td")[1:]
        found.append([read("<td" + part.split("</tr>")[0]).text.strip() for part in parts])
    return found


def test_every_effect_has_a_row_with_its_exact_value_for_sorting() -> None:
    data = study()
    markup = tables.effects_table(data, "budgets", "gains")
    head, *rows = cells(markup)
    assert head[:4] == ["arm", "at", "effect", "interval"]
    assert len(rows) == 12
    effect = data["analysis"]["arms"][3]["budgets"][1]
    assert f'data-sort="{effect["value"]}"' in (markup or "")
    assert rows[9][2:7] == ["\u22120.054", "\u22120.065 … \u22120.043", "0.012", "▼ costs", "4"]
    for arm in data["analysis"]["arms"]:
        arm["budgets"] = []
    assert tables.effects_table(data, "budgets", "gains") is None


def test_a_bound_is_accompanied_by_what_the_mean_curves_say() -> None:
    _, *rows = cells(tables.effects_table(study(), "targets", "speedups"))
    assert rows[2][1].startswith("0.8106 (100 % of the gain)2 of 5 baseline runs never reach 0.8106; mean curves: ")
    assert "mean curves" not in rows[0][1]


def test_ties_are_not_ranked() -> None:
    text = read(tables.order_list(study()["analysis"])).text
    assert "7 epblur > mixup = ls = base" in text


def test_every_run_is_listed_with_flags_and_failures_in_words() -> None:
    head, *rows = cells(tables.runs_table(study()))
    assert len(rows) == 21
    assert head[:4] == ["arm", "seed", "attempt", "status"]
    by_key = {tuple(row[:3]): row for row in rows}
    assert by_key["base", "2", "0"][3] == "done does not count drifted"
    assert by_key["base", "2", "1"][3] == "done"
    assert by_key["ls", "1", "0"][3] == "done resumed"
    failed = by_key["mixup", "4", "0"]
    assert failed[3] == "failedNonFiniteError: the training loss became nan at step 131."
    assert failed[5] == "\u2013"
    assert by_key["base", "2", "0"][11] == "1.45\u00d7"


def test_headings_of_sortable_tables_are_buttons_with_a_state() -> None:
    markup = tables.runs_table(study())
    tags = read(markup).tags
    headings = [attributes for tag, attributes in tags if tag == "th" and attributes["scope"] == "col"]
    assert len(headings) == 13 == sum(tag == "button" for tag, _ in tags)
    assert {attributes["aria-sort"] for attributes in headings} == {"none"}
    region = next(attributes for tag, attributes in tags if tag == "div")
    assert region["role"] == "region"
    assert region["tabindex"] == "0"


def test_costs_and_phases_have_one_row_per_arm() -> None:
    data = study()
    head, base, *_ = cells(tables.costs_table(data))
    assert head[1:4] == ["train time", "off the clock", "inference time"]
    assert base[2:5] == ["1.24 s", "1.9 ms", "2.1 M"]
    head, base, *others = cells(tables.phases_table(data))
    assert head[1] == "setup"
    assert head[-1] == "(reporting)"
    assert len(others) == 3
    empty: dict[str, Any] = study()
    empty["runs"] = []
    assert tables.costs_table(empty) is None
    assert tables.phases_table(empty) is None


def test_energy_has_a_column_only_where_a_run_has_it() -> None:
    data = study()
    head, *rows = cells(tables.runs_table(data))
    place = head.index("energy")
    assert {row[place] for row in rows if row[3].startswith("failed")} == {"\u2013"}
    assert rows[0][place] == joules(data["runs"][0]["energy"]) == "342 J"
    for run in data["runs"]:
        run["energy"] = None
    head, *rows = cells(tables.runs_table(data))
    assert "energy" not in head
    assert {len(row) for row in rows} == {len(head)}
