from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bench.report.synthetic import study

from hasten.bench.report import data as data_module
from hasten.bench.report.data import arm_names, counted, prepare, printable, validate


def put(data: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy with the value at the path; the value `...` removes the key."""
    data = copy.deepcopy(data)
    place: Any = data
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return data


def test_a_report_is_accepted_and_survives_json() -> None:
    data = study()
    assert validate(data) is data
    assert validate(json.loads(json.dumps(data))) == data


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("version",), 3, "expected version 2, got 3. Update hasten"),
        (("version",), 2.0, "expected version 2, got 2.0"),
        (("version",), True, "expected version 2, got True"),
        (("version",), [1], "expected version 2, got [1]"),
        (("study", "title"), ..., "expected study.title (str), got nothing"),
        (("study", "titel"), "x", "expected a known key in study, got 'titel'. Did you mean title"),
        (("study", "curve"), "braid", "expected 'cyclic' or 'separate' or 'branch' in study.curve, got 'braid'"),
        (("study", "seeds"), [1, 2.5], "expected int or str in study.seeds[1], got 2.5"),
        (("study", "baseline"), "bas", "expected an arm of the study in study.baseline, got 'bas'. Did you mean base?"),
        (
            ("runs", 0, "points", 1, "metric"),
            float("nan"),
            "expected a finite number (null where it is unknown) in runs[0]",
        ),
        (("runs", 0, "seconds"), True, "expected float in runs[0].seconds, got True"),
        (("runs", 3, "arm"), "mixxup", "runs[3].arm, got 'mixxup'. Did you mean mixup?"),
        (("runs", 3, "phases"), {"forward": "1"}, "expected float in runs[3].phases['forward'], got '1'"),
        (("runs", 0, "inference"), {"ms": 1.0, "watts": 3.0}, "expected a known key in runs[0].inference, got 'watts'"),
        (
            ("environment",),
            {"load": float("inf")},
            "expected a finite number (null where it is unknown) in environment",
        ),
        (("analysis", "version"), 7, "expected analysis.version 2, got 7"),
        (("analysis", "arms"), ..., "expected analysis.arms, got None"),
        (
            ("runs", 0, "points", 0, "memory"),
            "1 GiB",
            "expected int or NoneType in runs[0].points[0].memory, got '1 GiB'",
        ),
        (("runs", 0, "energy"), ..., "expected runs[0].energy (float | None), got nothing"),
        (("calibration",), {"arm": "base"}, "expected calibration.budgets (list), got nothing"),
        (("notes",), "a note", "expected a list in notes, got 'a note'"),
    ],
)
def test_foreign_data_are_refused_with_their_place(path: tuple[Any, ...], value: Any, words: str) -> None:
    with pytest.raises(ValueError, match="^report: ") as caught:
        validate(put(study(), path, value))
    assert words in str(caught.value)


@pytest.mark.parametrize("foreign", [None, [], "a string", {}, {"study": {}}])
def test_what_is_no_report_is_refused(foreign: Any) -> None:
    with pytest.raises(ValueError, match="expected the data of a report: a dict with a version"):
        validate(foreign)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("analysis",), None),
        (("power",), None),
        (("runs",), []),
        (("runs", 0, "inference"), {}),
        (("runs", 0, "calibration"), {"before": 0.01, "after": 0.01}),
        (("runs", 0, "memory"), None),
        (("study", "seeds"), ["a", "b"]),
        (("study", "target"), 1),
    ],
)
def test_what_may_be_unknown_may_be_left_open(path: tuple[Any, ...], value: Any) -> None:
    assert validate(put(study(), path, value))["study"]["title"] == study()["study"]["title"]  # accepted


@given(st.data())
def test_a_missing_key_is_always_named(source: st.DataObject) -> None:
    data = study()
    parts = {"study": data["study"], "runs": data["runs"][0], "": data, "points": data["runs"][0]["points"][0]}
    part = source.draw(st.sampled_from(sorted(parts)))
    key = source.draw(st.sampled_from(sorted(parts[part])))
    del parts[part][key]
    with pytest.raises(ValueError, match=key if (part, key) != ("", "version") else "a dict with a version"):
        validate(data)


def test_the_baseline_comes_first_and_repeated_attempts_do_not_count() -> None:
    data = study()
    data["study"]["arms"].reverse()
    assert arm_names(data) == ["base", "mixup", "ls", "blur"]
    runs = counted(validate(data), "base")
    assert [(run["seed"], run["attempt"]) for run in runs] == [(0, 0), (1, 0), (2, 1), (3, 0), (4, 0)]
    assert len(counted(validate(data))) == 20 == len(data["runs"]) - 1
    assert data_module.VERSION == 2


@given(st.text())
def test_printable_text_has_no_control_characters_and_plain_text_stays(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    if text.isprintable():
        assert shown == text


def test_two_names_that_differ_in_control_characters_stay_different() -> None:
    assert printable("a\x1b") != printable("a\x1a")


def test_arms_are_shown_in_the_order_of_the_study_whatever_ran_first() -> None:
    data = study()
    shuffled = copy.deepcopy(data)
    shuffled["analysis"]["arms"][1:] = shuffled["analysis"]["arms"][:0:-1]
    assert prepare(shuffled) == prepare(data) == data
