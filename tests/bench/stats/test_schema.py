from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from hasten.bench.report.upgrade import ANALYSIS_VERSION
from hasten.bench.stats import Analysis, Table, analyse, schema
from hasten.bench.stats.schema import SCHEMA, Effect, Frontier, FrontierArm, FrontierPoint, Interaction, plain

DOCS = Path(__file__).parents[3] / "docs" / "formats.md"


def analysed() -> Analysis:
    rows = [
        {"arm": arm, "seed": seed, "time": t, "metric": m + gain + 0.001 * seed**2}
        for arm, gain in (("base", 0.0), ("a", 0.01), ("b", 0.02), ("both", 0.02))
        for seed in range(3)
        for t, m in ((1.0, 0.5), (2.0, 0.6))
    ]
    return analyse(Table.from_rows(rows), baseline="base",
                   methods={"base": [], "a": ["x"], "b": ["y"], "both": ["x", "y"]})  # fmt: skip


@dataclass(frozen=True)
class Inner:
    value: float


@dataclass(frozen=True)
class Outer:
    inner: Inner
    many: tuple[Inner, ...]
    name: str


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Outer(Inner(1.5), (Inner(math.nan),), "x"), {"inner": {"value": 1.5}, "many": [{"value": None}], "name": "x"}),
        ((1.0, math.inf, -math.inf), [1.0, None, None]),
        ([True, 3, None, "text"], [True, 3, None, "text"]),
        (np.float64(2.5), 2.5),
        ((), []),
    ],
)
def test_plain(value: Any, expected: Any) -> None:
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)


def test_the_json_has_the_fields_of_the_records() -> None:
    found = json.loads(json.dumps(analysed().to_json(), allow_nan=False))
    assert found["version"] == SCHEMA == ANALYSIS_VERSION == 2
    for record, kind in (
        (found, Analysis),
        (found["arms"][1]["targets"][0], Effect),
        (found["frontier"], Frontier),
        (found["frontier"]["points"][0], FrontierPoint),
        (found["frontier"]["arms"][0], FrontierArm),
        (found["interactions"][0], Interaction),
    ):
        assert list(record) == [field.name for field in fields(kind)]


def test_every_value_has_the_type_of_its_field() -> None:
    analysis = analysed()
    assert analysis.frontier is not None
    for record in (*analysis.frontier.points, *analysis.frontier.arms, *analysis.interactions):
        for name, kind in get_type_hints(type(record)).items():
            options = get_args(kind) if type(None) in get_args(kind) else (kind,)
            plain_types = tuple(option for option in options if isinstance(option, type)) or (tuple,)
            assert type(getattr(record, name)) in plain_types, (type(record).__name__, name)


def test_arms_by_name() -> None:
    assert analysed().arm("both").name == "both"
    with pytest.raises(ValueError, match="Analysis.arm: expected an arm of the study, got 'bse'. Did you mean base"):
        analysed().arm("bse")


def test_every_record_is_frozen_and_exported() -> None:
    records = [getattr(schema, name) for name in schema.__all__ if is_dataclass(getattr(schema, name))]
    assert len(records) == 14
    assert all(record.__dataclass_params__.frozen for record in records)


def test_the_page_on_formats_names_every_field() -> None:
    text = DOCS.read_text(encoding="utf-8")
    section = text[text.index("## JSON of a report") :]
    for kind in (Analysis, Frontier, FrontierPoint, FrontierArm, Interaction):
        missing = [field.name for field in fields(kind) if f"`{field.name}`" not in section]
        assert not missing, (kind.__name__, missing)
    assert f"`version` ({SCHEMA})" in section
